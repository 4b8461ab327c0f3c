"""METRICS by name, each a pure function of both sides of an evaluation; definitions and their traps are in wgan_jax.metrics."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy
from ml_collections import ConfigDict

from wgan_jax.data.columns import Columns
from wgan_jax.data.dataset import Dataset, Law, Stored, spread
from wgan_jax.data.labels import attributes_of
from wgan_jax.evaluation.reference import Generated, Reference, distances_to_train
from wgan_jax.metrics.divergences import histograms, jensen_shannon, total_variation
from wgan_jax.metrics.fidelity import (
    class_balance,
    class_shares,
    copying_z,
    frechet_distance,
    inception_score,
    label_agreement,
    label_correlation,
    neighbourhoods,
    precision_recall,
    two_sample_accuracy,
)
from wgan_jax.metrics.kernels import energy_distance, kernel_distance, maximum_mean_discrepancy
from wgan_jax.metrics.modes import mode_statistics
from wgan_jax.metrics.tabular import association_difference, column_distances, detection_auc, utility
from wgan_jax.metrics.transport import empirical_wasserstein, quantile_wasserstein, sliced_wasserstein, wasserstein_excess

SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance, as torch-fidelity has them


class Kind(NamedTuple):
    """The data, and the features that it is compared in, for which a metric exists."""

    words: str
    holds: Callable[[ConfigDict, Dataset], bool]


ANY = Kind("any data", lambda config, dataset: True)
STORED = Kind("stored images", lambda config, dataset: isinstance(dataset, Stored))
LABELLED = Kind(
    "images with labels of at least two classes",
    lambda config, dataset: _has_two_classes(dataset) and not attributes_of(dataset),
)
PLANE = Kind("points in one or two dimensions", lambda config, dataset: math.prod(dataset.shape) <= 2)
MIXTURE = Kind(
    "mixtures of Gaussians (ring8, grid25)", lambda config, dataset: isinstance(dataset, Law) and dataset.modes is not None
)
LINE = Kind(
    "laws on the line (gaussian with config.data.dim=1)",
    lambda config, dataset: isinstance(dataset, Law) and dataset.quantile is not None,
)
CONDITIONAL = Kind(
    "networks that are conditioned on labels",
    lambda config, dataset: (
        config.conditioning.name != "none"
        and _has_two_classes(dataset)
        and ((attributes := attributes_of(dataset)) is None or attributes.of_names != [])
    ),
)
NUMBERED = Kind(
    "networks that are conditioned on numbers",
    lambda config, dataset: (
        config.conditioning.name != "none"
        and (attributes := attributes_of(dataset)) is not None
        and attributes.of_numbers != []
    ),
)
ROWS = Kind("tables", lambda config, dataset: isinstance(dataset.scaling, Columns))
ASKED = Kind(
    "tables with a condition",
    lambda config, dataset: isinstance(dataset, Stored) and dataset.conditions is not None,
)
LOGITS = Kind(
    "features with classes (config.eval.features=classifier or inception)",
    lambda config, dataset: config.eval.features != "pixels",
)


type Pair = tuple[np.ndarray, np.ndarray]


class Metric(NamedTuple):
    values: tuple[str, ...]  # the names of what it gives; report.names.DIRECTIONS says which are better
    source: Literal["points", "features"]  # what of both sides it compares
    compute: Callable[[Reference[Any], Generated], dict[str, float]]  # NaN for a value that these samples do not have
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


def _copying(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    return {"copying_z": copying_z(reference.real_to_train, distances_to_train(reference.dataset, generated.first))}


def _divergences(reference: Reference, generated: Generated) -> dict[str, float]:
    """Of histograms on shared bins."""
    p, q = histograms(reference.real, generated.first)
    return {"total_variation": total_variation(p, q), "jensen_shannon": jensen_shannon(p, q)}


def _modes(reference: Reference[Law], generated: Generated) -> dict[str, float]:
    modes = reference.dataset.modes
    assert modes is not None
    return mode_statistics(generated.first, modes.centres, modes.sigma)


def _quantile(reference: Reference[Law], generated: Generated) -> dict[str, float]:
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
    return Metric((name,), "points", lambda reference, generated: {name: distance(reference.real, generated.first)})


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
    mean, spread = inception_score(scipy.special.softmax(generated.features.logits, axis=1))
    return {"inception_score": mean, "inception_score_spread": spread}


def _classes(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    balance = class_balance(class_shares(generated.labels, len(reference.dataset.class_names)))
    return {"smallest_class": balance.smallest, "class_balance": balance.balance, "classes_covered": float(balance.covered)}


def _labels(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    """Of attributes the mean over columns of names, and the least over these and their values."""
    attributes, pairs = reference.dataset.attributes, [(generated.asked, generated.labels)]
    pairs = pairs if attributes is None else _by_column(reference, generated, attributes.of_names)
    shares, least = zip(*(label_agreement(asked, told) for asked, told in pairs), strict=True)
    return {"label_agreement": float(np.mean(shares)), "smallest_agreement": min(least)}


def _label_numbers(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    """The mean over columns of numbers."""
    assert reference.dataset.attributes is not None
    pairs = _by_column(reference, generated, reference.dataset.attributes.of_numbers)
    return {"label_correlation": float(np.mean([label_correlation(asked, told) for asked, told in pairs]))}


def _by_column(reference: Reference[Stored], generated: Generated, columns: Sequence[int]) -> list[Pair]:
    """Returns what was asked for and what a classifier tells, [N] each, of columns of attributes."""
    attributes = reference.dataset.attributes
    assert attributes is not None
    if not len(generated.asked):
        return [(generated.asked, generated.asked)] * len(columns)
    asked = attributes.rows[generated.asked]
    return [(asked[:, column], generated.labels[:, column]) for column in columns]


def _rows(reference: Reference[Stored], generated: Generated) -> tuple[np.ndarray, np.ndarray, Columns]:
    """Returns the real and the generated rows of a table, and its columns."""
    columns = reference.dataset.scaling
    assert isinstance(columns, Columns)
    return columns.encode(reference.features.vectors), columns.encode(generated.features.vectors), columns


def _columns(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    real, rows, columns = _rows(reference, generated)
    distances = column_distances(real, rows, columns.discrete)
    return {"column_distance": float(distances.mean()), "worst_column": float(distances.max())}


def _associations(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    real, rows, columns = _rows(reference, generated)
    return {"association_difference": association_difference(real, rows, columns.discrete)}


def _detection(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    real, rows, columns = _rows(reference, generated)
    return {"detection_auc": detection_auc(real, rows, columns.discrete)}


def _utility(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    """Trained on generated rows, and on as many of the training split's, and tried on the real ones."""
    real, rows, columns = _rows(reference, generated)
    train = reference.train[spread(len(reference.train), min(len(rows), len(reference.train)))]
    return {
        "utility": utility(rows, real, columns.target, columns.discrete),
        "utility_of_training_rows": utility(train, real, columns.target, columns.discrete),
    }


def _conditions(reference: Reference[Stored], generated: Generated) -> dict[str, float]:
    """The share of rows that have the category that was asked for; of real rows there is none."""
    if not len(generated.asked):
        return {"condition_agreement": math.nan}
    _, rows, columns = _rows(reference, generated)
    asked = generated.asked[: len(rows)]
    return {"condition_agreement": float((columns.labels(rows) == asked[:, None]).any(axis=1).mean())}


METRICS: dict[str, Metric] = {
    "wasserstein": Metric(
        ("wasserstein_empirical", "wasserstein_floor", "wasserstein_ratio", "wasserstein_excess"), "points", _wasserstein
    ),
    "sliced": _points("sliced_wasserstein", sliced_wasserstein),
    "energy": _points("energy_distance", energy_distance),
    "mmd": _points("mmd", maximum_mean_discrepancy),
    "divergences": Metric(("total_variation", "jensen_shannon"), "points", _divergences, kind=PLANE),
    "copying": Metric(("copying_z",), "points", _copying, kind=STORED),
    "modes": Metric(("modes", "good_share", "mode_tv", "mode_sigma"), "points", _modes, compares=False, kind=MIXTURE),
    "quantile": Metric(("wasserstein_quantile", "mean", "std"), "points", _quantile, compares=False, kind=LINE),
    "frechet": Metric(("frechet_distance",), "features", _frechet),
    "kernel": Metric(("kernel_distance", "kernel_distance_spread"), "features", _kernel, 4),
    "precision_recall": Metric(("precision", "recall"), "features", _precision_recall, 4),
    "density_coverage": Metric(("density", "coverage"), "features", _density_coverage, 6),
    "two_sample": Metric(("two_sample_accuracy", "two_sample_real", "two_sample_generated"), "features", _two_sample),
    "inception_score": Metric(("inception_score", "inception_score_spread"), "features", _inception_score, 10, False, LOGITS),
    "classes": Metric(
        ("smallest_class", "class_balance", "classes_covered"), "features", _classes, compares=False, kind=LABELLED
    ),
    "labels": Metric(("label_agreement", "smallest_agreement"), "features", _labels, compares=False, kind=CONDITIONAL),
    "columns": Metric(("column_distance", "worst_column"), "features", _columns, kind=ROWS),
    "associations": Metric(("association_difference",), "features", _associations, kind=ROWS),
    "detection": Metric(("detection_auc",), "features", _detection, 6, kind=ROWS),
    "utility": Metric(("utility", "utility_of_training_rows"), "features", _utility, 4, kind=ROWS),
    "conditions": Metric(("condition_agreement",), "features", _conditions, compares=False, kind=ASKED),
    "label_numbers": Metric(("label_correlation",), "features", _label_numbers, compares=False, kind=NUMBERED),
}


def _has_two_classes(dataset: Dataset) -> bool:
    """Says whether examples are of one of several classes each; rows of a table have one in every column of categories."""
    if isinstance(dataset, Law) or dataset.class_names == () or isinstance(dataset.scaling, Columns):
        return False
    return len(np.unique(dataset.train.labels)) > 1
