"""Each label by itself: generated examples of a class, or of a value of an attribute, against real ones of the same."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from wgan_jax.data.dataset import Stored, flatten
from wgan_jax.data.labels import class_counts
from wgan_jax.evaluation.sampling import draw_latents, every_code, make_generate
from wgan_jax.features import FeatureNetwork
from wgan_jax.metrics.fidelity import precision_recall
from wgan_jax.metrics.transport import empirical_wasserstein
from wgan_jax.types import Latents, Networks, Params

LEAST = 10  # real examples of a label for it to be compared
MOST, LABELS = 200, 50  # of either side, of a label; labels
# of a label: the examples of either side, whether a classifier tells it, of real ones too, and both sides compared as METRICS
# are
VALUES = ("n", "agreement", "real_agreement", "precision", "recall", "wasserstein_ratio")


class Group(NamedTuple):
    """A class, or a value of an attribute."""

    name: str
    of_label: np.ndarray  # [labels] bool, the labels that it has
    column: int  # of attributes; -1 of classes
    entry: float  # of that column; the class


def groups(dataset: Stored) -> Iterator[Group]:
    """Yields the classes of a dataset, or the values of its columns of names, up to LABELS."""
    if dataset.attributes is None:
        for label, name in enumerate(dataset.class_names[:LABELS]):
            yield Group(name, np.arange(len(dataset.class_names)) == label, -1, label)
        return
    for name, column, entry in dataset.attributes.shown()[:LABELS]:
        if dataset.attributes.columns[column].values:
            yield Group(name, dataset.attributes.rows[:, column] == entry, column, entry)


def labels_apart(
    dataset: Stored, split: str, networks: Networks, generator: Params, network: FeatureNetwork, samples: int
) -> dict[str, dict[str, float]]:
    """Returns VALUES of each label that a split has LEAST examples of, by its name; up to `samples` and MOST of either side.

    Of a value of an attribute the other columns are drawn as the training split has them. The ratio is W(G, T) / W(T', T), with
    T' training examples of the label, of flat examples in network units.
    """
    rng, held_out = np.random.default_rng(0), dataset.splits[split]
    generate, told = make_generate(networks, generator), {}
    for index, group in enumerate(groups(dataset)):
        rows, others = (np.flatnonzero(group.of_label[own.labels]) for own in (held_out, dataset.train))
        n = min(len(rows), len(others), samples, MOST)
        if n < LEAST:
            continue
        rows, others = rng.permutation(rows)[:n], rng.permutation(others)[:n]
        latents = draw_latents(networks, class_counts(dataset), jax.random.key(60_000 + index), n)
        if dataset.attributes is None:
            latents = Latents(latents.z, np.full(n, group.entry, np.int32))
        else:
            latents = every_code(latents, dataset.attributes, [(group.column, group.entry)])
        real = np.asarray(held_out.images[rows])
        sides = real, dataset.encode(np.concatenate(list(generate(latents))))
        features = [network.apply(examples) for examples in sides]
        agrees = [_tells(network.label(*pair), group) for pair in zip(sides, features, strict=True)]
        points = [flatten(dataset.decode(x)) for x in (*sides, np.asarray(dataset.train.images[others]))]
        floor = empirical_wasserstein(points[0], points[2])
        precision, recall = precision_recall(features[0].vectors, features[1].vectors)
        ratio = empirical_wasserstein(points[1], points[0]) / floor if floor else math.nan
        told[group.name] = dict(zip(VALUES, (n, agrees[1], agrees[0], precision, recall, ratio), strict=True))
    return told


def _tells(labels: np.ndarray, group: Group) -> float:
    """Returns the share of examples of which a classifier tells the label."""
    return float(np.mean((labels if group.column < 0 else labels[:, group.column]) == group.entry))
