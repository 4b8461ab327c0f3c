"""Randomness that is a function of the latent, so that the generator stays one, in training and in sampling alike: dropout."""

import jax
import jax.numpy as jnp

CELLS = 2**12  # per unit: latents nearer than that share a mask, which then survives the rounding of another program


def latent_key(z: jax.Array) -> jax.Array:
    """Hashes a latent [Z]: two sums modulo 2^32 of its cells' numbers, each times an odd constant of its own."""
    cells = jax.lax.bitcast_convert_type(jnp.round(z * CELLS).astype(jnp.int32), jnp.uint32)
    place = 2 * jnp.arange(z.size, dtype=jnp.uint32) + jnp.uint32(1)
    first, second = (jnp.sum(cells * (place * jnp.uint32(odd)), dtype=jnp.uint32) for odd in (0x9E3779B1, 0x85EBCA6B))
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), first), second)


def drop(x: jax.Array, latent: jax.Array, layer: int, rate: float) -> jax.Array:
    """Returns hidden units [B, ...], each 0 with probability `rate` and else 1 / (1 - rate) times what it was.

    latent [B, Z] decides which, for every layer anew (Isola 2017, section 3.2: noise as dropout, at test time too).
    """
    if rate == 0:
        return x

    def kept(z: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(latent_key(z), layer), 1 - rate, x.shape[1:])

    return jnp.where(jax.vmap(kept)(latent), x / (1 - rate), 0)
