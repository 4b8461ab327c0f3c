"""Conditioning on labels by name: what each network does with the label of an example.

A label is a class [B] int32, or the shares of all classes [B, K]: on the way from one to another. Packs of m examples have m
classes [B, m] int32. Of attributes a label is the number of a combination that the data has [B] int32, or its code, or that of
another, [B, K]; see data/attributes.py.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from wgan_jax.data.attributes import Attributes
from wgan_jax.models.layers import Dense, LabelUse, Style


class Conditioning(NamedTuple):
    """How labels enter both networks. wgan_jax.registries reads the keywords from this file, so they are literals."""

    generator: LabelUse
    critic: LabelUse
    matches: bool = False  # whether the score says how well an example fits its label
    packs: bool = False  # whether the critic takes the labels of a pack, one of each example
    classifies: bool = False  # whether the critic has class_logits, by which both players have a cross-entropy


class Embedding(nn.Module):
    """A row of a table for each class: labels to [B, features] in style.param_dtype. Those of attributes are added up."""

    features: int
    style: Style
    initializer: nn.initializers.Initializer

    @nn.compact
    def __call__(self, label: jax.Array) -> jax.Array:
        shape, dtype = (self.style.label_size, self.features), self.style.param_dtype
        return shares(label, self.style) @ self.param("table", self.initializer, shape, dtype)


def shares(label: jax.Array, style: Style) -> jax.Array:
    """Returns labels as shares of the classes or codes of the attributes, [B, K], of a pack [B, m, K], in style.param_dtype."""
    dtype = style.param_dtype
    if not jnp.issubdtype(label.dtype, jnp.integer):
        return label.astype(dtype)
    if style.attributes is not None:
        return jnp.asarray(style.attributes.codes, dtype)[label]
    return jax.nn.one_hot(label, style.classes, dtype=dtype)


def label_loss(logits: jax.Array, label: jax.Array, attributes: Attributes | None) -> jax.Array:
    """Returns -log P(label) [B] of a classifier's logits; of attributes the sum over columns, of numbers the squared error.

    label: [B] int32, also of attributes.
    """
    if attributes is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)
    rows = jnp.asarray(attributes.rows, logits.dtype)[label]
    losses = [
        optax.softmax_cross_entropy_with_integer_labels(logits[:, block], rows[:, index].astype(jnp.int32))
        if column.values
        else jnp.square(logits[:, block.start] - rows[:, index])
        for index, (column, block) in enumerate(zip(attributes.columns, attributes.blocks, strict=True))
    ]
    return jnp.sum(jnp.stack(losses), axis=0)


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
    """A scale and bias per class and channel (Dumoulin 2017; de Vries 2017); after no normalisation too (Perez 2018).

    Of attributes the scale is 1 and what their columns add to it, at the start nothing.
    """
    shape, added = (-1, *[1] * (x.ndim - 2), x.shape[-1]), style.attributes is not None
    scale = Embedding(x.shape[-1], style, nn.initializers.zeros if added else nn.initializers.ones)(label).reshape(shape)
    scale = 1 + scale if added else scale
    bias = Embedding(x.shape[-1], style, nn.initializers.zeros)(label).reshape(shape)
    return x * scale.astype(x.dtype) + bias.astype(x.dtype)


def _project(features: jax.Array, label: jax.Array, style: Style) -> jax.Array:
    """<e(y), features> [B], added to the score (Miyato & Koyama 2018, equation 3)."""
    every = Dense(style.label_size, style, use_bias=False)(features).astype(style.param_dtype)
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
