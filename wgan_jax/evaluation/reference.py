"""The two sides of an evaluation, real and generated, as samples and features.

All points are flat, [n, D], in network units ([-1, 1] for images, which are rounded to uint8 levels first).
"""

from typing import NamedTuple

import jax
import numpy as np

from wgan_jax.data.dataset import Dataset, Law, Stored, flatten
from wgan_jax.features import Features
from wgan_jax.metrics.fidelity import nearest_distances
from wgan_jax.metrics.transport import empirical_wasserstein

QUANTILE_SAMPLES = 100_000  # of a 1-D law, at which its floor is about .004
NO_FEATURES, NO_LABELS = Features(np.empty((0, 0)), np.empty((0, 0))), np.empty(0, int)


class Sample(NamedTuple):
    """Real examples, of which an evaluation takes the first of a random order."""

    split: str  # whose examples these are; "" for a law's, which no other sample has
    examples: np.ndarray  # [N, *shape] as the dataset has them
    rows: np.ndarray  # [N], the order

    def first(self, count: int) -> np.ndarray:
        """Returns `count` examples, or as many as there are."""
        return self.examples[self.rows[:count]]


class Reference[D: Dataset](NamedTuple):
    """The real side: two samples of the law that share no example, and what is computed from them once."""

    real: np.ndarray  # [n, D], held-out
    again: np.ndarray  # [n, D], other real examples
    spare: np.ndarray  # [m, D], real examples that are neither of these nor in `train`
    held_out: Sample  # of which `real` are the first
    spares: Sample  # of which `spare` are the first
    train: np.ndarray  # [M, *shape] as the dataset has them: the training split, or fresh examples of a law
    real_to_train: np.ndarray  # [n], distances of `real` to the nearest in `train`; empty for a law
    floor: float  # empirical Wasserstein distance between `real` and `again`
    dataset: D
    features: Features  # of N held-out examples; of none where no metric asks for them


class Generated(NamedTuple):
    """The generated side: two independent samples, features of N, and the many examples that a 1-D law needs."""

    first: np.ndarray  # [n, D]
    second: np.ndarray  # [n, D]
    features: Features
    labels: np.ndarray  # [N], classes as a classifier tells them, or [N, A], rows of attributes; empty where no metric asks
    many: np.ndarray  # [QUANTILE_SAMPLES, 1] for a 1-D law, else empty
    asked: np.ndarray = NO_LABELS  # [N], labels that they were made for, of real ones their own; empty where nobody asked


def make_reference[D: Dataset](dataset: D, split: str, samples: int, draw: int = 0) -> Reference[D]:
    """Returns the real side of an evaluation on `validation` or `test`, without features, a function of the arguments alone.

    Stored data: `real` is a random subset of the split, the whole of it where it has no more than `samples`; `again`
    are training examples and `spare` are of the third split. Laws are drawn from with keys of the split and draw, with equal
    shares of the modes where there are any; but `spares`, twice as many, are independent, as the best generator's are: what
    random shares cost beside equal ones is then in real data's row too.
    """
    if isinstance(dataset, Law):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(20_000 + draw), split == "test"), 4)
        drawn = (*(dataset.draw(key, samples) for key in keys[:2]), dataset.independent(keys[2], 2 * samples))
        held_out, other, spares = (Sample("", np.asarray(examples), np.arange(len(examples))) for examples in drawn)
        train = np.asarray(dataset.draw(keys[3], samples))
    else:
        rng, train = np.random.default_rng((draw, ("validation", "test").index(split))), dataset.train.images
        splits = ((name, dataset.splits[name].images) for name in (split, "train", third(split)))
        held_out, other, spares = (Sample(name, images, rng.permutation(len(images))) for name, images in splits)
    n = min(samples, len(held_out.rows), len(other.rows))
    real, again, spare = (flatten(dataset.decode(sample.first(n))) for sample in (held_out, other, spares))
    to_train = distances_to_train(dataset, real) if isinstance(dataset, Stored) else np.empty(0)
    floor = empirical_wasserstein(real, again)
    return Reference(real, again, spare, held_out, spares, train, to_train, floor, dataset, NO_FEATURES)


def distances_to_train(dataset: Stored, points: np.ndarray) -> np.ndarray:
    """Returns the distances [n] of points [n, D] to the nearest training image, mirrored ones included where training flips."""
    images = dataset.train.images
    views = [images, images[:, :, ::-1]] if dataset.flip else [images]
    return np.min([nearest_distances(points, view, dataset.decode) for view in views], axis=0)


def third(split: str) -> str:
    """Returns the split whose examples are neither in this one nor in training."""
    return "test" if split == "validation" else "validation"
