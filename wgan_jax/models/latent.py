"""Latent laws by name: (key, config.latent, dtype) -> one latent [Z]."""

from collections.abc import Callable

import jax
from ml_collections import ConfigDict

LATENTS: dict[str, Callable[[jax.Array, ConfigDict, jax.typing.DTypeLike], jax.Array]] = {
    "normal": lambda key, c, dtype: jax.random.normal(key, (c.dim,), dtype),
    "uniform": lambda key, c, dtype: jax.random.uniform(key, (c.dim,), dtype, c.low, c.high),
}


def sample_latents(keys: jax.Array, config: ConfigDict, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Returns one latent per key: [B] keys to [B, Z]."""
    return jax.vmap(lambda key: LATENTS[config.latent.name](key, config.latent, dtype))(keys)
