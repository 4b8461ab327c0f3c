"""Constraints on the critic's parameters, applied after each of its updates."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from wgan_jax.types import Params

# which parameters are clipped: path and leaf -> yes or no
CLIP_SCOPES: dict[str, Callable[[tuple, jax.Array], bool]] = {
    "all": lambda path, leaf: True,  # Arjovsky 2017, algorithm 1, and its code
    "kernels": lambda path, leaf: leaf.ndim > 1,
}


def clip_parameters(params: Params, c: jax.Array, scope: str) -> Params:
    """Returns the parameters in scope clipped to [-c, c], the others untouched (Arjovsky 2017, algorithm 1, line 7)."""
    chosen = CLIP_SCOPES[scope]
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.clip(leaf, -c, c) if chosen(path, leaf) else leaf, params)
