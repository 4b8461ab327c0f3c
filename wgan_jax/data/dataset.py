"""What a dataset is: either stored uint8 images with fixed splits, or a law to sample from, on device and without end."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np


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
    flip: bool = False  # whether training images are mirrored at random
    dequantise: bool = False  # whether they get uniform noise of one pixel level
    sample: Callable[[jax.Array], jax.Array] | None = None  # of a synthetic dataset: key -> one example
    stratified: Callable[[jax.Array, int], jax.Array] | None = None  # key, n -> [n, D], with equal shares of the modes
    modes: Modes | None = None
    quantile: Callable[[np.ndarray], np.ndarray] | None = None  # of a 1-D law: probability -> value


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
