"""Pictures: grids of images, samples of toys over the critic's level sets, curves of a run."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from wgan_jax.data.dataset import Dataset, encode
from wgan_jax.evaluation import sample_law
from wgan_jax.models import Networks, make_sampler
from wgan_jax.types import Params

mpl.use("Agg")

GRID_IMAGES, TOY_POINTS = 64, 2000


def save_image_grid(path: Path, images: np.ndarray, columns: int = 0) -> None:
    """Saves images [n, H, W, C] in [-1, 1] as one PNG: a square grid; small images are enlarged to about 64 pixels."""
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    scale = max(1, 64 // height)
    pixels = encode(images).repeat(scale, axis=1).repeat(scale, axis=2)
    gap = 2
    sheet = np.full((rows * (height * scale + gap) + gap, columns * (width * scale + gap) + gap, channels), 64, np.uint8)
    for index, image in enumerate(pixels):
        top, left = gap + index // columns * (height * scale + gap), gap + index % columns * (width * scale + gap)
        sheet[top : top + height * scale, left : left + width * scale] = image
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(path)


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
