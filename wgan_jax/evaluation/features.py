"""What fidelity is measured in: pixels, a classifier of the training data, or the Inception network.

Published Frechet distances are of `inception` on 50,000 images; those of another network or number are no match for them.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data.dataset import Dataset, flatten
from wgan_jax.errors import UserError
from wgan_jax.evaluation.fidelity import label_classifier

CHUNK = 100  # images at once, a size for which a network is compiled


class Features(NamedTuple):
    """What a network says of examples."""

    vectors: np.ndarray  # [n, F] float64
    logits: np.ndarray  # [n, K] of the network's classes; [n, 0] where it has none
    labels: np.ndarray  # [n] int, the dataset's classes as told by a classifier; -1 where the dataset has none


class FeatureNetwork(NamedTuple):
    name: str
    weights: str  # SHA-256 of its weights; "" where it has none
    resize: str  # how images come to its input size
    accuracy: float | None  # of a classifier, on the test split
    apply: Callable[[np.ndarray], Features]  # uint8 images [n, H, W, C] or points [n, D]


def pixels(config: ConfigDict, dataset: Dataset) -> FeatureNetwork:
    """The examples themselves as vectors; the classes by a support vector machine."""
    del config
    label = _label(dataset)
    return FeatureNetwork("pixels", "", "none", None, lambda x: Features(flatten(x), np.empty((len(x), 0)), label(x)))


def classifier(config: ConfigDict, dataset: Dataset) -> FeatureNetwork:
    """A convolutional network trained on the labelled training split; its last hidden layer."""
    from wgan_jax.evaluation.classifier import cached_classifier

    if not dataset.class_names or dataset.train is None:
        raise UserError("config.eval.features: classifier needs images with labels; use pixels, or set config.data.label")
    network = cached_classifier(dataset, Path(config.eval.cache_dir).expanduser())

    def apply(images: np.ndarray) -> Features:
        vectors, logits = in_chunks(network.apply, images)
        return Features(vectors, logits, logits.argmax(axis=1))

    return FeatureNetwork("classifier", network.sha256, "none", network.accuracy, apply)


def inception(config: ConfigDict, dataset: Dataset) -> FeatureNetwork:
    """Inception-v3 as Heusel 2017 uses it, from a file of weights; the classes by a support vector machine."""
    from wgan_jax.evaluation.inception import load_inception

    if len(dataset.shape) != 3:
        raise UserError(f"config.eval.features: inception is for images, not for examples of shape {dataset.shape}")
    network, sha256 = load_inception(config.eval.weights)
    label = _label(dataset)
    return FeatureNetwork(
        "inception", sha256, "bilinear to 299 as TensorFlow 1", None, lambda x: Features(*in_chunks(network, x), label(x))
    )


# (config, dataset) -> network
FEATURES: dict[str, Callable[[ConfigDict, Dataset], FeatureNetwork]] = {
    "pixels": pixels,
    "classifier": classifier,
    "inception": inception,
}


def in_chunks(apply: Callable[[np.ndarray], tuple[Any, Any]], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns apply(images) as float64, computed CHUNK images at a time, the last chunk filled up: it compiles once."""

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(images), CHUNK):
            part = images[start : start + CHUNK]
            filled = np.concatenate([part, np.zeros((CHUNK - len(part), *part.shape[1:]), part.dtype)])
            vectors, logits = apply(filled)
            yield np.asarray(vectors, np.float64)[: len(part)], np.asarray(logits, np.float64)[: len(part)]

    vectors, logits = zip(*chunks(), strict=True)
    return np.concatenate(vectors), np.concatenate(logits)


def _label(dataset: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    """Returns images -> their classes by `label_classifier`, which is fitted at the first call; -1 without labels."""
    train = dataset.train
    if train is None or not dataset.class_names:
        return lambda x: np.full(len(x), -1)
    machine = functools.cache(lambda: label_classifier(train.images, train.labels))
    return lambda x: machine().predict(flatten(x))
