"""Multilayer perceptrons for every kind of example: `depth` hidden layers of `width`."""

import math

import flax.linen as nn
import jax

from wgan_jax.models.dropout import drop
from wgan_jax.models.layers import ACTIVATIONS, Dense, Style, example, normalize, score, with_label
from wgan_jax.types import CriticOutput


class Hidden(nn.Module):
    """dense -> normalisation -> activation -> dropout, `depth` times: [B, D] to [B, width]. No bias before a normalisation.

    latent [B, Z]: what dropout goes by; a critic has none.
    """

    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, latent: jax.Array, label: jax.Array, train: bool) -> jax.Array:
        style = self.style
        for layer in range(style.depth):
            use_bias = style.normalization == "none"
            x = Dense(style.width, style, use_bias)(x)
            x = ACTIVATIONS[style.activation](normalize(x, label, style, train))
            x = drop(x, latent, layer, style.dropout)
        return x


def last(style: Style) -> Style:
    """Returns the style of an output layer, which no activation follows that He's variance would be for."""
    return style._replace(initializer="glorot_uniform") if style.initializer == "he_normal" else style


class Generator(nn.Module):
    """Latents [B, Z] to examples [B, *shape]."""

    style: Style
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, latent: jax.Array, label: jax.Array, train: bool) -> jax.Array:
        h = Hidden(self.style)(with_label(latent, label, self.style), latent, label, train)
        x = Dense(math.prod(self.shape), last(self.style))(h)
        return example(x, self.style, latent, label).reshape(-1, *self.shape)


class Critic(nn.Module):
    """Examples [B, ...] to a score each. There is no sigmoid: the score is a critic's value or a discriminator's logit."""

    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array, train: bool) -> CriticOutput:
        h = with_label(x, label, self.style).reshape(x.shape[0], -1)
        h = Hidden(self.style)(h, h, label, train)
        return score(h, label, last(self.style), train)


def four_layers(style: Style, shape: tuple[int, ...]) -> Generator:
    """Returns the generator of four hidden layers that stands in for a convolutional one of `width`: 4 x 512 at 64."""
    return Generator(style._replace(width=8 * style.width, depth=4), shape)
