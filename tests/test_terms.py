"""Terms of the losses against values by hand, and on eight devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.objectives.terms import TERMS
from wgan_jax.types import CriticOutput


def output(features, score=None):
    features = jnp.asarray(features, jnp.float32)
    return CriticOutput(jnp.zeros(len(features)) if score is None else jnp.asarray(score, jnp.float32), features, None)


def test_feature_matching_compares_means_by_hand():
    """Means (2, 1) and (0, 4): 4 + 9; the mean of differences squared would be another number."""
    real, generated = output([[1.0, 0.0], [3.0, 2.0]]), output([[0.0, 4.0], [0.0, 4.0]])
    assert TERMS["feature_matching"].critic is None
    assert TERMS["feature_matching"].generator(real, generated, None) == 13


def test_drift_by_hand():
    """(4 + 16) / 2, of real scores alone."""
    assert TERMS["drift"].generator is None
    assert TERMS["drift"].critic(output([[0.0]] * 2, [2.0, -4.0]), output([[0.0]] * 2, [100.0, 0.0]), None) == 10


@pytest.mark.parametrize("name", sorted(TERMS))
@pytest.mark.parametrize("player", ["critic", "generator"])
def test_a_share_of_the_batch_on_each_device_gives_the_gradient_of_the_whole(name, player):
    term = getattr(TERMS[name], player)
    if term is None:
        return
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(16, 3)), jnp.float32) for _ in range(2))

    def loss(w, x, y, axis_name):
        sides = [CriticOutput(z @ w, jnp.tanh(z * w[None]), None) for z in (x, y)]
        return term(*sides, axis_name)

    w = jnp.arange(1.0, 4.0)
    whole = jax.grad(loss)(w, x, y, None)
    shares = jax.pmap(lambda x, y: jax.lax.pmean(jax.grad(loss)(w, x, y, "data"), "data"), "data")(
        x.reshape(8, 2, 3), y.reshape(8, 2, 3)
    )
    np.testing.assert_allclose(shares[3], whole, rtol=2e-5)
    assert np.abs(whole).max() > 0
