"""Convolution and its transpose: fast inside `lax.scan` on a CPU, plain `lax` elsewhere, reverse-differentiable at any order.

A convolution y = conv(x, w) is a trilinear form <conv(x, w), y>. Its three partial maps

    forward          x, w -> y
    input gradient   y, w -> x    (the transposed convolution)
    weight gradient  x, y -> w

are all that differentiation ever needs: each is bilinear, and its gradients are the other two. XLA:CPU runs a convolution fast
only in canonical form (NHWC, HWIO, NHWC, nothing reversed, no dilated input, no kernel larger than the images), and rewrites
others into it only outside of loops (jax issue 12868); autodiff's own gradients inside a scan are 25 to 90 times slower. So
each map is computed by canonical convolutions on a CPU, and has the other two as its custom gradient. Only reverse mode is
defined.

Layouts: x [B, H, W, C], w [kh, kw, C, F], y [B, h, w, F], one dtype.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")
# Up to which a convolution per phase would be slow, a matmul with as many columns. Input gradients of 64 images 28 x 28, in one
# convolution and in one per phase: 6.1 and 12.2 ms at 6 channels, 9.0 and 14.0 at 12, 13.5 and 12.6 at 16.
FEW_CHANNELS = 12
# Pieces of the batch in a weight gradient of few channels, a matmul of few rows that threads cannot share: pieces they can,
# each within its caches. 128 images 32 x 32 x 3 to 64 channels on two cores: 5.8 ms in one, 2.9 in eight.
PIECES = 8

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
    With "SAME", series [B, T, C] by a kernel [kt, C, F], as images of height 1, and volumes [B, D, H, W, C] by
    [kd, kh, kw, C, F], on every device as images of the slices that a kernel sees, one after another in their channels.
    """
    if x.ndim == 3:
        return convolve(x[:, None], kernel[None], stride)[:, 0]
    if x.ndim == 5:
        seen = _slices_seen(x, len(kernel), stride)
        y = convolve(lax.collapse(seen, 0, 2), _slices_kernel(kernel), stride)
        return y.reshape(*seen.shape[:2], *y.shape[1:])
    return _forward(_geometry(x.shape[1:3], kernel, stride, padding), x, kernel)


def convolve_transpose(
    y: jax.Array, kernel: jax.Array, size: tuple[int, ...], stride: int = 1, padding: Padding = "SAME"
) -> jax.Array:
    """Returns [B, *size, C]: the transpose of the convolution that takes images of this size to y [B, h, w, F].

    kernel: of that convolution, [kh, kw, C, F]; series and volumes as there.

    Raises:
      ValueError: that convolution makes another size than y's.
    """
    if y.ndim == 3:
        return convolve_transpose(y[:, None], kernel[None], (1, *size), stride)[:, 0]
    if y.ndim == 5:
        if y.shape[1] != (depth := -(-size[0] // stride)):
            raise ValueError(f"a convolution of {size} by stride {stride} gives {depth} slices, not {y.shape[1]}")
        seen = convolve_transpose(lax.collapse(y, 0, 2), _slices_kernel(kernel), size[1:], stride)
        x = jax.ShapeDtypeStruct((y.shape[0], *size, kernel.shape[3]), y.dtype)
        slices = functools.partial(_slices_seen, taps=len(kernel), stride=stride)
        return cast(jax.Array, jax.linear_transpose(slices, x)(seen.reshape(*y.shape[:2], *seen.shape[1:]))[0])
    geometry = _geometry(size, kernel, stride, padding)
    if geometry.output() != y.shape[1:3]:
        raise ValueError(f"a convolution of {size} by {geometry} gives {geometry.output()}, not {y.shape[1:3]}")
    return _input(geometry, y, kernel)


def _slices_seen(x: jax.Array, taps: int, stride: int) -> jax.Array:
    """Returns [B, d, H, W, taps C]: of volumes [B, D, H, W, C], in their channels, the slices that each output slice sees."""
    (low, high), *_ = lax.padtype_to_pads(x.shape[1:2], (taps,), (stride,), "SAME")
    padded, last = jnp.pad(x, ((0, 0), (int(low), int(high)), *[(0, 0)] * 3)), stride * (-(-x.shape[1] // stride) - 1)
    return jnp.concatenate([padded[:, tap : tap + last + 1 : stride] for tap in range(taps)], axis=-1)


def _slices_kernel(kernel: jax.Array) -> jax.Array:
    """Returns the kernel [kh, kw, kd C, F] of the images that `_slices_seen` makes of volumes."""
    return lax.collapse(jnp.moveaxis(kernel, 0, 2), 2, 4)


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
    if not _larger(w, x):
        return _convolution(geometry, x, w)
    canonical = lambda x, w: _canonical(x, w, geometry.padding, geometry.stride)  # noqa: E731
    return _by_platform(canonical, functools.partial(_convolution, geometry), x, w)


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


def _larger(kernel: jax.Array, images: jax.Array) -> bool:
    return any(taps > size for taps, size in zip(kernel.shape[:2], images.shape[1:3], strict=True))


def _canonical(x: jax.Array, w: jax.Array, padding: Sequence[tuple[int, int]], stride: int = 1) -> jax.Array:
    """The convolution in the form that XLA:CPU runs fast, which it does not where the kernel is larger than the images.

    64 images 4 x 4 x 64 by a kernel 5 x 5 to 128 channels: 18 ms in place of .9 where they are padded before.
    """
    if _larger(w, x) and min(map(min, padding)) >= 0:
        x, padding = lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0)))), ((0, 0), (0, 0))  # or XLA undoes it
    return lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=LAYOUT)


def _canonical_weight(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The images' channels become the batch, and y the kernel, dilated by the stride; few channels in pieces of the batch."""
    batch = max(1, x.shape[0])  # of no images, one empty piece
    size = -(-batch // PIECES) if x.shape[3] <= FEW_CHANNELS else batch
    cuts = [slice(start, start + size) for start in range(0, batch, size)]
    return functools.reduce(jnp.add, [_canonical_weight_of(geometry, x[cut], y[cut]) for cut in cuts])


def _canonical_weight_of(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
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
    """The phases (rows and columns modulo the stride), interleaved: concatenated along axes that are contiguous."""
    (height, width), stride, channels = geometry.size, geometry.stride, w.shape[2]
    grid = _Grid(
        [_phases(taps, low, stride) for taps, (low, _) in zip(geometry.kernel, geometry.padding, strict=True)],
        [-(-size // stride) for size in geometry.size],
        stride,
    )
    make = _by_convolutions if stride == 1 or channels > FEW_CHANNELS else _by_one_convolution if channels > 1 else _by_dot
    phase = make(grid, y, w)
    rows = [jnp.concatenate([phase(row, column) for column in range(stride)], axis=3) for row in range(stride)]
    x = jnp.concatenate([lax.collapse(row, 2) for row in rows], axis=2)
    return x.reshape(y.shape[0], grid.counts[0] * stride, grid.counts[1] * stride, channels)[:, :height, :width]


class _Grid(NamedTuple):
    """The phases of an input gradient."""

    phases: list[list[_Phase]]  # of the rows and of the columns, `stride` each
    counts: list[int]  # pixels of a phase: rows and columns
    stride: int

    def windows(self) -> list[tuple[int, int]]:
        """Returns the least and the greatest offset of y that any phase looks at, of rows and of columns."""
        return [(min(p.shift - p.taps + 1 for p in axis), max(p.shift for p in axis)) for axis in self.phases]


type _Phased = Callable[[int, int], jax.Array]  # numbers of a row's and a column's phase -> [B, *counts, C]


def _stride_one(grid: _Grid, y: jax.Array, kernel: jax.Array, windows: list[tuple[int, int]]) -> jax.Array:
    sizes = zip(windows, grid.counts, y.shape[1:3], strict=True)
    padding = [(-least, most + count - size) for (least, most), count, size in sizes]
    return _canonical(y, kernel, padding)


def _taps(grid: _Grid, w: jax.Array, row: _Phase, column: _Phase) -> jax.Array:
    """Returns a phase's taps as the kernel [., ., F, C] of a stride-1 convolution."""
    return jnp.swapaxes(w[row.first :: grid.stride, column.first :: grid.stride], 2, 3)[::-1, ::-1]


def _by_convolutions(grid: _Grid, y: jax.Array, w: jax.Array) -> _Phased:
    """A convolution per phase."""

    def phased(i: int, j: int) -> jax.Array:
        row, column = grid.phases[0][i], grid.phases[1][j]
        if row.taps == 0 or column.taps == 0:
            return jnp.zeros((y.shape[0], *grid.counts, w.shape[2]), y.dtype)
        windows = [(p.shift - p.taps + 1, p.shift) for p in (row, column)]
        return _stride_one(grid, y, _taps(grid, w, row, column), windows)

    return phased


def _by_one_convolution(grid: _Grid, y: jax.Array, w: jax.Array) -> _Phased:
    """One convolution for all phases, over the window that they share: for channels too few to fill a matmul's columns."""
    windows = grid.windows()

    def kernel(row: _Phase, column: _Phase) -> jax.Array:
        ends = zip((row, column), windows, strict=True)
        pads = [(p.shift - p.taps + 1 - least, most - p.shift) for p, (least, most) in ends]
        return jnp.pad(_taps(grid, w, row, column), [*pads, (0, 0), (0, 0)])

    kernels = [kernel(row, column) for row in grid.phases[0] for column in grid.phases[1]]
    parts = jnp.split(_stride_one(grid, y, jnp.concatenate(kernels, 3), windows), len(kernels), axis=3)
    return lambda i, j: parts[i * grid.stride + j]


def _by_dot(grid: _Grid, y: jax.Array, w: jax.Array) -> _Phased:
    """A matmul of every pixel of y with all taps; a phase is the sum of its own, each shifted: for one channel."""
    products = lax.dot_general(y, w, (((3,), (3,)), ((), ())))  # [B, h, w, kh, kw, C]
    ends = zip(grid.windows(), grid.counts, y.shape[1:3], strict=True)
    pads = [(max(0, -least), max(0, most + count - size)) for (least, most), count, size in ends]
    products = jnp.pad(products, ((0, 0), *pads, (0, 0), (0, 0), (0, 0)))

    def phased(i: int, j: int) -> jax.Array:
        row, column = grid.phases[0][i], grid.phases[1][j]
        total = jnp.zeros((y.shape[0], *grid.counts, w.shape[2]), y.dtype)
        for t in range(row.taps):
            top = row.shift - t + pads[0][0]
            for u in range(column.taps):
                left = column.shift - u + pads[1][0]
                shifted = products[:, top : top + grid.counts[0], left : left + grid.counts[1]]
                total = total + shifted[..., row.first + grid.stride * t, column.first + grid.stride * u, :]
        return total

    return phased
