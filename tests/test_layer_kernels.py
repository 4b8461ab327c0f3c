"""What KERNELS make of a layer's weights, against NumPy's singular values, and the slope of the critics made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.models import build_networks
from wgan_jax.models.kernels import KERNEL_STATE, KERNELS, _bjorck
from wgan_jax.models.layers import ACTIVATIONS, Convolution, Dense, Style
from wgan_jax.objectives.penalties import PENALTIES, squared_gradient_norm
from wgan_jax.ops.convolution import convolve
from wgan_jax.training.program import make_parts
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch

POINTS = {"model.name": "mlp", "model.width": 16, "model.depth": 2}
IMAGES = {**POINTS, "model.name": "dcgan", "model.width": 4, "model.critic_activation": "leaky_relu"}
RESIDUAL = {**POINTS, "model.name": "resnet", "model.width": 2}
LIPSCHITZ = [name for name, kernel in KERNELS.items() if kernel.lipschitz]
SPECTRAL = [name for name in KERNELS if name.startswith("spectral")]


def leaves(tree, name):
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [np.asarray(leaf) for path, leaf in flat if getattr(path[-1], "key", None) == name]


def critic_of(make_config, changes, shape, kernel, rounds=200):
    """Networks, and critic variables after so many refreshes."""
    networks = build_networks(make_config("wgan_gp.py:ring8", {**changes, "model.critic_kernel": kernel}), shape)
    repeat = jax.jit(lambda variables: jax.lax.fori_loop(0, rounds, lambda _, kept: networks.refresh_critic(kept), variables))
    return networks, repeat(jax.jit(networks.init_critic)(jax.random.key(0)))


def singular_values(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


def flat(kernel):
    return kernel.reshape(-1, kernel.shape[-1])


def operator(kernel, size, stride=2):
    """The matrix of a convolution of images [size, size, C], by the images of the unit vectors."""
    inputs = size * size * kernel.shape[2]
    unit = np.eye(inputs, dtype=kernel.dtype).reshape(inputs, size, size, -1)
    return np.asarray(convolve(jnp.asarray(unit), jnp.asarray(kernel), stride)).reshape(inputs, -1)


@pytest.mark.parametrize(("changes", "shape"), [(POINTS, (2,)), (IMAGES, (8, 8, 1))])
def test_the_power_iteration_finds_the_largest_singular_value(make_config, changes, shape):
    _, variables = critic_of(make_config, changes, shape, "spectral_kernel")
    kernels, vectors = leaves(variables["params"], "kernel"), leaves(variables[KERNEL_STATE], "right")
    assert len(kernels) == len(vectors) > 1
    for kernel, right in zip(kernels, vectors, strict=True):
        np.testing.assert_allclose(np.linalg.norm(flat(kernel) @ right[0]), singular_values(flat(kernel))[0], rtol=1e-3)


@pytest.mark.parametrize("size", [7, 8, 9])
def test_the_norm_of_a_strided_convolution_is_that_of_its_matrix(make_config, size):
    _, variables = critic_of(make_config, IMAGES, (size, size, 2), "spectral_operator", 400)
    convolutions = [kernel for kernel in leaves(variables["params"], "kernel") if kernel.ndim == 4]
    vectors = [right for right in leaves(variables[KERNEL_STATE], "right") if right.ndim == 4]
    assert len(convolutions) == len(vectors) == (1 if size <= 8 else 2)
    for kernel, right in zip(convolutions, vectors, strict=True):
        true = singular_values(operator(kernel, right.shape[1]))[0]
        found = np.linalg.norm(convolve(jnp.asarray(right), jnp.asarray(kernel), 2))
        np.testing.assert_allclose(found, true, rtol=1e-3)
        assert true > 1.1 * singular_values(flat(kernel))[0]  # which is why only this one bounds the slope


def test_both_norms_of_a_dense_layer_are_equal(make_config):
    x = Batch(jax.random.normal(jax.random.key(1), (5, 2)), jnp.zeros(5, jnp.int32))
    scores = []
    for kernel in SPECTRAL:
        networks, variables = critic_of(make_config, POINTS, (2,), kernel)
        scores.append(networks.score(variables, x))
    np.testing.assert_allclose(*scores, rtol=1e-4)


@pytest.mark.parametrize("kernel", SPECTRAL)
def test_a_critic_of_normalised_kernels_is_the_critic_of_kernels_divided_by_their_norm(make_config, kernel):
    networks, variables = critic_of(make_config, POINTS, (2,), kernel, 100)
    x = jax.random.normal(jax.random.key(1), (5, 2))
    batch = Batch(x, jnp.zeros(5, jnp.int32))
    norm = lambda path, leaf: leaf / jnp.linalg.norm(leaf, 2) if leaf.ndim == 2 else leaf  # noqa: E731
    divided = jax.tree_util.tree_map_with_path(norm, variables["params"])
    plain = build_networks(make_config("wgan_gp.py:ring8", POINTS), (2,))
    np.testing.assert_allclose(networks.score(variables, batch), plain.score({"params": divided}, batch), rtol=2e-3)
    state = {KERNEL_STATE: variables[KERNEL_STATE]}
    output, unchanged = networks.critic(variables["params"], state, *batch)
    np.testing.assert_allclose(output.score, networks.score(variables, batch), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, unchanged, state)  # a pass moves nothing


def style(kernel):
    kinds = {"activation": "relu", "initializer": "he_normal", "normalization": "none", "normalize_first": False}
    return Style(width=3, depth=1, kernel=kernel, axis_name=None, dtype=jnp.float32, param_dtype=jnp.float32, **kinds)


def layer(kernel):
    """A dense layer of three outputs without a bias, whose value at the identity is the kernel that it computes with."""
    return Dense(3, style(kernel), use_bias=False)


@pytest.mark.parametrize("kernel", SPECTRAL)
def test_the_gradient_of_a_normalised_kernel_is_miyatos(kernel):
    """Of a loss with gradient G by W / sigma it is (G - <G, W / sigma> u v^T) / sigma (Miyato 2018, equation 12)."""
    matrix, outer = np.random.default_rng(0).normal(size=(2, 5, 3))
    left, values, right = np.linalg.svd(matrix)
    u, sigma, v = left[:, 0], values[0], right[0]
    state = {KERNEL_STATE: {"right": jnp.asarray(v if kernel == "spectral_kernel" else u, jnp.float32)[None]}}

    def loss(matrix):
        return jnp.sum(outer * layer(kernel).apply({"params": {"kernel": matrix}, **state}, jnp.eye(5)))

    expected = (outer - (outer * matrix).sum() / sigma * np.outer(u, v)) / sigma
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(matrix, jnp.float32)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_bjorck_finds_the_nearest_orthonormal_matrix(shape):
    matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)  # the polar factor (Higham 1986)
    np.testing.assert_allclose(_bjorck(jnp.asarray(matrix), 30), left @ right, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 0.5, 1.0, 30.0])
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_no_singular_value_is_ever_above_one(scale, steps):
    for seed in range(5):
        matrix = scale * np.random.default_rng(seed).normal(size=(7, 5)).astype(np.float32)
        assert singular_values(_bjorck(jnp.asarray(matrix), steps))[0] < 1 + 1e-5


def test_the_parameters_of_orthogonal_kernels_are_orthonormal_from_the_start_and_after_an_update(make_config):
    networks, variables = critic_of(make_config, IMAGES, (8, 8, 1), "orthogonal", 0)
    moved = jax.tree.map(
        lambda leaf: leaf + 0.01 * jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), variables
    )
    for params in (variables["params"], networks.refresh_critic(moved)["params"]):
        for kernel in leaves(params, "kernel"):
            np.testing.assert_allclose(singular_values(flat(kernel)), 1, atol=1e-4)


def test_the_gradient_of_an_orthonormal_kernel_is_a_tangent():
    """Of a square one W it is (G - W G^T W) / 2, the projection onto the tangents of the orthogonal matrices at W."""
    outer, matrix = np.random.default_rng(2).normal(size=(2, 3, 3))
    matrix = np.linalg.qr(matrix)[0]
    loss = lambda matrix: jnp.sum(outer * layer("orthogonal").apply({"params": {"kernel": matrix}}, jnp.eye(3)))  # noqa: E731
    gradient = jax.grad(loss)(jnp.asarray(matrix, jnp.float32))
    np.testing.assert_allclose(gradient, (outer - matrix @ outer.T @ matrix) / 2, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", LIPSCHITZ)
@pytest.mark.parametrize(
    ("changes", "shape"), [(POINTS, (5,)), (IMAGES, (7, 7, 1)), (RESIDUAL, (16, 16, 1)), (RESIDUAL, (64, 64, 1))]
)
def test_no_pair_is_further_apart_in_score_than_in_place(make_config, kernel, changes, shape):
    networks, variables = critic_of(make_config, changes, shape, kernel, 50)
    key_x, key_step, key_size = jax.random.split(jax.random.key(3), 3)
    count = 200 if changes is RESIDUAL else 5_000  # twice, as there are two directions
    x = jax.random.normal(key_x, (count, *shape))
    sizes = 10 ** jax.random.uniform(key_size, (count, *[1] * len(shape)), minval=-2, maxval=1)
    step = sizes * jax.random.normal(key_step, x.shape)
    # along the gradient the score moves the most
    slopes = jax.jit(jax.grad(lambda x: networks.score(variables, Batch(x, jnp.zeros(count, jnp.int32))).sum()))(x)
    score = jax.jit(lambda x: networks.score(variables, Batch(x, jnp.zeros(count, jnp.int32))))
    for towards in (step, sizes * slopes):
        apart = np.abs(score(x + towards) - score(x)) / np.linalg.norm(np.asarray(towards).reshape(count, -1), axis=1)
        assert apart.max() < 1.001
    assert np.linalg.norm(np.asarray(slopes).reshape(count, -1), axis=1).max() < 1.001


def test_the_reshaped_kernel_bounds_no_convolutions_slope(make_config):
    """Ones everywhere: the operator's norm is near 25 / 2 for the window's 5, as neighbouring windows overlap."""
    kernel = np.ones((5, 5, 1, 1), np.float32)
    assert singular_values(flat(kernel))[0] == pytest.approx(5)
    assert singular_values(operator(kernel, 16))[0] > 10


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_convolution_of_an_orthonormal_kernel_has_a_norm_of_at_most_one(stride):
    """Also where neighbouring windows see the same: ones in every tap, whose norm without the bound on windows is up to 5."""
    convolution = Convolution(1, style("orthogonal"), taps=5, stride=stride, use_bias=False)
    variables = {"params": {"kernel": jnp.full((5, 5, 1, 1), 0.2)}}
    images = jnp.eye(144).reshape(144, 12, 12, 1)
    largest = singular_values(convolution.apply(variables, images).reshape(144, -1))[0]
    assert 0.75 < largest < 1 + 1e-5


@pytest.mark.parametrize("kernel", SPECTRAL)
def test_a_critic_update_takes_one_step_of_power_iteration(make_config, kernel):
    still = {"critic.optimizer": "sgd", "critic.learning_rate": 1e-30}  # no parameter moves
    config = make_config("wgan_gp.py:ring8", {**POINTS, **still, "model.critic_kernel": kernel})
    networks, steps = make_parts(config, (2,))
    state, hyper = steps.init_state(jax.random.key(0)), make_hyperparameters(config)
    batches = Batch(jax.random.normal(jax.random.key(1), (3, 8, 2)), jnp.zeros((3, 8), jnp.int32))
    moved, _ = jax.jit(steps.critic_phase)(state, batches, jax.random.key(2), hyper)
    expected = state.critic.variables
    for _ in range(3):
        expected = networks.refresh_critic(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), moved.critic.variables, expected)
    vectors = [leaves(variables, "right")[1] for variables in (state.critic.variables, expected)]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_an_updated_critic_has_orthonormal_parameters(make_config):
    config = make_config("wgan_groupsort.py:ring8", {"model.width": 8, "critic.learning_rate": 1e-2})
    _, steps = make_parts(config, (2,))
    state, hyper = steps.init_state(jax.random.key(0)), make_hyperparameters(config)
    batches = Batch(jax.random.normal(jax.random.key(1), (3, 8, 2)), jnp.zeros((3, 8), jnp.int32))
    moved, _ = jax.jit(steps.critic_phase)(state, batches, jax.random.key(2), hyper)
    for kernel, old in zip(*(leaves(s.critic.params, "kernel") for s in (moved, state)), strict=True):
        np.testing.assert_allclose(singular_values(kernel), 1, atol=1e-4)
        assert np.abs(kernel - old).max() > 1e-3


@pytest.mark.parametrize("activation", ["maxmin", "groupsort"])
def test_a_critic_of_orthonormal_layers_and_a_sorting_activation_keeps_the_norm_of_its_gradient(make_config, activation):
    changes = {**POINTS, "model.critic_activation": activation, "model.depth": 4}
    networks, variables = critic_of(make_config, changes, (16,), "orthogonal", 0)
    x = jax.random.normal(jax.random.key(4), (50, 16))
    squared = squared_gradient_norm(lambda x: networks.score(variables, Batch(x, jnp.zeros(50, jnp.int32))), x)
    np.testing.assert_allclose(squared, 1, rtol=1e-4)


@pytest.mark.parametrize("name", ["maxmin", "groupsort"])
@pytest.mark.parametrize("penalty", ["two_sided", "one_sided", "zero_centred"])
def test_a_penalty_through_a_sorting_activation_is_finite_where_the_critic_is_constant(name, penalty):
    def value(kernel):
        score = lambda x: ACTIVATIONS[name](x @ kernel) @ kernel[0]  # noqa: E731
        return PENALTIES[penalty](squared_gradient_norm(score, jnp.ones((3, 2)))).sum()

    gradient = jax.grad(value)(jnp.zeros((2, 4)))
    assert jnp.isfinite(value(jnp.zeros((2, 4))))
    assert jnp.isfinite(gradient).all()


def test_kernels_without_a_constraint_have_nothing_to_refresh(make_config):
    networks = build_networks(make_config("wgan_gp.py:ring8", POINTS), (2,))
    variables = {"params": {}, "batch_stats": {"mean": jnp.ones(3)}}
    assert networks.refresh_critic(variables) is variables
