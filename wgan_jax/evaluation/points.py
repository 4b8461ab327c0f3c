"""Plots of points: histograms in one dimension, scatters in more, over the critic's score where it is given."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from wgan_jax.report.drawing import BLUE, VERMILLION, add_title

REAL, GENERATED = "black", VERMILLION


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
