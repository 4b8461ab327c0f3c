"""Layers and choices shared by the architectures."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Style(NamedTuple):
    """What the networks of a config have in common."""

    width: int
    depth: int
    activation: str
    initializer: str
    normalization: str
    axis_name: str | None  # device axis over which batch statistics are synchronised
    dtype: jax.typing.DTypeLike  # of the computation
    param_dtype: jax.typing.DTypeLike  # of parameters, normalisations and outputs


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "tanh": jnp.tanh,
}

INITIALIZERS: dict[str, nn.initializers.Initializer] = {
    "he_normal": nn.initializers.he_normal(),
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "orthogonal": nn.initializers.orthogonal(1.4),  # the gain of the unrolled GAN's notebook (Metz 2016)
}


def _batch(x: jax.Array, style: Style, train: bool) -> jax.Array:
    dtype = style.param_dtype
    return nn.BatchNorm(not train, momentum=0.9, dtype=dtype, param_dtype=dtype, axis_name=style.axis_name)(x.astype(dtype))


def _layer(x: jax.Array, style: Style, train: bool) -> jax.Array:
    del train
    return nn.LayerNorm(dtype=style.param_dtype, param_dtype=style.param_dtype)(x.astype(style.param_dtype))


# Called inside a module's compact method: (x, style, train) -> x, in style.param_dtype.
NORMALIZATIONS: dict[str, Callable[[jax.Array, Style, bool], jax.Array]] = {
    "none": lambda x, style, train: x,
    "batch": _batch,
    "layer": _layer,
}
