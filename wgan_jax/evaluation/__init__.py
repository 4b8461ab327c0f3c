"""Metrics by name, each a pure function of samples; definitions and their traps are in the modules.

A Reference is the real side of an evaluation. All samples are flat, [n, D], in network units ([-1, 1] for images, which are
rounded to uint8 levels first).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from wgan_jax.data.dataset import Dataset, decode, encode, flatten
from wgan_jax.evaluation.fidelity import class_shares, copying_z, label_classifier, nearest_distances, precision_recall
from wgan_jax.evaluation.modes import mode_statistics
from wgan_jax.evaluation.wasserstein import empirical_wasserstein, quantile_wasserstein

QUANTILE_SAMPLES = 100_000  # of a 1-D law, at which its floor is about .004


class Reference(NamedTuple):
    """The real side: two samples of the law that share no example, and what is computed from them once."""

    real: np.ndarray  # [n, D], held-out
    again: np.ndarray  # [n, D], other real examples
    spare: np.ndarray  # [m, D], real examples that are neither of these nor in `train`
    train: np.ndarray  # [N, H, W, C] uint8, the training split; [n, D] fresh examples of a synthetic law
    real_to_train: np.ndarray  # [n], distances of `real` to the nearest in `train`; empty for a synthetic law
    floor: float  # empirical Wasserstein distance between `real` and `again`
    dataset: Dataset
    classifier: Any  # of labelled data, fitted to the training split; else None


class Generated(NamedTuple):
    """The generated side: two independent samples, and the many that a 1-D law needs."""

    first: np.ndarray  # [n, D]
    second: np.ndarray  # [n, D]
    many: np.ndarray  # [QUANTILE_SAMPLES, 1] for a 1-D law, else empty


def _wasserstein(reference: Reference, generated: Generated) -> dict[str, float]:
    """W(G,T), the real-real floor W(T,T'), their ratio, and the excess (W(G,T) - W(G,G')/2 - W(T,T')/2) / W(T,T')."""
    distance = empirical_wasserstein(generated.first, reference.real)
    own = empirical_wasserstein(generated.first, generated.second)
    floor = reference.floor
    return {
        "wasserstein_empirical": distance,
        "wasserstein_floor": floor,
        "wasserstein_ratio": distance / floor,
        "wasserstein_excess": (distance - own / 2 - floor / 2) / floor,
    }


def _precision_recall(reference: Reference, generated: Generated) -> dict[str, float]:
    precision, recall = precision_recall(reference.real, generated.first)
    return {"precision": precision, "recall": recall}


def _copying(reference: Reference, generated: Generated) -> dict[str, float]:
    if reference.dataset.train is None:
        return {}
    return {"copying_z": copying_z(reference.real_to_train, nearest_distances(generated.first, reference.train))}


def _classes(reference: Reference, generated: Generated) -> dict[str, float]:
    if reference.classifier is None:
        return {}
    return {"smallest_class": float(class_shares(reference.classifier, generated.first).min())}


def _modes(reference: Reference, generated: Generated) -> dict[str, float]:
    modes = reference.dataset.modes
    return {} if modes is None else mode_statistics(generated.first, modes.centres, modes.sigma)


def _quantile(reference: Reference, generated: Generated) -> dict[str, float]:
    quantile = reference.dataset.quantile
    if quantile is None:
        return {}
    samples = generated.many[:, 0]
    return {
        "wasserstein_quantile": quantile_wasserstein(samples, quantile),
        "mean": float(samples.mean()),
        "std": float(samples.std()),
    }


# (reference, generated) -> {metric: value}; {} where the data does not allow it
METRICS: dict[str, Callable[[Reference, Generated], dict[str, float]]] = {
    "wasserstein": _wasserstein,
    "precision_recall": _precision_recall,
    "copying": _copying,
    "classes": _classes,
    "modes": _modes,
    "quantile": _quantile,
}


def evaluate(reference: Reference, generated: Generated) -> dict[str, float]:
    """Returns the values of all metrics that the data allows."""
    values: dict[str, float] = {}
    for metric in METRICS.values():
        values |= metric(reference, generated)
    return values


def round_to_pixels(x: np.ndarray) -> np.ndarray:
    """Returns generated images [n, H, W, C] rounded as saving them would; points [n, D] pass."""
    return decode(encode(x), x.dtype) if x.ndim == 4 else x


def make_reference(dataset: Dataset, split: str, samples: int, draw: int = 0, classifier: Any = None) -> Reference:
    """Returns the real side of an evaluation on `validation` or `test`, a function of the arguments alone.

    Stored data: `real` is a random subset of the split, the whole of it where it has no more than `samples`; `again`
    are training examples and `spare` are of the third split. Synthetic laws are sampled with keys of the split and draw, with
    equal shares of the modes where there are any.
    """
    if dataset.train is not None:
        assert dataset.validation is not None
        assert dataset.test is not None
        rng = np.random.default_rng((draw, ("validation", "test").index(split)))
        held, other = (dataset.validation, dataset.test) if split == "validation" else (dataset.test, dataset.validation)
        n = min(samples, len(held.images), len(dataset.train.images))
        real = held.images[rng.permutation(len(held.images))[:n]]
        again = dataset.train.images[rng.permutation(len(dataset.train.images))[:n]]
        spare = other.images[rng.permutation(len(other.images))[:n]]
        real, again, spare = (flatten(x) for x in (real, again, spare))
        train = dataset.train.images
        classifier = classifier or (label_classifier(train, dataset.train.labels) if dataset.class_names else None)
    else:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(20_000 + draw), split == "test"), 4)
        real, again, spare, train = (flatten(jax.device_get(sample_law(dataset, key, samples))) for key in keys)
    to_train = nearest_distances(real, train) if dataset.train is not None else np.empty(0)
    return Reference(real, again, spare, train, to_train, empirical_wasserstein(real, again), dataset, classifier)


def sample_law(dataset: Dataset, key: jax.Array, count: int) -> jax.Array:
    """Returns [count, D] examples of a synthetic law, with equal shares of its modes where it has some."""
    if dataset.stratified is not None:
        return dataset.stratified(key, count)
    assert dataset.sample is not None
    return jax.vmap(dataset.sample)(jax.random.split(key, count))
