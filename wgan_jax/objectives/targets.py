"""The targets that the critic's loss has for its scores, 1 of real and 0 of generated examples: softened, noisy or flipped."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.batching import TARGETS, example_keys
from wgan_jax.objectives.losses import CRITERIA, LOSSES
from wgan_jax.types import Hyperparameters

# key, scores of real and of generated examples, [B] each, hyper -> [B]
type CriticLoss = Callable[[jax.Array, jax.Array, jax.Array, Hyperparameters], jax.Array]


def make_critic_loss(config: ConfigDict, axis_name: str | None = None) -> CriticLoss:
    """Returns what the critic minimises of its scores: config.loss at the targets that config.targets makes of 1 and 0.

    An example is taken for one of the other side with probability targets.flip. One that is taken for real has the target
    1 - smoothing, of generated ones it stays 0 (one-sided smoothing, Salimans 2016, section 3.4: .1). Noise moves a target by
    up to targets.noise towards the other, uniformly. Flips and noise are those of Chintala 2016's "How to train a GAN", whose
    real targets in U[.7, 1.2] are here in U[.7, 1], as no cross-entropy has a minimum beyond 1.
    """
    smooth, noisy, flipping = (config.targets[name] > 0 for name in ("smoothing", "noise", "flip"))
    if not (smooth or noisy or flipping):
        return lambda key, real, generated, hyper: LOSSES[config.loss].critic(real, generated)
    criterion = CRITERIA[config.loss]

    def critic_loss(key: jax.Array, real: jax.Array, generated: jax.Array, hyper: Hyperparameters) -> jax.Array:
        one, zero = jnp.ones((), real.dtype), jnp.zeros((), real.dtype)

        def target(key: jax.Array, is_real: bool) -> jax.Array:
            key_flip, key_noise = jax.random.split(key)
            taken_for_real = jnp.asarray(is_real)
            if flipping:
                taken_for_real ^= jax.random.bernoulli(key_flip, hyper["targets.flip"])
            moved = hyper["targets.noise"] * jax.random.uniform(key_noise, (), real.dtype) if noisy else zero
            return jnp.where(taken_for_real, one - (hyper["targets.smoothing"] if smooth else zero) - moved, moved)

        def targets(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            key_real, key_generated = jax.random.split(key)
            return target(key_real, True), target(key_generated, False)

        keys = example_keys(jax.random.fold_in(key, TARGETS), len(real), axis_name)
        of_real, of_generated = jax.vmap(targets)(keys)
        return criterion(real, of_real) + criterion(generated, of_generated)

    return critic_loss
