"""train(config, dataset) as a notebook calls it: in this process, of data of one's own, from any thread."""

import re
import threading

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.wgan_gp import get_config
from wgan_jax.data.array import from_arrays
from wgan_jax.data.dataset import Law, Split, Stored
from wgan_jax.data.scaling import Scaling
from wgan_jax.errors import UserError
from wgan_jax.evaluation.figures import Artist
from wgan_jax.training.notebook import train

CHANGES = {
    "steps": 4,
    "batch_size": 8,
    "n_critic": 2,
    "log_every": 2,
    "eval_every": 2,
    "eval.draws": 1,
    "model.width": 8,
    "devices": 1,
}


def config_of(**changes):
    config = get_config("digits")
    config.update_from_flattened_dict({**CHANGES, "model.depth": 1, "eval.metrics": "wasserstein", **changes})
    return config


def own(counts=(40, 20, 20), dtype=np.uint8, shape=(8, 8, 1)):
    """Bright images: their pixels are in 200 .. 255."""
    rng = np.random.default_rng(0)
    splits = [Split(rng.integers(200, 256, (n, *shape)).astype(dtype), np.zeros(n, np.int32)) for n in counts]
    return Stored(shape, *splits)


def _broken():
    dataset = from_arrays(np.random.default_rng(0).normal(size=(60, 5, 2)))
    dataset.validation.images[1, 2, 0] = np.inf
    return dataset


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    """Pictures take seconds; temporary folders are the test's."""
    monkeypatch.setattr("wgan_jax.evaluation.figures.make_artist", lambda *_: Artist(*[lambda *_: None] * 3))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.slow
def test_own_images_train_from_a_thread_and_go_on(tmp_path, capsys):
    """What is trained on is the dataset given, not digits; the same call goes on, one without a workdir starts anew."""
    config, results = config_of(), []
    before = config.to_json()
    thread = threading.Thread(target=lambda: results.append(train(config, own(), tmp_path / "run")))
    thread.start()
    thread.join()
    (first,) = results
    assert config.to_json() == before
    assert "step 4/4" in capsys.readouterr().out
    assert (first.summary["status"], [line["step"] for line in first.metrics], int(first.state.step)) == ("done", [2, 4], 4)
    assert first.workdir == tmp_path / "run"
    assert 1 < first.summary["real"]["wasserstein_floor"] < 1.43  # sqrt(64 * 2 * .44^2 / 12) between any two; of digits 3
    images = first.sample(5)
    assert (images.shape, images.dtype) == ((5, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(first.sample(3), images[:3])
    assert not np.array_equal(first.sample(5, seed=1), images)
    more = train(config_of(steps=6), own(), tmp_path / "run")
    assert [line["step"] for line in more.metrics] == [2, 4, 6]
    anew = train(config, own())
    assert (anew.workdir.parent, [line["step"] for line in anew.metrics]) == (tmp_path, [2, 4])
    np.testing.assert_array_equal(anew.sample(5), images)
    with pytest.raises(UserError, match="are not those that this run was trained on"):
        train(config_of(steps=8), own((41, 20, 20)), tmp_path / "run")
    with pytest.raises(UserError, match=r"config\.model\.width: the run in .* has 8, this command asks for 9"):
        train(config_of(**{"model.width": 9}), own(), tmp_path / "run")


@pytest.mark.parametrize(("given", "flip"), [(False, True), (True, False), (False, False)])
def test_own_images_are_augmented_as_they_or_the_config_say(given, flip, tmp_path, monkeypatch):
    class SeenError(Exception):
        pass

    def seen(config, workdir, started, dataset):
        assert (dataset.flip, dataset.dequantise) == (given or flip, False)
        raise SeenError

    monkeypatch.setattr("wgan_jax.training.loop.train", seen)
    with pytest.raises(SeenError):
        train(config_of(**{"data.flip": flip}), own()._replace(flip=given), tmp_path / "run")


@pytest.mark.slow
def test_an_own_law_goes_on_and_its_samples_are_points(tmp_path):
    config = get_config("ring8")
    config.update_from_flattened_dict({**CHANGES, "eval.metrics": "wasserstein", "eval.samples": 10})
    line = Law((1,), lambda key: jax.random.exponential(key, (1,)))
    first = train(config, line, tmp_path / "run")
    points = first.sample(5)
    assert (points.shape, points.dtype) == ((5, 1), np.float32)
    assert points.min() < 0 < points.max()  # no pixels
    assert train(config, line, tmp_path / "run").summary["step"] == 4
    with pytest.raises(UserError, match="are not those that this run was trained on"):
        train(config, line._replace(fingerprint="other"), tmp_path / "run")


def test_without_a_dataset_it_is_the_configs(tmp_path, monkeypatch):
    class SeenError(Exception):
        pass

    def seen(config, workdir, started, dataset):
        del config, workdir, started
        assert len(dataset.train.images) == 1000
        raise SeenError

    monkeypatch.setattr("wgan_jax.training.loop.train", seen)
    with pytest.raises(SeenError):
        train(config_of(), workdir=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(7,), (9, 2), (5, 8, 3), (5, 8, 4), (4, 5, 6, 1)])
def test_arrays_of_any_kind_train_in_their_units(shape, tmp_path):
    x = 1000 + 10 * np.random.default_rng(0).normal(size=(60, *shape))
    trained = train(config_of(), x, tmp_path / "run")
    samples = trained.sample(5)
    assert (samples.shape, samples.dtype) == ((5, *shape), np.float64)
    assert 900 < samples.mean() < 1100
    assert train(config_of(steps=6), x, tmp_path / "run").summary["step"] == 6
    with pytest.raises(UserError, match="are not those that this run was trained on"):
        train(config_of(steps=8), x + 1, tmp_path / "run")


def test_labels_of_arrays_are_conditions(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.stack([np.arange(60), -np.arange(60)], 1) / 10
    config = config_of(**{"conditioning.name": "projection", "eval.metrics": "wasserstein,label_numbers"})
    trained = train(config, from_arrays(x, y), tmp_path / "run")
    assert "eval/label_correlation" in trained.metrics[-1]
    assert (trained.networks.classes, trained.networks.code) == (60, 2)


@pytest.mark.parametrize("key", ["data.flip", "data.dequantise"])
def test_what_is_of_images_is_refused_of_arrays(key, tmp_path):
    with pytest.raises(UserError, match=f"config.{key}: is of uint8 images, and dataset has float64 vectors"):
        train(config_of(**{key: True}), np.random.default_rng(0).normal(size=(60, 4)), tmp_path / "run")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (own(dtype=np.float32), "dataset: has train images of float32 (40, 8, 8, 1); wanted are uint8"),
        (own(dtype=np.float32)._replace(scaling=Scaling("float64")), "examples of float32 (40, 8, 8, 1); wanted are float64"),
        (_broken(), "dataset: has validation examples that hold NaN or infinity"),
        (np.ones((40, 3), complex), "complex128 of shape (40, 3); wanted are integers or floating numbers"),
        (np.ones((9, 3)), "too few examples: 7 train, 1 validation, 1 test"),
        (np.full((40, 3), np.nan), "40 of 40 examples hold NaN or infinity"),
        (own()._replace(shape=(9, 8, 1)), "dataset: has train images of (8, 8, 1), and the dataset's shape is (9, 8, 1)"),
        (own()._replace(test=None), "dataset: has no split test; give all three"),
        (own()._replace(test=Split(own().test.images, np.zeros(3, np.int32))), "dataset: has test labels of int32 (3,)"),
        (own((40, 20, 3)), "dataset: has 3 test images; each split needs 4"),
        (own()._replace(train=None), "dataset: has no split train; give all three"),
        (own().train, "dataset: has neither a law"),
    ],
)
def test_a_dataset_that_is_none_is_a_users_mistake(dataset, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        train(config_of(), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (config_of(n_critic=0), "config.n_critic: 0"),
        (config_of(dtype="float64"), "config.dtype: float64"),
        (ConfigDict(), "missing"),
    ],
)
def test_a_wrong_config_is_a_users_mistake(config, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train(config, own(), tmp_path / "run")
