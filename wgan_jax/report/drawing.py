"""What all figures share: colours, plain ticks, axes that a spike does not flatten, titles and legends that fit."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from wgan_jax.paths import replacing

# Okabe and Ito's, which colour-blind people tell apart; without their yellow, too light for lines
BLUE, ORANGE, GREEN, PINK, SKY, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, "0.35")  # vermillion is for failures and for what is generated
type Dash = Literal["-", "--", ":"]
DASHES: tuple[Dash, ...] = ("-", "--", ":")  # of the first, second, ... round of colours
MARKERS = ("o", "s", "^", "D", "v", "P", "*")  # seven to six colours: no two of forty look the same
PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")
UPDATES = "generator updates"
LETTER = 0.085  # inches of one in a legend, at most on average
LINEAR = 0.05  # scores up to it, where some are about 0 or below, stand on a linear part of the axis

# Names of values that say too little with their underscores as spaces.
WORDS = {
    "wasserstein_empirical": "empirical W1 to held-out data",
    "wasserstein_floor": "floor: empirical W1, real to held-out",
    "wasserstein_ratio": "empirical W1 / floor",
    "wasserstein_excess": "excess of W1 / floor",
    "sliced_wasserstein": "sliced Wasserstein-2 distance",
    "frechet_distance": "Frechet distance",
    "jensen_shannon": "Jensen-Shannon divergence",
    "wasserstein_quantile": "W1 to the exact quantiles",
    "mmd": "squared maximum mean discrepancy",
    "copying_z": "copying z (below -3: copies)",
    "mode_tv": "total variation of the modes' shares",
    "mode_sigma": "spread within modes / true one",
    "smallest_class": "smallest share of a class",
    "two_sample_accuracy": "nearest-neighbour accuracy",
    "two_sample_real": "nearest-neighbour accuracy, real",
    "two_sample_generated": "nearest-neighbour accuracy, generated",
    "column_distance": "distance of columns, mean",
    "worst_column": "distance of the worst column",
    "association_difference": "difference of associations",
    "detection_auc": "AUC of real against generated",
    "utility": "learned of generated rows, tried on real",
    "utility_of_training_rows": "learned of training rows, tried on real",
    "condition_agreement": "rows that have what was asked for",
    "estimate_train": "critic's estimate, training data",
    "estimate_heldout": "critic's estimate, held-out data",
    "lipschitz_q99": "99 % quantile of the critic's slope",
    "estimate_normalised": "held-out estimate / 99 % quantile",
    "c_transform_bound": "c-transform bound of W1",
}


def words(name: str) -> str:
    """Returns a value's name in words."""
    return WORDS.get(name, name.replace("_", " "))


def colour(index: int) -> str:
    """Returns the colour of the index-th of several."""
    return PALETTE[index % len(PALETTE)]


def dashes(index: int) -> Dash:
    """Returns the style of the line of the index-th of several: of those with one colour each has its own."""
    return DASHES[index // len(PALETTE) % len(DASHES)]


def plain(text: str) -> str:
    """Returns a text with the dollars that stand in it, which would begin a formula."""
    return text.replace("$", r"\$")


def add_title(figure: Figure, title: str) -> None:
    """Puts a title above a figure, on as many lines as its width asks for."""
    figure.suptitle(textwrap.fill(plain(title), int(11 * figure.get_figwidth())), fontsize=10)


def count_ticks(axes: Axes) -> None:
    """Gives the x axis whole numbers, written in full."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(PLAIN)


def hold_spikes(axes: Axes, values: Sequence[float] | np.ndarray) -> None:
    """Makes the y axis logarithmic beyond what is usual for the values, where a spike would flatten the rest."""
    every = np.asarray(values, float)
    found = every[np.isfinite(every)]
    usual = float(np.quantile(np.abs(found), 0.8)) if len(found) else 0.0
    if usual == 0 or np.abs(found).max() <= 8 * usual:
        return
    decade = 10 ** np.floor(np.log10(usual))
    linear = float(next(step * decade for step in (2, 5, 10) if step * decade >= 1.2 * usual))
    ends = np.clip([found.min(), found.max()], -linear, linear)
    near = np.asarray(MaxNLocator(4).tick_values(*ends))
    far = linear * 10.0 ** np.arange(9)
    axes.set_yscale("symlog", linthresh=linear, linscale=3)
    axes.yaxis.set_major_locator(FixedLocator([*-far, *near[np.abs(near) < 0.8 * linear], *far]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_ylabel(f"{axes.get_ylabel()}\n(logarithmic beyond ±{linear:g})")


def scale_scores(axes: Axes, axis: Literal["x", "y"], values: np.ndarray) -> None:
    """Scales an axis for scores over several decades, of which the best may be about 0 or below."""
    finite = values[np.isfinite(values)]
    low, high = finite.min(initial=np.inf), finite.max(initial=0)
    if high < 5 * max(low, LINEAR):
        return
    scale, shown = getattr(axes, f"set_{axis}scale"), getattr(axes, f"{axis}axis")
    span = high / max(low, LINEAR)
    subs = (1, 2, 5) if span < {"x": 30, "y": 300}[axis] else (1,)
    if low >= LINEAR / 5:
        scale("log")
        shown.set_major_locator(LogLocator(subs=subs))
    else:
        scale("symlog", linthresh=LINEAR, linscale=0.5)
        shown.set_major_locator(FixedLocator([-LINEAR, 0, LINEAR, *np.outer(10.0 ** np.arange(-1, 9), subs).ravel()]))
    shown.set_minor_locator(NullLocator())
    shown.set_major_formatter(PLAIN)


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Puts a legend below the panels of a figure, which grows for it; long labels get several lines."""
    if not handles:
        return
    letters = int((figure.get_figwidth() - 0.9) / LETTER)
    labels = [textwrap.fill(plain(handle.get_label()), letters) for handle in handles]
    lines = [line for label in labels for line in label.splitlines()]
    columns = max(1, min(len(labels), 5, int(figure.get_figwidth() / (0.7 + LETTER * max(map(len, lines))))))
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(lines) / columns) + 0.2)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Saves a figure, whole or not at all, in the format of the path's suffix."""
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."), dpi=dpi)
