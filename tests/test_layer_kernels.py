"""What KERNELS make of a layer's weights, against NumPy's singular values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.models import build_networks
from wgan_jax.models.layers import KERNEL_STATE
from wgan_jax.types import Batch

POINTS = {"model.name": "mlp", "model.width": 16, "model.depth": 2, "model.critic_kernel": "spectral"}
IMAGES = {**POINTS, "model.name": "dcgan", "model.width": 4, "model.critic_activation": "leaky_relu"}


def leaves(tree, name):
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [np.asarray(leaf) for path, leaf in flat if getattr(path[-1], "key", None) == name]


@pytest.mark.parametrize(("changes", "shape"), [(POINTS, (2,)), (IMAGES, (8, 8, 1))])
def test_the_power_iteration_finds_the_largest_singular_value(make_config, changes, shape):
    networks = build_networks(make_config("wgan_gp.py:ring8", changes), shape)
    variables = dict(networks.init_critic(jax.random.key(0)))
    params, state = variables.pop("params"), variables
    refresh = jax.jit(networks.refresh_critic)
    for _ in range(200):
        state = refresh(params, state)
    kernels, vectors = leaves(params, "kernel"), leaves(state[KERNEL_STATE], "right")
    assert len(kernels) == len(vectors) > 1
    for kernel, right in zip(kernels, vectors, strict=True):
        matrix = kernel.reshape(-1, kernel.shape[-1])
        np.testing.assert_allclose(np.linalg.norm(matrix @ right), np.linalg.svd(matrix, compute_uv=False)[0], rtol=1e-3)


def test_a_critic_of_normalised_kernels_is_the_critic_of_kernels_divided_by_their_norm(make_config):
    config = make_config("wgan_gp.py:ring8", POINTS)
    networks = build_networks(config, (2,))
    variables = dict(networks.init_critic(jax.random.key(0)))
    params, state = variables.pop("params"), variables
    for _ in range(100):
        state = networks.refresh_critic(params, state)
    x = jax.random.normal(jax.random.key(1), (5, 2))
    batch = Batch(x, jnp.zeros(5, jnp.int32))
    norm = lambda path, leaf: leaf / jnp.linalg.norm(leaf, 2) if leaf.ndim == 2 else leaf  # noqa: E731
    divided = jax.tree_util.tree_map_with_path(norm, params)
    plain = build_networks(make_config("wgan_gp.py:ring8", {**POINTS, "model.critic_kernel": "none"}), (2,))
    np.testing.assert_allclose(
        networks.score({"params": params, **state}, batch), plain.score({"params": divided}, batch), rtol=2e-3
    )
    output, unchanged = networks.critic(params, state, *batch)
    np.testing.assert_allclose(output.score, networks.score({"params": params, **state}, batch), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, unchanged, state)  # a pass moves nothing


def test_kernels_without_state_have_nothing_to_refresh(make_config):
    networks = build_networks(make_config("wgan_gp.py:ring8", {**POINTS, "model.critic_kernel": "none"}), (2,))
    state = {"batch_stats": {"mean": jnp.ones(3)}}
    assert networks.refresh_critic({}, state) is state
