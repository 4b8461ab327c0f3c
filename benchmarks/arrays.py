"""Arrays that are no square pictures: how near samples come to held-out examples, in standard deviations of the training's.

Run it from the repository's root (about ten processor minutes a seed):

    python -m benchmarks.arrays [--sets=vectors,series,images,volumes] [--seeds=3] [--out=FILE.json] [--figure=FILE.png]
                                [--config.key=value ...]

Four sets of 4,000 examples are drawn from laws that are known, and written to .npy files, in units and dtypes as instruments
have them. configs/wgan_gp.py:array trains on each, in a process of its own on one core, and `experiments.sample` gives as many
examples back as the test split has. Prints, as the median over seeds with the least and the greatest, the sliced Wasserstein-1
distance of samples to the test split, in standard deviations of a feature or channel in training, beside what as many
training examples have in their place; and what the training took. How fast updates are beside PyTorch's: benchmarks/images.py.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.tables import call

COUNT = 4000
CONFIG = "configs/wgan_gp.py:array"
CONVOLUTIONAL = {"model.name": "dcgan", "model.width": 32, "model.critic_activation": "leaky_relu"}


def vectors(rng: np.random.Generator) -> np.ndarray:
    """100 readings, float32, of scales from .01 to 1000, which ten hidden causes decide but for noise."""
    causes = rng.normal(size=(COUNT, 10))
    causes[:, 0] = np.abs(causes[:, 0])  # skewed
    causes[:, 1] += 3 * rng.choice([-1, 1], COUNT)  # two kinds
    mixed = np.tanh(causes @ rng.normal(size=(10, 100)) / 2) + 0.1 * rng.normal(size=(COUNT, 100))
    scale = 10 ** rng.uniform(-2, 3, 100)
    return (scale * (mixed + rng.normal(size=100))).astype(np.float32)


def series(rng: np.random.Generator) -> np.ndarray:
    """64 moments of a bell, [N, 64, 2] float32: its swing, and what another gauge sees a quarter period before."""
    period, phase = rng.uniform(8, 24, (COUNT, 1)), rng.uniform(0, 2 * np.pi, (COUNT, 1))
    swing = rng.gamma(4, 10, (COUNT, 1)) * np.exp(-np.arange(64) / rng.uniform(16, 64, (COUNT, 1)))
    angle = 2 * np.pi * np.arange(64) / period + phase
    both = np.stack([swing * np.sin(angle), 5 + 0.1 * swing * np.cos(angle)], axis=-1)
    return (both + rng.normal(size=both.shape) * [1, 0.1]).astype(np.float32)


def images(rng: np.random.Generator) -> np.ndarray:
    """A spot on 20 x 12 pixels in five bands, [N, 20, 12, 5] int16 counts: the larger, the redder."""
    x, y = rng.uniform(3, 9, (2, COUNT, 1, 1, 1))
    size = rng.uniform(1, 3, (COUNT, 1, 1, 1))
    rows, columns = np.arange(20).reshape(1, 20, 1, 1), np.arange(12).reshape(1, 1, 12, 1)
    spot = np.exp(-((rows - 5 - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
    bands = np.exp(-((np.arange(5) - 2 * (size - 1)) ** 2) / 2)
    return rng.poisson(20 + 2000 * spot * bands).clip(0, 4095).astype(np.int16)


def volumes(rng: np.random.Generator) -> np.ndarray:
    """An ellipsoid in 12 x 12 x 12 voxels, [N, 12, 12, 12, 1] float32: one density inside, soft at its border."""
    centre, axes = rng.uniform(4, 7, (COUNT, 3)), rng.uniform(2, 4.5, (COUNT, 3))
    grid = np.stack(np.meshgrid(*[np.arange(12)] * 3, indexing="ij"), axis=-1)
    apart = np.stack([np.sqrt((((grid - c) / a) ** 2).sum(-1)) for c, a in zip(centre, axes, strict=True)])
    return (1 / (1 + np.exp(8 * (apart - 1))))[..., None].astype(np.float32)


class Set(NamedTuple):
    """A law of arrays, and the overrides of the config that suit it."""

    draw: Callable[[np.random.Generator], np.ndarray]
    overrides: dict[str, Any]


SETS = {
    "vectors": Set(vectors, {}),
    "series": Set(series, {**CONVOLUTIONAL, "steps": 2000}),
    "images": Set(images, {**CONVOLUTIONAL, "model.width": 16, "steps": 1500}),
    "volumes": Set(volumes, {**CONVOLUTIONAL, "model.width": 16, "steps": 1000}),
}


def distance(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> float:
    """Returns the sliced Wasserstein-1 distance of arrays [n, ..., C] and [m, ..., C], channels divided by scale [C]."""
    from wgan_jax.metrics.transport import sliced_wasserstein

    return sliced_wasserstein((x / scale).reshape(len(x), -1), (y / scale).reshape(len(y), -1), p=1)


def measure(name: str, file: Path, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Trains and samples; returns what it came to. The samples are beside the file, as samples.npz."""
    from wgan_jax.config import load
    from wgan_jax.data import load_dataset

    own = {**SETS[name].overrides, "seed": seed, "data.path": file, "eval.metrics": "wasserstein", "eval.draws": 1}
    words = [*(f"--config.{key}={value}" for key, value in own.items()), *overrides]
    quiet = [f"--config.{part}_every=1000000" for part in ("eval", "sample", "checkpoint", "log")]
    run, out = file.with_name("run"), file.with_name("samples.npz")
    shutil.rmtree(run, ignore_errors=True)
    _, seconds = call([sys.executable, "-m", "experiments.run", f"--config={CONFIG}", f"--workdir={run}", *words, *quiet])
    dataset: Any = load_dataset(load(CONFIG, words))
    train, test = (dataset.splits[split].images for split in ("train", "test"))
    words = [f"--workdir={run}", f"--out={out}", f"--num={len(test)}", f"--seed={seed}"]
    call([sys.executable, "-m", "experiments.sample", *words])
    with np.load(out, allow_pickle=False) as stored:
        samples = stored["samples"]
    given = np.load(file, mmap_mode="r", allow_pickle=False)
    if (samples.dtype, samples.shape[1:]) != (given.dtype, given.shape[1:]):
        sys.exit(f"{name}: samples {samples.dtype} {samples.shape[1:]} of {given.dtype} {given.shape[1:]}")
    scale = train.std(axis=tuple(range(train.ndim - 1)))  # of a feature, or channel, as the program scales them
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {
        "set": name,
        "shape": list(given.shape),
        "dtype": str(given.dtype),
        "seed": seed,
        "updates": summary["step"],
        "processor_seconds": seconds,
        "generated": distance(samples, test, scale),
        "real": distance(train[np.random.default_rng(seed).permutation(len(train))[: len(test)]], test, scale),
    }


def save_figure(path: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draws four real and four generated examples of each set, in their units: curves, or the middle of what is no curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 1.8 * len(pairs)), layout="constrained")
    grid = figure.subplots(len(pairs), 8, squeeze=False)
    for row, (name, both) in zip(grid, pairs.items(), strict=True):
        for side, arrays in enumerate(both):
            for axes, example in zip(row[4 * side : 4 * side + 4], arrays, strict=False):
                if example.ndim <= 2:
                    axes.plot(example, linewidth=0.8)
                else:
                    plane = example[len(example) // 2] if example.ndim == 4 else example
                    axes.imshow(plane[..., plane.shape[-1] // 2], vmin=both[0].min(), vmax=both[0].max(), cmap="gray")
                    axes.axis("off")
                axes.tick_params(labelsize=6)
            row[4 * side].set_title(f"{name}, {('real', 'generated')[side]}", fontsize=8, loc="left")
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str]) -> None:
    """Parses the flags, measures every set at every seed, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--figure", type=Path, metavar="FILE.png")
    flags, overrides = parser.parse_known_args(argv)
    names = flags.sets.split(",")
    if unknown := sorted(set(names) - set(SETS)):
        parser.error(f"--sets: {', '.join(unknown)} is none of {', '.join(SETS)}")
    found: list[dict[str, Any]] = []
    pairs = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{name}.npy")
            array = SETS[name].draw(np.random.default_rng(0))
            np.save(file, array)
            for seed in range(flags.seeds):
                found.append(measure(name, file, seed, overrides))
                print(json.dumps(found[-1]), flush=True)
            with np.load(file.with_name("samples.npz"), allow_pickle=False) as stored:
                pairs[name] = (array[:4], stored["samples"][:4])
    if flags.out:
        flags.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if flags.figure:
        save_figure(flags.figure, pairs)
    print(f"{'set':8} {'shape':24} {'updates':>7} {'processor s':>11} {'generated':>22} {'real':>22}")
    for name in names:
        rows = [row for row in found if row["set"] == name]
        cells = [[row[key] for row in rows] for key in ("generated", "real")]
        texts = [f"{statistics.median(cell):.3f} [{min(cell):.3f}, {max(cell):.3f}]" for cell in cells]
        shape = f"{'x'.join(map(str, rows[0]['shape']))} {rows[0]['dtype']}"
        seconds = statistics.median(row["processor_seconds"] for row in rows)
        print(f"{name:8} {shape:24} {rows[0]['updates']:>7} {seconds:>11.0f} {texts[0]:>22} {texts[1]:>22}")


if __name__ == "__main__":
    main(sys.argv[1:])
