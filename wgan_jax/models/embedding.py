"""Conditioning on class labels by name: what each network does with the label of an example.

A label is a class [B] int32, or the shares of all classes [B, K]: on the way from one to another.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from wgan_jax.models.layers import Dense, LabelUse, Style


class Conditioning(NamedTuple):
    """How labels enter both networks. wgan_jax.registries reads the keywords from this file, so they are literals."""

    generator: LabelUse
    critic: LabelUse
    matches: bool = False  # whether the score says how well an example fits its label
    classifies: bool = False  # whether the critic has class_logits, by which both players have a cross-entropy


class Embedding(nn.Module):
    """A row of a table for each class: labels to [B, features] in style.param_dtype."""

    features: int
    style: Style
    initializer: nn.initializers.Initializer

    @nn.compact
    def __call__(self, label: jax.Array) -> jax.Array:
        shape, dtype = (self.style.classes, self.features), self.style.param_dtype
        return shares(label, self.style) @ self.param("table", self.initializer, shape, dtype)


def shares(label: jax.Array, style: Style) -> jax.Array:
    """Returns labels as shares of the classes [B, K] in style.param_dtype."""
    dtype = style.param_dtype
    return jax.nn.one_hot(label, style.classes, dtype=dtype) if label.ndim == 1 else label.astype(dtype)


def _concatenate(x: jax.Array, label: jax.Array, style: Style) -> jax.Array:
    """Vectors [B, D] beside as many numbers of their class; images beside an image of one channel (Mirza & Osindero 2014)."""
    shape = (*x.shape[1:-1], 1) if x.ndim > 2 else x.shape[1:]
    row = Embedding(math.prod(shape), style, nn.initializers.normal(1.0))(label)
    return jnp.concatenate([x, row.reshape(-1, *shape).astype(x.dtype)], axis=-1)


def _modulate(x: jax.Array, label: jax.Array, style: Style) -> jax.Array:
    """A scale and bias per class and channel (Dumoulin 2017; de Vries 2017); after no normalisation too (Perez 2018)."""
    shape = (-1, *[1] * (x.ndim - 2), x.shape[-1])
    scale = Embedding(x.shape[-1], style, nn.initializers.ones)(label).reshape(shape)
    bias = Embedding(x.shape[-1], style, nn.initializers.zeros)(label).reshape(shape)
    return x * scale.astype(x.dtype) + bias.astype(x.dtype)


def _project(features: jax.Array, label: jax.Array, style: Style) -> jax.Array:
    """<e(y), features> [B], added to the score (Miyato & Koyama 2018, equation 3)."""
    every = Dense(style.classes, style, use_bias=False)(features).astype(style.param_dtype)
    return jnp.sum(every * shares(label, style), axis=1)


NONE, INPUT = LabelUse(), LabelUse(input=_concatenate)

CONDITIONINGS: dict[str, Conditioning] = {
    "none": Conditioning(NONE, NONE),
    # an embedding of the label beside both networks' inputs: Mirza & Osindero 2014
    "embedding": Conditioning(INPUT, INPUT, matches=True),
    # Miyato & Koyama 2018
    "projection": Conditioning(LabelUse(layer=_modulate), LabelUse(score=_project), matches=True),
    # AC-GAN: Odena 2017
    "auxiliary": Conditioning(INPUT, NONE, classifies=True),
}
