"""Rows of metrics: what real data, copies and centroids score; the critic's statistics for a critic known in closed form."""

import logging
import math
import signal
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from wgan_jax.config import load
from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import Split, Stored, flatten, to_pixels
from wgan_jax.errors import Interrupted, UserError
from wgan_jax.evaluation.critic import CRITIC_VALUES, make_critic_statistics
from wgan_jax.evaluation.evaluator import USUAL, _say_left_out, left_out, make_evaluator, protocol, summarise
from wgan_jax.evaluation.reference import Generated, distances_to_train, make_reference
from wgan_jax.evaluation.references import reference_rows
from wgan_jax.evaluation.registry import METRICS
from wgan_jax.features import FEATURES
from wgan_jax.models import build_networks, make_sampler
from wgan_jax.report.names import DIRECTIONS
from wgan_jax.types import Batch

DIGITS = load_dataset(load("configs/wgan_gp.py:digits"))


@pytest.fixture(scope="module")
def rows():
    """Mean metrics of the reference generators on digits."""
    config = load("configs/wgan_gp.py:digits", ["--config.model.width=8"])
    return {name: summarise(row.draws) for name, row in reference_rows(config, DIGITS, "test", 2)}


def test_real_data_is_at_the_floor(rows):
    real = rows["real"]
    assert real["wasserstein_ratio"] == pytest.approx(1, abs=0.05)
    assert real["wasserstein_excess"] == pytest.approx(0, abs=0.05)
    assert min(real["precision"], real["recall"]) > 0.85
    assert abs(real["copying_z"]) < 3
    assert real["smallest_class"] > 0.05


def test_copies_and_centroids_are_seen_through(rows):
    # a distance alone would rank 200 centroids above real data (evaluation by one number is fooled)
    assert rows["k-means, 200 centroids"]["wasserstein_ratio"] < 1
    for name in ("training images, copied", "k-means, 30 centroids", "k-means, 200 centroids"):
        assert rows[name]["copying_z"] < -3
        assert rows[name]["wasserstein_excess"] > 0.1
    assert rows["k-means, 30 centroids"]["recall"] < 0.1
    assert rows["untrained"]["wasserstein_ratio"] > 2


def test_the_sides_of_a_reference_share_no_example():
    for split, size in (("validation", 297), ("test", 500)):
        reference = make_reference(DIGITS, split, 500)
        assert len(reference.real) == len(reference.again) == size
        seen = [set(map(bytes, side)) for side in (reference.real, reference.spare, flatten(DIGITS.decode(reference.train)))]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]
        assert set(map(bytes, reference.again)) <= seen[2]


def compared(dataset, n=50):
    """A reference with the features of its points, and other real data in the generator's place."""
    network = FEATURES["pixels"](None, dataset)
    reference = make_reference(dataset, "validation", n)
    real, again = (dataset.encode(x.reshape(-1, *dataset.shape)) for x in (reference.real, reference.again))
    reference = reference._replace(features=network.apply(real))
    features = network.apply(again)
    labels = network.label(again, features) if isinstance(dataset, Stored) else np.empty(0, int)
    return reference, Generated(reference.again, reference.spare, features, labels, reference.again)


def test_metrics_apply_where_the_data_allows():
    everywhere = set(METRICS) - {"copying", "classes", "labels", "modes", "quantile", "inception_score", "divergences"}
    everywhere -= {"label_numbers", "columns", "associations", "detection", "utility", "conditions"}
    beside = {"digits": {"copying", "classes"}, "ring8": {"modes", "divergences"}, "gaussian": {"quantile", "divergences"}}
    for preset, names in beside.items():
        config = load(f"configs/wgan_gp.py:{preset}")
        dataset = load_dataset(config)
        sides = compared(dataset)
        given = {name: metric.compute(*sides) for name, metric in METRICS.items() if metric.kind.holds(config, dataset)}
        assert set(given) == everywhere | names
        for name, values in given.items():
            assert tuple(values) == tuple(METRICS[name].values)
            assert all(np.isfinite(value) for value in values.values())


def test_every_value_has_a_direction():
    of_metrics = {name for metric in METRICS.values() for name in metric.values}
    assert set(DIRECTIONS) == of_metrics | {*CRITIC_VALUES, "classifier_error"}
    assert [DIRECTIONS[name] for name in ("wasserstein_excess", "recall", "copying_z", "estimate_heldout")] == [
        "lower",
        "higher",
        "",
        "",
    ]


def test_no_two_metrics_share_a_value():
    names = [name for metric in METRICS.values() for name in metric.values] + list(CRITIC_VALUES)
    assert len(names) == len(set(names))


def test_logits_give_an_inception_score():
    # two classes, half of the sample sure of each: exp(H(y) - H(y|x)) = 2; the rows alternate, so that every split is balanced
    reference, generated = compared(DIGITS)
    sure = 50 * np.eye(2)[np.arange(400) % 2]
    values = METRICS["inception_score"].compute(
        reference, generated._replace(features=generated.features._replace(logits=sure))
    )
    assert values["inception_score"] == pytest.approx(2, rel=0.05)  # of random splits of 40


def test_critic_statistics_of_a_linear_critic():
    # f(x) = 3 x_1 has slope 3; real lies 2 to the right of generated: estimate 6, normalised 2 = W1 = its bound
    generated = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    heldout = generated + np.float32([2, 0])
    statistics = make_critic_statistics(lambda variables, batch: variables["slope"] * batch.x[:, 0])
    sides = (Batch(x, np.zeros(60, np.int32)) for x in (heldout + np.float32([1, 0]), heldout, generated))
    values = statistics({"slope": jnp.float32(3)}, *sides)
    expected = {
        "estimate_train": 9,
        "estimate_heldout": 6,
        "lipschitz_q99": 3,
        "estimate_normalised": 2,
        "c_transform_bound": 2,
    }
    assert values == pytest.approx(expected, rel=1e-5)


def test_a_constant_critic_gives_no_normalised_estimate():
    batch = Batch(np.zeros((10, 2), np.float32), np.zeros(10, np.int32))
    values = make_critic_statistics(lambda variables, batch: 0 * batch.x[:, 0])({}, batch, batch, batch)
    assert np.isnan(values["estimate_normalised"])
    assert values["lipschitz_q99"] == 0


@pytest.fixture(scope="module")
def small():
    """A config of untrained networks on digits, and their variables."""
    changes = ["--config.model.width=8", "--config.eval.samples=40", "--config.eval.feature_samples=60"]
    config = load("configs/wgan_gp.py:digits", changes)
    networks = build_networks(config, DIGITS.shape)
    return config, networks, networks.init_generator(jax.random.key(0)), networks.init_critic(jax.random.key(1))


def test_evaluator_is_a_function_of_its_arguments(small):
    config, networks, generator, critic = small
    first = make_evaluator(config, DIGITS, networks).of_generator(generator, critic, "validation", 0)
    evaluator = make_evaluator(config, DIGITS, networks)
    other = evaluator.of_generator(generator, critic, "test", 1)
    assert evaluator.of_generator(generator, critic, "validation", 0) == first
    assert other != first
    assert set(CRITIC_VALUES) < set(first)


def test_a_generator_is_what_it_draws(small):
    # the same images, handed over as examples, get the same values; a draw has its own
    config, networks, generator, critic = small
    evaluator = make_evaluator(config, DIGITS, networks)
    values = evaluator.of_generator(generator, critic, "test", 2)
    key = jax.random.fold_in(jax.random.key(30_002), True)
    images = to_pixels(make_sampler(networks)(generator, key, np.zeros(80, np.int32), 0)[1])
    assert evaluator.of_examples(lambda n: images[:n], "test", 2) == {
        name: value for name, value in values.items() if name not in CRITIC_VALUES
    }


def test_what_an_example_is_the_datasets_maps_say(small, negated):
    config, networks, generator, critic = small
    for dataset in (DIGITS, DIGITS._replace(flip=True)):
        plain, own = (make_evaluator(config, data, networks) for data in (dataset, negated(dataset)))
        assert own.of_generator(generator, critic, "test", 0) == plain.of_generator(generator, critic, "test", 0)
        assert own.of_real("test", 0) == plain.of_real("test", 0)
    rows = ({name: row.draws for name, row in reference_rows(config, data, "test", 1)} for data in (DIGITS, negated(DIGITS)))
    assert next(rows) == next(rows)


def test_features_are_of_as_many_examples_as_asked_for_and_networks_see_each_once(small, monkeypatch):
    config, networks, generator, critic = small
    seen, pixels = [], FEATURES["pixels"](config, DIGITS)

    def apply(images):
        seen.append(len(images))
        return pixels.apply(images)

    monkeypatch.setitem(FEATURES, "pixels", lambda *_: pixels._replace(name="other", weights="abc", apply=apply))
    evaluator = make_evaluator(config, DIGITS, networks)
    assert evaluator.sizes("test") == (40, 60)
    rows = [evaluator.of_generator(generator, critic, "test", draw) for draw in (0, 1)]
    assert seen[:2] == [60, 60]  # the split's, the generated
    assert seen[2] < 60  # of the split's second draw only what the first did not have
    assert seen[3:] == [60]
    told = protocol(evaluator, "test", rows, [evaluator.of_real("test", 0)])
    assert told["precision"] | {"mean": 0, "std": 0, "real": 0} == {
        "mean": 0,
        "std": 0,
        "real": 0,
        "n_real": 60,
        "n_fake": 60,
        "split": "test",
        "features": "other",
        "weights": "abc",
        "resize": "none",
    }
    assert (told["wasserstein_ratio"]["n_real"], told["wasserstein_ratio"]["features"]) == (40, "pixels")
    assert told["smallest_class"]["n_real"] is None  # of the generated images alone
    assert told["estimate_heldout"]["real"] is None
    assert told["precision"]["mean"] == pytest.approx(np.mean([row["precision"] for row in rows]))


def test_real_data_is_told_with_its_own_number_of_examples():
    config = load("configs/wgan_gp.py:digits", ["--config.model.width=8"])
    networks = build_networks(config, DIGITS.shape)
    evaluator = make_evaluator(config, DIGITS, networks)
    assert (evaluator.sizes("test").points, evaluator.real_sizes("test").points) == (500, 297)
    values = evaluator.of_real("test", 0)
    told = protocol(evaluator, "test", [values], [values])
    assert (told["precision"]["n_real"], told["precision"]["real"]["n"]) == (500, 297)


def test_an_evaluator_compiles_once(small):
    config, networks, generator, critic = small
    evaluator = make_evaluator(config, DIGITS, networks)
    evaluator.of_generator(generator, critic, "validation", 0)
    other, compiled = jax.tree.map(lambda leaf: leaf + 1, generator), []
    with mock.patch("jax._src.compiler.compile_or_get_cached", side_effect=lambda *_, **__: compiled.append(1)):
        evaluator.of_generator(other, critic, "validation", 1)
    assert compiled == []


def few(images):
    return DIGITS._replace(validation=Split(DIGITS.validation.images[:images], DIGITS.validation.labels[:images]))


def test_too_few_images_for_a_metric_are_said_before_training(small):
    config, networks, _, _ = small
    config = ConfigDict(config.to_dict())
    config.eval.metrics = "wasserstein,density_coverage"
    with pytest.raises(UserError, match=r"config\.eval\.metrics: density_coverage needs 6 images of each split; .* has 5"):
        make_evaluator(config, few(5), networks)
    config.eval.metrics = "all"
    values = make_evaluator(config, few(5), networks).of_real("validation", 0)
    assert "coverage" not in values
    assert "precision" in values


def test_pixels_as_features_are_bounded(small, monkeypatch):
    config, networks, _, _ = small
    monkeypatch.setattr("wgan_jax.evaluation.evaluator.PIXEL_VALUES", 64 * 45)
    assert make_evaluator(config, DIGITS, networks).sizes("test").features == 45


def test_mirrored_copies_are_copies_where_training_flips():
    mirrored = flatten(DIGITS.decode(DIGITS.train.images[:50, :, ::-1]))
    assert distances_to_train(DIGITS._replace(flip=True), mirrored).max() == pytest.approx(0, abs=1e-6)
    assert np.median(distances_to_train(DIGITS, mirrored)) > 1


def test_metrics_that_are_not_asked_for_are_not_computed(small):
    config, networks, generator, critic = small
    config = ConfigDict(config.to_dict())
    config.eval.metrics = "wasserstein"
    evaluator = make_evaluator(config, DIGITS, networks)
    assert evaluator.network is None
    values = evaluator.of_generator(generator, critic, "test", 0)
    assert set(values) == {*METRICS["wasserstein"].values, *CRITIC_VALUES}


def asking(config, metrics):
    config = ConfigDict(config.to_dict())
    config.eval.metrics = metrics
    return config


def test_what_the_data_does_not_allow_is_said_once_unless_it_stands_there_by_default(small, caplog):
    config, networks, _, _ = small
    assert load("configs/wgan_gp.py:digits").eval.metrics == ",".join(USUAL)
    labels, mixture, line = (
        "is only of networks that are conditioned on labels",
        "is only of mixtures of Gaussians (ring8, grid25)",
        "is only of laws on the line (gaussian with config.data.dim=1)",
    )
    numbers = "is only of networks that are conditioned on numbers"
    assert left_out(config, DIGITS) == {"labels": labels, "label_numbers": numbers, "modes": mixture, "quantile": line}
    assert left_out(asking(config, "all"), few(5))["density_coverage"].startswith("needs 6 images of each split")
    one_class = DIGITS._replace(train=DIGITS.train._replace(labels=np.zeros_like(DIGITS.train.labels)))
    assert left_out(asking(config, "wasserstein,classes"), one_class) == {
        "classes": "is only of images with labels of at least two classes"
    }
    _say_left_out.cache_clear()
    for asked in (config.eval.metrics, "wasserstein,modes", "wasserstein,modes", config.eval.metrics + ",inception_score"):
        make_evaluator(asking(config, asked), DIGITS, networks)
    logits = "is only of features with classes (config.eval.features=classifier or inception)"
    assert [record.getMessage() for record in caplog.records] == [
        f"config.eval.metrics: modes is left out: it {mixture}",
        f"config.eval.metrics: inception_score is left out: it {logits}",
    ]
    with pytest.raises(UserError) as error:
        make_evaluator(asking(config, "modes,quantile"), DIGITS, networks)
    assert error.value.lines == (f"config.eval.metrics: modes {mixture}, quantile {line}",)


def test_a_failure_costs_its_metric_alone_and_is_said_with_its_place(small, caplog, monkeypatch):
    config, networks, _, _ = small
    whole = make_evaluator(config, DIGITS, networks).of_real("test", 0)

    def bug(reference, generated):
        return {"copying_z": {}["nothing"]}

    def undefined(reference, generated):
        raise UserError("of these data it is not defined")

    monkeypatch.setitem(METRICS, "copying", METRICS["copying"]._replace(compute=bug))
    monkeypatch.setitem(METRICS, "precision_recall", METRICS["precision_recall"]._replace(compute=undefined))
    evaluator = make_evaluator(config, DIGITS, networks)
    with caplog.at_level(logging.DEBUG, "wgan_jax.evaluation.evaluator"):
        values = [evaluator.of_real("test", 0), evaluator.of_real("test", 0)][0]
    assert {name for name, value in values.items() if math.isnan(value)} == {"copying_z", "precision", "recall"}
    assert {name: whole[name] for name in values if not math.isnan(values[name])} == {
        name: value for name, value in values.items() if not math.isnan(value)
    }
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said[0] == "precision_recall is missing: of these data it is not defined"
    assert said[1].startswith("copying is missing: 'nothing' (KeyError, ")
    assert f"{__file__}, line {bug.__code__.co_firstlineno + 1})" in said[1]
    assert len(said) == 2
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.DEBUG)


def test_a_signal_within_a_metric_ends_the_run(small, monkeypatch):
    config, networks, _, _ = small

    def interrupted(reference, generated):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setitem(METRICS, "wasserstein", METRICS["wasserstein"]._replace(compute=interrupted))
    with pytest.raises(Interrupted):
        make_evaluator(config, DIGITS, networks).of_real("test", 0)
