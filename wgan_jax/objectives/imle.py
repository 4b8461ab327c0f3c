"""IMLE: each real example pulls the generated one that is nearest to it; there is no critic."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from wgan_jax.types import Array, Latents


def nearest(real: Array, generated: jax.Array) -> jax.Array:
    """Returns the rows [B] of the generated examples [m, ...] that are nearest to real ones [B, ...], by Euclid's distance."""
    x, y = real.reshape(len(real), -1), generated.reshape(len(generated), -1)
    products = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.argmin(jnp.sum(jnp.square(y), axis=1)[None] - 2 * products, axis=1)


def nearest_latents(generate: Callable[[Latents], jax.Array], latents: Latents, real: Array, axis_name: str | None) -> Latents:
    """Returns, for each real example [B, ...], the latents of all devices' [m] whose example is nearest to it.

    Li & Malik 2018 (arXiv 1809.09087), algorithm 1; labels are not looked at.
    """
    generated = jax.lax.stop_gradient(generate(latents))
    if axis_name is not None:
        latents, generated = jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), (latents, generated))
    rows = nearest(real, generated)
    return jax.tree.map(lambda leaf: leaf[rows], latents)
