"""What fidelity is measured in: pixels, a classifier of the training data, or the Inception network.

Published Frechet distances are of `inception` on 50,000 images; those of another network or number are no match for them.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from wgan_jax.batching import in_chunks
from wgan_jax.data.attributes import Attributes
from wgan_jax.data.dataset import Dataset, Law, Stored, flatten
from wgan_jax.errors import UserError
from wgan_jax.metrics.fidelity import label_classifier

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

CHUNK = 100  # images at once, a size for which a network is compiled


class Features(NamedTuple):
    """What a network says of examples."""

    vectors: np.ndarray  # [n, F] float64
    logits: np.ndarray  # [n, K] of the network's classes; [n, 0] where it has none


class FeatureNetwork(NamedTuple):
    name: str
    weights: str  # SHA-256 of its weights; "" where it has none
    resize: str  # how images come to its input size
    accuracy: float | None  # of a classifier, on the test split
    apply: Callable[[np.ndarray], Features]  # of examples [n, *shape] as the dataset has them
    # examples and their features -> classes of the dataset [n], as a classifier tells them; or rows of its attributes [n, A];
    # for datasets that have some
    label: Callable[[np.ndarray, Features], np.ndarray]


def _pixels(config: ConfigDict, dataset: Dataset) -> FeatureNetwork:
    """The examples themselves as vectors; the classes by a support vector machine."""
    del config

    def apply(examples: np.ndarray) -> Features:
        return Features(flatten(dataset.decode(examples)), np.empty((len(examples), 0)))

    return FeatureNetwork("pixels", "", "none", None, apply, _label(dataset))


def _classifier(config: ConfigDict, dataset: Dataset) -> FeatureNetwork:
    """A convolutional network trained on the labelled training split; its last hidden layer."""
    from wgan_jax.features.classifier import cached_classifier

    assert isinstance(dataset, Stored)
    network = cached_classifier(dataset, Path(config.eval.cache_dir))
    return FeatureNetwork(
        "classifier",
        network.sha256,
        "none",
        network.accuracy,
        lambda images: Features(*in_chunks(network.apply, images, CHUNK)),
        lambda images, features: _told(features.logits, dataset.attributes),
    )


def _inception(config: ConfigDict, dataset: Dataset) -> FeatureNetwork:
    """Inception-v3 as Heusel 2017 uses it, from a file of weights; the classes by a support vector machine."""
    from wgan_jax.features.inception import load_inception

    network, sha256 = load_inception(config.eval.weights)
    return FeatureNetwork(
        "inception",
        sha256,
        "bilinear to 299 as TensorFlow 1",
        None,
        lambda images: Features(*in_chunks(network, images, CHUNK)),
        _label(dataset),
    )


# (config, dataset) -> network, of what `check_features` allows
FEATURES: dict[str, Callable[[ConfigDict, Dataset], FeatureNetwork]] = {
    "pixels": _pixels,
    "classifier": _classifier,
    "inception": _inception,
}


def check_features(config: ConfigDict, dataset: Dataset) -> None:
    """Checks that what config.eval.features needs is there.

    Raises:
      UserError: it is not.
    """
    if config.eval.features == "classifier" and not (isinstance(dataset, Stored) and dataset.class_names):
        raise UserError(
            f"config.eval.features: classifier needs images with labels; {config.data.name} has none here, use pixels"
        )
    if config.eval.features == "inception" and (len(dataset.shape) != 3 or dataset.shape[2] not in (1, 3)):
        raise UserError(f"config.eval.features: inception sees grey or RGB images, not examples of {dataset.shape}; use pixels")
    if config.eval.features == "inception":
        from wgan_jax.features.inception import load_inception

        load_inception(config.eval.weights)


def _label(dataset: Dataset) -> Callable[[np.ndarray, Features], np.ndarray]:
    """Returns (examples, features) -> classes by `label_classifier`, which is fitted at the first call.

    Of attributes it is one for each column, and rows [n, A].
    """

    @functools.cache
    def machines() -> "list[Pipeline]":
        if isinstance(dataset, Law) or len(np.unique(dataset.train.labels)) < 2:
            raise UserError(
                "config.data: the training images are all of one class, and `classes` tells them apart; see eval.metrics"
            )
        images, labels = dataset.train
        if dataset.attributes is None:
            return [label_classifier(images, labels, dataset.decode)]
        entries = zip(dataset.attributes.columns, dataset.attributes.rows[labels].T, strict=True)
        return [label_classifier(images, own, dataset.decode, numbers=not column.values) for column, own in entries]

    def label(examples: np.ndarray, features: Features) -> np.ndarray:
        del features
        points = flatten(dataset.decode(examples))
        told = np.stack([machine.predict(points) for machine in machines()], axis=1)
        return told if isinstance(dataset, Stored) and dataset.attributes is not None else told[:, 0]

    return label


def _told(logits: np.ndarray, attributes: Attributes | None) -> np.ndarray:
    """Returns what a classifier's logits [n, K] say: classes [n], or rows of attributes [n, A]."""
    if attributes is None:
        return logits.argmax(axis=1)
    blocks = zip(attributes.columns, attributes.blocks, strict=True)
    told = [logits[:, block].argmax(axis=1) if column.values else logits[:, block.start] for column, block in blocks]
    return np.stack(told, axis=1).astype(np.float64)
