"""The residual networks of Gulrajani 2017 for images 4 * 2^k wide, appendix F (CIFAR-10) and its 64x64 code.

Up to 32 all layers have `width` channels (128 in the paper), and the critic ends in two blocks without pooling and a mean over
the image. Larger images: 1, 2, 4, 8, 8 ... times `width` (64 in the paper) from the image inwards, and a dense end.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from wgan_jax.models.dropout import drop
from wgan_jax.models.layers import ACTIVATIONS, Convolution, Dense, Style, example, normalize, score, with_label
from wgan_jax.types import CriticOutput

SMALLEST, CONSTANT, WIDEST = 4, 32, 8  # start size; largest image with one width; largest multiple of the width


def widths(size: int, width: int) -> list[int]:
    """Returns the channels at size, size / 2, ..., 4. `size` is one that `fits`."""
    levels = (size // SMALLEST).bit_length()
    return [width if size <= CONSTANT else width * min(2**level, WIDEST) for level in range(levels)]


def fits(size: int) -> bool:
    """Returns whether images of this size can be halved down to 4."""
    return size >= SMALLEST and size % SMALLEST == 0 and (size // SMALLEST).bit_count() == 1


def upsample(x: jax.Array) -> jax.Array:
    """Returns nearest neighbours: [B, H, W, C] to [B, 2H, 2W, C]."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def mean_pool(x: jax.Array) -> jax.Array:
    """Returns means of 2x2: [B, H, W, C] to [B, H/2, W/2, C]."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


class Block(nn.Module):
    """norm, activation, 3x3, norm, activation, 3x3, beside a 1x1 shortcut; `up` doubles the image, `down` halves it.

    `first`: the critic's first block of the 32x32 network, which begins with a convolution and pools before its shortcut.
    """

    features: int
    style: Style
    resample: str = ""  # up, down or neither
    first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array, train: bool) -> jax.Array:
        style, resample, channels = self.style, self.resample, x.shape[-1]
        middle = channels if resample == "down" and not self.first else self.features

        def prepare(h: jax.Array, normalization: str) -> jax.Array:
            return ACTIVATIONS[style.activation](normalize(h, label, style._replace(normalization=normalization), train))

        h = x if self.first else prepare(x, style.normalization)
        h = upsample(h) if resample == "up" else h
        second = "none" if self.first else style.normalization
        h = Convolution(middle, style, taps=3, use_bias=second == "none")(h)
        h = Convolution(self.features, style, taps=3)(prepare(h, second))
        h = mean_pool(h) if resample == "down" else h
        if self.first:
            return h + Convolution(self.features, style, taps=1)(mean_pool(x))
        if not resample and channels == self.features:
            return h + x
        # a 1x1 convolution commutes with both: it runs on the smaller image
        shortcut = Convolution(self.features, style, taps=1)(mean_pool(x) if resample == "down" else x)
        return h + (upsample(shortcut) if resample == "up" else shortcut)


def _run(block: Block, x: jax.Array, label: jax.Array, train: bool) -> jax.Array:
    """Applies a block; the plain call's names of parameters and numbers also where it is computed again (Chen 2016)."""
    call = lambda block, x, label: block(x, label, train)  # noqa: E731
    return (nn.remat(call) if block.style.remat else call)(block, x, label)


class Generator(nn.Module):
    """Latents [B, Z] to images [B, H, H, C]."""

    style: Style
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, latent: jax.Array, label: jax.Array, train: bool) -> jax.Array:
        style = self.style
        inwards = widths(self.shape[0], style.width)
        x = Dense(SMALLEST**2 * inwards[-1], style)(with_label(latent, label, style))
        x = x.reshape(-1, SMALLEST, SMALLEST, inwards[-1])
        for layer, features in reversed(list(enumerate(inwards[:-1]))):
            x = drop(_run(Block(features, style, "up"), x, label, train), latent, layer, style.dropout)
        x = ACTIVATIONS[style.activation](normalize(x, label, style, train))
        x = Convolution(self.shape[-1], style, taps=3)(x)
        return example(x, style)


class Critic(nn.Module):
    """Images [B, H, H, C] to a score each, without a sigmoid.

    Of 1-Lipschitz layers it is 1-Lipschitz from 16 pixels on: the mean over 2 x 2 halves both branches of a `down` block, and
    the mean over the image makes up for the two blocks that double the slope. Of 8 and 4 pixels its slope is at most 2 and 4.
    """

    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array, train: bool) -> CriticOutput:
        style, small = self.style, x.shape[1] <= CONSTANT
        inwards = widths(x.shape[1], style.width)
        x = with_label(x, label, style)
        if small:
            x = _run(Block(style.width, style, "down", first=True), x, label, train)
            for resample in ("down", "", ""):
                x = _run(Block(style.width, style, resample), x, label, train)
            features = ACTIVATIONS[style.activation](x).mean((1, 2))
        else:
            x = Convolution(inwards[0], style, taps=3)(x)
            for width in inwards[1:]:
                x = _run(Block(width, style, "down"), x, label, train)
            features = x.reshape(x.shape[0], -1)
        return score(features, label, style, train)
