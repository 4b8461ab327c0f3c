"""Targets of the critic's loss: by hand, their laws, and on eight devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from wgan_jax.objectives.losses import CRITERIA, LOSSES
from wgan_jax.objectives.targets import make_critic_loss
from wgan_jax.training.update import make_hyperparameters

pytestmark = pytest.mark.usefixtures("strict_dtypes")

KEY = jax.random.key(0)
ZEROS = jnp.zeros(4000)


@pytest.fixture
def critic_loss(make_config):
    def make(loss="least_squares", axis_name=None, **targets):
        config = make_config("gan.py:ring8", {"loss": loss, **{f"targets.{key}": value for key, value in targets.items()}})
        hyper = make_hyperparameters(config)
        function = make_critic_loss(config, axis_name)
        return lambda real, generated: function(KEY, real, generated, hyper)

    return make


def targets_of(function):
    """The targets of real and of generated examples that least squares has: minus its slope at 0."""
    return (-np.asarray(jax.grad(lambda x, y: function(x, y).sum(), side)(ZEROS, ZEROS), np.float64) for side in (0, 1))


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_loss_with_targets_is_its_criterion_at_1_and_0(loss):
    real, generated = jnp.linspace(-3, 3, 5), jnp.linspace(2, -2, 5)
    if loss in CRITERIA:
        ones, zeros = jnp.ones(5), jnp.zeros(5)
        both = CRITERIA[loss](real, ones) + CRITERIA[loss](generated, zeros)
        np.testing.assert_allclose(LOSSES[loss].critic(real, generated), both, rtol=1e-6)


def test_one_sided_smoothing_by_hand(critic_loss):
    """Least squares at scores 2 and 1: (1.1^2 + 1^2) / 2. Cross-entropy: -.9 log s(2) - .1 log(1 - s(2)) - log(1 - s(1))."""
    two, one = jnp.array([2.0]), jnp.array([1.0])
    np.testing.assert_allclose(critic_loss(smoothing=0.1)(two, one), [(1.1**2 + 1) / 2], rtol=1e-6)
    wanted = 0.9 * 0.126928 + 0.1 * 2.126928 + 1.313262
    for loss in ("minimax", "non_saturating"):
        np.testing.assert_allclose(critic_loss(loss, smoothing=0.1)(two, one), [wanted], rtol=1e-5)


def test_a_smoothed_discriminator_is_best_at_the_target():
    """-t log D - (1 - t) log(1 - D) is least at D = t."""
    gradient = jax.grad(CRITERIA["minimax"])
    np.testing.assert_allclose(gradient(jnp.log(jnp.float32(0.9 / 0.1)), jnp.float32(0.9)), 0, atol=1e-6)


def test_noise_moves_targets_towards_each_other(critic_loss):
    real, generated = targets_of(critic_loss(smoothing=0.1, noise=0.3))
    assert scipy.stats.kstest(real, scipy.stats.uniform(0.6, 0.3).cdf).pvalue > 0.001
    assert scipy.stats.kstest(generated, scipy.stats.uniform(0, 0.3).cdf).pvalue > 0.001
    assert abs(np.corrcoef(real, generated)[0, 1]) < 0.06


def test_a_flipped_example_has_the_targets_of_the_other_side(critic_loss):
    """A real one has 0, a generated one 1 - smoothing."""
    real, generated = targets_of(critic_loss(smoothing=0.25, flip=0.2))
    assert set(real) == set(generated) == {0, 0.75}
    for flipped in (real == 0, generated == 0.75):
        np.testing.assert_allclose(flipped.mean(), 0.2, atol=0.025)
    assert abs(np.corrcoef(real, generated)[0, 1]) < 0.06


def test_without_targets_of_its_own_a_loss_is_what_it_was(critic_loss):
    real, generated = jnp.array([2.0]), jnp.array([-1.0])
    for loss in ("hinge", "minimax"):
        np.testing.assert_array_equal(critic_loss(loss)(real, generated), LOSSES[loss].critic(real, generated))


def test_eight_devices_have_the_targets_of_one(critic_loss):
    changes = {"smoothing": 0.1, "noise": 0.3, "flip": 0.3}
    scores = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    parts = jax.pmap(critic_loss(axis_name="data", **changes), "data")(*scores.reshape(2, 8, 2))
    np.testing.assert_allclose(parts.reshape(-1), critic_loss(**changes)(*scores), rtol=1e-6)
