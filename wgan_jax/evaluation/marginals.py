"""Plots of tables: the marginal of each column, real beside generated, and how much each two columns go together."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from wgan_jax.data.columns import Column, Columns
from wgan_jax.metrics.tabular import associations, column_distances
from wgan_jax.report.drawing import VERMILLION, add_title

REAL, GENERATED = "0.6", VERMILLION
SHOWN = 24  # columns
BARS = 12  # categories of a column, the most frequent ones
BINS = 40
LETTERS = 14  # of a name below an axis

type Sides = dict[str, np.ndarray]


def marginals_figure(columns: Columns, title: str, generated: np.ndarray | None, real: np.ndarray | None = None) -> Figure:
    """Returns the distribution of each column, of rows [n, C], with the distance between the sides above it, of both."""
    sides = {name: rows for name, rows in (("real", real), ("generated", generated)) if rows is not None}
    varying = [index for index, column in enumerate(columns.columns) if column.kind != "constant"][:SHOWN]
    across = min(4, len(varying))
    down = math.ceil(len(varying) / across)
    figure = Figure(figsize=(max(5, 3.1 * across), 0.9 + 2.3 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    distances = np.empty(0)
    if real is not None and generated is not None:
        distances = column_distances(real, generated, columns.discrete)
    for axes, index in zip(panels, varying, strict=False):
        column = columns.columns[index]
        (_bars if column.values else _histogram)(axes, column, {name: rows[:, index] for name, rows in sides.items()})
        distance = f"\n{'TV' if columns.discrete[index] else 'W1 / deviation'} {distances[index]:.3f}" if len(distances) else ""
        axes.set_title(column.name[: 2 * LETTERS] + distance, fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in panels[len(varying) :]:
        axes.remove()
    hidden = len(columns.columns) - len(varying)
    add_title(figure, title + f"; {hidden} columns not shown" * (hidden > 0))
    colors = {"real": REAL, "generated": GENERATED}
    handles = [Patch(label=f"{name} (n = {len(rows):,})", color=colors[name]) for name, rows in sides.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _histogram(axes: Axes, column: Column, sides: Sides) -> None:
    there = {name: values[~np.isnan(values)] for name, values in sides.items()}
    if column.kind == "date":
        there = {name: values.astype("int64").astype(f"datetime64[{column.unit}]") for name, values in there.items()}
    edges = None
    if column.kind != "date":
        every = np.concatenate([np.empty(0), *there.values()])
        low, high = np.quantile(every, [0.002, 0.998]) if len(every) else (0.0, 1.0)
        count = min(BINS, int(high - low) + 1) if column.decimals == 0 else BINS
        half = 0.5 if column.decimals == 0 and count < BINS else 0.0
        edges = np.linspace(low - half, high + half + (low == high), count + 1).tolist()
    for name, values in there.items():
        if len(values) and name == "real":
            axes.hist(values, edges or BINS, density=True, color=REAL)
        elif len(values):
            axes.hist(values, edges or BINS, density=True, histtype="step", color=GENERATED, linewidth=1.3)
    axes.set_yticks([])
    if column.missing:
        shares = ", ".join(f"{name} {np.isnan(values).mean():.1%}" for name, values in sides.items())
        axes.set_xlabel(f"missing: {shares}", fontsize=7)
    if column.kind == "date":
        axes.tick_params(axis="x", rotation=30)


def _bars(axes: Axes, column: Column, sides: Sides) -> None:
    count = len(column.values) + column.missing
    shares = {
        name: np.bincount(np.where(np.isnan(values), len(column.values), values).astype(int), minlength=count) / len(values)
        for name, values in sides.items()
    }
    first = next(iter(shares.values()))
    shown = np.arange(count) if count <= BARS else np.argsort(-first, kind="stable")[:BARS]
    names = [*(str(value) for value in column.values), "(missing)"]
    width = 0.8 / len(shares)
    for place, (name, share) in enumerate(shares.items()):
        at = np.arange(len(shown)) + (place - (len(shares) - 1) / 2) * width
        axes.bar(at, share[shown], width, color=REAL if name == "real" else GENERATED)
    axes.set_xticks(np.arange(len(shown)), [names[index][:LETTERS] for index in shown], rotation=60, ha="right")
    if count > BARS:
        axes.set_xlabel(f"{BARS} of {count}", fontsize=7)


def associations_figure(columns: Columns, title: str, generated: np.ndarray, real: np.ndarray) -> Figure:
    """Returns the matrices of associations of real and of generated rows, and their difference."""
    varying = [index for index, column in enumerate(columns.columns) if column.kind != "constant"][:SHOWN]
    discrete = columns.discrete[varying]
    found = [associations(rows[:, varying], discrete) for rows in (real, generated)]
    size = max(2.6, 0.28 * len(varying))
    figure = Figure(figsize=(3 * size + 2, size + 1.5), layout="constrained")
    panels = figure.subplots(1, 3)
    names = [columns.names[index][:LETTERS] for index in varying]
    shown = (("real", found[0]), ("generated", found[1]), ("generated minus real", found[1] - found[0]))
    for axes, (name, matrix) in zip(panels, shown, strict=True):
        drawn = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(name, fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [], fontsize=7)
    figure.colorbar(drawn, ax=panels, shrink=0.8, label="Pearson, Cramer's V,\ncorrelation ratio")
    add_title(figure, title)
    return figure
