"""The generator's gradient through critic updates ahead: in closed form, by finite differences, and where a unit is dead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from wgan_jax.models import build_networks
from wgan_jax.objectives import make_objective
from wgan_jax.training.update import OPTIMIZERS, make_hyperparameters, make_steps
from wgan_jax.types import Batch


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def make_config(changes):
    config, _, _ = default.start("gan", "ring8")
    config.update({"batch_size": 4, "n_critic": 1, "dtype": "float64", "loss": "non_saturating"})
    config.model.update({"width": 4, "depth": 1, "critic_activation": "tanh", "generator_activation": "tanh"})
    config.update_from_flattened_dict({"critic.learning_rate": 0.1, "generator.optimizer": "sgd", **changes})
    config.generator.learning_rate = 1.0  # so that a step is the gradient
    return config


def gradient_of(before, after):
    return jax.tree.map(lambda old, new: old - new, before.generator.params, after.generator.params)


REAL = Batch(np.random.default_rng(0).normal(size=(4, 2)), np.zeros(4, np.int32))


@pytest.mark.parametrize("unroll", [0, 1, 5])
def test_a_quadratic_game_in_closed_form(unroll):
    """The critic descends a w^2 / 2 - b w t at rate r, so w_k = p^k w + (1 - p^k) b t / a with p = 1 - r a; the generator
    descends w_k t, of which the derivative by t is w_k + t (1 - p^k) b / a: without unrolling w alone."""
    a, b, r, w, t = 2.0, 3.0, 0.1, 0.7, -1.5
    config = make_config({"unroll": unroll, "critic.optimizer": "sgd", "critic.learning_rate": r})
    networks = build_networks(config, (2,))

    def critic(params, state, real, generated, key, hyper):
        value = a * params["w"] ** 2 / 2 - b * params["w"] * jnp.mean(generated.x)
        return value, ({}, state.memory, {"critic_loss": value})

    def generator(params, state, latents, real, key, hyper):
        value = state.critic.params["w"] * params["t"]
        return value, ({}, state.memory, {"generator_loss": value})

    networks = networks._replace(
        init_critic=lambda key: {"params": {"w": jnp.array(w)}},
        init_generator=lambda key: {"params": {"t": jnp.array(t)}},
        generator=lambda params, state, z, label: (jnp.broadcast_to(params["t"], (len(z), 2)), state),
    )
    objective = make_objective(config, networks)._replace(critic=critic, generator=generator)
    steps = make_steps(config, networks, objective)
    start = steps.init_state(jax.random.key(0))
    after, metrics = steps.generator_update(start, REAL, jax.random.key(1), make_hyperparameters(config))
    power = (1 - r * a) ** unroll
    ahead = power * w + (1 - power) * b * t / a
    np.testing.assert_allclose(metrics["generator_loss"], ahead * t, rtol=1e-12)
    np.testing.assert_allclose(gradient_of(start, after)["t"], ahead + t * (1 - power) * b / a, rtol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, (after.critic, after.critic_step), (start.critic, start.critic_step))


CELLS = {
    "adam": {},
    "rmsprop": {"critic.optimizer": "rmsprop", "critic.learning_rate": 0.01},
    "penalised, of packs": {"penalty.name": "two_sided", "penalty.points": "perturbed_both", "packing": 2},
    "lazily penalised": {"penalty.name": "zero_centred", "penalty.every": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_is_that_of_finite_differences(cell):
    """Of the loss after two updates of a critic that has memories of earlier ones."""
    config = make_config({"unroll": 2, **CELLS[cell]})
    networks = build_networks(config, (2,))
    steps, hyper = make_steps(config, networks, make_objective(config, networks)), make_hyperparameters(config)
    update, key = jax.jit(steps.generator_update), jax.random.key(1)
    start = jax.jit(steps.init_state)(jax.random.key(0))
    start, _ = jax.jit(steps.critic_step)(start, REAL, Batch(REAL.x[::-1] / 2, REAL.label), jax.random.key(2), hyper)
    gradient = gradient_of(start, update(start, REAL, key, hyper)[0])
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), start.generator.params)

    def loss(t):
        params = jax.tree.map(lambda p, d: p + t * d, start.generator.params, direction)
        return update(start.replace(generator=start.generator.replace(params=params)), REAL, key, hyper)[1]["generator_loss"]

    h = 1e-5
    derivative = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    np.testing.assert_allclose(derivative, (loss(h) - loss(-h)) / (2 * h), rtol=1e-6)
    fixed = make_steps(make_config({**CELLS[cell]}), networks, make_objective(config, networks))
    frozen = gradient_of(start, jax.jit(fixed.generator_update)(start, REAL, key, hyper)[0])
    parts = zip(*map(jax.tree.leaves, (frozen, gradient)), strict=True)
    assert any(np.max(np.abs(a - b)) > 1e-3 * np.max(np.abs(a)) for a, b in parts)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "dtype"), [*((name, "float32") for name in sorted(OPTIMIZERS)), ("adam", "float64")])
def test_a_dead_unit_leaves_the_gradient_finite(optimizer, dtype):
    """A ReLU that is never on has the gradient 0, of whose square an optimizer takes the root."""
    changes = {"unroll": 1, "critic.optimizer": optimizer, "model.critic_activation": "relu", "dtype": dtype}
    config = make_config(changes)
    networks = build_networks(config, (2,))
    steps, hyper = make_steps(config, networks, make_objective(config, networks)), make_hyperparameters(config)
    start = jax.jit(steps.init_state)(jax.random.key(0))
    first = start.critic.params["Hidden_0"]["Dense_0"]
    first["bias"] = first["bias"].at[0].set(-1000)
    real = REAL._replace(x=REAL.x.astype(dtype))
    after, metrics = jax.jit(steps.generator_update)(start, real, jax.random.key(1), hyper)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))
    assert metrics["generator_gradient_norm"] > 0
