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


def _cross_entropy(score: jax.Array, target: jax.Array | float) -> jax.Array:
    """-t log D(x) - (1 - t) log(1 - D(x)), from logits."""
    return target * jax.nn.softplus(-score) + (1 - target) * jax.nn.softplus(score)


def _square(score: jax.Array, target: jax.Array | float) -> jax.Array:
    """(f(x) - t)^2 / 2."""
    return jnp.square(score - target) / 2


# Of losses whose critic has a target for each score, 1 of real and 0 of generated examples: scores, targets -> [B].
CRITERIA: dict[str, Callable[[jax.Array, jax.Array | float], jax.Array]] = {
    "minimax": _cross_entropy,
    "non_saturating": _cross_entropy,
    "least_squares": _square,
}


def _at_targets(criterion: Callable[[jax.Array, jax.Array | float], jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda real, generated: criterion(real, 1) + criterion(generated, 0)


LOSSES: dict[str, Loss] = {
    # f(G(z)) - f(x) against -f(G(z)): Arjovsky 2017, equations 2 and 3
    "wasserstein": Loss(lambda real, generated: generated - real, lambda real, generated: -generated),
    # generator: log(1 - D(G(z))): Goodfellow 2014, equation 1
    "minimax": Loss(_at_targets(_cross_entropy), lambda real, generated: -jax.nn.softplus(generated)),
    # generator: -log D(G(z)): Goodfellow 2014, section 3
    "non_saturating": Loss(_at_targets(_cross_entropy), lambda real, generated: jax.nn.softplus(-generated)),
    # Lim & Ye 2017; Miyato 2018, equations 16 and 17
    "hinge": Loss(
        lambda real, generated: jax.nn.relu(1 - real) + jax.nn.relu(1 + generated), lambda real, generated: -generated
    ),
    # a = 0, b = c = 1: Mao 2017, equation 9
    "least_squares": Loss(_at_targets(_square), lambda real, generated: _square(generated, 1)),
    # pairs by index: Jolicoeur-Martineau 2019, equation 3, as Huang 2024 (R3GAN) has it
    "relativistic": Loss(
        lambda real, generated: jax.nn.softplus(generated - real), lambda real, generated: jax.nn.softplus(real - generated)
    ),
}
