"""Layers and choices shared by the architectures."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from wgan_jax.data.attributes import Attributes
from wgan_jax.data.columns import Layout
from wgan_jax.models.dropout import latent_key
from wgan_jax.models.kernels import KERNELS, Linear
from wgan_jax.models.minibatch import Closeness, VirtualBatchNorm
from wgan_jax.ops.convolution import convolve, convolve_transpose
from wgan_jax.types import CriticOutput

# called inside a module's compact method: (x [B, ...], label, style) -> of x's shape, but for the channels of an input
type Labelled = Callable[[jax.Array, jax.Array, "Style"], jax.Array]


class LabelUse(NamedTuple):
    """Where a network takes its label in: see models/embedding.py. None is nowhere."""

    input: Labelled | None = None  # beside latents or examples
    layer: Labelled | None = None  # after each normalisation, whose own scale and bias it replaces
    score: Labelled | None = None  # features [B, F] -> [B], added to the score


class Style(NamedTuple):
    """What the networks of a config have in common."""

    width: int
    depth: int
    activation: str
    initializer: str
    kernel: str  # of KERNELS, what bounds a layer
    normalization: str
    normalize_first: bool  # whether a convolutional critic's first layer is normalised too
    axis_name: str | None  # device axis over which batch statistics are synchronised
    dtype: jax.typing.DTypeLike  # of the computation
    param_dtype: jax.typing.DTypeLike  # of parameters, normalisations and outputs
    bounded: bool = True  # whether examples are of [-1, 1], into which a generator ends then in tanh; else in a linear layer
    layout: Layout | None = None  # of rows of a table, whose parts have an end each
    temperature: float = 0.2  # of the ends of one-hot blocks
    logits: int = 0  # of a critic's score, one for each class of the data; 0 for a linear one
    remat: bool = False  # whether a residual block keeps its input alone for the backward pass, and computes the rest again
    classes: int = 0  # different labels
    attributes: Attributes | None = None  # that labels are combinations of; None of classes
    label_use: LabelUse = LabelUse()
    classifies: bool = False  # whether a critic has class_logits
    head: str = "linear"  # of a critic
    dropout: float = 0.0  # rate of a generator's hidden units
    reference: int = 0  # examples, the first of a generator's batch, that virtual batch normalisation refers to

    @property
    def label_size(self) -> int:
        """Returns the entries of what networks see of a label: its share of each class, or its code."""
        return self.classes if self.attributes is None else self.attributes.size

    @property
    def mixes_examples(self) -> bool:
        """Whether what a network says of an example in training depends on the others of its batch."""
        return NORMALIZATIONS[self.normalization].mixes_examples or HEADS[self.head].mixes_examples


def _maxmin(x: jax.Array) -> jax.Array:
    """GroupSort in pairs of channels, the i-th of one half with the i-th of the other (Anil 2019, section 4.2).

    Everywhere, at ties too, its derivative is a permutation, which keeps the norm of a gradient.
    """
    first, second = jnp.split(x, 2, axis=-1)
    falling = first > second
    return jnp.concatenate([jnp.where(falling, first, second), jnp.where(falling, second, first)], axis=-1)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "tanh": jnp.tanh,
    "shifted_softplus": lambda x: nn.softplus(2 * x + 2) / 2 - 1,  # a smooth max(x, -1): Gulrajani 2017, table 1
    "maxmin": _maxmin,
    "groupsort": lambda x: jnp.sort(x, axis=-1),  # all channels one group: FullSort (Anil 2019)
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
    own = style.label_use.layer is None
    norm = nn.BatchNorm(
        not train,
        momentum=0.9,
        dtype=dtype,
        param_dtype=dtype,
        use_bias=own,
        use_scale=own,
        axis_name=style.axis_name,
    )
    return norm(x.astype(dtype))


def _layer(x: jax.Array, style: Style, train: bool) -> jax.Array:
    del train
    axes = tuple(range(1, x.ndim))  # over the whole example, with a scale and bias per channel (Gulrajani 2017)
    dtype, own = style.param_dtype, style.label_use.layer is None
    norm = nn.LayerNorm(dtype=dtype, param_dtype=dtype, use_bias=own, use_scale=own, reduction_axes=axes, feature_axes=-1)
    return norm(x.astype(dtype))


def _virtual_batch(x: jax.Array, style: Style, train: bool) -> jax.Array:
    del train
    return VirtualBatchNorm(style.reference, style.label_use.layer is None)(x.astype(style.param_dtype))


class Normalization(NamedTuple):
    """A normalisation. wgan_jax.registries reads all but `apply` from the text of this file, so it is written as literals."""

    # called inside a module's compact method: (x, style, train) -> x, in style.param_dtype
    apply: Callable[[jax.Array, Style, bool], jax.Array]
    mixes_examples: bool = False  # whether an example's output depends, in training, on the others of its batch
    refers: bool = False  # whether it needs a reference batch, which a generator alone has


NORMALIZATIONS: dict[str, Normalization] = {
    "none": Normalization(lambda x, style, train: x),
    "batch": Normalization(_batch, mixes_examples=True),
    "layer": Normalization(_layer),
    "virtual_batch": Normalization(_virtual_batch, refers=True),
}


def with_label(x: jax.Array, label: jax.Array, style: Style) -> jax.Array:
    """Returns what a network computes from, latents or examples [B, ...]; called inside a compact method."""
    return x if style.label_use.input is None else style.label_use.input(x, label, style)


def normalize(x: jax.Array, label: jax.Array, style: Style, train: bool) -> jax.Array:
    """Returns a layer's output [B, ...] normalised, as its label has it; called inside a compact method."""
    x = NORMALIZATIONS[style.normalization].apply(x, style, train)
    return x if style.label_use.layer is None else style.label_use.layer(x, label, style)


def _apply(
    module: "Dense | Convolution | TransposedConvolution",
    x: jax.Array,
    shape: tuple[int, ...],
    linear: Linear,
    share: float = 1,
    *,
    swapped: bool = False,
) -> jax.Array:
    """Applies a layer in its dtype: with a kernel [..., inputs, outputs], [..., outputs, inputs] if `swapped`, and its bias.

    share: of the kernel's taps, that an output sees.
    """
    style, law = module.style, INITIALIZERS[module.style.initializer](share)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
        return jnp.swapaxes(law(key, (*shape[:-2], *shape[:-3:-1]), dtype), -2, -1) if swapped else law(key, shape, dtype)

    kernel = module.param("kernel", init, shape, style.param_dtype)
    kernel = KERNELS[style.kernel].apply(module, kernel, linear)
    y = linear.apply(x.astype(style.dtype), kernel.astype(style.dtype))
    if not module.use_bias:
        return y
    bias = module.param("bias", nn.initializers.zeros, (module.features,), style.param_dtype)
    return y + bias.astype(style.dtype).reshape(*[1] * (y.ndim - 1), -1)


def _overlap(taps: int, stride: int, axes: int) -> int:
    """Returns the windows of a convolution over so many axes that an entry is in at most."""
    return int((-(-taps // stride)) ** axes)


class Dense(nn.Module):
    """A linear layer: [B, inputs] to [B, features] in style.dtype."""

    features: int
    style: Style
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _apply(self, x, (x.shape[-1], self.features), Linear(jnp.matmul, x.shape[1:]))


class Convolution(nn.Module):
    """SAME convolution: [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), features] in style.dtype; also in 1-D, 3-D."""

    features: int
    style: Style
    taps: int
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        axes = x.ndim - 2
        shape = (*[self.taps] * axes, x.shape[-1], self.features)
        apply = lambda x, kernel: convolve(x, kernel, self.stride)  # noqa: E731
        return _apply(self, x, shape, Linear(apply, x.shape[1:], _overlap(self.taps, self.stride, axes)))


class TransposedConvolution(nn.Module):
    """The transpose of the SAME convolution that takes [B, *size, features] to the input's size, in style.dtype."""

    features: int
    size: tuple[int, ...]
    style: Style
    taps: int
    stride: int = 2
    use_bias: bool = True

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        axes = len(self.size)
        shape = (*[self.taps] * axes, self.features, y.shape[-1])  # that convolution's: its input is the kernel's output
        apply = lambda y, kernel: convolve_transpose(y, kernel, self.size, self.stride)  # noqa: E731
        linear = Linear(apply, y.shape[1:], _overlap(self.taps, self.stride, axes))
        return _apply(self, y, shape, linear, 1 / self.stride**axes, swapped=True)


GUMBEL = 2**16  # folded into a latent's key, which dropout's layers are folded into too
ASKED = 100.0  # beside a logit: more than any noise


def example(x: jax.Array, style: Style, latent: jax.Array | None = None, label: jax.Array | None = None) -> jax.Array:
    """Returns a generator's end; of rows of a table, `latent` [B, Z] decides which categories are drawn.

    A row has the category that its label asks for: the rest of it is what the generator learns to fit to that.
    """
    x = x.astype(style.param_dtype)
    if style.layout is not None:
        assert latent is not None, "rows of a table are drawn by their latents"
        if style.label_use.input is not None and label is not None:
            asked = jax.nn.one_hot(jnp.array(style.layout.conditions), x.shape[1], dtype=x.dtype)
            x = x + ASKED * (asked[label] if label.ndim == 1 else label.astype(x.dtype) @ asked)
        return _row(x, latent, style.layout, style.temperature)
    return jnp.tanh(x) if style.bounded else x


def _row(x: jax.Array, latent: jax.Array, layout: Layout, temperature: float) -> jax.Array:
    """Returns rows [B, D]: tanh, linear, and of each one-hot block the Gumbel-softmax (Jang 2017; CTGAN: .2)."""
    bounded, linear, logits = jnp.split(x, [layout.bounded, layout.bounded + layout.linear], axis=1)
    if not layout.blocks:
        return jnp.concatenate([jnp.tanh(bounded), linear], axis=1)
    noise = jax.vmap(lambda z: jax.random.gumbel(jax.random.fold_in(latent_key(z), GUMBEL), logits.shape[1:], x.dtype))(latent)
    ends = [sum(layout.blocks[: index + 1]) for index in range(len(layout.blocks) - 1)]
    blocks = jnp.split((logits + noise) / temperature, ends, axis=1)
    return jnp.concatenate([jnp.tanh(bounded), linear, *(jax.nn.softmax(block, axis=1) for block in blocks)], axis=1)


def _minibatch_discrimination(features: jax.Array, style: Style, train: bool) -> jax.Array:
    """The features, and the closeness to the other examples by 100 kernels of 5 dimensions (Salimans 2016, section 3.2)."""
    values = Dense(100 * 5, style, use_bias=False)(features).astype(style.param_dtype)
    closeness = Closeness(style.axis_name)(values.reshape(-1, 100, 5), train)
    return jnp.concatenate([features, closeness.astype(features.dtype)], axis=1)


class Head(NamedTuple):
    """What a critic's score is linear in. wgan_jax.registries reads all but `apply` from the text of this file."""

    # called inside a compact method: (features [B, F], style, train) -> [B, ...]
    apply: Callable[[jax.Array, Style, bool], jax.Array]
    mixes_examples: bool = False  # whether an example's score depends, in training, on the others of its batch


HEADS: dict[str, Head] = {
    "linear": Head(lambda features, style, train: features),
    "minibatch_discrimination": Head(_minibatch_discrimination, mixes_examples=True),
}


def score(features: jax.Array, label: jax.Array, style: Style, train: bool) -> CriticOutput:
    """Returns a critic's end, without a sigmoid: a score of what its head makes of features [B, F]. Called in a compact method.

    It is linear or, of K classes, the logarithm of the sum of their logits' exponentials: the logit of "real" in a softmax over
    the classes and "generated", whose logit is 0 (Salimans 2016, section 5).
    """
    dtype = style.param_dtype
    values = Dense(style.logits or 1, style)(HEADS[style.head].apply(features, style, train)).astype(dtype)
    value, logits = (jax.nn.logsumexp(values, axis=1), values) if style.logits else (values[:, 0], None)
    if style.label_use.score is not None:
        value = value + style.label_use.score(features, label, style)
    if style.classifies:
        logits = Dense(style.label_size, style)(features).astype(dtype)
    return CriticOutput(value, features.astype(dtype), logits)
