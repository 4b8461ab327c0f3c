"""Plots of points, over the critic's score where it is given: histograms in one dimension, scatters in two; pairs; series."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from wgan_jax.report.drawing import BLUE, VERMILLION, add_title

REAL, GENERATED = "black", VERMILLION
PAIRED = 4  # coordinates of vectors that are shown against each other
SERIES, CHANNELS = 6, 4  # series of each side that are shown, and channels of them


def examples_figure(
    generated: np.ndarray | None,
    title: str,
    real: np.ndarray | None = None,
    score: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Figure:
    """Returns a figure of examples in their own units, generated or real or both.

    Vectors [n, D] of up to two entries: `points_figure`. Longer ones: histograms of PAIRED coordinates, evenly chosen, and the
    scatters of their pairs. Series [n, T, C]: lines over time, a panel for each of the first CHANNELS channels.
    """
    frame = generated if real is None else real
    assert frame is not None
    if frame.ndim == 2 and frame.shape[1] <= 2:
        return points_figure(generated, title, real, score)
    sides = [
        (name, x, color) for name, x, color in (("real", real, REAL), ("generated", generated, GENERATED)) if x is not None
    ]
    figure = (_pairs if frame.ndim == 2 else _lines)(frame, sides)
    add_title(figure, title)
    handles = [Line2D([], [], color=color, label=f"{name} (n = {len(x):,})") for name, x, color in sides]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


type _Sides = list[tuple[str, np.ndarray, str]]


def _pairs(frame: np.ndarray, sides: _Sides) -> Figure:
    chosen = np.linspace(0, frame.shape[1] - 1, min(PAIRED, frame.shape[1])).round().astype(int).tolist()
    figure = Figure(figsize=(8, 7.6), layout="constrained")
    panels = figure.subplots(len(chosen), len(chosen), squeeze=False)
    for (i, row), (j, column) in itertools.product(enumerate(chosen), enumerate(chosen)):
        axes, both = panels[i, j], np.concatenate([x[:, column] for _, x, _ in sides]).astype(float)
        for _, x, color in sides:
            if i == j:
                axes.hist(x[:, row], np.histogram_bin_edges(both, 30).tolist(), density=True, histtype="step", color=color)
            else:
                axes.scatter(x[:, column], x[:, row], s=2, color=color, linewidths=0, alpha=0.4)
        axes.tick_params(labelsize=6)
        if i == len(chosen) - 1:
            axes.set_xlabel(f"x{column + 1}", fontsize=8)
        if j == 0:
            axes.set_ylabel("density" if i == 0 else f"x{row + 1}", fontsize=8)
    return figure


def _lines(frame: np.ndarray, sides: _Sides) -> Figure:
    channels = min(CHANNELS, frame.shape[2])
    figure = Figure(figsize=(8, 1.2 + 2 * channels), layout="constrained")
    panels = figure.subplots(channels, len(sides), sharex=True, sharey="row", squeeze=False)
    for (channel, row), (axes, (name, x, color)) in itertools.product(enumerate(panels), enumerate(sides)):
        row[axes].plot(x[:SERIES, :, channel].T, color=color, linewidth=0.8, alpha=0.7)
        row[axes].tick_params(labelsize=7)
        if channel == 0:
            row[axes].set_title(f"{name}, {min(SERIES, len(x))} series", fontsize=9)
        if axes == 0:
            row[axes].set_ylabel(f"channel {channel + 1}", fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("time", fontsize=8)
    return figure


def points_figure(
    generated: np.ndarray | None,
    title: str,
    real: np.ndarray | None = None,
    score: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Figure:
    """Returns a figure of points [n, D], generated or real or both: in 1-D histograms and the critic, else coordinates 1, 2.

    score gives the critic's value of points [m, D]; it is drawn for D of 1 and 2, as level sets in the latter. Its zero is
    arbitrary.
    """
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    frame = generated if real is None else real
    assert frame is not None
    handles = (_histograms if frame.shape[1] == 1 else _scatter)(figure, axes, frame, generated, real, score)
    add_title(figure, title)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    return figure


type _Points = np.ndarray | None
type _Score = Callable[[np.ndarray], np.ndarray] | None


def _histograms(figure: Figure, axes: Axes, frame: np.ndarray, generated: _Points, real: _Points, score: _Score) -> list[Any]:
    del figure
    low, high = np.quantile(np.concatenate([x for x in (frame, generated) if x is not None]), [0.001, 0.999])
    bins = np.linspace(low - 0.5, high + 0.5, 80).tolist()
    handles: list[Any] = []
    for name, points, color, fill in (("real", real, "0.75", True), ("generated", generated, GENERATED, False)):
        if points is not None:
            axes.hist(points[:, 0], bins, density=True, color=color, edgecolor=color, histtype="stepfilled", fill=fill)
            handles.append(Patch(label=f"{name} (n = {len(points):,})", color=color, fill=fill))
    axes.set(xlabel="x (data units)", ylabel="density")
    if score is not None:
        x = np.linspace(bins[0], bins[-1], 200)[:, None]
        twin = axes.twinx()
        handles += twin.plot(x[:, 0], score(x), color=BLUE, linewidth=1.2, linestyle="--", label="critic's score")
        twin.set_ylabel("critic's score", color=BLUE)
    return handles


def _scatter(figure: Figure, axes: Axes, frame: np.ndarray, generated: _Points, real: _Points, score: _Score) -> list[Any]:
    middle, half = (frame.max(0) + frame.min(0))[:2] / 2, max(0.2, float(np.ptp(frame, axis=0).max())) * 0.65
    if score is not None and frame.shape[1] == 2:
        x, y = (np.linspace(m - half, m + half, 100) for m in middle)
        plane = np.stack(np.meshgrid(x, y), axis=-1)
        levels = axes.contourf(x, y, score(plane.reshape(-1, 2)).reshape(100, 100), 24, cmap="Blues", alpha=0.6)
        figure.colorbar(levels, label="critic's score", shrink=0.8)
    handles = []
    # Under generated points real ones are wide: a mode that is met shows both, one that is missed itself alone.
    wide = 30 if generated is not None else 3
    for name, points, color, size in (("real", real, REAL, wide), ("generated", generated, GENERATED, 3)):
        if points is not None:
            axes.scatter(points[:, 0], points[:, 1], s=size, color=color, linewidths=0, alpha=3 / max(size, 4), label=name)
            outside = int((np.abs(points[:, :2] - middle) > half).any(axis=1).sum())
            label = f"{name} (n = {len(points):,}{f', {outside:,} outside' * (outside > 0)})"
            handles.append(Line2D([], [], marker="o", ls="", label=label, color=color, markersize=size**0.5 + 1))
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")
    axes.set(xlabel="x1 (data units)", ylabel="x2 (data units)")
    return handles
