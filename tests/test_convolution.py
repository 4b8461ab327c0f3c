"""Convolutions against lax's own, with its own derivatives, up to the third order; and under every transformation."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from wgan_jax.ops.convolution import convolve, convolve_transpose

EXPLICIT = ((2, 1), (0, 3))
# height, width, channels in and out, taps, stride, padding, batch
CASES = [
    (6, 6, 2, 3, 5, 2, "SAME", 2),
    (7, 7, 2, 3, 5, 2, "SAME", 2),  # DCGAN-28: 7 -> 4 -> 7
    (8, 5, 1, 2, 5, 2, "SAME", 1),  # one channel, one example
    (7, 6, 1, 2, 5, 2, EXPLICIT, 2),
    (6, 7, 14, 1, 4, 2, "SAME", 2),  # more than FEW_CHANNELS, here and below
    (7, 6, 13, 2, 3, 2, EXPLICIT, 2),
    (6, 6, 2, 2, 3, 1, "SAME", 2),
    (5, 6, 2, 1, 2, 1, EXPLICIT, 1),
    (5, 5, 3, 2, 1, 1, "SAME", 2),
    (6, 5, 2, 2, 1, 2, "SAME", 2),  # a phase without taps
    (4, 4, 3, 5, 4, 1, "VALID", 3),  # the image itself as the window
    (8, 8, 2, 2, 7, 2, "VALID", 1),  # negative padding of the gradients
    (9, 8, 13, 1, 6, 2, EXPLICIT, 1),
]


def reference(x, w, stride, padding):
    return lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def close(ours, theirs, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, atol=tolerance * (1e-300 + np.abs(b).max(initial=0)))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "inputs", "outputs", "taps", "stride", "padding", "batch"), CASES)
def test_values_and_derivatives_of_three_orders(height, width, inputs, outputs, taps, stride, padding, batch):
    """The second order is a gradient penalty: the parameters' gradient of the input gradient's norm."""
    x, w = draw(0, batch, height, width, inputs), draw(1, taps, taps, inputs, outputs)

    def orders(convolution, x, w):
        first = jax.grad(lambda x, w: jnp.sum(jnp.sin(convolution(x, w, stride, padding))), argnums=(0, 1))
        second = jax.grad(lambda x, w: sum(jnp.sum(g**2) for g in first(x, w)), argnums=(0, 1))
        third = jax.grad(lambda x, w: sum(jnp.sum(jnp.cos(g)) for g in second(x, w)), argnums=(0, 1))
        return convolution(x, w, stride, padding), first(x, w), second(x, w), third(x, w)

    ours, theirs = jax.jit(lambda x, w: (orders(convolve, x, w), orders(reference, x, w)))(x, w)
    close(ours, theirs)


@pytest.mark.parametrize(("height", "width", "inputs", "outputs", "taps", "stride", "padding", "batch"), CASES)
def test_the_transpose(height, width, inputs, outputs, taps, stride, padding, batch):
    """<conv(x), y> = <x, transpose(y)>, for all x and y."""
    x, w = draw(0, batch, height, width, inputs), draw(1, taps, taps, inputs, outputs)
    forward = reference(x, w, stride, padding)
    y = draw(2, *forward.shape)
    transposed = jax.jit(lambda y, w: convolve_transpose(y, w, (height, width), stride, padding))(y, w)
    assert transposed.shape == x.shape
    np.testing.assert_allclose(jnp.vdot(transposed, x), jnp.vdot(forward, y), rtol=1e-10)


def test_numerical_gradients():
    x, w = draw(0, 2, 5, 5, 2), draw(1, 3, 3, 2, 5)
    y = draw(2, 2, 3, 3, 5)
    check_grads(lambda x, w: convolve(x, w, 2), (x, w), order=2, modes=["rev"])
    check_grads(lambda y, w: convolve_transpose(y, w, (5, 5), 2), (y, w), order=2, modes=["rev"])


def penalty(w, x, convolution=convolve):
    """Weights' gradient of the squared norm of the input gradient."""

    def norm(w):
        return jnp.sum(jax.grad(lambda x: jnp.sum(jnp.tanh(convolution(x, w, 2, "SAME"))))(x) ** 2)

    return jax.grad(norm)(w)


def theirs(w, x):
    return penalty(w, x, reference)


def test_under_scan_vmap_remat_and_pmap():
    w, x = draw(0, 8, 5, 5, 2, 3), draw(1, 8, 2, 6, 6, 2)
    expected = jax.jit(jax.vmap(theirs))(w, x)
    close(lax.scan(lambda _, wx: (None, penalty(*wx)), None, (w, x))[1], expected)
    close(jax.jit(jax.vmap(penalty))(w, x), expected)
    close(jax.jit(jax.checkpoint(penalty))(w[0], x[0]), expected[0])
    close(jax.pmap(penalty, devices=jax.devices("cpu"))(w, x), expected)  # a GPU is often one
    close(jax.jit(jax.vmap(penalty, in_axes=(None, 0)))(w[0], x)[0], expected[0])
    close(jax.jit(jax.vmap(penalty, in_axes=(0, None)))(w, x[0])[0], expected[0])


def test_in_bfloat16():
    w, x = (jnp.asarray(draw(seed, *shape), jnp.bfloat16) for seed, shape in ((0, (5, 5, 2, 3)), (1, (2, 6, 6, 2))))
    ours = jax.jit(penalty)(w, x)
    assert ours.dtype == jnp.bfloat16
    exact = jax.jit(theirs)(w.astype(jnp.float64), x.astype(jnp.float64))
    np.testing.assert_allclose(ours.astype(jnp.float64), exact, atol=0.05 * jnp.abs(exact).max())


@pytest.mark.parametrize(
    ("size", "channels", "stride"),
    [
        ((8, 8), 1, 2),
        ((8, 8), 2, 2),
        ((8, 8), 14, 2),
        ((8, 8), 2, 1),
        ((5, 3), 14, 2),
        ((2, 2), 14, 2),
        ((4, 1), 2, 1),
        ((4, 3, 2), 6, 2),
    ],
)
def test_only_canonical_convolutions_run_on_a_cpu(size, channels, stride):
    """No reversal, no dilated input, NHWC x HWIO -> NHWC, no kernel larger than its images: else XLA:CPU runs naive loops."""
    w, x = draw(0, *[5] * len(size), channels, 6), draw(1, 2, *size, channels)
    derivative = functools.partial(penalty, convolution=lambda x, w, *_: convolve(x, w, stride))
    text = jax.jit(derivative).trace(w, x).lower(lowering_platforms=("cpu",)).as_text()
    lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(lines) > 3
    for line in lines:
        assert "dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line
        assert "lhs_dilate" not in line or "lhs_dilate = [1, 1]" in line
        assert "reverse = [true" not in line
        images, kernel = ([int(n) for n in shape.split("x")] for shape in re.findall(r"tensor<([\dx]+)xf", line)[:2])
        assert max(np.subtract(kernel[:2], images[1:3])) <= 0, line
    if min(size) < 5:
        assert "stablehlo.optimization_barrier" in text  # or XLA would take the padding back into the convolution


def test_an_accelerator_gets_plain_convolutions():
    w, x = draw(0, 5, 5, 2, 6), draw(1, 2, 8, 8, 2)
    text = jax.jit(penalty).trace(w, x).lower(lowering_platforms=("cuda",)).as_text()
    assert "lhs_dilate = [2, 2]" in text
    text = jax.jit(penalty).trace(w, x[:, :4, :3]).lower(lowering_platforms=("cuda",)).as_text()
    assert "optimization_barrier" not in text


@pytest.mark.parametrize("channels", [1, 2, 14])
@pytest.mark.parametrize("stride", [1, 2])
def test_no_images_have_gradients_of_zero(channels, stride):
    w, x = draw(0, 3, 3, channels, 2), draw(1, 0, 6, 6, channels)

    def orders(convolution):
        first = jax.grad(lambda w, x: jnp.sum(jnp.sin(convolution(x, w, stride, "SAME"))), argnums=(0, 1))
        return convolution(x, w, stride, "SAME"), first(w, x), jax.grad(lambda w: jnp.sum(first(w, x)[1] ** 2))(w)

    close(orders(convolve), orders(reference))
    assert convolve_transpose(np.zeros((0, 6 // stride, 6 // stride, 2)), w, (6, 6), stride).shape == x.shape


def test_a_transpose_of_a_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"gives \(3, 3\), not \(4, 4\)"):
        convolve_transpose(np.zeros((1, 4, 4, 3)), np.zeros((5, 5, 2, 3)), (6, 6), 2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(7,), (8,), (5, 6, 3), (1, 4, 7)])
def test_series_and_volumes_and_their_derivatives(size):
    """In one and three dimensions against lax's own, twice differentiated inside a scan, as a gradient penalty is."""
    axes, layout = len(size), {1: ("NWC", "WIO", "NWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}[len(size)]
    x, w, batch = draw(0, 2, *size, 2), draw(1, *[3] * axes, 2, 4), 2

    def plain(x, w):
        return lax.conv_general_dilated(x, w, (2,) * axes, "SAME", dimension_numbers=layout)

    def orders(convolution, x, w):
        def step(carry, _):
            slope = lambda x, w: jax.grad(lambda x: jnp.sum(jnp.sin(convolution(x, w))))(x)  # noqa: E731
            return carry, jax.grad(lambda x, w: jnp.sum(slope(x, w) ** 2), argnums=(0, 1))(x, w)

        return convolution(x, w), jax.lax.scan(step, 0, None, 2)[1]

    ours = jax.jit(lambda x, w: orders(lambda x, w: convolve(x, w, 2), x, w))(x, w)
    close(ours, jax.jit(lambda x, w: orders(plain, x, w))(x, w))
    y, transposed = draw(2, *ours[0].shape), lambda y, w: convolve_transpose(y, w, size, 2)
    (back,) = jax.linear_transpose(lambda x: plain(x, w), jax.ShapeDtypeStruct(x.shape, x.dtype))(y)
    close(transposed(y, w), back)
    assert back.shape == (batch, *size, 2)
    check_grads(lambda y, w: jnp.sin(transposed(y, w)), (y, w), order=2, modes=["rev"], atol=1e-4, rtol=1e-4)
