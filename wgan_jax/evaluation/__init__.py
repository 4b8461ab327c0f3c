"""Metrics by name, each a pure function of samples; definitions and their traps are in the modules.

A Reference is the real side of an evaluation. All samples are flat, [n, D], in network units ([-1, 1] for images, which are
rounded to uint8 levels first). What compares features does so in those of a network of features.py.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.special import softmax

from wgan_jax.data.dataset import Dataset, Split, flatten
from wgan_jax.evaluation.critic import CRITIC_VALUES
from wgan_jax.evaluation.divergences import histograms, jensen_shannon, total_variation
from wgan_jax.evaluation.features import Features
from wgan_jax.evaluation.fidelity import (
    class_balance,
    class_shares,
    copying_z,
    frechet_distance,
    inception_score,
    nearest_distances,
    neighbourhoods,
    precision_recall,
    two_sample_accuracy,
)
from wgan_jax.evaluation.kernels import energy_distance, kernel_distance, maximum_mean_discrepancy
from wgan_jax.evaluation.modes import mode_statistics
from wgan_jax.evaluation.transport import empirical_wasserstein, quantile_wasserstein, sliced_wasserstein, wasserstein_excess

QUANTILE_SAMPLES = 100_000  # of a 1-D law, at which its floor is about .004
SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance, as torch-fidelity has them
NO_FEATURES = Features(np.empty((0, 0)), np.empty((0, 0)))

type Direction = Literal["lower", "higher", ""]  # which values are better; "" where none are, or those near a number


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


class Kind(NamedTuple):
    """The data, and the features that it is compared in, for which a metric exists."""

    words: str
    holds: Callable[[ConfigDict, Dataset], bool]


ANY = Kind("any data", lambda config, dataset: True)
STORED = Kind("stored images", lambda config, dataset: dataset.train is not None)
LABELLED = Kind("images with labels of at least two classes", lambda config, dataset: _has_two_classes(dataset))
PLANE = Kind("points in one or two dimensions", lambda config, dataset: math.prod(dataset.shape) <= 2)
MIXTURE = Kind("mixtures of Gaussians (ring8, grid25)", lambda config, dataset: dataset.modes is not None)
LINE = Kind("laws on the line (gaussian with config.data.dim=1)", lambda config, dataset: dataset.quantile is not None)
LOGITS = Kind(
    "features with classes (config.eval.features=classifier or inception)",
    lambda config, dataset: config.eval.features != "pixels",
)


class Metric(NamedTuple):
    values: dict[str, Direction]  # the names of what it gives
    source: Literal["points", "features"]  # what of both sides it compares
    compute: Callable[[Reference, Generated], dict[str, float]]  # NaN for a value that these samples do not have
    least: int = 2  # examples that each side needs
    compares: bool = True  # with real examples; else it looks at the generated ones alone
    kind: Kind = ANY  # of data; never computed for another


def _wasserstein(reference: Reference, generated: Generated) -> dict[str, float]:
    """W(G,T), the real-real floor W(T,T'), their ratio, and the excess (W(G,T) - W(G,G')/2 - W(T,T')/2) / W(T,T')."""
    distance = empirical_wasserstein(generated.first, reference.real)
    own = empirical_wasserstein(generated.first, generated.second)
    floor = reference.floor
    return {
        "wasserstein_empirical": distance,
        "wasserstein_floor": floor,
        "wasserstein_ratio": distance / floor if floor else math.nan,  # 0 where all real examples are one
        "wasserstein_excess": wasserstein_excess(distance, own, floor),
    }


def _copying(reference: Reference, generated: Generated) -> dict[str, float]:
    return {"copying_z": copying_z(reference.real_to_train, distances_to_train(reference.dataset, generated.first))}


def _divergences(reference: Reference, generated: Generated) -> dict[str, float]:
    """Of histograms on shared bins."""
    p, q = histograms(reference.real, generated.first)
    return {"total_variation": total_variation(p, q), "jensen_shannon": jensen_shannon(p, q)}


def _modes(reference: Reference, generated: Generated) -> dict[str, float]:
    modes = reference.dataset.modes
    assert modes is not None
    return mode_statistics(generated.first, modes.centres, modes.sigma)


def _quantile(reference: Reference, generated: Generated) -> dict[str, float]:
    quantile = reference.dataset.quantile
    assert quantile is not None
    samples = generated.many[:, 0]
    return {
        "wasserstein_quantile": quantile_wasserstein(samples, quantile),
        "mean": float(samples.mean()),
        "std": float(samples.std()),
    }


def _points(name: str, distance: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
    """Returns the metric that is one distance between the points of both sides."""
    return Metric({name: "lower"}, "points", lambda reference, generated: {name: distance(reference.real, generated.first)})


def _frechet(reference: Reference, generated: Generated) -> dict[str, float]:
    return {"frechet_distance": frechet_distance(reference.features.vectors, generated.features.vectors)}


def _kernel(reference: Reference, generated: Generated) -> dict[str, float]:
    real, fake = reference.features.vectors, generated.features.vectors
    mean, spread = kernel_distance(real, fake, SUBSETS, min(SUBSET_SIZE, len(real) // 2, len(fake) // 2))
    return {"kernel_distance": mean, "kernel_distance_spread": spread}


def _precision_recall(reference: Reference, generated: Generated) -> dict[str, float]:
    precision, recall = precision_recall(reference.features.vectors, generated.features.vectors)
    return {"precision": precision, "recall": recall}


def _density_coverage(reference: Reference, generated: Generated) -> dict[str, float]:
    found = neighbourhoods(reference.features.vectors, generated.features.vectors)
    return {"density": found.density, "coverage": found.coverage}


def _two_sample(reference: Reference, generated: Generated) -> dict[str, float]:
    found = two_sample_accuracy(reference.features.vectors, generated.features.vectors)
    return {"two_sample_accuracy": found.accuracy, "two_sample_real": found.real, "two_sample_generated": found.generated}


def _inception_score(reference: Reference, generated: Generated) -> dict[str, float]:
    del reference
    mean, spread = inception_score(softmax(generated.features.logits, axis=1))
    return {"inception_score": mean, "inception_score_spread": spread}


def _classes(reference: Reference, generated: Generated) -> dict[str, float]:
    balance = class_balance(class_shares(generated.labels, len(reference.dataset.class_names)))
    return {"smallest_class": balance.smallest, "class_balance": balance.balance, "classes_covered": float(balance.covered)}


METRICS: dict[str, Metric] = {
    "wasserstein": Metric(
        {
            "wasserstein_empirical": "lower",
            "wasserstein_floor": "",
            "wasserstein_ratio": "lower",
            "wasserstein_excess": "lower",
        },
        "points",
        _wasserstein,
    ),
    "sliced": _points("sliced_wasserstein", sliced_wasserstein),
    "energy": _points("energy_distance", energy_distance),
    "mmd": _points("mmd", maximum_mean_discrepancy),
    "divergences": Metric({"total_variation": "lower", "jensen_shannon": "lower"}, "points", _divergences, kind=PLANE),
    "copying": Metric({"copying_z": ""}, "points", _copying, kind=STORED),  # far below 0 for copies, far above for noise
    "modes": Metric(
        {"modes": "higher", "good_share": "higher", "mode_tv": "lower", "mode_sigma": ""},  # sigma: 1 is the law's own
        "points",
        _modes,
        compares=False,
        kind=MIXTURE,
    ),
    "quantile": Metric(
        {"wasserstein_quantile": "lower", "mean": "", "std": ""}, "points", _quantile, compares=False, kind=LINE
    ),
    "frechet": Metric({"frechet_distance": "lower"}, "features", _frechet),
    "kernel": Metric({"kernel_distance": "lower", "kernel_distance_spread": ""}, "features", _kernel, 4),
    "precision_recall": Metric({"precision": "higher", "recall": "higher"}, "features", _precision_recall, 4),
    "density_coverage": Metric({"density": "higher", "coverage": "higher"}, "features", _density_coverage, 6),
    "two_sample": Metric(  # .5 for one law
        {"two_sample_accuracy": "", "two_sample_real": "", "two_sample_generated": ""}, "features", _two_sample
    ),
    "inception_score": Metric(
        {"inception_score": "higher", "inception_score_spread": ""}, "features", _inception_score, 10, False, LOGITS
    ),
    "classes": Metric(
        {"smallest_class": "higher", "class_balance": "higher", "classes_covered": "higher"},
        "features",
        _classes,
        compares=False,
        kind=LABELLED,
    ),
}

# Of every value; a critic's own say nothing of the generator by themselves.
DIRECTIONS: dict[str, Direction] = dict.fromkeys(CRITIC_VALUES, "")
DIRECTIONS |= {name: direction for metric in METRICS.values() for name, direction in metric.values.items()}


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


def _has_two_classes(dataset: Dataset) -> bool:
    return dataset.class_names != () and len(np.unique(split_of(dataset, "train").labels)) > 1


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
