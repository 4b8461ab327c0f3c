"""Reference generators: what a row of metrics looks like for real data, copies, averages and simple densities."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from sklearn.cluster import KMeans

from wgan_jax.data.columns import Columns
from wgan_jax.data.dataset import Dataset, Stored, flatten
from wgan_jax.data.labels import attributes_of, class_counts, draw_labels
from wgan_jax.evaluation.evaluator import Sizes, Values, make_evaluator
from wgan_jax.models import build_networks, make_sampler

type Generator = Callable[[Stored, np.random.Generator, int], np.ndarray]  # dataset, randomness, n -> [n, D]


def _centroids(count: int) -> Generator:
    def generate(dataset: Stored, rng: np.random.Generator, n: int) -> np.ndarray:
        """Centroids of k-means on the training images, drawn by the sizes of their clusters."""
        means = KMeans(count, n_init=1, random_state=0).fit(flatten(dataset.decode(dataset.train.images)))
        return means.cluster_centers_[rng.choice(means.labels_, n)]

    return generate


def _copies(dataset: Stored, rng: np.random.Generator, n: int) -> np.ndarray:
    """Training images, drawn with replacement."""
    return flatten(dataset.decode(dataset.train.images[rng.integers(0, len(dataset.train.images), n)]))


def _class_gaussians(dataset: Stored, rng: np.random.Generator, n: int) -> np.ndarray:
    """A Gaussian with full covariance per class of the training split, cut to [-1, 1]."""
    train, labels = flatten(dataset.decode(dataset.train.images)), dataset.train.labels
    drawn = rng.choice(labels, n)
    samples = np.empty((n, train.shape[1]))
    for label in np.unique(drawn):
        own = train[labels == label]
        samples[drawn == label] = rng.multivariate_normal(own.mean(0), np.cov(own.T), (drawn == label).sum(), method="svd")
    return np.clip(samples, -1, 1)


def _more_than(images: int) -> Callable[[Stored], bool]:
    return lambda dataset: len(dataset.train.images) > images


def _has_classes(dataset: Stored) -> bool:
    rows = isinstance(dataset.scaling, Columns)
    return dataset.class_names != () and not rows and bool(np.unique_counts(dataset.train.labels).counts.min() > 1)


# name -> generator, and whether it applies to a dataset
GENERATORS: dict[str, tuple[Generator, Callable[[Stored], bool]]] = {
    "training images, copied": (_copies, _more_than(0)),
    "k-means, 30 centroids": (_centroids(30), _more_than(30)),
    "k-means, 200 centroids": (_centroids(200), _more_than(200)),
    "class Gaussians": (_class_gaussians, _has_classes),
}


class Row(NamedTuple):
    """What a generator comes to."""

    draws: list[Values]
    sizes: Sizes


def reference_rows(config: ConfigDict, dataset: Dataset, split: str, draws: int) -> Iterator[tuple[str, Row]]:
    """Yields the row of real data, of the GENERATORS that apply, and of an untrained network, each with its name."""
    classes, scaling = len(class_counts(dataset)), dataset.scaling
    networks = build_networks(
        config,
        dataset.shape,
        classes=classes,
        attributes=attributes_of(dataset),
        bounded=scaling.bounded,
        layout=scaling.layout,
    )
    evaluator = make_evaluator(config, dataset, networks)
    yield "real", Row([evaluator.of_real(split, draw) for draw in range(draws)], evaluator.real_sizes(split))

    def row(generate: Callable[[int, int], np.ndarray]) -> Row:
        """Returns the row of (draw, n) -> n examples."""
        each = (functools.partial(generate, draw) for draw in range(draws))
        return Row([evaluator.of_examples(of, split, draw) for draw, of in enumerate(each)], evaluator.sizes(split))

    def examples(stored: Stored, generator: Generator, draw: int, n: int) -> np.ndarray:
        return stored.encode(generator(stored, np.random.default_rng(draw), n).reshape(-1, *stored.shape))

    for name, (generator, applies) in GENERATORS.items():
        if isinstance(dataset, Stored) and applies(dataset):
            yield name, row(functools.partial(examples, dataset, generator))
    variables, sample = networks.init_generator(jax.random.key(config.seed)), make_sampler(networks)

    def untrained(draw: int, n: int) -> np.ndarray:
        key = jax.random.key(50_000 + draw)
        return dataset.encode(sample(variables, key, draw_labels(class_counts(dataset), key, n), 0)[1])

    yield "untrained", row(untrained)
