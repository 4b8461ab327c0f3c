"""Adversarial losses: per-example values of scores [B] that are minimised; the caller takes the mean.

Scores are unbounded: f(x) of a critic, or the logit of a discriminator D(x) = sigmoid(f(x)).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Loss(NamedTuple):
    """What each player minimises, of the scores of real and of generated examples, [B] each -> [B]."""

    critic: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array, jax.Array], jax.Array]


def _cross_entropy(real: jax.Array, generated: jax.Array) -> jax.Array:
    """-log D(x) - log(1 - D(G(z))), from logits."""
    return jax.nn.softplus(-real) + jax.nn.softplus(generated)


LOSSES: dict[str, Loss] = {
    # f(G(z)) - f(x) against -f(G(z)): Arjovsky 2017, equations 2 and 3
    "wasserstein": Loss(lambda real, generated: generated - real, lambda real, generated: -generated),
    # generator: log(1 - D(G(z))): Goodfellow 2014, equation 1
    "minimax": Loss(_cross_entropy, lambda real, generated: -jax.nn.softplus(generated)),
    # generator: -log D(G(z)): Goodfellow 2014, section 3
    "non_saturating": Loss(_cross_entropy, lambda real, generated: jax.nn.softplus(-generated)),
    # Lim & Ye 2017; Miyato 2018, equations 16 and 17
    "hinge": Loss(
        lambda real, generated: jax.nn.relu(1 - real) + jax.nn.relu(1 + generated), lambda real, generated: -generated
    ),
    # a = 0, b = c = 1: Mao 2017, equation 9
    "least_squares": Loss(
        lambda real, generated: (jnp.square(real - 1) + jnp.square(generated)) / 2,
        lambda real, generated: jnp.square(generated - 1) / 2,
    ),
    # pairs by index: Jolicoeur-Martineau 2019, equation 3, as Huang 2024 (R3GAN) has it
    "relativistic": Loss(
        lambda real, generated: jax.nn.softplus(generated - real), lambda real, generated: jax.nn.softplus(real - generated)
    ),
}
