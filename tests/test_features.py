"""Feature networks: what they say of images, and the classifier that is trained once and kept."""

import io
import logging

import jax
import numpy as np
import pytest
from rich.console import Console

from wgan_jax.config import load
from wgan_jax.data.dataset import Split, Stored
from wgan_jax.errors import UserError
from wgan_jax.features import FEATURES, check_features
from wgan_jax.features import classifier as module

CLASSES = ("left", "right")


def split(count, seed):
    """Noisy 8x8 images, bright on the left or on the right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.int32)
    images = rng.integers(0, 120, (count, 8, 8, 1))
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4] += 100
    return Split(images.astype(np.uint8), labels)


HALVES = Stored((8, 8, 1), split(300, 0), split(40, 1), split(60, 2), CLASSES)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 100)
    return load("configs/wgan_gp.py:digits", [f"--config.eval.cache_dir={tmp_path}"])


@pytest.mark.parametrize("as_stored", ["pixels", "negated"])
def test_pixels_are_vectors_and_labels(negated, as_stored):
    dataset = negated(HALVES) if as_stored == "negated" else HALVES
    network = FEATURES["pixels"](None, dataset)
    images = dataset.test.images
    features = network.apply(images)
    np.testing.assert_allclose(features.vectors, HALVES.test.images.reshape(60, 64) / 127.5 - 1, atol=1e-7)  # of float32
    assert features.logits.shape == (60, 0)
    assert (network.label(images, features) == HALVES.test.labels).mean() > 0.95
    alike = HALVES._replace(train=Split(HALVES.train.images, np.zeros(300, np.int32)))
    with pytest.raises(UserError, match="all of one class"):
        FEATURES["pixels"](None, alike).label(images, features)


def test_the_classifier_learns_and_is_trained_once(config, tmp_path, monkeypatch):
    first = FEATURES["classifier"](config, HALVES)
    assert first.accuracy > 0.95
    features = first.apply(HALVES.test.images)
    assert (first.label(HALVES.test.images, features) == HALVES.test.labels).mean() == first.accuracy
    assert features.vectors.shape == (60, module.WIDTH)
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
    config.eval.features = "classifier"
    with pytest.raises(UserError, match=r"config\.eval\.features: classifier needs images with labels"):
        check_features(config, HALVES._replace(class_names=()))
    with pytest.raises(UserError, match=r"config\.eval\.features: inception is for images"):
        load("configs/wgan_gp.py:ring8", ["--config.eval.features=inception"])
    config.eval.features = "inception"
    with pytest.raises(UserError, match=r"config\.eval\.weights"):
        check_features(config, HALVES)


def test_a_cache_that_cannot_be_written_is_said_and_done_without(config, tmp_path, caplog):
    kept = FEATURES["classifier"](config, HALVES)
    (tmp_path / "file").write_text("")
    config.eval.cache_dir = str(tmp_path / "file" / "below")
    assert FEATURES["classifier"](config, HALVES).weights == kept.weights
    assert caplog.messages == [f"{config.eval.cache_dir}: not a directory; the classifier is trained anew next time"]


def test_the_classifier_is_the_same_whatever_a_run_computes_in(config, tmp_path):
    first = FEATURES["classifier"](config, HALVES)
    (path,) = tmp_path.iterdir()
    path.unlink()
    with jax.enable_x64(True):
        assert FEATURES["classifier"](config, HALVES).weights == first.weights


def test_the_classifier_sees_network_units(config, negated):
    """Its cache tells what is stored apart; the weights are of what these are in network units."""
    first, again = (FEATURES["classifier"](config, dataset) for dataset in (HALVES, negated(HALVES)))
    assert (again.weights, again.accuracy) == (first.weights, first.accuracy)


@pytest.mark.parametrize(("seconds", "said"), [(2.0, [2, 10, 18, 26]), (20.0, list(range(2, 30)))])
def test_a_long_training_of_the_classifier_is_told_without_a_terminal(seconds, said):
    # 30 calls of so many seconds after one that compiles for 60: what is left is 30 - done calls; lines 15 s apart or more
    now, file = [0.0], io.StringIO()
    for call in module.shown(30, Console(file=file, width=200), lambda: now[0]):
        now[0] += seconds if call else 60.0
    lines = file.getvalue().splitlines()
    task = "training a classifier of the labels, once"
    assert lines == [task, *(f"{task}: {done / 30:.0%}, about {seconds * (30 - done):.0f} s left" for done in said)]
