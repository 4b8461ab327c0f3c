"""Pictures: grids of images, samples of toys over the critic's level sets, curves of a run."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from wgan_jax.data.dataset import Dataset, encode
from wgan_jax.evaluation import sample_law
from wgan_jax.models import Networks, make_sampler
from wgan_jax.types import Params

mpl.use("Agg")

GRID_IMAGES, TOY_POINTS = 64, 2000
GAP = 2  # pixels between the images of a grid


def save_image_grid(path: Path, images: np.ndarray, columns: int = 0, captions: Sequence[str] = ()) -> None:
    """Saves images [n, H, W, C] in [-1, 1] as one PNG: a square grid; small images are enlarged to about 64 pixels.

    captions: a line to the right of each row.
    """
    sheet = _sheet(images, columns)
    if captions:
        font = ImageFont.load_default(12)
        pitch, width = (sheet.height - GAP) / len(captions), math.ceil(max(map(font.getlength, captions)))
        margin = 4 * GAP
        wide = Image.new(sheet.mode, (sheet.width + width + 2 * margin, sheet.height), "white")
        wide.paste(sheet)
        draw = ImageDraw.Draw(wide)
        for row, caption in enumerate(captions):
            draw.text((sheet.width + margin, GAP + pitch * (row + 0.5)), caption, "black", font, anchor="lm")
        sheet = wide
    sheet.save(path)


def save_animation(path: Path, frames: Iterable[np.ndarray], milliseconds: int) -> None:
    """Saves frames of images [n, H, W, C] in [-1, 1], each a grid as `save_image_grid` has it, as a GIF without end."""
    sheets = (_sheet(images) for images in frames)
    next(sheets).save(path, save_all=True, append_images=sheets, duration=milliseconds, loop=0)


def save_images(folder: Path, images: np.ndarray, first: int) -> None:
    """Saves images [n, H, W, C] in [-1, 1], pixel by pixel, as 000000.png, ... in a folder, numbered from `first`."""
    for index, image in enumerate(encode(images), first):
        _picture(image).save(folder / f"{index:06d}.png")


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _sheet(images: np.ndarray, columns: int = 0) -> Image.Image:
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    scale = max(1, 64 // height)
    pixels = encode(images).repeat(scale, axis=1).repeat(scale, axis=2)
    high, wide = height * scale + GAP, width * scale + GAP
    sheet = np.full((rows * high + GAP, columns * wide + GAP, channels), 64, np.uint8)
    for index, image in enumerate(pixels):
        top, left = GAP + index // columns * high, GAP + index % columns * wide
        sheet[top : top + height * scale, left : left + width * scale] = image
    return _picture(sheet)


def save_classes(path: Path, images: np.ndarray, labels: np.ndarray, names: Sequence[str], columns: int = 10) -> None:
    """Saves images [n, H, W, C] in [-1, 1] by their class, a captioned row of up to `columns` each; what is missing is grey."""
    rows = np.zeros((len(names), columns, *images.shape[1:]), images.dtype)
    captions = []
    for label, name in enumerate(names):
        own = images[labels == label]
        rows[label, : len(own[:columns])] = own[:columns]
        captions.append(f"{name}, {len(own) / len(images):.0%}")
    save_image_grid(path, rows.reshape(-1, *images.shape[1:]), columns, captions)


def make_artist(dataset: Dataset, networks: Networks) -> Callable[[Path, Params, Params], None]:
    """Returns artist(path, generator variables, critic variables): the picture of fixed latents, or of a toy."""
    key, count = jax.random.key(10_000), GRID_IMAGES if len(dataset.shape) == 3 else TOY_POINTS
    sample, score = make_sampler(networks), jax.jit(networks.score)

    def artist(path: Path, generator: Params, critic: Params) -> None:
        generator, critic = jax.device_get((generator, critic))
        samples = np.asarray(sample(generator, key, 0, count)[1])
        if len(dataset.shape) == 3:
            save_image_grid(path, samples)
        else:
            real = np.asarray(sample_law(dataset, jax.random.key(10_001), TOY_POINTS))
            save_points(path, samples, real, lambda x: np.asarray(score(critic, x.astype(samples.dtype))))

    return artist


def save_points(
    path: Path,
    generated: np.ndarray,
    real: np.ndarray | None = None,
    score: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """Saves a picture of points [n, D]: in 1-D histograms and the critic, else the first two coordinates over its level sets.

    score gives the critic's value of points [m, D]; it is drawn for D of 1 and 2.
    """
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    shown = {"generated": generated} if real is None else {"real": real, "generated": generated}
    frame = generated if real is None else real
    if frame.shape[1] == 1:
        low, high = np.quantile(np.concatenate(list(shown.values())), [0.001, 0.999])
        bins = np.linspace(low - 0.5, high + 0.5, 80).tolist()
        for (name, x), color in zip(shown.items(), ("0.75", "C1")[-len(shown) :], strict=True):
            axes.hist(x[:, 0], bins, density=True, color=color, label=name, histtype="stepfilled", alpha=0.7)
        axes.set(xlabel="x", ylabel="density")
        if score is not None:
            x = np.linspace(bins[0], bins[-1], 200)[:, None]
            twin = axes.twinx()
            twin.plot(x[:, 0], score(x), color="C0", linewidth=1)
            twin.set_ylabel("critic", color="C0")
    else:
        middle, half = (frame.max(0) + frame.min(0))[:2] / 2, max(0.2, float(np.ptp(frame, axis=0).max())) * 0.65
        if score is not None and frame.shape[1] == 2:
            x, y = (np.linspace(m - half, m + half, 100) for m in middle)
            plane = np.stack(np.meshgrid(x, y), axis=-1)
            levels = axes.contourf(x, y, score(plane.reshape(-1, 2)).reshape(100, 100), 24, cmap="coolwarm", alpha=0.7)
            figure.colorbar(levels, label="critic")
        for (name, points), color in zip(shown.items(), ("0.35", "C2")[-len(shown) :], strict=True):
            axes.scatter(points[:, 0], points[:, 1], s=4, color=color, linewidths=0, alpha=0.6, label=name)
        axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")
    figure.legend(markerscale=3, loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=110)


LOSS_CURVES = ("critic_loss", "generator_loss", "penalty", "critic_input_gradient_norm")
WASSERSTEIN_CURVES = (
    "wasserstein_estimate",
    "eval/estimate_train",
    "eval/estimate_heldout",
    "eval/estimate_normalised",
    "eval/c_transform_bound",
    "eval/wasserstein_empirical",
    "eval/wasserstein_floor",
)


def save_curves(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Saves loss.png and wasserstein.png from the lines of metrics.jsonl."""
    for name, curves, label in (("loss", LOSS_CURVES, "loss"), ("wasserstein", WASSERSTEIN_CURVES, "distance (data units)")):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            points = [(line["step"], line[curve]) for line in lines if line.get(curve) is not None]
            if points:
                marker = "o" if curve.startswith("eval/") else None
                axes.plot(*zip(*points, strict=True), label=curve, linewidth=1, marker=marker, markersize=3)
        axes.set(xlabel="generator updates", ylabel=label)
        axes.grid(alpha=0.3)
        if axes.lines:
            figure.legend(loc="outside right upper", fontsize=8)
        figure.savefig(folder / f"{name}.png", dpi=110)


def save_evaluations(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Saves curves over training of every value of evaluations (see evaluation.json), with real data's as a dashed line."""
    names = list(entries[0]["values"])
    columns = 4
    figure = Figure(figsize=(4 * columns, 2.6 * math.ceil(len(names) / columns)), layout="constrained")
    steps = [entry["step"] for entry in entries]
    for index, name in enumerate(names):
        axes = figure.add_subplot(math.ceil(len(names) / columns), columns, index + 1)
        values = [entry["values"][name] for entry in entries]
        axes.errorbar(steps, [v["mean"] for v in values], [v["std"] for v in values], marker="o", markersize=3, linewidth=1)
        real = values[-1]["real"]
        if real is not None:
            axes.axhline(real["mean"], color="0.4", linestyle="--", linewidth=1)
        axes.set_title(f"{name} ({values[-1]['features']})", fontsize=9)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    figure.supxlabel("generator updates")
    figure.suptitle("generated (blue) and real data in the generator's place (dashed)", fontsize=10)
    figure.savefig(path, dpi=100)
