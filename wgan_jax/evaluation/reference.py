"""The two sides of an evaluation, real and generated, as samples and features.

All samples are flat, [n, D], in network units ([-1, 1] for images, which are rounded to uint8 levels first).
"""

from typing import NamedTuple

import jax
import numpy as np

from wgan_jax.data.dataset import Dataset, Split, flatten
from wgan_jax.features import Features
from wgan_jax.metrics.fidelity import nearest_distances
from wgan_jax.metrics.transport import empirical_wasserstein

QUANTILE_SAMPLES = 100_000  # of a 1-D law, at which its floor is about .004
NO_FEATURES = Features(np.empty((0, 0)), np.empty((0, 0)))


class Reference(NamedTuple):
    """The real side: two samples of the law that share no example, and what is computed from them once."""

    real: np.ndarray  # [n, D], held-out
    again: np.ndarray  # [n, D], other real examples
    spare: np.ndarray  # [m, D], real examples that are neither of these nor in `train`
    rows: np.ndarray  # of the split, in the order in which `real` takes them; empty for a synthetic law
    spare_rows: np.ndarray  # of the third split, in the order in which `spare` takes them
    train: np.ndarray  # [M, H, W, C] uint8, the training split; [n, D] fresh examples of a synthetic law
    real_to_train: np.ndarray  # [n], distances of `real` to the nearest in `train`; empty for a synthetic law
    floor: float  # empirical Wasserstein distance between `real` and `again`
    dataset: Dataset
    features: Features  # of N held-out examples; of none where no metric asks for them


class Generated(NamedTuple):
    """The generated side: two independent samples, features of N, and the many examples that a 1-D law needs."""

    first: np.ndarray  # [n, D]
    second: np.ndarray  # [n, D]
    features: Features
    labels: np.ndarray  # [N], classes as a classifier tells them; empty where no metric asks for them
    many: np.ndarray  # [QUANTILE_SAMPLES, 1] for a 1-D law, else empty


def make_reference(dataset: Dataset, split: str, samples: int, draw: int = 0) -> Reference:
    """Returns the real side of an evaluation on `validation` or `test`, without features, a function of the arguments alone.

    Stored data: `real` is a random subset of the split, the whole of it where it has no more than `samples`; `again`
    are training examples and `spare` are of the third split. Synthetic laws are sampled with keys of the split and draw, with
    equal shares of the modes where there are any.
    """
    if dataset.train is None:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(20_000 + draw), split == "test"), 4)
        real, again, spare, train = (flatten(jax.device_get(sample_law(dataset, key, samples))) for key in keys)
        rows = spare_rows = np.empty(0, np.int64)
        to_train = np.empty(0)
    else:
        held, other, train = split_of(dataset, split), split_of(dataset, third(split)), dataset.train.images
        rng = np.random.default_rng((draw, ("validation", "test").index(split)))
        n = min(samples, len(held.images), len(train))
        rows, again_rows, spare_rows = (rng.permutation(len(images)) for images in (held.images, train, other.images))
        sides = ((held.images, rows), (train, again_rows), (other.images, spare_rows))
        real, again, spare = (flatten(images[chosen[:n]]) for images, chosen in sides)
        to_train = distances_to_train(dataset, real)
    floor = empirical_wasserstein(real, again)
    return Reference(real, again, spare, rows, spare_rows, train, to_train, floor, dataset, NO_FEATURES)


def distances_to_train(dataset: Dataset, points: np.ndarray) -> np.ndarray:
    """Returns the distances [n] of points [n, D] to the nearest training image, mirrored ones included where training flips."""
    assert dataset.train is not None
    images = dataset.train.images
    views = [images, images[:, :, ::-1]] if dataset.flip else [images]
    return np.min([nearest_distances(points, view) for view in views], axis=0)


def third(split: str) -> str:
    """Returns the split whose examples are neither in this one nor in training."""
    return "test" if split == "validation" else "validation"


def split_of(dataset: Dataset, name: str) -> Split:
    """Returns a split of a stored dataset by its name."""
    split: Split | None = getattr(dataset, name)
    assert split is not None
    return split


def sample_law(dataset: Dataset, key: jax.Array, count: int) -> jax.Array:
    """Returns [count, D] examples of a synthetic law, with equal shares of its modes where it has some."""
    if dataset.stratified is not None:
        return dataset.stratified(key, count)
    assert dataset.sample is not None
    return jax.vmap(dataset.sample)(jax.random.split(key, count))
