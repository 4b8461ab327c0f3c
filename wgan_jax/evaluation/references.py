"""Reference generators: what a row of metrics looks like for real data, copies, averages and simple densities."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from sklearn.cluster import KMeans

from wgan_jax.data.dataset import Dataset, flatten
from wgan_jax.evaluation import QUANTILE_SAMPLES, Generated, evaluate, make_reference, round_to_pixels, sample_law
from wgan_jax.models import build_networks, make_sampler


def real_rows(dataset: Dataset, split: str, samples: int, draws: int) -> list[dict[str, float]]:
    """Returns the metrics of real data in the generator's place, per draw: examples of neither the split nor the training data.

    Digits has 297 such examples for the test split; then all samples of the row have that size.
    """
    rows: list[dict[str, float]] = []
    classifier = None
    for draw in range(draws):
        reference = make_reference(dataset, split, samples, draw, classifier)
        classifier = reference.classifier
        if len(reference.spare) < len(reference.real):
            reference = make_reference(dataset, split, len(reference.spare), draw, classifier)
        many = np.empty((0, 1))
        if dataset.quantile is not None:
            many = flatten(jax.device_get(sample_law(dataset, jax.random.key(40_000 + draw), QUANTILE_SAMPLES)))
        rows.append(evaluate(reference, Generated(reference.spare[: len(reference.real)], reference.again, many)))
    return rows


def _centroids(count: int) -> Callable[[Dataset, np.random.Generator, int], np.ndarray]:
    def generate(dataset: Dataset, rng: np.random.Generator, n: int) -> np.ndarray:
        """Centroids of k-means on the training images, drawn by the sizes of their clusters."""
        assert dataset.train is not None
        means = KMeans(count, n_init=1, random_state=0).fit(flatten(dataset.train.images))
        return means.cluster_centers_[rng.choice(means.labels_, n)]

    return generate


def _copies(dataset: Dataset, rng: np.random.Generator, n: int) -> np.ndarray:
    """Training images, drawn with replacement."""
    assert dataset.train is not None
    return flatten(dataset.train.images[rng.integers(0, len(dataset.train.images), n)])


def _class_gaussians(dataset: Dataset, rng: np.random.Generator, n: int) -> np.ndarray:
    """A Gaussian with full covariance per class of the training split, cut to [-1, 1]."""
    assert dataset.train is not None
    train, labels = flatten(dataset.train.images), dataset.train.labels
    drawn = rng.choice(labels, n)
    samples = np.empty((n, train.shape[1]))
    for label in np.unique(drawn):
        own = train[labels == label]
        samples[drawn == label] = rng.multivariate_normal(own.mean(0), np.cov(own.T), (drawn == label).sum(), method="svd")
    return np.clip(samples, -1, 1)


GENERATORS: dict[str, Callable[[Dataset, np.random.Generator, int], np.ndarray]] = {
    "training images, copied": _copies,
    "k-means, 30 centroids": _centroids(30),
    "k-means, 200 centroids": _centroids(200),
    "ten class Gaussians": _class_gaussians,
}


def _generate(generator: Any, dataset: Dataset, draw: int, n: int) -> np.ndarray:
    return generator(dataset, np.random.default_rng(draw), n)


def reference_rows(config: ConfigDict, dataset: Dataset, split: str, draws: int) -> dict[str, list[dict[str, float]]]:
    """Returns {generator: metrics per draw}: real data, the GENERATORS for stored data, and an untrained network."""
    samples = config.eval.samples
    rows = {"real": real_rows(dataset, split, samples, draws)}
    references = [make_reference(dataset, split, samples, draw) for draw in range(draws)]
    sizes = [len(reference.real) for reference in references]

    def rows_of(generate: Callable[[int, int], np.ndarray]) -> list[dict[str, float]]:
        many = QUANTILE_SAMPLES if dataset.quantile is not None else 0
        rows = []
        for draw, (reference, n) in enumerate(zip(references, sizes, strict=True)):
            images = generate(draw, 2 * n + many).reshape(-1, *dataset.shape)
            flat = flatten(round_to_pixels(images))
            rows.append(evaluate(reference, Generated(flat[:n], flat[n : 2 * n], flat[2 * n :])))
        return rows

    if dataset.train is not None:
        for name, generator in GENERATORS.items():
            rows[name] = rows_of(functools.partial(_generate, generator, dataset))
    networks = build_networks(config, dataset.shape)
    variables = networks.init_generator(jax.random.key(config.seed))
    sample = make_sampler(networks)
    rows["untrained"] = rows_of(lambda draw, n: np.asarray(sample(variables, jax.random.key(50_000 + draw), 0, n)[1]))
    return rows
