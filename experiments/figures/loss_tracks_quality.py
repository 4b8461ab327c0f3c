"""Whether the critic's estimate says how good the generator is: over training, and between models of unlike size and rate.

Arjovsky 2017, figures 3 and 4: the estimate of a WGAN falls as its samples get better, and the Jensen-Shannon divergence that a
GAN's discriminator tells does not. On 8x8 digits, one network and five critic updates for all; the generator judged is the one
the critic was trained against, and no average. Between models the estimate may be of another scale in each, as a clipped
critic's slope is: beside it stands the one that is divided by the slope.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from configs import gan, wgan, wgan_gp
from experiments.figures.members import QUICK, examples, one, train
from wgan_jax.data import digits
from wgan_jax.data.dataset import Stored
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.models import build_networks
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.report.drawing import BLUE, GREEN, MARKERS, ORANGE, PLAIN, UPDATES, colour
from wgan_jax.types import Batch, Networks, Params

METHODS: dict[str, Any] = {"WGAN-GP": wgan_gp, "WGAN, clipped": wgan, "GAN": gan}
ESTIMATES = ("estimate_train", "estimate_heldout", "estimate_normalised")
TOLD = dict(zip(ESTIMATES, ("training data", "held-out data", "held-out / slope"), strict=True))
QUALITIES = ("wasserstein_excess", "recall")
WIDTHS = (32, 128)
FACTORS = (0.3, 1.0, 3.0)  # of the preset's rate
STOPS = (50, 100, 200, 400, 800, 1200)
SETTINGS = {"n_critic": 5, "decay_steps": 0, "eval.metrics": "wasserstein,precision_recall"}
SPLIT = "validation"  # the held-out digits, 297


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns ESTIMATES and QUALITIES [method, model, stop, value], and how they rank alike.

    Spearman's correlation of each estimate with each quality, 1 where the lower estimate is always of the better generator:
    within [method, model, estimate, quality] over a model's stops, between [method, stop, estimate, quality] over models. Of a
    GAN the estimates are of the Jensen-Shannon divergence, and none is over a slope.
    """
    widths, stops, count = (WIDTHS[:1], (20, 40, 80, 160), 2) if quick else (WIDTHS, STOPS, 3)
    names = ["WGAN-GP", "GAN"] if quick else list(METHODS)
    data = digits.load(wgan_gp.get_config("digits").data)
    changes = SETTINGS | (QUICK if quick else {})
    values = np.stack(
        [
            np.concatenate([follow(data, name, changes | {"model.width": width}, stops, count) for width in widths])
            for name in names
        ]
    )
    better = np.concatenate([values[..., :3], values[..., 3:4], -values[..., 4:]], axis=-1)  # the lower the better
    return {
        "methods": np.array(names),
        "names": np.array(ESTIMATES + QUALITIES),
        "stops": np.array(stops),
        "widths": np.repeat(widths, len(FACTORS) * count),
        "factors": np.tile(np.repeat(FACTORS, count), len(widths)),
        "values": values,
        "within": np.array([[ranks(model) for model in method] for method in better]),
        "between": np.array([[ranks(method[:, stop]) for stop in range(len(stops))] for method in better]),
    }


def follow(data: Stored, name: str, changes: Mapping[str, Any], stops: tuple[int, ...], count: int) -> np.ndarray:
    """Returns ESTIMATES and QUALITIES [model, stop, value] of a method's models: every rate and seed."""
    config = METHODS[name].get_config("digits")
    config.update_from_flattened_dict(changes)
    rates = {f"{player}.learning_rate": config[player].learning_rate for player in ("critic", "generator")}
    members = [
        {"seed": seed, **{key: factor * rate for key, rate in rates.items()}} for factor in FACTORS for seed in range(count)
    ]
    evaluator, real = make_evaluator(config, data, build_networks(config, data.shape)), data.decode(data.splits[SPLIT].images)
    found = []
    for moment in train(config, data, members, stops):
        generators, critics = moment.states.generator.variables, moment.states.critic.variables
        generated = examples(moment.networks, generators, len(real), moment.step)
        now = []
        for member in range(len(members)):
            told = evaluator.of_generator(one(generators, member), one(critics, member), SPLIT, 0)
            if name == "GAN":
                sides = (data.decode(data.train.images[: len(real)]), real)
                js = [jensen_shannon(moment.networks, one(critics, member), side, generated[member]) for side in sides]
                told |= dict(zip(ESTIMATES, (*js, math.nan), strict=True))
            now.append([told[value] for value in ESTIMATES + QUALITIES])
        found.append(now)
    return np.moveaxis(np.array(found), 0, 1)


def jensen_shannon(networks: Networks, critic: Params, real: np.ndarray, generated: jax.Array) -> float:
    """Returns what a discriminator says of the divergence: log 2 + (mean log D(x) + mean log(1 - D(G(z)))) / 2, or less.

    It is at most the divergence itself, and that of the best discriminator (Goodfellow 2014, theorem 1).
    """
    labels = np.zeros(len(real), np.int32)
    on_real, on_generated = (networks.score(critic, Batch(x, labels)) for x in (real, generated))
    return math.log(2) - float(LOSSES["non_saturating"].critic(on_real, on_generated).mean()) / 2


def ranks(values: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlations [estimate, quality] of values [n, 5]; NaN where one is not there."""
    estimates, qualities = values[:, : len(ESTIMATES)].T, values[:, len(ESTIMATES) :].T
    return np.array([[_spearman(estimate, quality) for quality in qualities] for estimate in estimates])


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    usable = bool(np.isfinite([x, y]).all() and np.ptp(x) > 0 and np.ptp(y) > 0)
    return float(spearmanr(x, y).statistic) if usable else math.nan


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns a column per method: estimates and quality over training, all models at the end; and the correlations."""
    methods, names, values = arrays["methods"], list(arrays["names"]), arrays["values"]
    figure = Figure(figsize=(10, 11.5), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[3, 1.15]))
    panels = upper.subplots(3, len(methods))
    shown = (arrays["widths"] == arrays["widths"].max()) & (arrays["factors"] == 1)
    for column, method in enumerate(methods):
        told, quality, ends = panels[:, column]
        for index, name in enumerate(ESTIMATES):
            _band(told, arrays["stops"], values[column, shown, :, index], index, (BLUE, ORANGE, GREEN)[index], TOLD[name])
        told.set_title(f"{method}\n", fontsize=11)
        divergence = method == "GAN"
        told.set_ylabel("estimate of JS" if divergence else "estimate of W1")
        if divergence:
            told.axhline(math.log(2), color="0.3", linestyle=":", label="log 2, the most")
        _band(quality, arrays["stops"], values[column, shown, :, 3], 3, colour(3), "excess of W1 (lower is better)")
        _band(quality, arrays["stops"], values[column, shown, :, 4], 4, colour(4), "recall (higher is better)")
        quality.set(ylabel="share", ylim=(-0.05, None), xlabel=UPDATES)
        for axes in (told, quality):
            axes.set(xscale="log")
            axes.set_xticks(arrays["stops"])
            axes.xaxis.set_major_formatter(PLAIN)
            axes.minorticks_off()
            axes.tick_params(axis="x", rotation=40)
            axes.legend(fontsize=8)
        for rank, factor in enumerate(np.unique(arrays["factors"])):
            for width, face in zip(np.unique(arrays["widths"]), ("none", colour(rank)), strict=False):
                own = (arrays["factors"] == factor) & (arrays["widths"] == width)
                x, y = values[column, own, -1, names.index("estimate_heldout")], values[column, own, -1, 3]
                style = {"markeredgecolor": colour(rank), "markerfacecolor": face, "linestyle": "", "markersize": 7}
                ends.plot(x, y, MARKERS[rank], label=f"rate x {factor:g}, width {width:g}", **style)
        rho = arrays["between"][column, -1, 1, 0]
        ends.set_title(f"at the end: rank correlation {rho:.2f}", fontsize=10)
        ends.set(xlabel=f"{told.get_ylabel()}, held-out", ylabel="excess of W1")
    upper.legend(*panels[2, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    for axes in panels.ravel():
        axes.grid(alpha=0.3)
    panels = lower.subplots(1, 2, sharey=True)
    _draw_ranks(panels, arrays)
    lower.legend(handles=panels[0].lines[:3], loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _band(axes: Axes, x: np.ndarray, values: np.ndarray, marker: int, color: str, label: str) -> None:
    """Draws the median over models of values [model, stop], and a band from the least to the most, where there are any."""
    if np.isfinite(values).all():
        axes.plot(x, np.median(values, axis=0), f"{MARKERS[marker]}-", color=color, markersize=4, label=label)
        axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.2, linewidth=0)


def _draw_ranks(panels: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    """Draws every model's correlation over its training, and those between models at the stops, the last one large."""
    methods = arrays["methods"]
    there = ~np.isnan(arrays["within"]).all(axis=(1, 3))  # of a GAN nothing is over a slope
    places = np.argwhere(there).tolist()
    words = [f"{methods[method]}\n{list(TOLD.values())[index]}" for method, index in places]
    rng = np.random.default_rng(0)
    for quality, (axes, told) in enumerate(zip(panels, ("excess", "recall (sign turned)"), strict=True)):
        for place, (method, index) in enumerate(places):
            within, between = arrays["within"][method, :, index, quality], arrays["between"][method, :, index, quality]
            spread = place - 0.2 + rng.uniform(-0.1, 0.1, len(within))
            beside = np.full(len(between) - 1, place + 0.2)
            axes.plot(spread, within, "o", color=BLUE, alpha=0.5, markersize=4, label="within a run, each model")
            axes.plot(beside, between[:-1], "_", color=ORANGE, markersize=9, label="between models, at earlier stops")
            axes.plot(place + 0.2, between[-1], "D", color=ORANGE, markersize=8, label="and at the end")
        axes.axhline(0, color="0.3", linewidth=1)
        axes.set(ylim=(-1.1, 1.1))
        axes.set_xticks(range(len(places)), words, fontsize=8, rotation=40, ha="right")
        axes.set_title(f"estimate against {told}: 1 where it tracks", fontsize=10)
        axes.grid(alpha=0.3, axis="y")
    panels[0].set_ylabel("Spearman's rank correlation")
