"""Terms that are added to a player's loss, each with a weight of its own: config.terms.<name>, 0 for none.

A term is a function of the critic's outputs on both sides, the mean over this device's share as the losses are. What is not
linear in the batch is reduced over `axis_name` here.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from wgan_jax.batching import batch_mean
from wgan_jax.types import Array, CriticOutput

# outputs of the critic on real and on generated examples, label [B] of both, axis_name -> []
type TermFunction = Callable[[CriticOutput, CriticOutput, Array, str | None], jax.Array]


class Term(NamedTuple):
    """What a term adds to each player's loss; None for nothing."""

    critic: TermFunction | None = None
    generator: TermFunction | None = None


def _feature_matching(real: CriticOutput, generated: CriticOutput, label: Array, axis_name: str | None) -> jax.Array:
    """|mean f(x) - mean f(G(z))|^2 of the last hidden layer, means over the global batch (Salimans 2016, section 3.1)."""
    del label
    difference = jnp.mean(real.features, axis=0) - jnp.mean(generated.features, axis=0)
    return jnp.sum(jnp.square(batch_mean(difference, axis_name)))


def _classification(real: CriticOutput, generated: CriticOutput, label: Array, axis_name: str | None) -> jax.Array:
    """-log p(label | x, real) of the real examples whose label is seen, mean over these (Salimans 2016, section 5)."""
    del generated
    assert real.class_logits is not None
    seen = label >= 0
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(real.class_logits, jnp.where(seen, label, 0))
    share = batch_mean(jnp.mean(seen.astype(cross_entropy.dtype)), axis_name)
    return jnp.mean(jnp.where(seen, cross_entropy, 0)) / jnp.where(share > 0, share, 1)


TERMS: dict[str, Term] = {
    "feature_matching": Term(generator=_feature_matching),
    # epsilon f(x)^2 keeps a Wasserstein critic's scores near 0 (Karras 2018, appendix A.1: .001)
    "drift": Term(critic=lambda real, generated, label, axis_name: jnp.mean(jnp.square(real.score))),
    "classification": Term(critic=_classification),
}
