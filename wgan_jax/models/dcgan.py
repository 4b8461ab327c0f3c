"""DCGAN (Radford 2016) for series, images and volumes of any size, in the sizes of Gulrajani 2017's code and the anime report.

Convolutions of stride 2, 5 taps along an axis (3 of volumes), halve every axis until the longest is at most 4: 28, 14, 7, 4,
or 64 x 20, 32 x 10, 16 x 5, 8 x 3, 4 x 2. The first has `width` channels and each next one twice as many; the generator runs
the same ladder upwards.
"""

import itertools
import math

import flax.linen as nn
import jax

from wgan_jax.models.dropout import drop
from wgan_jax.models.layers import (
    ACTIVATIONS,
    Convolution,
    Dense,
    Style,
    TransposedConvolution,
    example,
    normalize,
    score,
    with_label,
)
from wgan_jax.types import CriticOutput

SMALLEST = 4
TAPS = {1: 5, 2: 5, 3: 3}  # along each axis, by the number of axes


def fits(shape: tuple[int, ...]) -> bool:
    """Returns whether examples [*axes, C] have one to three axes, and one that can be halved."""
    return len(shape) - 1 in TAPS and max(shape[:-1]) > SMALLEST


def ladder(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Returns the sizes from the example down to the smallest: of (28, 20) these, (14, 10), (7, 5), (4, 3)."""
    sizes = [size]
    while max(sizes[-1]) > SMALLEST:
        sizes.append(tuple(-(-length // 2) for length in sizes[-1]))
    return sizes


class Generator(nn.Module):
    """Latents [B, Z] to examples [B, *axes, C]."""

    style: Style
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, latent: jax.Array, label: jax.Array, train: bool) -> jax.Array:
        style, sizes = self.style, ladder(self.shape[:-1])
        widths = [self.shape[-1], *(style.width * 2**i for i in range(len(sizes) - 1))]
        hidden = style.normalization == "none"  # no bias before a normalisation
        x = Dense(math.prod(sizes[-1]) * widths[-1], style, hidden)(with_label(latent, label, style))
        x = x.reshape(-1, *sizes[-1], widths[-1])
        for layer, (size, width) in reversed(list(enumerate(zip(sizes[:-1], widths[:-1], strict=True)))):
            x = ACTIVATIONS[style.activation](normalize(x, label, style, train))
            x = drop(x, latent, layer, style.dropout)
            x = TransposedConvolution(width, size, style, TAPS[len(size)], use_bias=hidden or size == sizes[0])(x)
        return example(x, style)


class Critic(nn.Module):
    """Examples [B, *axes, C] to a score, without a sigmoid. The first layer is not normalised, unless `normalize_first`."""

    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array, train: bool) -> CriticOutput:
        style, taps, sizes = self.style, TAPS[x.ndim - 2], ladder(x.shape[1:-1])
        x = with_label(x, label, style)
        for index, _ in enumerate(itertools.pairwise(sizes)):
            own = style if index or style.normalize_first else style._replace(normalization="none")
            x = Convolution(style.width * 2**index, style, taps, stride=2, use_bias=own.normalization == "none")(x)
            x = ACTIVATIONS[style.activation](normalize(x, label, own, train))
        return score(x.reshape(x.shape[0], -1), label, style, train)
