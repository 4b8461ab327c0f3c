"""Layers and choices shared by the architectures."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from wgan_jax.ops.convolution import convolve, convolve_transpose
from wgan_jax.types import CriticOutput


class Style(NamedTuple):
    """What the networks of a config have in common."""

    width: int
    depth: int
    activation: str
    initializer: str
    normalization: str
    normalize_first: bool  # whether a convolutional critic's first layer is normalised too
    axis_name: str | None  # device axis over which batch statistics are synchronised
    dtype: jax.typing.DTypeLike  # of the computation
    param_dtype: jax.typing.DTypeLike  # of parameters, normalisations and outputs


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "tanh": jnp.tanh,
    "shifted_softplus": lambda x: nn.softplus(2 * x + 2) / 2 - 1,  # a smooth max(x, -1): Gulrajani 2017, table 1
}

# (share of a kernel's taps that an output sees: 1, but 1 / stride^2 in a transposed convolution) -> initialiser. The
# variance is for the inputs that count (as in Gulrajani 2017's code).
INITIALIZERS: dict[str, Callable[[float], nn.initializers.Initializer]] = {
    "he_normal": lambda share: nn.initializers.variance_scaling(2 / share, "fan_in", "truncated_normal"),
    "glorot_uniform": lambda share: nn.initializers.variance_scaling(1 / share, "fan_avg", "uniform"),
    "orthogonal": lambda share: nn.initializers.orthogonal(1.4),  # the gain of the unrolled GAN's notebook (Metz 2016)
    "normal": lambda share: nn.initializers.normal(0.02),  # DCGAN (Radford 2016)
}


def _batch(x: jax.Array, style: Style, train: bool) -> jax.Array:
    dtype = style.param_dtype
    return nn.BatchNorm(not train, momentum=0.9, dtype=dtype, param_dtype=dtype, axis_name=style.axis_name)(x.astype(dtype))


def _layer(x: jax.Array, style: Style, train: bool) -> jax.Array:
    del train
    axes = tuple(range(1, x.ndim))  # over the whole example, with a scale and bias per channel (Gulrajani 2017)
    norm = nn.LayerNorm(dtype=style.param_dtype, param_dtype=style.param_dtype, reduction_axes=axes, feature_axes=-1)
    return norm(x.astype(style.param_dtype))


# Called inside a module's compact method: (x, style, train) -> x, in style.param_dtype.
NORMALIZATIONS: dict[str, Callable[[jax.Array, Style, bool], jax.Array]] = {
    "none": lambda x, style, train: x,
    "batch": _batch,
    "layer": _layer,
}


def dense(features: int, style: Style, *, initializer: str = "", use_bias: bool = True) -> nn.Dense:
    """Returns a dense layer, with the style's initialiser unless another is named."""
    kernel_init = INITIALIZERS[initializer or style.initializer](1)
    return nn.Dense(features, use_bias, kernel_init=kernel_init, dtype=style.dtype, param_dtype=style.param_dtype)


def score(features: jax.Array, style: Style, *, initializer: str = "") -> CriticOutput:
    """Returns a critic's end, a linear score of features [B, F]; without a sigmoid. Called inside a compact method."""
    value = dense(1, style, initializer=initializer)(features)
    return CriticOutput(value[:, 0].astype(style.param_dtype), features.astype(style.param_dtype), None)


def _bias(module: "Convolution | TransposedConvolution") -> jax.Array:
    bias = module.param("bias", nn.initializers.zeros, (module.features,), module.style.param_dtype)
    return bias.astype(module.style.dtype).reshape(1, 1, 1, -1)


class Convolution(nn.Module):
    """SAME convolution: [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), features] in style.dtype."""

    features: int
    style: Style
    taps: int
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        style, shape = self.style, (self.taps, self.taps, x.shape[-1], self.features)
        kernel = self.param("kernel", INITIALIZERS[style.initializer](1), shape, style.param_dtype)
        y = convolve(x.astype(style.dtype), kernel.astype(style.dtype), self.stride)
        return y + _bias(self) if self.use_bias else y


class TransposedConvolution(nn.Module):
    """The transpose of the SAME convolution that takes [B, size, size, features] to the input's size, in style.dtype."""

    features: int
    size: int
    style: Style
    taps: int
    stride: int = 2
    use_bias: bool = True

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        style, inputs = self.style, y.shape[-1]

        def init(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
            law = INITIALIZERS[style.initializer](1 / self.stride**2)
            return jnp.swapaxes(law(key, (*shape[:2], inputs, self.features), dtype), 2, 3)  # its input is the kernel's output

        kernel = self.param("kernel", init, (self.taps, self.taps, self.features, inputs), style.param_dtype)
        x = convolve_transpose(y.astype(style.dtype), kernel.astype(style.dtype), (self.size, self.size), self.stride)
        return x + _bias(self) if self.use_bias else x
