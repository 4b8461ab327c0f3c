"""Evaluation of a generator and its critic: everything that METRICS and the critic say, as one flat dict."""

import functools
import logging
import math
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data.dataset import Dataset, Law, Stored, flatten, spread
from wgan_jax.data.labels import class_counts
from wgan_jax.errors import NonFiniteError, UserError
from wgan_jax.evaluation.apart import labels_apart
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.evaluation.reference import (
    NO_FEATURES,
    NO_LABELS,
    QUANTILE_SAMPLES,
    Generated,
    Reference,
    Sample,
    make_reference,
    third,
)
from wgan_jax.evaluation.registry import METRICS
from wgan_jax.evaluation.sampling import make_draw
from wgan_jax.features import FEATURES, FeatureNetwork, Features, check_features
from wgan_jax.models import param_dtype
from wgan_jax.sizes import check_pairs
from wgan_jax.types import Array, Batch, Networks, Params

PIXEL_VALUES = 2**23  # compared as features at most where these are pixels: 10,000 images 28 x 28, 680 of 64 x 64 x 3

# configs' default and all that it is extended by: what of these the data does not allow is left out without a word
USUAL = ("wasserstein", "precision_recall", "copying", "classes", "labels", "label_numbers", "modes", "quantile")

type Values = dict[str, float]  # NaN for what does not exist
type Draw = Callable[[int], np.ndarray]  # n -> n examples [n, *shape] as the dataset has them


class Sizes(NamedTuple):
    """How many examples each side of a comparison has, by its source."""

    points: int
    features: int


class Evaluator(NamedTuple):
    """Evaluations against a split (validation or test) and a draw of its examples; programs and real sides are made once."""

    # Generated examples that are not finite raise NonFiniteError.
    of_generator: Callable[[Params, Params, str, int], Values]  # generator variables, critic variables, split, draw
    of_examples: Callable[[Draw, str, int], Values]  # of what a function draws, split, draw
    of_real: Callable[[str, int], Values]  # real data in the generator's place, split, draw
    # generator variables, split -> of each class, or value of an attribute, its own comparison; {} without a condition
    by_label: Callable[[Params, str], dict[str, Values]]
    sizes: Callable[[str], Sizes]  # of a split
    real_sizes: Callable[[str], Sizes]  # where real data is in the generator's place
    network: FeatureNetwork | None  # None where no metric compares features


def metric_names(config: ConfigDict) -> list[str]:
    """Returns the names in METRICS that config.eval.metrics asks for."""
    return list(METRICS) if config.eval.metrics == "all" else config.eval.metrics.split(",")


def left_out(config: ConfigDict, dataset: Dataset) -> dict[str, str]:
    """Returns what of config.eval.metrics the data does not allow, {name: reason}, such as "is only of ..."."""
    fewest = Sizes(*map(min, zip(_sizes(config, dataset, "validation"), _sizes(config, dataset, "test"), strict=True)))
    reasons = {}
    for name in metric_names(config):
        _, source, _, least, _, kind = METRICS[name]
        if not kind.holds(config, dataset):
            reasons[name] = f"is only of {kind.words}"
        elif getattr(fewest, source) < least:
            reasons[name] = (
                f"needs {least} images of each split; of validation and test the smaller has {getattr(fewest, source)}"
            )
    return reasons


def check_evaluation(config: ConfigDict, dataset: Dataset) -> list[str]:
    """Returns the names in METRICS that a run on a dataset computes: those asked for, less what the data does not allow.

    Raises:
      UserError: a split has too few examples for a metric; the data or the weights that the features need are not there.
    """
    for split in ("validation", "test"):
        check_pairs("eval.samples", _sizes(config, dataset, split).points)
    asked, reasons = metric_names(config), left_out(config, dataset)
    few = [f"{name} {reason}" for name, reason in reasons.items() if METRICS[name].kind.holds(config, dataset)]
    names = [name for name in asked if name not in reasons]
    if not names or (few and config.eval.metrics != "all"):
        lacking = few or [f"{name} {reason}" for name, reason in reasons.items()]
        raise UserError(f"config.eval.metrics: {', '.join(lacking)}")
    _say_left_out(config.eval.metrics, tuple(reasons.items()))
    if any(METRICS[name].source == "features" for name in names):
        check_features(config, dataset)
    return names


def make_evaluator(config: ConfigDict, dataset: Dataset, networks: Networks) -> Evaluator:
    """Returns the evaluator of a config; a classifier that its features need is trained now, unless it is kept from before.

    Real data in the generator's place are examples of neither the split nor the training data. Where there are fewer than a
    comparison asks for (digits has 297 for the test split), all its samples have that size.

    Raises:
      UserError: as `check_evaluation`.
    """
    sizes = functools.partial(_sizes, config, dataset)
    dtype = param_dtype(config)
    names = check_evaluation(config, dataset)
    said: set[str] = set()
    compares_features = any(METRICS[name].source == "features" for name in names)
    network = FEATURES[config.eval.features](config, dataset) if compares_features else None
    tells_classes = not {"classes", "labels", "label_numbers"}.isdisjoint(names)
    counts = class_counts(dataset)
    critic_statistics = make_critic_statistics(networks.score, networks.classify if counts else None)
    draw_generated = make_draw(networks, counts, dataset.shape)
    many = QUANTILE_SAMPLES if "quantile" in names else 0
    features_of = _remembered(network)

    @functools.cache
    def reference_of(split: str, draw: int, size: Sizes) -> Reference:
        reference = make_reference(dataset, split, size.points, draw)
        return reference._replace(features=features_of(reference.held_out, size.features))

    def compare(reference: Reference, generated: Generated) -> Values:
        values: Values = {}
        for name in names:
            try:
                values |= METRICS[name].compute(reference, generated)
            except Exception as error:  # it costs this metric, not what others say nor what was trained
                values |= dict.fromkeys(METRICS[name].values, math.nan)
                _say_missing(name, error, said)
        return values

    def generated_of(examples: np.ndarray, asked: Array, size: Sizes) -> Generated:
        n, compared = size.points, examples[: size.features]
        features = network.apply(compared) if network else NO_FEATURES
        labels = network.label(compared, features) if network and tells_classes else NO_LABELS
        x = flatten(dataset.decode(examples[: 2 * n + many]))
        return Generated(x[:n], x[n : 2 * n], features, labels, x[2 * n :], np.asarray(asked[: size.features]))

    def of_draw(draw_batch: Callable[[int], Batch], split: str, draw: int) -> tuple[Values, Reference, Batch]:
        size = sizes(split)
        x, label = draw_batch(max(2 * size.points + many, size.features if network else 0))
        examples = np.asarray(x)
        if dataset.scaling.is_broken(examples):
            raise NonFiniteError("generated examples are not finite")
        reference = reference_of(split, draw, size)
        return compare(reference, generated_of(examples, label, size)), reference, Batch(examples, label[: size.points])

    def of_examples(draw_examples: Draw, split: str, draw: int) -> Values:
        return of_draw(lambda count: Batch(draw_examples(count), NO_LABELS), split, draw)[0]

    def of_generator(generator: Params, critic: Params, split: str, draw: int) -> Values:
        key = jax.random.fold_in(jax.random.key(30_000 + draw), split == "test")
        draw_batch = lambda count: draw_generated(generator, key, count, dataset.encode)  # noqa: E731
        values, reference, (examples, asked) = of_draw(draw_batch, split, draw)
        if not config.n_critic or config.packing > 1:  # of no training, or of packs, whose distance is another one
            return values
        n = len(asked)
        rows = spread(len(reference.train), n)
        on_train, generated = (flatten(dataset.decode(np.asarray(x))) for x in (reference.train[rows], examples[:n]))
        labels = (*_real_labels(dataset, reference, rows), asked)
        sides = zip((on_train, reference.real, generated), labels, strict=True)
        return values | critic_statistics(critic, *(Batch(x.astype(dtype).reshape(-1, *dataset.shape), y) for x, y in sides))

    def of_real(split: str, draw: int) -> Values:
        size = sizes(split, real=True)
        reference = reference_of(split, draw, size)
        features, labels, asked, more = features_of(reference.spares, size.features), NO_LABELS, NO_LABELS, np.empty((0, 1))
        second = reference.again if isinstance(dataset, Stored) else flatten(reference.spares.examples[size.points :])
        if network and tells_classes and isinstance(dataset, Stored):
            rows = reference.spares.rows[: size.features]
            labels, asked = network.label(reference.spares.examples[rows], features), dataset.splits[third(split)].labels[rows]
        if many and isinstance(dataset, Law):
            more = flatten(np.asarray(dataset.draw(jax.random.key(40_000 + draw), many)))
        return compare(reference, Generated(reference.spare[: size.points], second, features, labels, more, asked))

    def by_label(generator: Params, split: str) -> dict[str, Values]:
        if network is None or not networks.classes or "labels" not in names or not isinstance(dataset, Stored):
            return {}
        return labels_apart(dataset, split, networks, generator, network, sizes(split).points)

    return Evaluator(
        of_generator,
        of_examples,
        of_real,
        by_label,
        sizes,
        functools.partial(sizes, real=True),
        network,
    )


def _real_labels(dataset: Dataset, reference: Reference, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels of the rows of `train`, and of as many of the first of `real`; 0 for a law's."""
    if isinstance(dataset, Law):
        return (np.zeros(len(rows), np.int32),) * 2
    held_out = reference.held_out
    return dataset.train.labels[rows], dataset.splits[held_out.split].labels[held_out.rows[: len(rows)]]


def count(name: str, sizes: Sizes) -> int:
    """Returns how many examples of each side a value is of."""
    if name in METRICS["quantile"].values:
        return QUANTILE_SAMPLES
    of_features = any(name in metric.values for metric in METRICS.values() if metric.source == "features")
    return sizes.features if of_features else sizes.points  # the critic's values are of points


def protocol(evaluator: Evaluator, split: str, draws: list[Values], real: list[Values]) -> dict[str, dict[str, Any]]:
    """Returns every value with what it depends on: {name: {mean, std, real, n_real, n_fake, split, features, weights, resize}}.

    draws and real: the evaluations of the generator and of real data, one per draw; std is over them, NaN for a single one.
    `real` has its own n; n_real is None where a value is of the generated examples alone.
    """
    metrics = {value: metric for metric in METRICS.values() for value in metric.values}
    network = evaluator.network
    told = {"points": ("pixels", "", "none")}
    if network is not None:
        told["features"] = (network.name, network.weights, network.resize)

    def over(rows: list[Values], name: str) -> dict[str, float]:
        mean, std = _mean_and_std([row[name] for row in rows])
        return {"mean": mean, "std": std}

    values = {}
    for name in draws[0]:
        metric = metrics.get(name)
        kind, weights, resize = told[metric.source if metric else "points"]
        n = count(name, evaluator.sizes(split))
        beside = over(real, name) | {"n": count(name, evaluator.real_sizes(split))} if name in real[0] else None
        sides = {"n_real": n if metric is None or metric.compares else None, "n_fake": n}
        of = {"split": "train" if name == "estimate_train" else split, "features": kind, "weights": weights, "resize": resize}
        values[name] = {**over(draws, name), "real": beside, **sides, **of}
    return values


def describe(evaluator: Evaluator) -> dict[str, Any]:
    """Returns what the values of a run's evaluations have in common, for provenance.json."""
    network = evaluator.network
    told = ("name", "weights", "resize", "accuracy")
    features = None if network is None else {name: getattr(network, name) for name in told}
    return {"sizes": {split: evaluator.sizes(split)._asdict() for split in ("validation", "test")}, "features": features}


def summarise(draws: list[Values]) -> Values:
    """Returns the mean of every metric over draws, and as <metric>_std the standard deviation, n - 1 below, of these few.

    It is NaN for a single draw.
    """
    summary: Values = {}
    for name in draws[0]:
        summary[name], summary[f"{name}_std"] = _mean_and_std([draw[name] for draw in draws])
    return summary


def _mean_and_std(values: list[float]) -> tuple[float, float]:
    """Returns both, NaN where a value does not exist; one value has no deviation."""
    if not np.isfinite(values).all():
        return math.nan, math.nan
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _sizes(config: ConfigDict, dataset: Dataset, split: str, *, real: bool = False) -> Sizes:
    """Returns the sizes for a split; real: where real data is in the generator's place."""
    if isinstance(dataset, Law):
        return Sizes(config.eval.samples, min(config.eval.samples, config.eval.feature_samples))
    fewest = min(len(dataset.splits[name].images) for name in ((split, third(split)) if real else (split,)))
    most = PIXEL_VALUES // math.prod(dataset.shape) if config.eval.features == "pixels" else fewest
    points = min(config.eval.samples, fewest, len(dataset.train.images))
    return Sizes(points, max(1, min(config.eval.feature_samples, fewest, most)))


@functools.cache
def _say_left_out(asked: str, reasons: tuple[tuple[str, str], ...]) -> None:
    """Warns once in a process of what the data does not allow; not of USUAL, where these stand there by default."""
    usual = USUAL if set(USUAL) <= set(asked.split(",")) else ()
    for name, reason in reasons:
        if name not in usual:
            logging.getLogger(__name__).warning("config.eval.metrics: %s is left out: it %s", name, reason)


def _say_missing(name: str, error: Exception, said: set[str]) -> None:
    """Warns once of a metric that could not be computed, with the place of what is no mistake of the data's."""
    logger = logging.getLogger(__name__)
    logger.debug("%s could not be computed", name, exc_info=error)
    if name not in said:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, UserError) else f" ({type(error).__name__}, {frame.filename}, line {frame.lineno})"
        logger.warning("%s is missing: %s%s", name, error, where)
        said.add(name)


def _remembered(network: FeatureNetwork | None) -> Callable[[Sample, int], Features]:
    """Returns (sample, n) -> features of its first n; a network sees a stored example once, as draws share most of them."""
    known: dict[tuple[str, int], tuple[np.ndarray, ...]] = {}

    def features_of(sample: Sample, count: int) -> Features:
        if network is None:
            return NO_FEATURES
        if not sample.split or network.weights == "":  # of a law there is nothing to find again; pixels are no work, and large
            return network.apply(sample.first(count))
        keys = [(sample.split, row) for row in sample.rows[:count].tolist()]
        if new := [key for key in keys if key not in known]:
            known.update(zip(new, zip(*network.apply(sample.examples[[row for _, row in new]]), strict=True), strict=True))
        return Features(*map(np.asarray, zip(*(known[key] for key in keys), strict=True)))

    return features_of
