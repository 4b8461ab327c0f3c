"""Convolution and its transpose: fast inside `lax.scan` on a CPU, plain `lax` elsewhere, reverse-differentiable at any order.

A convolution y = conv(x, w) is a trilinear form <conv(x, w), y>. Its three partial maps

    forward          x, w -> y
    input gradient   y, w -> x    (the transposed convolution)
    weight gradient  x, y -> w

are all that differentiation ever needs: each is bilinear, and its gradients are the other two. XLA:CPU runs a convolution fast
only in canonical form (NHWC, HWIO, NHWC, nothing reversed, no dilated input), and rewrites others into it only outside of loops
(jax issue 12868); autodiff's own gradients inside a scan are 25 to 90 times slower. So each map is computed by canonical
convolutions on a CPU, and has the other two as its custom gradient. Only reverse mode is defined.

Layouts: x [B, H, W, C], w [kh, kw, C, F], y [B, h, w, F], one dtype.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")
# Up to so many output channels the parities of a strided input gradient are one convolution: a matmul as narrow as
# the channels wastes more than the zeros in the shared window do.
FUSED_CHANNELS = 4

type Padding = str | tuple[tuple[int, int], tuple[int, int]]


class Geometry(NamedTuple):
    """The static side of a convolution."""

    size: tuple[int, int]  # H, W
    kernel: tuple[int, int]  # kh, kw
    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]

    def output(self) -> tuple[int, int]:
        """Returns h, w."""
        sizes = zip(self.size, self.kernel, self.padding, strict=True)
        h, w = ((size + sum(pads) - taps) // self.stride + 1 for size, taps, pads in sizes)
        return h, w


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Padding = "SAME") -> jax.Array:
    """Returns the convolution (cross-correlation, as everywhere in the field) [B, h, w, F] of x [B, H, W, C].

    kernel: [kh, kw, C, F]; padding: "SAME" as TensorFlow defines it (h = ceil(H / stride)), or ((low, high), (low, high)).
    """
    return _forward(_geometry(x.shape[1:3], kernel, stride, padding), x, kernel)


def convolve_transpose(
    y: jax.Array, kernel: jax.Array, size: tuple[int, int], stride: int = 1, padding: Padding = "SAME"
) -> jax.Array:
    """Returns [B, *size, C]: the transpose of the convolution that takes images of this size to y [B, h, w, F].

    kernel: of that convolution, [kh, kw, C, F].

    Raises:
      ValueError: that convolution makes another size than y's.
    """
    geometry = _geometry(size, kernel, stride, padding)
    if geometry.output() != y.shape[1:3]:
        raise ValueError(f"a convolution of {size} by {geometry} gives {geometry.output()}, not {y.shape[1:3]}")
    return _input(geometry, y, kernel)


def _geometry(size: tuple[int, ...], kernel: jax.Array, stride: int, padding: Padding) -> Geometry:
    height, width = size
    kh, kw = kernel.shape[:2]
    if isinstance(padding, str):
        low_high = lax.padtype_to_pads((height, width), (kh, kw), (stride, stride), padding)
        rows, columns = ((int(low), int(high)) for low, high in low_high)
        padding = (rows, columns)
    return Geometry((height, width), (kh, kw), stride, padding)


def _by_platform(canonical: Callable[..., jax.Array], plain: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    return lax.platform_dependent(*arrays, cpu=canonical, default=plain)


# The three maps. Gradients: of each map with respect to each of its arguments, by the other two.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _forward(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    return _convolution(geometry, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _input(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    def plain(y: jax.Array, w: jax.Array) -> jax.Array:
        x = jax.ShapeDtypeStruct((y.shape[0], *geometry.size, w.shape[2]), y.dtype)
        return jax.linear_transpose(lambda x: _convolution(geometry, x, w), x)(y)[0]

    return _by_platform(functools.partial(_canonical_input, geometry), plain, y, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weight(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    def plain(x: jax.Array, y: jax.Array) -> jax.Array:
        w = jax.ShapeDtypeStruct((*geometry.kernel, x.shape[3], y.shape[3]), y.dtype)
        return jax.linear_transpose(lambda w: _convolution(geometry, x, w), w)(y)[0]

    return _by_platform(functools.partial(_canonical_weight, geometry), plain, x, y)


def _save(mapping: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, tuple[jax.Array, jax.Array]]]:
    return lambda geometry, a, b: (mapping(geometry, a, b), (a, b))


_forward.defvjp(
    _save(_forward),
    lambda geometry, saved, g: (_input(geometry, g, saved[1]), _weight(geometry, saved[0], g)),
)
_input.defvjp(
    _save(_input),
    lambda geometry, saved, g: (_forward(geometry, g, saved[1]), _weight(geometry, g, saved[0])),
)
_weight.defvjp(
    _save(_weight),
    lambda geometry, saved, g: (_input(geometry, saved[1], g), _forward(geometry, saved[0], g)),
)


# How they are computed.


def _convolution(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    strides = (geometry.stride, geometry.stride)
    return lax.conv_general_dilated(x, w, strides, geometry.padding, dimension_numbers=LAYOUT)


def _canonical_weight(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The images' channels become the batch, and y the kernel, dilated by the stride."""
    sizes = zip(geometry.size, geometry.kernel, geometry.padding, geometry.output(), strict=True)
    padding = [(low, taps + (out - 1) * geometry.stride - size - low) for size, taps, (low, _), out in sizes]
    dilation = (geometry.stride, geometry.stride)
    images, kernel = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(y, (1, 2, 0, 3))
    w = lax.conv_general_dilated(images, kernel, (1, 1), padding, rhs_dilation=dilation, dimension_numbers=LAYOUT)
    return jnp.transpose(w, (1, 2, 0, 3))


class _Phase(NamedTuple):
    """How the rows stride * q + phase of an input gradient come about: sum over t of y[q + shift - t] w[first + stride * t]."""

    first: int
    shift: int
    taps: int


def _phases(taps: int, low: int, stride: int) -> list[_Phase]:
    firsts = [((phase + low) % stride, (phase + low) // stride) for phase in range(stride)]
    return [_Phase(first, shift, len(range(first, taps, stride))) for first, shift in firsts]


def _canonical_input(geometry: Geometry, y: jax.Array, w: jax.Array) -> jax.Array:
    """A stride-1 convolution per phase (row and column modulo the stride), interleaved; or one for all: FUSED_CHANNELS."""
    stride, channels = geometry.stride, w.shape[2]
    phases = [_phases(taps, low, stride) for taps, (low, _) in zip(geometry.kernel, geometry.padding, strict=True)]
    counts = [-(-size // stride) for size in geometry.size]
    if stride > 1 and channels <= FUSED_CHANNELS:
        windows = [_window(axis) for axis in phases]
        kernels = [[_kernel(w, row, column, stride, windows) for column in phases[1]] for row in phases[0]]
        kernel = jnp.stack([jnp.stack(row, 3) for row in kernels], 3)  # [th, tw, F, stride, stride, C]
        x = _stride_one(y, kernel.reshape(*kernel.shape[:3], -1), windows, counts)
        x = x.reshape(*x.shape[:3], stride, stride, channels)
    else:
        rows = []
        for row in phases[0]:
            columns = []
            for column in phases[1]:
                windows = [_window([row]), _window([column])]
                columns.append(_stride_one(y, _kernel(w, row, column, stride, windows), windows, counts))
            rows.append(columns)
        if stride == 1:
            return rows[0][0]
        x = jnp.stack([jnp.stack(columns, 3) for columns in rows], 3)  # [B, counts, counts, stride, stride, C]
    x = jnp.transpose(x, (0, 1, 3, 2, 4, 5)).reshape(x.shape[0], counts[0] * stride, counts[1] * stride, channels)
    return x[:, : geometry.size[0], : geometry.size[1]]


def _window(phases: list[_Phase]) -> tuple[int, int]:
    """Returns the least and the greatest offset of y that the phases look at; a phase without taps looks at one, for zeros."""
    return min(p.shift - max(p.taps, 1) + 1 for p in phases), max(p.shift for p in phases)


def _kernel(w: jax.Array, row: _Phase, column: _Phase, stride: int, windows: list[tuple[int, int]]) -> jax.Array:
    """Returns the taps of a phase as the kernel [th, tw, F, C] of a stride-1 convolution over the windows."""
    taps = jnp.swapaxes(w[row.first :: stride, column.first :: stride], 2, 3)[::-1, ::-1]
    pads = [(p.shift - p.taps + 1 - least, most - p.shift) for p, (least, most) in zip((row, column), windows, strict=True)]
    return jnp.pad(taps, [*pads, (0, 0), (0, 0)])


def _stride_one(y: jax.Array, kernel: jax.Array, windows: list[tuple[int, int]], counts: list[int]) -> jax.Array:
    sizes = zip(windows, counts, y.shape[1:3], strict=True)
    padding = [(-least, most + count - size) for (least, most), count, size in sizes]
    return lax.conv_general_dilated(y, kernel, (1, 1), padding, dimension_numbers=LAYOUT)
