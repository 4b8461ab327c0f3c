"""Pictures of a run: samples beside real examples, toys over the critic's level sets, curves, evaluations over training."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from ml_collections import ConfigDict

from wgan_jax.data.columns import Columns
from wgan_jax.data.dataset import Dataset, Law, Stored
from wgan_jax.data.labels import attributes_of, class_counts
from wgan_jax.data.walk import printable
from wgan_jax.evaluation import sheets
from wgan_jax.evaluation.marginals import associations_figure, marginals_figure
from wgan_jax.evaluation.points import examples_figure
from wgan_jax.evaluation.sampling import draw_latents, every_code, every_label, make_draw, make_generate
from wgan_jax.features import FeatureNetwork
from wgan_jax.objectives.penalties import AIMS
from wgan_jax.report.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    UPDATES,
    VERMILLION,
    add_title,
    count_ticks,
    hold_spikes,
    save_figure,
    words,
)
from wgan_jax.report.names import DIRECTIONS
from wgan_jax.types import Batch, Latents, Networks, Params

GRID_IMAGES, TOY_POINTS = 64, 2000
CLASS_IMAGES = 300  # that the sheet by class is chosen from
ROW = 10  # latents, the same ones, of each label
DPI = 110


def run_title(config: ConfigDict, step: int | None = None) -> str:
    """Returns what a run's picture is of, such as "wgan_gp on ring8, seed 0, step 2,000"."""
    data = config.data.builder if config.data.name == "tfds" else config.data.name
    source = f" {printable(Path(config.data.path).name)}" if config.data.path else ""
    return f"{config.method} on {data}{source}, seed {config.seed}" + ("" if step is None else f", step {step:,}")


class Artist(NamedTuple):
    """Draws what a run's generator and critic, given as variables, have come to at a step; always from the same latents."""

    # path, step, generator, critic: samples, a grid of images alone or points over the critic
    draw: Callable[[Path, int, Params, Params], None]
    # folder, step, generator, critic, network that tells classes: samples.png, images beside real ones, real.png, classes.png
    draw_last: Callable[[Path, int, Params, Params, FeatureNetwork | None], None]
    # folder, lines of metrics.jsonl, examples of either side of an evaluation: loss.png, wasserstein.png
    draw_curves: Callable[[Path, Sequence[dict[str, Any]], int], None]


def make_artist(config: ConfigDict, dataset: Dataset, networks: Networks) -> Artist:
    """Returns the Artist of a run. Real images are held-out ones, of the validation split; real points are fresh."""
    key, of_images, attributes = jax.random.key(10_000), len(dataset.shape) >= 3, attributes_of(dataset)
    draw_generated, score = make_draw(networks, class_counts(dataset), dataset.shape), jax.jit(networks.score)

    def samples(generator: Params, count: int) -> np.ndarray:
        return np.asarray(draw_generated(jax.device_get(generator), key, count).x)

    @functools.cache
    def labelled() -> Latents:
        if attributes is not None:
            latents = draw_latents(networks, class_counts(dataset), key, ROW)
            return every_code(
                latents, attributes, [(column, entry) for _, column, entry in attributes.shown()[: sheets.CLASSES]]
            )
        return every_label(draw_latents(networks, (), key, ROW), min(networks.classes, sheets.CLASSES))

    def by_label(generator: Params) -> np.ndarray:
        """Returns images of every label or value of an attribute, or of the first, ROW of each from the same latents."""
        return np.concatenate(list(make_generate(networks, generator)(labelled())))

    def real() -> np.ndarray:
        if isinstance(dataset, Law):
            return np.asarray(dataset.draw(jax.random.key(10_001), TOY_POINTS))
        held_out = dataset.validation.images
        count = TOY_POINTS if isinstance(dataset.scaling, Columns) else GRID_IMAGES
        rows = np.random.default_rng(0).permutation(len(held_out))[:count]
        return dataset.decode(held_out[np.sort(rows)])

    @functools.cache
    def black_white() -> tuple[float, float]:
        return (-1.0, 1.0) if dataset.scaling.bounded else sheets.window(real())

    def images(x: np.ndarray) -> np.ndarray:
        return sheets.as_images(x, black_white())

    def draw(path: Path, step: int, generator: Params, critic: Params) -> None:
        title = run_title(config, step)
        if of_images:
            x = by_label(generator) if networks.classes else samples(generator, GRID_IMAGES)
            sheets.save_sheet(path, sheets.image_grid(images(x), *([ROW] if networks.classes else [])), title)
        elif isinstance(dataset.scaling, Columns):
            x = dataset.encode(samples(generator, TOY_POINTS))
            save_figure(marginals_figure(dataset.scaling, title, x, dataset.encode(real())), path, DPI)
        else:
            critic, x = jax.device_get(critic), samples(generator, TOY_POINTS)
            unlabelled = lambda at: Batch(dataset.decode(at).astype(x.dtype), np.zeros(len(at), np.int32))  # noqa: E731
            scores = lambda at: np.asarray(score(critic, unlabelled(at)))  # noqa: E731
            scored = scores if config.n_critic and config.packing == 1 else None
            figure = examples_figure(dataset.encode(x), title, dataset.encode(real()), scored)
            save_figure(figure, path, DPI)

    def draw_last(folder: Path, step: int, generator: Params, critic: Params, network: FeatureNetwork | None) -> None:
        title, of_data = f"{run_title(config, step)}, averaged generator", f"the data of {run_title(config)}"
        if of_images:
            sides = {"real, held out": images(real()), "generated": images(samples(generator, GRID_IMAGES))}
            sheets.save_sheet(folder / "samples.png", sheets.side_by_side(sides, title), title)
            del sides["generated"]
            sheets.save_sheet(folder / "real.png", sheets.side_by_side(sides, of_data), of_data)
        else:
            draw(folder / "samples.png", step, generator, critic)
            scaling, held_out = dataset.scaling, dataset.encode(real())
            if isinstance(scaling, Columns):
                x = dataset.encode(samples(generator, TOY_POINTS))
                save_figure(associations_figure(scaling, title, x, held_out), folder / "associations.png", DPI)
                alone = marginals_figure(scaling, of_data, None, held_out)
            else:
                alone = examples_figure(None, of_data, held_out)
            save_figure(alone, folder / "real.png", DPI)
        if of_images and network is not None and isinstance(dataset, Stored) and dataset.class_names:
            x, asked = map(np.asarray, draw_generated(jax.device_get(generator), key, CLASS_IMAGES))
            stored = dataset.encode(x)
            labels = network.label(stored, network.apply(stored))
            if networks.classes:
                told = f"{title}: a row for each label that was asked for, a column per latent; beside it of how many others "
                told += "of that label a classifier tells it."
                rows = _agreement(dataset, asked, labels)[: sheets.CLASSES]
                sheet = sheets.table_of_images(images(by_label(generator)), ROW, (), rows, told)
                sheets.save_sheet(folder / "labels.png", sheet, title)
            if attributes is not None:
                return
            told = f"{title}: {CLASS_IMAGES} samples by a classifier's label; in brackets the training split."
            sheet = sheets.images_by_class(images(x), labels, dataset.class_names, dataset.train.labels, told)
            sheets.save_sheet(folder / "classes.png", sheet, title)

    def draw_curves(folder: Path, lines: Sequence[dict[str, Any]], n: int) -> None:
        units = "data units" if isinstance(dataset, Law) else "network units"
        save_figure(loss_figure(lines, config), folder / "loss.png", DPI)
        save_figure(wasserstein_figure(lines, config, n, units), folder / "wasserstein.png", DPI)

    return Artist(draw, draw_last, draw_curves)


def _agreement(dataset: Stored, asked: np.ndarray, told: np.ndarray) -> list[str]:
    """Returns for each row of a sheet by label its name, and of how many examples that were asked so a classifier tells it."""
    if dataset.attributes is None:
        named = [(name, asked == y, told == y) for y, name in enumerate(dataset.class_names)]
    else:
        rows = dataset.attributes.rows[asked]
        named = [
            (words, rows[:, column] == entry, told[:, column] == entry) for words, column, entry in dataset.attributes.shown()
        ]
    return [f"{name}: {np.sum(so[own])} of {np.sum(own)}" if own.any() else name for name, own, so in named]


class Series(NamedTuple):
    """A curve of a panel: where its values stand in a metrics line, and what they are."""

    metric: str
    label: str
    color: str
    style: str = "-"
    factor: float = 1.0


def loss_figure(lines: Sequence[dict[str, Any]], config: ConfigDict) -> Figure:
    """Returns the losses over training, with the penalty as it enters the critic's, and below it the critic's slope.

    A lazy penalty, which the critic's loss is told without, is drawn as it enters on average.
    """
    figure, (losses, slope) = _over_training(2, _title(config, lines))
    penalty, weight = config.penalty, config.penalty.weight
    shown = [Series("critic_loss", "critic's loss", BLUE), Series("generator_loss", "generator's loss", ORANGE)]
    label = f"penalty in the critic's loss\n(weight {weight:g} x penalty)"
    if (every := penalty.every) > 1:
        label = f"penalty, beside the critic's loss\n(weight {weight:g} x penalty,\n{every} times it at every {every}. update)"
    shown.insert(1, Series("penalty", label, GREEN, "--", weight))
    losses.set_ylabel("loss")
    _draw_series(losses, shown, lines)
    where = words(penalty.points if penalty.name != "none" else "interpolates")
    norms = [
        Series("critic_input_gradient_norm", f"mean over a batch ({where})", BLUE),
        Series("eval/lipschitz_q99", "99 % quantile, held-out, generated\nand between", ORANGE, "--"),
    ]
    slope.set_ylabel("norm of the critic's\ninput gradient")
    if penalty.name in AIMS:
        aim, told = AIMS[penalty.name]
        slope.axhline(aim, color="0.3", linestyle=":", linewidth=1.5, label=f"{aim:g}: {told}")
    _draw_series(slope, norms, lines)
    return figure


def wasserstein_figure(lines: Sequence[dict[str, Any]], config: ConfigDict, n: int, units: str) -> Figure:
    """Returns the critic's estimates over training, and below them what is a distance.

    n: examples of either side of an evaluation; units: of the examples' entries. Estimates have a panel of their own: they
    are in units of the critic, whose Lipschitz constant nobody knows.
    """
    figure, (estimates, distances) = _over_training(2, _title(config, lines))
    raw = [
        Series("wasserstein_estimate", "this batch", BLUE),
        Series("eval/estimate_train", "training data, averaged generator", ORANGE, "-"),
        Series("eval/estimate_heldout", "held-out data, averaged generator", GREEN, "--"),
    ]
    estimates.set_ylabel("critic's score, real\nminus generated")
    _draw_series(estimates, raw, lines)
    measured = [
        Series("eval/wasserstein_empirical", f"empirical W1, generated to held-out\n(n = {n:,})", VERMILLION),
        Series("eval/wasserstein_floor", f"the same, real to held-out (n = {n:,})", "0.3", ":"),
        Series("eval/c_transform_bound", "c-transform bound of the critic", PINK),
        Series("eval/estimate_normalised", "held-out estimate / 99 % quantile of\nthe critic's slope", GREEN, "--"),
    ]
    distances.set_ylabel(f"Wasserstein-1 distance\n({units}; lower is better)")
    _draw_series(distances, measured, lines)
    return figure


def _title(config: ConfigDict, lines: Sequence[dict[str, Any]]) -> str:
    return run_title(config, lines[-1]["step"] if lines else 0)


def _over_training(panels: int, title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, 0.6 + 2.7 * panels), layout="constrained")
    axes = list(figure.subplots(panels, 1, sharex=True))
    count_ticks(axes[-1])
    axes[-1].set_xlabel(UPDATES)
    add_title(figure, title)
    return figure, axes


def _draw_series(axes: Axes, shown: Sequence[Series], lines: Sequence[dict[str, Any]]) -> None:
    """Draws what the lines have of the series, with a gap where a value is none; the legend stands to the right."""
    every = []
    for metric, label, color, style, factor in shown:
        points = [(line["step"], line[metric]) for line in lines if metric in line]
        if points:
            steps, values = np.array(points, float).T  # None becomes NaN
            marker = "o" if len(points) <= 40 else None
            axes.plot(steps, factor * values, style, color=color, label=label, linewidth=1.2, marker=marker, markersize=3)
            every.append(factor * values)
    hold_spikes(axes, np.concatenate([np.empty(0), *every]))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=9)


def evaluations_figure(entries: Sequence[dict[str, Any]], title: str) -> Figure:
    """Returns curves over training of every value of evaluations (see evaluation.json), real data's as a dashed line.

    Each panel says which direction is better, what was compared, and how many examples each of the two lines is of.
    """
    names = list(dict.fromkeys(name for entry in entries for name in entry["values"]))
    columns, last = min(4, len(names)), entries[-1]
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(8, 4.1 * columns), 0.9 + 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        found = [(entry["step"], entry["values"][name]) for entry in entries if name in entry["values"]]
        steps, values = zip(*found, strict=True)
        means, spreads = (np.array([v[part] for v in values], float) for part in ("mean", "std"))
        axes.errorbar(steps, means, spreads, color=BLUE, marker="o", markersize=3, linewidth=1.2)
        told, real = values[-1], values[-1]["real"]
        counts = f"n = {told['n_fake']:,}"
        if real is not None and real["mean"] is not None:
            axes.axhline(real["mean"], color="0.3", linestyle="--", linewidth=1.2)
            means = np.append(means, real["mean"])
            counts += f", real n = {real['n']:,}"
        hold_spikes(axes, means)
        better = f" ({DIRECTIONS[name]} is better)" if DIRECTIONS.get(name) else ""
        axes.set_title(f"{words(name)}{better}\n{told['features']}, {counts}", fontsize=9)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    for axes in panels[len(names) :]:
        axes.remove()
    for index in range(columns):  # the lowest panel of each column has the ticks
        lowest = panels[max(i for i in range(index, len(names), columns))]
        lowest.tick_params(labelbottom=True)
        count_ticks(lowest)
        lowest.set_xlabel(UPDATES, fontsize=9)
    generator = {"ema": "averaged generator", "raw": "generator itself"}[last["generator"]]
    draws = len(last["seeds"])
    add_title(figure, f"{title}: {generator}, {last['split']} split, mean and deviation of {draws} draws")
    handles = [
        Line2D([], [], color=BLUE, marker="o", markersize=3, label="generated"),
        Line2D([], [], color="0.3", linestyle="--", label="real data in the generator's place"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def save_evaluations(path: Path, entries: Sequence[dict[str, Any]], title: str) -> None:
    """Saves `evaluations_figure` as a PNG."""
    save_figure(evaluations_figure(entries, title), path, 100)
