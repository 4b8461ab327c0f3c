"""Evaluation of a generator and its critic: everything that METRICS and the critic say, as one flat dict."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data.dataset import Dataset, encode, flatten
from wgan_jax.evaluation import (
    METRICS,
    NO_FEATURES,
    QUANTILE_SAMPLES,
    Generated,
    Reference,
    make_reference,
    sample_law,
    split_of,
    third,
)
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.evaluation.features import FEATURES, FeatureNetwork, Features
from wgan_jax.models import Networks, make_sampler, param_dtype
from wgan_jax.types import Params

SAMPLE_VALUES = 2**22  # generated at once: 340 images 64 x 64 x 3

type Values = dict[str, float]
type Draw = Callable[[int], np.ndarray]  # n -> n examples: uint8 images [n, H, W, C] or points [n, D]


class Evaluator(NamedTuple):
    """Evaluations against a split (validation or test) and a draw of its examples; programs and real sides are made once."""

    of_generator: Callable[[Params, Params, str, int], Values]  # generator variables, critic variables, split, draw
    of_examples: Callable[[Draw, str, int], Values]  # of what a function draws, split, draw
    of_real: Callable[[str, int], Values]  # real data in the generator's place, split, draw
    sizes: Callable[[str], dict[str, int]]  # split -> number of examples on each side, by a metric's source
    network: FeatureNetwork | None  # None where no metric compares features


def metric_names(config: ConfigDict) -> list[str]:
    """Returns the names in METRICS that config.eval.metrics asks for."""
    return list(METRICS) if config.eval.metrics == "all" else config.eval.metrics.split(",")


def make_evaluator(config: ConfigDict, dataset: Dataset, networks: Networks) -> Evaluator:
    """Returns the evaluator of a config.

    Real data in the generator's place are examples of neither the split nor the training data. Where there are fewer than a
    comparison asks for (digits has 297 for the test split), all its samples have that size.

    Raises:
      UserError: the data or the weights that the features need are not there.
    """
    names = metric_names(config)
    compares_features = any(METRICS[name].source == "features" for name in names)
    network = FEATURES[config.eval.features](config, dataset) if compares_features else None
    sample, critic_statistics = make_sampler(networks), make_critic_statistics(networks.score)
    dtype = param_dtype(config)
    many = QUANTILE_SAMPLES if dataset.quantile is not None and "quantile" in names else 0
    features_of = _remembered(dataset, network)

    def sizes(split: str, *, spare: bool = False) -> tuple[int, int]:
        """Returns how many points and how many features each side has."""
        if dataset.train is None:
            return config.eval.samples, config.eval.samples
        counted = (split, third(split)) if spare else (split,)
        fewest = min(len(split_of(dataset, name).images) for name in counted)
        return min(config.eval.samples, fewest, len(dataset.train.images)), min(config.eval.feature_samples, fewest)

    @functools.cache
    def reference_of(split: str, draw: int, points: int, vectors: int) -> Reference:
        reference = make_reference(dataset, split, points, draw)
        if network is None:
            return reference
        if dataset.train is None:
            return reference._replace(features=network.apply(reference.real))
        return reference._replace(features=features_of(split, reference.rows[:vectors]))

    def compare(reference: Reference, generated: Generated) -> Values:
        values: Values = {}
        for name in names:
            values |= METRICS[name].compute(reference, generated)
        return values

    def of_draw(draw_examples: Draw, split: str, draw: int) -> tuple[Values, Reference, np.ndarray]:
        n, vectors = sizes(split)
        examples = draw_examples(max(2 * n + many, vectors if network else 0))
        reference = reference_of(split, draw, n, vectors)
        features = network.apply(examples[:vectors]) if network else NO_FEATURES
        more = flatten(examples[2 * n : 2 * n + many]) if many else np.empty((0, 1))
        generated = Generated(flatten(examples[:n]), flatten(examples[n : 2 * n]), features, more)
        return compare(reference, generated), reference, examples[:n]

    def of_generator(generator: Params, critic: Params, split: str, draw: int) -> Values:
        key = jax.random.fold_in(jax.random.key(30_000 + draw), split == "test")

        def draw_examples(count: int) -> np.ndarray:
            at_once = min(count, max(1, SAMPLE_VALUES // math.prod(dataset.shape)))
            chunks = (sample(generator, key, first, at_once)[1] for first in range(0, count, at_once))
            return np.concatenate([as_stored(np.asarray(chunk)) for chunk in chunks])[:count]

        values, reference, examples = of_draw(draw_examples, split, draw)
        sides = (flatten(reference.train[: len(examples)]), reference.real, flatten(examples))
        return values | critic_statistics(critic, *(x.astype(dtype).reshape(-1, *dataset.shape) for x in sides))

    def of_real(split: str, draw: int) -> Values:
        n, vectors = sizes(split, spare=True)
        reference = reference_of(split, draw, n, vectors)
        features, many_real = NO_FEATURES, np.empty((0, 1))
        if network and dataset.train is None:
            features = network.apply(reference.spare)
        elif network:
            features = features_of(third(split), reference.spare_rows[:vectors])
        if many:
            many_real = flatten(jax.device_get(sample_law(dataset, jax.random.key(40_000 + draw), many)))
        return compare(reference, Generated(reference.spare[:n], reference.again, features, many_real))

    return Evaluator(
        of_generator,
        lambda *arguments: of_draw(*arguments)[0],
        of_real,
        lambda split: dict(zip(("points", "features"), sizes(split), strict=True)),
        network,
    )


def protocol(evaluator: Evaluator, split: str, draws: list[Values], real: list[Values]) -> dict[str, dict[str, Any]]:
    """Returns every value with what it depends on: {name: {mean, std, real, n_real, n_fake, split, features, weights, resize}}.

    draws and real: the evaluations of the generator and of real data, one per draw; std is over them.
    """
    sources = {value: metric.source for metric in METRICS.values() for value in metric.values}
    sizes, network = evaluator.sizes(split), evaluator.network
    told = {"points": ("pixels", "", "none")}
    if network is not None:
        told["features"] = (network.name, network.weights, network.resize)

    def over(rows: list[Values], name: str) -> dict[str, float]:
        column = [row[name] for row in rows]
        return {"mean": float(np.mean(column)), "std": float(np.std(column))}

    values = {}
    for name in draws[0]:
        source = sources.get(name, "points")  # the critic's values are of points
        kind, weights, resize = told[source]
        n = QUANTILE_SAMPLES if name in METRICS["quantile"].values else sizes[source]
        beside = {"real": over(real, name) if name in real[0] else None, "n_real": n, "n_fake": n, "split": split}
        values[name] = {**over(draws, name), **beside, "features": kind, "weights": weights, "resize": resize}
    return values


def as_stored(x: np.ndarray) -> np.ndarray:
    """Returns generated images [n, H, W, C] as uint8, as saving them would make them; points [n, D] pass."""
    return encode(x) if x.ndim == 4 else x


def summarise(draws: list[Values]) -> Values:
    """Returns the mean of every metric over draws, and its standard deviation as <metric>_std."""
    summary: dict[str, Any] = {}
    for name in draws[0]:
        values = [draw[name] for draw in draws]
        summary[name], summary[f"{name}_std"] = float(np.mean(values)), float(np.std(values))
    return summary


def _remembered(dataset: Dataset, network: FeatureNetwork | None) -> Callable[[str, np.ndarray], Features]:
    """Returns (split, rows) -> features, in which a network sees every image once: several draws share most of them."""
    known: dict[tuple[str, int], tuple[np.ndarray, ...]] = {}

    def features_of(split: str, rows: np.ndarray) -> Features:
        assert network is not None
        images = split_of(dataset, split).images
        if network.weights == "":  # pixels: no work to save, and large
            return network.apply(images[rows])
        if new := [row for row in rows.tolist() if (split, row) not in known]:
            known.update(zip([(split, row) for row in new], zip(*network.apply(images[new]), strict=True), strict=True))
        return Features(*map(np.asarray, zip(*(known[split, row] for row in rows.tolist()), strict=True)))

    return features_of
