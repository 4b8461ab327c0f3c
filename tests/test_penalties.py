"""Gradient penalties: exact values, safe derivatives, and the laws of the points where they look (traps 1 to 5 and 19)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from wgan_jax.batching import batch_std
from wgan_jax.objectives.penalties import (
    AIMS,
    PENALTIES,
    PERTURBATIONS,
    POINTS,
    SUMMED,
    make_points,
    safe_norm,
    squared_gradient_norm,
)
from wgan_jax.types import Batch

pytestmark = pytest.mark.usefixtures("strict_dtypes")

PENALISED = sorted(name for name, penalty in PENALTIES.items() if penalty is not None)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def points(kind, real, generated, perturbation="uniform", scale=0.5, seed=0, axis_name=None):
    real, generated = (Batch(x, jnp.zeros(len(x), jnp.int32)) for x in (real, generated))
    return make_points(kind, perturbation, axis_name)(jax.random.key(seed), real, generated, jnp.float32(scale)).x


# The norm and the penalties


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize(
    ("weights", "norm"), [([1, 2, 0, 0, 2, 0], 3.0), ([0, 0, 0, 0, 0.5, 0], 0.5), ([0, 0.6, 0, 0.8, 0, 0], 1.0), ([0] * 6, 0.0)]
)
def test_a_linear_critic_has_its_slope_everywhere(batch, weights, norm):
    """f(x) = <w, x> on [B, H, W, C] = [B, 3, 2, 1]: (|w| - 1)^2, max(0, |w| - 1)^2 and |w|^2, whatever the batch."""
    w = jnp.asarray(weights, jnp.float32).reshape(3, 2, 1)
    squared = squared_gradient_norm(lambda x: jnp.sum(w[None] * x, axis=(1, 2, 3)), normal(0, batch, 3, 2, 1))
    assert squared.shape == (batch,)
    wanted = {"two_sided": (norm - 1) ** 2, "one_sided": max(0, norm - 1) ** 2, "zero_centred": norm**2}
    for name in PENALISED:
        np.testing.assert_allclose(PENALTIES[name](squared), [wanted[name]] * batch, rtol=1e-6, atol=1e-12)


def test_the_norm_is_per_example():
    """f(x) = |x|^2 / 2 has the gradient x; a norm over the batch, or over one axis, would give other numbers."""
    x = normal(0, 4, 3, 2, 2)
    squared = squared_gradient_norm(lambda x: jnp.sum(x**2, axis=(1, 2, 3)) / 2, x)
    np.testing.assert_allclose(squared, np.sum(np.asarray(x, np.float64) ** 2, axis=(1, 2, 3)), rtol=1e-5)


def test_the_norm_of_a_network_in_numpy():
    """f(x) = w2 . tanh(W1 x): grad f = W1^T (w2 (1 - tanh^2)), in float64."""
    rng = np.random.default_rng(0)
    first, last, x = rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=(4, 3))
    gradient = (last * (1 - np.tanh(x @ first) ** 2)) @ first.T
    with jax.enable_x64(True):
        squared = squared_gradient_norm(lambda x: jnp.tanh(x @ first) @ last, jnp.asarray(x))
        np.testing.assert_allclose(squared, np.sum(gradient**2, axis=1), rtol=1e-12)


def test_each_penalty_as_a_function_of_the_norm():
    norm = np.array([0.0, 0.25, 0.999, 1.0, 1.5, 2.0, 10.0])
    wanted = {"two_sided": (norm - 1) ** 2, "one_sided": np.maximum(0, norm - 1) ** 2, "zero_centred": norm**2}
    assert set(wanted) == set(PENALISED)
    for name in PENALISED:
        value = PENALTIES[name](jnp.asarray(norm**2, jnp.float32))
        assert (value.shape, value.dtype) == ((7,), jnp.float32)
        np.testing.assert_allclose(value, wanted[name], rtol=1e-5, atol=1e-6)


def test_the_safe_norm_is_the_root_with_derivatives_zero_at_zero():
    squared = jnp.array([0.0, 1e-30, 0.25, 4.0, 1e10])
    np.testing.assert_allclose(safe_norm(squared), np.sqrt(squared), rtol=1e-6)
    first, second = jax.grad(safe_norm), jax.grad(jax.grad(safe_norm))
    assert (first(jnp.float32(0)), second(jnp.float32(0))) == (0, 0)
    assert (first(jnp.float32(4)), second(jnp.float32(4))) == (0.25, -1 / 32)  # 1 / (2 sqrt), -1 / (4 sqrt^3)


def flat_critic(params, x):
    return jnp.tanh(x @ params["first"]) @ params["last"] + params["bias"]


@pytest.mark.parametrize("name", PENALISED)
def test_a_constant_critic_has_finite_parameter_gradients(name):
    """Its input gradient is 0, where the root has no derivative; half of the examples of a dead critic suffice for a NaN."""
    dead = {"first": jnp.zeros((2, 3)), "last": jnp.zeros(3), "bias": jnp.float32(1)}
    half = {**dead, "last": jnp.ones(3)}

    def penalty(params, root=safe_norm):
        squared = squared_gradient_norm(lambda x: flat_critic(params, x), normal(0, 4, 2))
        return jnp.mean(PENALTIES[name](squared)) + jnp.mean(root(squared))

    for params in (dead, half):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(jax.grad(penalty)(params)))
    assert np.isnan(jax.grad(lambda params: penalty(params, jnp.sqrt))(half)["first"]).any()  # what the safe norm prevents


@pytest.mark.parametrize("name", PENALISED)
def test_the_parameter_gradient_is_that_of_finite_differences(name):
    """Second order in float64: the derivative along a direction of the mean penalty at interpolated points."""
    rng = np.random.default_rng(1)
    sizes = {"first": (3, 6), "middle": (6, 6), "last": (6,)}
    with jax.enable_x64(True):
        params, direction = ({key: jnp.asarray(rng.normal(size=size)) for key, size in sizes.items()} for _ in range(2))
        x = points("interpolates", *(jnp.asarray(rng.normal(size=(8, 3))) for _ in range(2)))

        @jax.jit
        def penalty(params):
            h = lambda x: jnp.tanh(x @ params["first"])  # noqa: E731
            squared = squared_gradient_norm(lambda x: jnp.tanh(h(x) @ params["middle"]) @ params["last"], x)
            return jnp.mean(PENALTIES[name](squared))

        def along(t):
            return penalty(jax.tree.map(lambda p, d: p + t * d, params, direction))

        gradient = jax.grad(penalty)(params)
        derivative = sum(jnp.vdot(gradient[key], direction[key]) for key in sizes)
        step = 1e-5
        np.testing.assert_allclose(derivative, (along(step) - along(-step)) / (2 * step), rtol=1e-7)
        assert abs(derivative) > 1e-3


# Where they look


def test_interpolates_have_one_epsilon_per_example():
    real, generated = normal(0, 6, 3, 2, 1), normal(1, 6, 3, 2, 1)
    x = points("interpolates", real, generated)
    epsilon = np.asarray((x - generated) / (real - generated)).reshape(6, -1)
    np.testing.assert_allclose(epsilon, np.tile(np.median(epsilon, axis=1, keepdims=True), 6), atol=1e-4)
    assert len(np.unique(np.round(np.median(epsilon, axis=1), 3))) == 6


def test_epsilon_is_uniform():
    epsilon = points("interpolates", jnp.ones((4000, 1)), jnp.zeros((4000, 1)))[:, 0]
    assert 0 <= epsilon.min() < epsilon.max() < 1
    assert scipy.stats.kstest(np.asarray(epsilon, np.float64), "uniform").pvalue > 0.01


def test_real_and_generated_points_are_the_examples_themselves():
    real, generated = normal(0, 5, 2), normal(1, 5, 2)
    np.testing.assert_array_equal(points("real", real, generated), real)
    np.testing.assert_array_equal(points("generated", real, generated), generated)


def product_of_uniforms(p):
    """P(alpha u <= p) = p (1 - log p)."""
    return np.where(p > 0, p * (1 - np.log(np.maximum(p, 1e-300))), 0)


# The law of an entry, and the correlation of two entries of an example. Of alpha u with one alpha per example:
# (E alpha^2 (E u)^2 - 1/16) / (E alpha^2 E u^2 - 1/16) = (1/12 - 1/16) / (1/9 - 1/16) = 3/7.
LAWS = {
    "uniform": (scipy.stats.uniform(0, 1).cdf, 0.0),
    "uniform_interpolated": (product_of_uniforms, 3 / 7),
    "uniform_centred": (scipy.stats.uniform(-0.5, 1).cdf, 0.0),
    "normal": (scipy.stats.norm().cdf, 0.0),
}


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_a_perturbations_law(name):
    """perturbed_real = x + scale std(batch) noise."""
    real = 3 + 2 * normal(0, 4000, 2)
    x = jax.jit(lambda: points("perturbed_real", real, real, name, scale=0.7))()
    noise = np.asarray(x - real, np.float64) / (0.7 * np.std(np.asarray(real, np.float64)))
    law, correlation = LAWS[name]
    for coordinate in noise.T:
        assert scipy.stats.kstest(coordinate, law).pvalue > 0.01
    np.testing.assert_allclose(np.corrcoef(noise.T)[0, 1], correlation, atol=0.06)


def test_perturbed_both_are_the_real_and_the_generated_perturbed_apart():
    real = normal(0, 4, 2)
    generated = real[::-1]  # of the same standard deviation
    np.testing.assert_array_equal(points("perturbed_both", real, generated, scale=0.0), np.concatenate([real, generated]))
    noise = points("perturbed_both", real, generated, scale=1.0) - np.concatenate([real, generated])
    assert noise.shape == (8, 2)
    assert len(np.unique(np.round(noise / np.std(real), 5))) == 16  # no noise is used twice
    assert 0 <= noise.min() < noise.max() < np.std(real) * 1.0001


def test_the_standard_deviation_is_over_all_entries_of_the_global_batch():
    x = normal(0, 8, 3) + jnp.arange(8.0)[:, None]
    wanted = np.std(np.asarray(x, np.float64))
    np.testing.assert_allclose(batch_std(x, None), wanted, rtol=1e-6)
    shares = jax.vmap(lambda share: batch_std(share, "data"), axis_name="data")(x.reshape(4, 2, 3))
    np.testing.assert_allclose(shares, [wanted] * 4, rtol=1e-6)
    assert np.std(np.asarray(x[:2])) < 0.6 * wanted  # a device's own would show


@pytest.mark.parametrize("kind", sorted(POINTS))
def test_points_do_not_depend_on_the_number_of_devices(kind):
    """With a step between the devices' shares, so that a perturbation's scale must be the global one."""
    real, generated = normal(0, 8, 2) + jnp.arange(8.0)[:, None], normal(1, 8, 2) - jnp.arange(8.0)[:, None]
    whole = jax.jit(functools.partial(points, kind))(real, generated)
    mapped = jax.jit(jax.vmap(functools.partial(points, kind, axis_name="data"), axis_name="data"))
    shares = mapped(real.reshape(4, 2, 2), generated.reshape(4, 2, 2))
    times = len(whole) // 8  # 2 where real and generated are both points
    joined = np.moveaxis(np.asarray(shares).reshape(4, times, 2, 2), 0, 1).reshape(-1, 2)
    np.testing.assert_allclose(joined, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(AIMS))
def test_a_penalty_is_nothing_at_the_slope_that_it_aims_at_and_something_above(name):
    at, above = (PENALTIES[name](jnp.float32([slope**2])) for slope in (AIMS[name][0], AIMS[name][0] + 1))
    assert (at, above) == (0, 1)


LABELS_OF_POINTS = {
    "interpolates": [0, 1, 2],
    "real": [0, 1, 2],
    "generated": [5, 6, 7],
    "real_and_generated": [0, 1, 2, 5, 6, 7],
    "perturbed_real": [0, 1, 2],
    "perturbed_both": [0, 1, 2, 5, 6, 7],
}


@pytest.mark.parametrize("kind", sorted(POINTS))
def test_a_point_has_its_own_label_and_one_between_the_real_ones(kind):
    real, generated = (Batch(normal(seed, 3, 2), first + jnp.arange(3)) for seed, first in ((0, 0), (1, 5)))
    found = make_points(kind, "uniform")(jax.random.key(0), real, generated, jnp.float32(0.5))
    assert found.label.tolist() == LABELS_OF_POINTS[kind]


@pytest.mark.parametrize("kind", sorted(POINTS))
def test_points_are_as_many_as_the_examples_or_twice(kind):
    real, generated = jnp.zeros((3, 4, 4, 1)), jnp.ones((3, 4, 4, 1))
    x = jax.eval_shape(lambda: points(kind, real, generated))
    assert x.shape in ((3, 4, 4, 1), (6, 4, 4, 1))
    assert x.dtype == jnp.float32
    assert (x.shape[0] == 6) == (kind in {"perturbed_both", *SUMMED})
