"""What a dataset is: either stored uint8 images with fixed splits, or a law to sample from, on device and without end."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from wgan_jax.data.walk import in_words

FEW_CLASSES = 4  # whose counts are all told


class Split(NamedTuple):
    """Stored examples."""

    images: np.ndarray  # [N, H, W, C] uint8
    labels: np.ndarray  # [N] int32


class Modes(NamedTuple):
    """The components of a mixture of Gaussians with equal weights."""

    centres: np.ndarray  # [K, D]
    sigma: float


class Dataset(NamedTuple):
    shape: tuple[int, ...]  # of one example
    class_names: tuple[str, ...] = ()  # () for no labels
    train: Split | None = None  # the three splits of a stored dataset, or none of them
    validation: Split | None = None
    test: Split | None = None
    fingerprint: str = ""  # of the stored images, labels and splits; "" for data that ships with the program
    left_out: Mapping[str, int] = MappingProxyType({})  # of what was read, by reason
    flip: bool = False  # whether training images are mirrored at random
    dequantise: bool = False  # whether they get uniform noise of one pixel level
    sample: Callable[[jax.Array], jax.Array] | None = None  # of a synthetic dataset: key -> one example
    stratified: Callable[[jax.Array, int], jax.Array] | None = None  # key, n -> [n, D], with equal shares of the modes
    modes: Modes | None = None
    quantile: Callable[[np.ndarray], np.ndarray] | None = None  # of a 1-D law: probability -> value


def describe(dataset: Dataset) -> dict[str, Any]:
    """Returns what provenance.json says of the data, as JSON takes it: counts by split, by class, and of what was left out."""
    splits = {name: split for name in ("train", "validation", "test") if (split := getattr(dataset, name)) is not None}
    classes = len(dataset.class_names)
    return {
        "fingerprint": dataset.fingerprint,
        "shape": list(dataset.shape),
        "examples": {name: len(split.images) for name, split in splits.items()},
        "classes": list(dataset.class_names),
        "class_counts": {
            name: np.bincount(split.labels, minlength=classes).tolist() for name, split in splits.items() if classes
        },
        "left_out": dict(dataset.left_out),
    }


def in_one_line(name: str, dataset: Dataset) -> str:
    """Returns what a run says of its data at the start."""
    told = describe(dataset)
    size = "x".join(map(str, dataset.shape))
    if dataset.train is None:
        modes = f", {len(dataset.modes.centres)} modes" if dataset.modes else ""
        return f"data: {name}, points of {size} number{'s' * (size != '1')} drawn from a law without end{modes}"
    counts = " / ".join(f"{count:,} {split}" for split, count in told["examples"].items())
    return f"data: {name}, {counts} images {size}, {_classes(told)}{in_words(dataset.left_out)}"


def _classes(told: dict[str, Any]) -> str:
    if not told["classes"]:
        return "no labels"
    totals = np.sum(list(told["class_counts"].values()), axis=0)
    pairs = [f"{name}: {count:,}" for name, count in zip(told["classes"], totals, strict=True)]
    if len(pairs) > FEW_CLASSES and totals.min() == totals.max():
        return f"{len(pairs)} classes of {totals[0]:,} each"
    if len(pairs) > FEW_CLASSES:
        pairs = [f"fewest {pairs[totals.argmin()]}", f"most {pairs[totals.argmax()]}"]
    return f"{len(totals)} classes ({', '.join(pairs)})"


def decode[A: (np.ndarray, jax.Array)](images: A, dtype: jax.typing.DTypeLike = np.float32) -> A:
    """Returns uint8 pixels as network units: 0..255 to [-1, 1], the one map of the project; NumPy stays NumPy."""
    return images.astype(dtype) / 127.5 - 1


def encode(images: jax.Array | np.ndarray) -> np.ndarray:
    """Returns network units as uint8 pixels, the inverse of `decode`: rounded to the nearest level, clipped to [-1, 1]."""
    return np.round((np.clip(np.asarray(images), -1, 1) + 1) * 127.5).astype(np.uint8)


def flatten(examples: np.ndarray) -> np.ndarray:
    """Returns examples as vectors [n, D] float64: uint8 images [n, H, W, C] decoded, everything else as it is."""
    x = decode(examples) if examples.dtype == np.uint8 else examples
    return x.reshape(len(x), -1).astype(np.float64)
