"""Losses against numbers by hand and against NumPy in float64, their signs, and their behaviour far out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.objectives.losses import LOSSES

pytestmark = pytest.mark.usefixtures("strict_dtypes")

REAL = np.array([-3.0, -1.0, 0.0, 0.5, 1.0, 2.5])
GENERATED = np.array([2.0, -0.5, 0.0, 1.0, -4.0, 1.5])


def probability(score):
    return 1 / (1 + np.exp(-score))


def cross_entropy(real, generated):
    return -np.log(probability(real)) - np.log(1 - probability(generated))


# name -> the critic's and the generator's loss as the papers write them
PUBLISHED = {
    "wasserstein": (lambda r, g: g - r, lambda r, g: -g),
    "minimax": (cross_entropy, lambda r, g: np.log(1 - probability(g))),
    "non_saturating": (cross_entropy, lambda r, g: -np.log(probability(g))),
    "hinge": (lambda r, g: np.maximum(0, 1 - r) + np.maximum(0, 1 + g), lambda r, g: -g),
    "least_squares": (lambda r, g: 0.5 * (r - 1) ** 2 + 0.5 * g**2, lambda r, g: 0.5 * (g - 1) ** 2),
    "relativistic": (lambda r, g: -np.log(probability(r - g)), lambda r, g: -np.log(probability(g - r))),
}

# name -> critic's loss at real score 2 and generated score -1, generator's loss at -1. By hand:
# softplus(-2) = .126928, softplus(-1) = .313262, softplus(1) = 1.313262, softplus(-3) = .048587, softplus(3) = 3.048587
BY_HAND = {
    "wasserstein": (-3.0, 1.0),
    "minimax": (0.126928 + 0.313262, -0.313262),
    "non_saturating": (0.126928 + 0.313262, 1.313262),
    "hinge": (0.0, 1.0),
    "least_squares": (0.5 + 0.5, 2.0),
    "relativistic": (0.048587, 3.048587),
}


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_the_value_by_hand(name):
    real, generated = jnp.array([2.0]), jnp.array([-1.0])
    critic, generator = BY_HAND[name]
    np.testing.assert_allclose(LOSSES[name].critic(real, generated), [critic], atol=1e-6)
    np.testing.assert_allclose(LOSSES[name].generator(real, generated), [generator], atol=1e-6)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_published_formula(name):
    critic, generator = PUBLISHED[name]
    real, generated = jnp.asarray(REAL, jnp.float32), jnp.asarray(GENERATED, jnp.float32)
    np.testing.assert_allclose(LOSSES[name].critic(real, generated), critic(REAL, GENERATED), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(LOSSES[name].generator(real, generated), generator(REAL, GENERATED), rtol=2e-6, atol=1e-6)


def test_every_loss_has_its_numbers_here():
    assert set(PUBLISHED) == set(BY_HAND) == set(LOSSES)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_per_example(name):
    loss = LOSSES[name]
    real, generated = jnp.asarray(REAL, jnp.float32), jnp.asarray(GENERATED, jnp.float32)
    value = loss.critic(real, generated)
    assert (value.shape, value.dtype) == ((6,), jnp.float32)
    own = loss.generator(real, generated)
    assert (own.shape, own.dtype) == ((6,), jnp.float32)
    changed = loss.critic(real.at[2].add(0.25), generated)
    np.testing.assert_array_equal(np.flatnonzero(changed != value), [2])
    changed = loss.critic(real, generated.at[4].add(5.0))
    np.testing.assert_array_equal(np.flatnonzero(changed != value), [4])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_scores_of_shape_b_1_against_b_are_refused(name):
    with pytest.raises(ValueError, match="rank_promotion"):
        LOSSES[name].critic(jnp.ones((3, 1)), jnp.ones(3))


@pytest.mark.parametrize("score", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_players_pull_the_scores_their_way(name, score):
    """The critic raises real scores and lowers generated ones, the generator raises its own; in (0, 1) for every loss."""
    loss, score = LOSSES[name], jnp.float32(score)
    real, generated = jax.grad(loss.critic, argnums=(0, 1))(score, score)
    assert real < 0
    assert generated > 0
    assert jax.grad(loss.generator, argnums=1)(score, score) < 0


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_scores_far_out_stay_finite(name, sign):
    real = jnp.float32(1e4 * sign)
    loss = LOSSES[name]
    values = (
        jax.value_and_grad(loss.critic, argnums=(0, 1))(real, -real),
        jax.value_and_grad(loss.generator, argnums=1)(-real, real),
    )
    assert all(jnp.isfinite(leaf) for leaf in jax.tree.leaves(values))


def test_logits_far_out_have_their_limits():
    """-log D(x) at the logit -1e4 is 1e4, where log(sigmoid) would be inf; at 1e4 it is 0."""
    loss, far = LOSSES["non_saturating"], jnp.float32(1e4)
    assert loss.critic(-far, far) == 2e4
    assert loss.critic(far, -far) == 0
    assert loss.generator(far, -far) == 1e4
    assert jax.grad(loss.generator, argnums=1)(far, -far) == -1
    assert LOSSES["minimax"].generator(far, far) == -1e4
    assert jax.grad(LOSSES["minimax"].generator, argnums=1)(far, -far) == 0  # saturated: what the non-saturating loss is for


def test_an_undecided_discriminator_loses_two_log_two():
    """V(D*, G) = 2 JS - 2 log 2, so at p_g = p_r, where D* = 1/2, the loss -V is 2 log 2 and the logit 0 is its minimum."""

    def both(logit):
        return LOSSES["minimax"].critic(logit, logit)

    np.testing.assert_allclose(both(jnp.float32(0)), 2 * np.log(2), rtol=1e-6)
    assert jax.grad(both)(jnp.float32(0)) == 0
    assert jax.grad(jax.grad(both))(jnp.float32(0)) > 0


def test_the_hinge_is_flat_beyond_the_margin():
    gradient = jax.grad(LOSSES["hinge"].critic, argnums=(0, 1))
    assert gradient(jnp.float32(1.5), jnp.float32(-1.5)) == (0, 0)
    assert gradient(jnp.float32(0.5), jnp.float32(-0.5)) == (-1, 1)
