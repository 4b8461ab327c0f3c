"""Pictures of a sweep from plain arrays: every run by its setting, curves against budgets, best of k, shares by threshold."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

mpl.use("Agg")

LINEAR = 0.05  # scores up to it, where some are not positive, stand on a linear part of the axis
LABEL = 66  # letters of a label on one line
PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")


class Column(NamedTuple):
    """All runs of one setting."""

    label: str
    level: str  # columns of one level share a colour
    values: np.ndarray  # [n] scores, inf where a run became non-finite
    failed: np.ndarray  # [n] bool
    place: float | None = None  # on a logarithmic axis, where there is one


class Curve(NamedTuple):
    """Scores of all runs of one setting over training."""

    label: str
    budgets: Mapping[str, np.ndarray]  # what a budget counts -> [evaluations]
    values: np.ndarray  # [evaluations, n], inf from where a run became non-finite


class BestOf(NamedTuple):
    """What the best by validation of k draws comes to."""

    draws: Sequence[int]  # k
    score: Sequence[float]  # expected on test
    failing: Sequence[float]  # probability that it is a failure


def save_results(path: Path, columns: Sequence[Column], score: str, axis: str = "") -> None:
    """Saves every run as a dot or, where it failed, as a cross, with the median of each setting.

    With places on a logarithmic axis, whose name is given, scores rise above it; else each setting has a line of its own.
    """
    levels = list(dict.fromkeys(column.level for column in columns))
    parts = [column.label.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ") for column in columns]
    labels = [textwrap.fill(part, LABEL, break_on_hyphens=False) for part in parts]
    lines = [line for label in labels for line in label.splitlines()]
    beside = (6.5 + 0.07 * max(map(len, lines)), 1.4 + 0.17 * (len(lines) + len(labels)))
    figure = Figure(figsize=(8.5, 5.2) if axis else beside, layout="constrained")
    axes, rng = figure.subplots(), np.random.default_rng(0)
    steps = np.diff(np.log(np.unique([column.place for column in columns if column.place is not None])))
    lane = 0.8 * steps.min(initial=1) / len(levels)  # levels stand side by side

    def stand(index: int, offset: np.ndarray) -> np.ndarray:
        place, rank = columns[index].place, levels.index(columns[index].level)
        return index + offset if place is None else place * np.exp(lane * (offset + rank - (len(levels) - 1) / 2))

    def draw(across: np.ndarray, scores: np.ndarray, style: str = "-", **more: Any) -> None:
        axes.plot(*((across, scores) if axis else (scores, across)), style, **more)

    acrosses = [stand(i, rng.uniform(-0.25, 0.25, len(c.values)) * (len(c.values) > 1)) for i, c in enumerate(columns)]
    across, values = np.concatenate(acrosses), np.concatenate([column.values for column in columns])
    failed, finite = np.concatenate([column.failed for column in columns]), np.isfinite(values)
    colours = np.repeat([levels.index(column.level) % 10 for column in columns], [len(column.values) for column in columns])
    for colour in np.unique(colours):
        good = finite & ~failed & (colours == colour)
        draw(across[good], values[good], "o", color=f"C{colour}", alpha=0.55, markersize=5.5, markeredgewidth=0)
    draw(across[finite & failed], values[finite & failed], "x", color="crimson", markersize=5)
    middles = [float(np.median(column.values)) for column in columns]
    for index, column in enumerate(columns):
        if len(column.values) > 1 and np.isfinite(middles[index]):
            draw(stand(index, np.array([-0.38, 0.38])), np.full(2, middles[index]), color="black", linewidth=2.2, zorder=4)
    several = max(len(column.values) for column in columns) > 1
    for rank, level in enumerate(levels if axis and several else ()):
        own = [index for index, column in enumerate(columns) if column.level == level]
        centres = np.concatenate([stand(index, np.zeros(1)) for index in own])
        draw(centres, _drawn([middles[index] for index in own]), color=f"C{rank % 10}", linewidth=1)
    _scale(axes, "y" if axis else "x", values)
    low, worst = axes.get_ylim() if axis else axes.get_xlim()
    for x in across[~finite]:  # not as one line: where it is empty the layout leaves room for it
        draw(np.array([x]), np.array([worst]), "x", color="crimson", markersize=7, markeredgewidth=2, clip_on=False)
    axes.grid(alpha=0.3, axis="y" if axis else "x")
    if axis:
        axes.set(xscale="log", xlabel=axis, ylabel=score, ylim=(low, worst))
        places = sorted({column.place for column in columns if column.place is not None})
        if len(places) <= 10:
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set(xlabel=score, xlim=(low, worst), ylim=(len(columns) - 0.4, -0.6))
        axes.set_yticks(range(len(columns)), labels, fontsize=9)
    if not finite.any():
        (axes.set_yticks if axis else axes.set_xticks)([])
    handles = [Line2D([], [], marker="o", ls="", color=f"C{i % 10}", label=level) for i, level in enumerate(levels) if level]
    handles += [Line2D([], [], color="black", linewidth=2.2, label="median")] * bool(several and np.isfinite(middles).any())
    cross: dict[str, Any] = {"marker": "x", "linestyle": "", "color": "crimson"}
    handles += [Line2D([], [], **cross, markersize=5, label="failed")] * bool((finite & failed).any())
    if not finite.all():
        handles.append(Line2D([], [], **cross, markersize=7, markeredgewidth=2, label="non-finite, on the frame"))
    _save(figure, handles, path)


def save_sweep_curves(path: Path, curves: Sequence[Curve], score: str) -> None:
    """Saves the median over runs with the half of them around it, a panel per budget."""
    budgets = list(curves[0].budgets)
    figure, panels = _panels(len(budgets), sharey=True)
    for panel, budget in zip(panels, budgets, strict=True):
        for index, curve in enumerate(curves):
            marker = "." if len(curve.values) <= 30 else ""
            middle = _drawn(np.median(curve.values, axis=1))
            panel.plot(curve.budgets[budget], middle, marker=marker, color=f"C{index}", linewidth=1.5, label=curve.label)
        panel.set_xlabel(budget)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.xaxis.set_major_formatter(PLAIN)
        panel.grid(alpha=0.3)
    _scale(panels[0], "y", np.concatenate([np.median(curve.values, axis=1) for curve in curves]))
    low, high = panels[0].get_ylim()
    for panel, budget in zip(panels, budgets, strict=True):
        for index, curve in enumerate(curves):
            ends = np.quantile(curve.values, [0.25, 0.75], axis=1, method="nearest")
            panel.fill_between(curve.budgets[budget], *np.clip(ends, low, high), color=f"C{index}", alpha=0.15, linewidth=0)
    panels[0].set(ylabel=score, ylim=(low, high))
    _save(figure, panels[0].get_legend_handles_labels()[0], path)


def save_budget(path: Path, methods: Mapping[str, BestOf], score: str) -> None:
    """Saves what the best by validation of k draws comes to against k: its expected score, and how probably it is a failure."""
    figure, (left, right) = _panels(2)
    for label, best in methods.items():
        left.plot(best.draws, _drawn(best.score), marker=".", label=label)
        right.plot(best.draws, best.failing, marker=".")
    for panel in (left, right):
        panel.set(xscale="log", xlabel="k, settings drawn at random")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(PLAIN)
        panel.grid(alpha=0.3)
    _scale(left, "y", np.concatenate([best.score for best in methods.values()]))
    left.set(ylabel=score, title="the best by validation of k: expected score")
    right.set(ylabel="probability", title="the best by validation of k: failed", ylim=(-0.02, 1.02))
    _save(figure, left.get_legend_handles_labels()[0], path)


def save_thresholds(path: Path, scores: Mapping[str, Mapping[str, np.ndarray]], higher: Sequence[str]) -> None:
    """Saves the share of settings at least as good as each threshold, a panel per score, a curve per method.

    scores: name -> method -> [settings], of which those in `higher` are good where they are high.
    """
    figure, panels = _panels(len(scores), sharey=True)
    for panel, (score, methods) in zip(panels, scores.items(), strict=True):
        sign = -1 if score in higher else 1
        every = sign * np.concatenate(list(methods.values()))
        worst = every[np.isfinite(every)].max(initial=0)
        for label, values in methods.items():
            best_first = np.sort(sign * values)
            cuts = np.append(best_first[np.isfinite(best_first)], worst)
            shares = np.searchsorted(best_first, cuts, "right") / len(values)
            panel.step(
                sign * np.append(cuts[0], cuts), np.append(0, shares), where="post", label=f"{label}, {len(values)} settings"
            )
        if sign > 0:
            _scale(panel, "x", every)
        panel.set(xlabel=f"{score} of at {'least' if sign < 0 else 'most'} ...", ylim=(-0.02, 1.02))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("share of the settings drawn")
    _save(figure, panels[0].get_legend_handles_labels()[0], path)


def _panels(count: int, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(1 + 3.8 * count, 4.2), layout="constrained")
    return figure, list(figure.subplots(1, count, sharey=sharey, squeeze=False)[0])


def _save(figure: Figure, handles: Sequence[Any], path: Path) -> None:
    """Saves a figure with a legend above it, for which it grows."""
    if handles:
        widest = 0.6 + 0.08 * max(len(handle.get_label()) for handle in handles)  # inches
        columns = max(1, min(len(handles), 5, int(figure.get_figwidth() / widest)))
        figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(handles) // columns))
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=9)
    figure.savefig(path, dpi=110)


def _drawn(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the values with NaN, which is not drawn, for inf."""
    return np.where(np.isfinite(values), values, np.nan)


def _scale(axes: Axes, axis: Literal["x", "y"], values: np.ndarray) -> None:
    """Scales an axis for scores over several decades, of which the best may be about 0 or below."""
    finite = values[np.isfinite(values)]
    low, high = finite.min(initial=np.inf), finite.max(initial=0)
    if high < 5 * max(low, LINEAR):
        return
    scale, shown = getattr(axes, f"set_{axis}scale"), getattr(axes, f"{axis}axis")
    subs = (1, 2, 5) if high < 300 * max(low, LINEAR) else (1,)
    if low > 0:
        scale("log")
        shown.set_major_locator(LogLocator(subs=subs))
    else:
        scale("symlog", linthresh=LINEAR, linscale=0.5)
        shown.set_major_locator(FixedLocator([-LINEAR, 0, LINEAR, *np.outer(10.0 ** np.arange(-1, 9), subs).ravel()]))
    shown.set_minor_locator(NullLocator())
    shown.set_major_formatter(PLAIN)
