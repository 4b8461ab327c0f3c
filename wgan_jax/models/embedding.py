"""Conditioning on class labels by name: what each network does with the label of an example.

A label is a class [B] int32, or the shares of all classes [B, K]: on the way from one to another. Packs of m examples have m
classes [B, m] int32.
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
    packs: bool = False  # whether the critic takes the labels of a pack, one of each example
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
    """Returns labels as shares of the classes [B, K], those of a pack as [B, m, K], in style.param_dtype."""
    dtype = style.param_dtype
    is_class = jnp.issubdtype(label.dtype, jnp.integer)
    return jax.nn.one_hot(label, style.classes, dtype=dtype) if is_class else label.astype(dtype)


def _concatenate(x: jax.Array, label: jax.Array, style: Style) -> jax.Array:
    """Vectors [B, D] beside as many numbers of their class; images beside an image of one channel (Mirza & Osindero 2014).

    A pack is beside those of each of its examples, in their order.
    """
    packed = label.shape[1] if label.ndim == 2 and jnp.issubdtype(label.dtype, jnp.integer) else 1
    shape = (*x.shape[1:-1], 1) if x.ndim > 2 else (x.shape[1] // packed,)
    rows = Embedding(math.prod(shape), style, nn.initializers.normal(1.0))(label).reshape(-1, packed, *shape)
    rows = jnp.moveaxis(rows, 1, -2).reshape(-1, *shape[:-1], packed * shape[-1])
    return jnp.concatenate([x, rows.astype(x.dtype)], axis=-1)


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
    "embedding": Conditioning(INPUT, INPUT, matches=True, packs=True),
    # Miyato & Koyama 2018
    "projection": Conditioning(LabelUse(layer=_modulate), LabelUse(score=_project), matches=True),
    # AC-GAN: Odena 2017
    "auxiliary": Conditioning(INPUT, NONE, classifies=True),
}
