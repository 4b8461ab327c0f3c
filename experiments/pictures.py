"""What experiments.sample makes of a generator: a picture, an animation, a file of arrays or a folder of images."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from experiments.restore import Restored, load_data
from wgan_jax.data.dataset import Law, Stored
from wgan_jax.errors import UserError
from wgan_jax.evaluation import figures, points, sampling, sheets
from wgan_jax.evaluation.wanted import Wanted, arrays, in_a_name
from wgan_jax.paths import replacing
from wgan_jax.report.drawing import save_figure
from wgan_jax.sizes import check_bytes
from wgan_jax.types import Latents, Params

STOPS, STEPS, MILLISECONDS = 4, 16, 80  # of a walk: latents, frames from each to the next, time of a frame


class Order(NamedTuple):
    """What is to be made."""

    kind: str  # samples, samples of each class, walks, interpolations, comparisons
    num: int  # of them
    form: str  # ".png", ".npz", ".gif", or "/" of a folder
    out: str | None
    seed: int
    raw: bool
    steps: int  # of an interpolation
    nearest: int  # training examples of a comparison
    most: int  # images of one picture


def draw(order: Order, restored: Restored, variables: Params, wanted: Wanted) -> None:
    """Makes what an order says, of the labels that are wanted, and tells where."""
    config, networks = restored.config, restored.networks
    shape, law, (kind, num, *_) = tuple(restored.info["shape"]), config.latent.name, order
    _check_size(order, num * max(1, len(wanted.each)), math.prod(shape) + config.latent.dim)
    what = "" if kind == "samples" else f"_{kind.replace(' ', '_')}"
    name = f"step_{restored.step:08d}_seed_{order.seed}{'_raw' * order.raw}{what}{in_a_name(wanted.words)}.png"
    out = Path(order.out or restored.folder / "samples" / name)
    out.parent.mkdir(parents=True, exist_ok=True)  # a run directory of config and checkpoints alone has no samples/
    count = num * {"interpolations": 1 if wanted.way else 2, "walks": STOPS}.get(kind, 1)
    latents = wanted.draw(networks, restored.info.get("class_counts", ()), jax.random.key(order.seed), count)
    generate = sampling.make_generate(networks, variables)

    def whole(latents: Latents) -> np.ndarray:
        return np.concatenate(list(generate(latents)))

    def along(ways: Latents) -> np.ndarray:
        """Returns the examples [T, n, *shape] of latents [T, n]."""
        z, label = ways
        flat = Latents(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in (z, label)))
        return whole(flat).reshape(*z.shape[:2], *shape)

    def pictures(x: np.ndarray) -> np.ndarray:
        """Returns examples [n, *shape] as images."""
        return sheets.as_images(x, (-1.0, 1.0) if restored.scaling.bounded else sheets.window(x))

    title = figures.run_title(config, restored.step)
    told = f"{title}, {'generator itself' if order.raw else 'averaged generator'}, latents of seed {order.seed}"
    told += f", label {wanted.words}" if wanted.words else ""
    if kind == "interpolations":
        ways = (wanted.way or functools.partial(sampling.interpolation, law))(latents, order.steps)
        x = along(ways).swapaxes(0, 1)
        header = [*(f"{share:.2g}" for share in np.linspace(0, 1, order.steps)), "samples"]
        rows = [f"{row}" if wanted.way else f"{2 * row} to {2 * row + 1}" for row in range(num)]
        from_to = "one label to the other at one latent" if wanted.way else "the latent of one sample to that of another"
        told += f". Each row goes from {from_to}; above, the share of the way."
        sheet = sheets.table_of_images(pictures(x.reshape(-1, *shape)), order.steps, header, rows, told)
        sheets.save_sheet(out, sheet, title)
    elif kind == "comparisons":
        dataset, samples = _training_data(restored, order.nearest), whole(latents)
        train = dataset.train.images
        indices, distances = sampling.nearest_images(samples, train, order.nearest, dataset.scaling)
        x = np.concatenate([samples[:, None], dataset.decode(train[indices], samples.dtype)], axis=1)
        header = ["sample", "nearest", *map(str, range(2, order.nearest + 1)), "distances"]
        rows = ["  ".join(f"{distance:.2f}" for distance in row) for row in distances]
        noun = "image" if len(shape) == 3 else "example"
        told += (
            f". To the right of each sample the nearest of {len(train):,} training {noun}s. Distances are Euclidean, over all "
        )
        pixels = "pixels in network units (black -1, white 1)"
        told += f"{pixels if restored.scaling.bounded else 'entries in network units'}; of a copy 0."
        sheet = sheets.table_of_images(pictures(x.reshape(-1, *shape)), 1 + order.nearest, header, rows, told)
        sheets.save_sheet(out, sheet, title)
    elif kind == "walks":
        x = along(sampling.closed_walk(law, latents, STOPS, STEPS))
        frames = pictures(x.reshape(-1, *shape))
        sheets.save_animation(out, frames.reshape(*x.shape[:2], *frames.shape[1:]), MILLISECONDS)
    elif order.form == "/":
        out.mkdir(exist_ok=True)
        for index, images in enumerate(generate(latents)):
            sheets.save_images(out, images, index * sampling.CHUNK)
    elif order.form == ".npz":
        found = {"samples": np.concatenate([restored.scaling.encode(part) for part in generate(latents)])}
        found["latents"] = np.asarray(latents.z, np.float32)
        if networks.classes:
            found |= arrays(np.asarray(latents.label), restored.attributes)
        with replacing(out) as file:
            np.savez(file, allow_pickle=False, **found)
    elif len(shape) >= 3:
        sheets.save_sheet(out, _sheet(pictures(whole(latents)), num, wanted.each, told), told)
    else:
        save_figure(points.examples_figure(restored.scaling.encode(whole(latents)), told), out, figures.DPI)
    print(f"{num} {kind} of step {restored.step}: {out}")


def _check_size(order: Order, samples: int, numbers: int) -> None:
    """Raises UserError of more samples, each of so many numbers, than a picture shows or memory holds."""
    each = {"walks": STOPS * STEPS, "interpolations": order.steps, "comparisons": 1 + order.nearest}.get(order.kind, 1)
    frame = samples * (1 if order.kind == "walks" else each)
    if order.form in (".png", ".gif") and frame > order.most:
        raise UserError(
            f"--num: {frame:,} images in one picture; it shows {order.most:,} at most, an .npz or a FOLDER/ holds more"
        )
    if order.form != "/":  # which is written part by part
        check_bytes(f"--num: {samples:,} {order.kind}", 4 * samples * each * numbers)


def _sheet(images: np.ndarray, columns: int, each: Sequence[str], told: str) -> Image.Image:
    if not each:
        return sheets.image_grid(images)
    return sheets.table_of_images(images, columns, (), each, f"{told}. A row per label, a column per latent.")


def _training_data(restored: Restored, least: int) -> Stored:
    dataset = load_data(restored)
    count = 0 if isinstance(dataset, Law) else len(dataset.train.images)
    if isinstance(dataset, Law) or count < least:
        raise UserError(f"--nearest: {least} asked for, but there are {count} training images")
    return dataset
