"""Pictures of a sweep from plain arrays: every run by its setting, curves against budgets, best of k, shares by threshold."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from wgan_jax.report.drawing import (
    MARKERS,
    PLAIN,
    VERMILLION,
    add_title,
    colour,
    dashes,
    legend_below,
    plain,
    scale_scores,
    words,
)
from wgan_jax.report.statistics import median

LABEL = 66  # letters of a label on one line
WIDEST = 4  # panels side by side
DOT: dict[str, Any] = {"alpha": 0.6, "markersize": 5.5, "markeredgewidth": 0}
CROSS: dict[str, Any] = {"marker": "x", "linestyle": ""}


class Column(NamedTuple):
    """All runs of one setting."""

    label: str
    level: str  # columns of one level share a colour
    values: np.ndarray  # [n] scores, inf where a run became non-finite, NaN where it has none
    failed: np.ndarray  # [n] bool
    place: float | None = None  # on a logarithmic axis, where there is one


class Curve(NamedTuple):
    """Scores of all runs of one setting over training."""

    label: str
    budgets: Mapping[str, np.ndarray]  # what a budget counts -> [evaluations]
    values: np.ndarray  # [evaluations, n], inf from where a run became non-finite, NaN where it has none


class BestOf(NamedTuple):
    """What the best by validation of k draws comes to."""

    draws: Sequence[int]  # k
    score: Sequence[float]  # expected on test
    failing: Sequence[float]  # probability that it is a failure


def results_figure(columns: Sequence[Column], score: str, axis: str = "", title: str = "") -> Figure:
    """Returns every run as a dot or, where it failed, as a cross, with the median of each setting.

    With places on a logarithmic axis, whose name is given, scores rise above it; else each setting has a line of its own.
    """
    levels = list(dict.fromkeys(column.level for column in columns))
    parts = [plain(column.label).replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ") for column in columns]
    labels = [textwrap.fill(part, LABEL, break_on_hyphens=False) for part in parts]
    lines = [line for label in labels for line in label.splitlines()]
    size = (6.5 + 0.07 * max(map(len, lines), default=0), 1.4 + 0.17 * (len(lines) + len(labels)))
    figure = Figure(figsize=(8.5, 5.2) if axis else size, layout="constrained")
    axes, rng = figure.subplots(), np.random.default_rng(0)
    places = np.unique([column.place for column in columns if column.place is not None])
    steps = np.diff(np.log(places))
    lane = max(0.8 * steps.min(initial=1), steps.sum() / 40) / len(levels)  # levels stand side by side

    def stand(index: int, offset: np.ndarray) -> np.ndarray:
        place, rank = columns[index].place, levels.index(columns[index].level)
        return index + offset if place is None else place * np.exp(lane * (offset + rank - (len(levels) - 1) / 2))

    def draw(across: np.ndarray, scores: np.ndarray, style: str = "-", **more: Any) -> None:
        axes.plot(*((across, scores) if axis else (scores, across)), style, **more)

    acrosses = [stand(i, rng.uniform(-0.25, 0.25, len(c.values)) * (len(c.values) > 1)) for i, c in enumerate(columns)]
    across, values = np.concatenate(acrosses), np.concatenate([column.values for column in columns])
    failed, finite = np.concatenate([column.failed for column in columns]), np.isfinite(values)
    dead = np.isinf(values)
    ranks = np.repeat([levels.index(column.level) for column in columns], [len(column.values) for column in columns])
    crossed = [colour(rank) for rank in range(len(levels))] if len(levels) > 1 else [VERMILLION]
    of_any = "0.3" if len(levels) > 1 else VERMILLION
    for rank in np.unique(ranks):
        good = finite & ~failed & (ranks == rank)
        draw(across[good], values[good], MARKERS[rank % len(MARKERS)], color=colour(rank), **DOT)
        bad = finite & failed & (ranks == rank)
        draw(across[bad], values[bad], "x", color=crossed[rank], markersize=5)
    middles = [float(median(column.values)) for column in columns]
    for index, column in enumerate(columns):
        if len(column.values) > 1 and np.isfinite(middles[index]):
            draw(stand(index, np.array([-0.38, 0.38])), np.full(2, middles[index]), color="black", linewidth=2.2, zorder=4)
    several = max(len(column.values) for column in columns) > 1
    for rank, level in enumerate(levels if axis and several else ()):
        own = [index for index, column in enumerate(columns) if column.level == level]
        centres = np.concatenate([stand(index, np.zeros(1)) for index in own])
        draw(centres, _drawn([middles[index] for index in own]), dashes(rank), color=colour(rank), linewidth=1)
    scale_scores(axes, "y" if axis else "x", values)
    low, worst = axes.get_ylim() if axis else axes.get_xlim()
    lost: dict[str, Any] = {"markersize": 7, "markeredgewidth": 2}
    for x, rank in zip(across[dead], ranks[dead], strict=True):  # not as one line: an empty one is left room for
        draw(np.array([x]), np.array([worst]), "x", color=crossed[rank], clip_on=False, **lost)
    axes.grid(alpha=0.3, axis="y" if axis else "x")
    if axis:
        axes.set(xscale="log", xlabel=axis, ylabel=score, ylim=(low, worst))
        _tick_places(axes, places)
    else:
        axes.set(xlabel=score, xlim=(low, worst), ylim=(len(columns) - 0.4, -0.6))
        axes.set_yticks(range(len(columns)), labels, fontsize=9)
    if not finite.any():
        (axes.set_yticks if axis else axes.set_xticks)([])
    handles = [
        Line2D([], [], marker=MARKERS[i % len(MARKERS)], ls="", color=colour(i), label=level)
        for i, level in enumerate(levels)
        if level
    ]
    handles += [Line2D([], [], color="black", linewidth=2.2, label="median")] * bool(several and np.isfinite(middles).any())
    handles += [Line2D([], [], color=of_any, **CROSS, markersize=5, label="failed")] * bool((finite & failed).any())
    if dead.any():
        handles.append(Line2D([], [], color=of_any, **CROSS, **lost, label="non-finite, on the frame"))
    legend_below(figure, handles)
    add_title(figure, title)
    return figure


def sweep_curves_figure(curves: Sequence[Curve], score: str, title: str = "") -> Figure:
    """Returns the median over runs with the middle half of them around it, a panel per budget.

    A median ends in a cross on the frame where half of the runs have become non-finite.
    """
    budgets = list(curves[0].budgets)
    figure, panels = _panels(len(budgets), sharey=True)
    middles = [median(curve.values) for curve in curves]
    ends = [np.quantile(np.nan_to_num(c.values, nan=np.inf, posinf=np.inf), [0.25, 0.75], 1, method="nearest") for c in curves]
    for panel, budget in zip(panels, budgets, strict=True):
        for index, (curve, middle) in enumerate(zip(curves, middles, strict=True)):
            marker = MARKERS[index % len(MARKERS)] if len(curve.values) <= 30 else ""
            style: dict[str, Any] = {"color": colour(index), "linestyle": dashes(index), "marker": marker, "markersize": 4}
            panel.plot(curve.budgets[budget], _drawn(middle), linewidth=1.5, label=curve.label, **style)
        panel.set_xlabel(budget)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(PLAIN)
        panel.grid(alpha=0.3)
    shown = np.concatenate([np.ravel(x) for x in (*middles, *ends)])
    scale_scores(panels[0], "y", shown)
    finite = shown[np.isfinite(shown)]
    panels[0].update_datalim(
        [(curves[0].budgets[budgets[0]][0], y) for y in (finite.min(), finite.max())] if len(finite) else []
    )
    panels[0].autoscale_view(scalex=False)
    low, high = panels[0].get_ylim()
    handles = panels[0].get_legend_handles_labels()[0]
    for panel, budget in zip(panels, budgets, strict=True):
        for index, (curve, middle) in enumerate(zip(curves, middles, strict=True)):
            spent = curve.budgets[budget]
            if curve.values.shape[1] > 1:
                panel.fill_between(spent, *np.clip(ends[index], low, high), color=colour(index), alpha=0.15, linewidth=0)
            if len(lost := np.flatnonzero(np.isinf(middle))):
                panel.plot(spent[lost[0]], high, "x", color=colour(index), markersize=7, markeredgewidth=2, clip_on=False)
    panels[0].set(ylabel=score, ylim=(low, high))
    if any(np.isinf(middle).any() for middle in middles):
        handles.append(Line2D([], [], marker="x", ls="", color="0.3", markeredgewidth=2, label="half of the runs non-finite"))
    legend_below(figure, handles)
    add_title(figure, title)
    return figure


def budget_figure(methods: Mapping[str, BestOf], score: str, title: str = "") -> Figure:
    """Returns what the best by validation of k draws comes to against k: its expected score, how probably it is a failure."""
    figure, (left, right) = _panels(2)
    for index, (label, best) in enumerate(methods.items()):
        style: dict[str, Any] = {"color": colour(index), "linestyle": dashes(index), "marker": MARKERS[index % len(MARKERS)]}
        left.plot(best.draws, _drawn(best.score), label=label, markersize=4, **style)
        right.plot(best.draws, best.failing, markersize=4, **style)
    for panel in (left, right):
        panel.set(xscale="log", xlabel="k, settings drawn at random")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(PLAIN)
        panel.grid(alpha=0.3)
    scale_scores(left, "y", np.concatenate([best.score for best in methods.values()]))
    left.set(ylabel=f"expected {score}")
    left.set_title("the best of k by validation: its score", fontsize=10)
    right.set(ylabel="probability that it failed", ylim=(-0.02, 1.02))
    right.set_title("the best of k by validation: a failure?", fontsize=10)
    legend_below(figure, left.get_legend_handles_labels()[0])
    add_title(figure, title)
    return figure


def thresholds_figure(scores: Mapping[str, Mapping[str, np.ndarray]], higher: Sequence[str], title: str = "") -> Figure:
    """Returns the share of settings at least as good as each threshold, a panel per score, a curve per method.

    scores: name -> method -> [settings], of which those in `higher` are good where they are high.
    """
    figure, panels = _panels(len(scores), sharey=True)
    for panel, (score, methods) in zip(panels, scores.items(), strict=True):
        sign = -1 if score in higher else 1
        every = sign * np.concatenate(list(methods.values()))
        worst = every[np.isfinite(every)].max(initial=0)
        for index, (label, values) in enumerate(methods.items()):
            best_first = np.sort(sign * values)
            cuts = np.append(best_first[np.isfinite(best_first)], worst)
            shares = np.searchsorted(best_first, cuts, "right") / len(values)
            name = f"{label}, {len(values)} settings"
            at, reached = sign * np.append(cuts[0], cuts), np.append(0, shares)
            panel.plot(at, reached, dashes(index), color=colour(index), label=name, drawstyle="steps-post")
        if sign > 0:
            scale_scores(panel, "x", every)
        panel.set(xlabel=f"{words(score)}\nof at {'least' if sign < 0 else 'most'} ...", ylim=(-0.02, 1.02))
        panel.grid(alpha=0.3)
    for panel in panels[::WIDEST]:
        panel.set_ylabel("share of the settings drawn")
    legend_below(figure, panels[0].get_legend_handles_labels()[0])
    add_title(figure, title)
    return figure


def _tick_places(axes: Axes, places: np.ndarray) -> None:
    """Writes the places on a logarithmic x axis: those of few that have room."""
    ticks: list[float] = []
    for place in places.tolist() if len(places) <= 10 else ():
        if not ticks or math.log(place / ticks[-1]) > math.log(places[-1] / places[0]) / 14:
            ticks.append(place)
    if ticks:
        axes.set_xticks(ticks, [f"{place:g}" for place in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_formatter(PLAIN)


def _panels(count: int, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Returns a figure with so many panels, at most WIDEST of them side by side."""
    rows, across = math.ceil(count / WIDEST), min(count, WIDEST)
    figure = Figure(figsize=(1 + 3.8 * across, 0.4 + 3.8 * rows), layout="constrained")
    panels = list(figure.subplots(rows, across, sharey=sharey, squeeze=False).ravel())
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


def _drawn(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the values with NaN, which is not drawn, for inf."""
    return np.where(np.isfinite(values), values, np.nan)
