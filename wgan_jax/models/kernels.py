"""What a layer computes with in place of its kernel, so that a bound on its slope holds whatever the optimizer does."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL_STATE = "kernel"  # the collection of what KERNELS keep between updates; mutable is the pass that moves them on
START_STEPS, UPDATE_STEPS = 30, 3  # of Bjorck's iteration: on a new kernel, and on one that an update has moved a little


class Linear(NamedTuple):
    """What a layer does with its kernel [..., inputs, outputs]."""

    apply: Callable[[jax.Array, jax.Array], jax.Array]  # x [B, *shape], kernel -> [B, ...]
    shape: tuple[int, ...]  # of an input
    overlap: int = 1  # of the windows of a convolution, how many have an entry of its input in them


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.sqrt(jnp.sum(jnp.square(x))) + 1e-12)


def _divided(module: nn.Module, kernel: jax.Array, linear: Linear) -> jax.Array:
    """The kernel over the norm of what it does: sigma = <left, A right>, of vectors that a gradient sees as constants.

    They come from power iteration, one step a critic update (Miyato 2018, algorithm 1 and equation 12).
    """
    start = lambda: _unit(jax.random.normal(module.make_rng("params"), (1, *linear.shape), kernel.dtype))  # noqa: E731
    right = module.variable(KERNEL_STATE, "right", start)
    fixed = jax.lax.stop_gradient(kernel)
    image, transposed = jax.vjp(lambda x: linear.apply(x, fixed), right.value)
    left = _unit(image)
    if module.is_mutable_collection(KERNEL_STATE):
        (preimage,) = transposed(left)
        right.value = _unit(preimage)
    return kernel / jnp.sum(left * linear.apply(right.value, kernel))


def _spectral_kernel(module: nn.Module, kernel: jax.Array, linear: Linear) -> jax.Array:
    """The kernel as a matrix over its largest singular value, as in Miyato's code: a convolution's norm may be above that."""
    del linear
    return _divided(module, kernel, Linear(lambda x, kernel: x @ kernel.reshape(-1, kernel.shape[-1]).T, kernel.shape[-1:]))


def _bjorck(matrix: jax.Array, steps: int) -> jax.Array:
    """Moves a matrix towards the nearest one whose singular values are all 1 (Bjorck & Bowie 1971, order 1).

    None of the result's is above 1: s -> (3 s - s^3) / 2 keeps [0, 1], into which a bound on the largest brings them.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = tall.T @ tall
    bound = jax.lax.stop_gradient(jnp.maximum(1, jnp.max(jnp.sum(jnp.abs(gram), axis=0))))  # tight where gram is near to I
    tall, gram = tall / jnp.sqrt(bound), gram / bound
    for _ in range(steps):
        tall = 1.5 * tall - 0.5 * tall @ gram
        gram = tall.T @ tall
    return tall if matrix.shape[0] >= matrix.shape[1] else tall.T


def _orthogonal(module: nn.Module, kernel: jax.Array, linear: Linear) -> jax.Array:
    """The kernel as an orthonormal matrix (Anil 2019, section 4.1), over a bound on the norm of cutting an image into windows.

    Here the parameter itself is made orthonormal again after every update, rather than 20 iterations run in every pass; the
    one iteration of a pass then leaves it as it is, and projects its gradient onto the tangents of the orthonormal matrices.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    if module.is_mutable_collection(KERNEL_STATE):
        matrix = _bjorck(matrix, START_STEPS if module.is_initializing() else UPDATE_STEPS)
        module.put_variable("params", "kernel", matrix.reshape(kernel.shape))
    return _bjorck(matrix, 1).reshape(kernel.shape) / linear.overlap**0.5


class Kernel(NamedTuple):
    """A constraint. wgan_jax.registries reads all but `apply` from the text of this file, so it is written as literals."""

    # called inside a layer's compact method: its parameter [..., inputs, outputs] -> the kernel that it computes with
    apply: Callable[[nn.Module, jax.Array, Linear], jax.Array]
    bounded: bool = False  # whether a layer's slope is, by a number that training does not move
    lipschitz: bool = False  # whether that number is 1


KERNELS: dict[str, Kernel] = {
    "none": Kernel(lambda module, kernel, linear: kernel),
    "spectral_kernel": Kernel(_spectral_kernel, bounded=True),
    # the norm of the layer itself at its size, of a strided convolution too (the bound that Miyato's lacks)
    "spectral_operator": Kernel(_divided, bounded=True, lipschitz=True),
    "orthogonal": Kernel(_orthogonal, bounded=True, lipschitz=True),
}
