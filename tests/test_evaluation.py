"""Rows of metrics: what real data, copies and centroids score; the critic's statistics for a critic known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.config import load
from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import flatten
from wgan_jax.evaluation import METRICS, Generated, evaluate, make_reference
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.evaluation.evaluator import make_evaluator, summarise
from wgan_jax.evaluation.references import reference_rows
from wgan_jax.models import build_networks

DIGITS = load_dataset(load("configs/wgan_gp.py:digits"))


@pytest.fixture(scope="module")
def rows():
    """Mean metrics of the reference generators on digits."""
    config = load("configs/wgan_gp.py:digits", ["--config.model.width=8"])
    return {name: summarise(draws) for name, draws in reference_rows(config, DIGITS, "test", 2).items()}


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
        seen = [set(map(bytes, side)) for side in (reference.real, reference.spare, flatten(reference.train))]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]
        assert set(map(bytes, reference.again)) <= seen[2]


def test_metrics_apply_where_the_data_allows():
    n = 50
    expected = {
        "digits": {"wasserstein", "precision_recall", "copying", "classes"},
        "ring8": {"wasserstein", "precision_recall", "modes"},
        "gaussian": {"wasserstein", "precision_recall", "quantile"},
    }
    for preset, names in expected.items():
        reference = make_reference(load_dataset(load(f"configs/wgan_gp.py:{preset}")), "validation", n)
        generated = Generated(reference.again, reference.spare, reference.train)
        assert {name for name, metric in METRICS.items() if metric(reference, generated)} == names
        assert all(np.isfinite(value) for value in evaluate(reference, generated).values())


def test_critic_statistics_of_a_linear_critic():
    # f(x) = 3 x_1 has slope 3; real lies 2 to the right of generated: estimate 6, normalised 2 = W1 = its bound
    generated = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    heldout = generated + np.float32([2, 0])
    statistics = make_critic_statistics(lambda variables, x: variables["slope"] * x[:, 0])
    values = statistics({"slope": jnp.float32(3)}, heldout + np.float32([1, 0]), heldout, generated)
    expected = {
        "estimate_train": 9,
        "estimate_heldout": 6,
        "lipschitz_q99": 3,
        "estimate_normalised": 2,
        "c_transform_bound": 2,
    }
    assert values == pytest.approx(expected, rel=1e-5)


def test_a_constant_critic_gives_no_normalised_estimate():
    x = np.zeros((10, 2), np.float32)
    values = make_critic_statistics(lambda variables, x: 0 * x[:, 0])({}, x, x, x)
    assert np.isnan(values["estimate_normalised"])
    assert values["lipschitz_q99"] == 0


def test_evaluator_is_a_function_of_its_arguments_and_rounds_images():
    config = load("configs/wgan_gp.py:digits", ["--config.model.width=8", "--config.eval.samples=40"])
    networks = build_networks(config, DIGITS.shape)
    generator, critic = networks.init_generator(jax.random.key(0)), networks.init_critic(jax.random.key(1))
    first = make_evaluator(config, DIGITS, networks)(generator, critic, "validation", 0)
    evaluator = make_evaluator(config, DIGITS, networks)
    other = evaluator(generator, critic, "test", 1)
    assert evaluator(generator, critic, "validation", 0) == first
    assert other != first
