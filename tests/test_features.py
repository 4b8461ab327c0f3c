"""Feature networks: what they say of images, and the classifier that is trained once and kept."""

import logging

import numpy as np
import pytest

from wgan_jax.config import load
from wgan_jax.data.dataset import Dataset, Split
from wgan_jax.errors import UserError
from wgan_jax.evaluation import classifier as module
from wgan_jax.evaluation.features import CHUNK, FEATURES, in_chunks

CLASSES = ("left", "right")


def split(count, seed):
    """Noisy 8x8 images, bright on the left or on the right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.int32)
    images = rng.integers(0, 120, (count, 8, 8, 1))
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4] += 100
    return Split(images.astype(np.uint8), labels)


HALVES = Dataset((8, 8, 1), CLASSES, split(300, 0), split(40, 1), split(60, 2))


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 100)
    return load("configs/wgan_gp.py:digits", [f"--config.eval.cache_dir={tmp_path}"])


def test_pixels_are_vectors_and_labels():
    network = FEATURES["pixels"](None, HALVES)
    features = network.apply(HALVES.test.images)
    np.testing.assert_allclose(features.vectors, HALVES.test.images.reshape(60, 64) / 127.5 - 1, atol=1e-7)  # of float32
    assert features.logits.shape == (60, 0)
    assert (features.labels == HALVES.test.labels).mean() > 0.95
    unlabelled = FEATURES["pixels"](None, HALVES._replace(class_names=())).apply(HALVES.test.images)
    assert set(unlabelled.labels) == {-1}


def test_the_classifier_learns_and_is_trained_once(config, tmp_path, monkeypatch):
    first = FEATURES["classifier"](config, HALVES)
    assert first.accuracy > 0.95
    features = first.apply(HALVES.test.images)
    assert (features.labels == HALVES.test.labels).mean() == first.accuracy
    assert features.vectors.shape == (60, module.FEATURES)
    assert features.logits.shape == (60, 2)
    monkeypatch.setattr(module, "train", lambda *_: pytest.fail("it was there already"))
    again = FEATURES["classifier"](config, HALVES)
    assert (again.weights, again.accuracy) == (first.weights, first.accuracy)
    np.testing.assert_array_equal(again.apply(HALVES.test.images).vectors, features.vectors)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_classifier_is_trained_anew(config, tmp_path, damage, caplog):
    first = FEATURES["classifier"](config, HALVES)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * 1000, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        again = FEATURES["classifier"](config, HALVES)
    assert "trained and written anew" in caplog.text
    assert again.weights == first.weights  # training is a function of the data
    assert path.read_bytes() != whole[: len(whole) // 2]


def test_other_data_has_a_classifier_of_its_own(config, tmp_path):
    FEATURES["classifier"](config, HALVES)
    FEATURES["classifier"](config, HALVES._replace(train=split(300, 9)))
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_network_cannot_do_is_said():
    config = load("configs/wgan_gp.py:digits")
    with pytest.raises(UserError, match=r"config\.eval\.features: classifier needs images with labels"):
        FEATURES["classifier"](config, HALVES._replace(class_names=()))
    with pytest.raises(UserError, match=r"config\.eval\.features: inception is for images"):
        FEATURES["inception"](config, Dataset((2,)))
    with pytest.raises(UserError, match=r"config\.eval\.weights"):
        FEATURES["inception"](config, HALVES)


def test_a_cache_that_cannot_be_written_is_said(config, tmp_path):
    (tmp_path / "file").write_text("")
    config.eval.cache_dir = str(tmp_path / "file" / "below")
    with pytest.raises(UserError, match=r"config\.eval\.cache_dir"):
        FEATURES["classifier"](config, HALVES)


def test_chunks_are_of_one_size_and_their_filling_is_left_out():
    sizes = []

    def apply(images):
        sizes.append(len(images))
        flat = images.reshape(len(images), -1)
        return flat.sum(1, keepdims=True), flat[:, :2]

    images = np.arange(4 * (2 * CHUNK + 3)).reshape(-1, 2, 2)
    vectors, logits = in_chunks(apply, images)
    assert sizes == [CHUNK] * 3
    np.testing.assert_array_equal(vectors[:, 0], images.sum((1, 2)))
    np.testing.assert_array_equal(logits, images.reshape(-1, 4)[:, :2])
