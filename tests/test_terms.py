"""Terms of the losses against values by hand, and on eight devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.objectives.terms import TERMS
from wgan_jax.types import CriticOutput

NO_LABELS = jnp.zeros(2, jnp.int32)


def output(features, score=None):
    features = jnp.asarray(features, jnp.float32)
    return CriticOutput(jnp.zeros(len(features)) if score is None else jnp.asarray(score, jnp.float32), features, None)


def test_feature_matching_compares_means_by_hand():
    """Means (2, 1) and (0, 4): 4 + 9; the mean of differences squared would be another number."""
    real, generated = output([[1.0, 0.0], [3.0, 2.0]]), output([[0.0, 4.0], [0.0, 4.0]])
    assert TERMS["feature_matching"].critic is None
    assert TERMS["feature_matching"].generator(real, generated, NO_LABELS, None) == 13


def test_drift_by_hand():
    """(4 + 16) / 2, of real scores alone."""
    assert TERMS["drift"].generator is None
    assert TERMS["drift"].critic(output([[0.0]] * 2, [2.0, -4.0]), output([[0.0]] * 2, [100.0, 0.0]), NO_LABELS, None) == 10


def test_classification_is_the_cross_entropy_of_seen_labels_by_hand():
    """Softmax of (0, log 3): (1/4, 3/4). Of labels 1, unseen, 0: (log 4/3 + log 4) / 2; of none 0, and so is its gradient."""
    assert TERMS["classification"].generator is None

    def term(logits, label):
        return TERMS["classification"].critic(CriticOutput(None, None, logits), None, jnp.asarray(label), None)

    logits = jnp.tile(jnp.array([0.0, np.log(3)]), (3, 1))
    assert term(logits, [1, -1, 0]) == pytest.approx(np.log(16 / 3) / 2)
    assert term(logits, [-1, -1, -1]) == 0
    np.testing.assert_array_equal(jax.grad(term)(logits, [-1, -1, -1]), np.zeros((3, 2)))
    np.testing.assert_allclose(jax.grad(term)(logits, [1, -1, 0]), [[1 / 8, -1 / 8], [0, 0], [-3 / 8, 3 / 8]], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(TERMS))
@pytest.mark.parametrize("player", ["critic", "generator"])
def test_a_share_of_the_batch_on_each_device_gives_the_gradient_of_the_whole(name, player):
    term = getattr(TERMS[name], player)
    if term is None:
        return
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(16, 3)), jnp.float32) for _ in range(2))

    label = jnp.arange(16) % 5 - 2  # -2 and -1 are unseen, and no device has two of each

    def loss(w, x, y, label, axis_name):
        sides = [CriticOutput(z @ w, jnp.tanh(z * w[None]), z * w[None]) for z in (x, y)]
        return term(*sides, label, axis_name)

    w = jnp.arange(1.0, 4.0)
    whole = jax.grad(loss)(w, x, y, label, None)
    shares = jax.pmap(lambda *share: jax.lax.pmean(jax.grad(loss)(w, *share, "data"), "data"), "data")(
        x.reshape(8, 2, 3), y.reshape(8, 2, 3), label.reshape(8, 2)
    )
    np.testing.assert_allclose(shares[3], whole, rtol=2e-5)
    assert np.abs(whole).max() > 0
