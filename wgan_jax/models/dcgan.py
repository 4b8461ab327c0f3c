"""DCGAN (Radford 2016) for square images of any size, in the sizes of Gulrajani 2017's code and the anime-face report.

5x5 convolutions of stride 2 halve the image until it is at most 4 wide: 28, 14, 7, 4, or 64, 32, 16, 8, 4. The first has
`width` channels and each next one twice as many; the generator runs the same ladder upwards.
"""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from wgan_jax.models.dropout import drop
from wgan_jax.models.layers import ACTIVATIONS, Convolution, Dense, Style, TransposedConvolution, normalize, score, with_label
from wgan_jax.types import CriticOutput

SMALLEST = 4


def ladder(size: int) -> list[int]:
    """Returns the sizes from the image down to the smallest: 28, 14, 7, 4."""
    sizes = [size]
    while sizes[-1] > SMALLEST:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


class Generator(nn.Module):
    """Latents [B, Z] to images [B, H, H, C] in (-1, 1)."""

    style: Style
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, latent: jax.Array, label: jax.Array, train: bool) -> jax.Array:
        style, sizes = self.style, ladder(self.shape[0])
        widths = [self.shape[-1], *(style.width * 2**i for i in range(len(sizes) - 1))]
        hidden = style.normalization == "none"  # no bias before a normalisation
        x = Dense(sizes[-1] ** 2 * widths[-1], style, hidden)(with_label(latent, label, style))
        x = x.reshape(-1, sizes[-1], sizes[-1], widths[-1])
        for layer, (size, width) in reversed(list(enumerate(zip(sizes[:-1], widths[:-1], strict=True)))):
            x = ACTIVATIONS[style.activation](normalize(x, label, style, train))
            x = drop(x, latent, layer, style.dropout)
            x = TransposedConvolution(width, size, style, taps=5, use_bias=hidden or size == sizes[0])(x)
        return jnp.tanh(x.astype(style.param_dtype))


class Critic(nn.Module):
    """Images [B, H, H, C] to a score each, without a sigmoid. The first layer is not normalised, unless `normalize_first`."""

    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array, train: bool) -> CriticOutput:
        style, sizes = self.style, ladder(x.shape[1])
        x = with_label(x, label, style)
        for index, _ in enumerate(itertools.pairwise(sizes)):
            own = style if index or style.normalize_first else style._replace(normalization="none")
            x = Convolution(style.width * 2**index, style, taps=5, stride=2, use_bias=own.normalization == "none")(x)
            x = ACTIVATIONS[style.activation](normalize(x, label, own, train))
        return score(x.reshape(x.shape[0], -1), label, style, train)
