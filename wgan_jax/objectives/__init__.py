"""The only composer: loss x penalty x where it looks x constraint -> Objective."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.objectives.constraints import clip_parameters
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.objectives.penalties import PENALTIES, make_points, safe_norm, squared_gradient_norm
from wgan_jax.types import Batch, Hyperparameters, Latents, Metrics, Networks, Params, TrainState

# loss, (the player's model_state, memory, metrics)
type Value = tuple[jax.Array, tuple[Params, Params, Metrics]]


class Objective(NamedTuple):
    """What each player minimises, of its parameters, which stand first, and of the state that the update finds.

    Losses and metrics are means over this device's share; the caller averages them, gradients and model states over devices.
    Memory it does not: that is the same on all devices, and may hold integers. Generated examples have the labels of the real
    ones, row by row.
    """

    critic: Callable[[Params, TrainState, Batch, Batch, jax.Array, Hyperparameters], Value]  # real, generated, key
    generator: Callable[[Params, TrainState, Latents, Batch, jax.Array, Hyperparameters], Value]  # latents, real, key
    # real, generated, key -> mean |grad f| on this device; for the log
    gradient_norm: Callable[[TrainState, Batch, Batch, jax.Array, Hyperparameters], jax.Array]
    constrain: Callable[[Params, Hyperparameters], Params]  # the critic's parameters after an update
    memory: Params  # the first
    penalised: bool


def make_objective(config: ConfigDict, networks: Networks, axis_name: str | None = None) -> Objective:
    """Returns the objective that config.loss, config.penalty and config.clip describe, for two networks."""
    loss, penalty = LOSSES[config.loss], PENALTIES[config.penalty.name]
    where = config.penalty.points if penalty is not None else "interpolates"
    penalty_points = make_points(where, config.penalty.perturbation, axis_name)

    def scores(params: Params, model_state: Params, real: Batch, generated: Batch) -> tuple[jax.Array, jax.Array, Params]:
        if networks.mixes_examples:  # real and generated as batches of their own
            output, model_state = networks.critic(params, model_state, *real)
            generated_output, model_state = networks.critic(params, model_state, *generated)
            return output.score, generated_output.score, model_state
        both = jax.tree.map(lambda *examples: jnp.concatenate(examples), real, generated)
        output, model_state = networks.critic(params, model_state, *both)
        return *jnp.split(output.score, 2), model_state

    def squared_norms(
        params: Params, model_state: Params, real: Batch, generated: Batch, key: jax.Array, hyper: Hyperparameters
    ) -> jax.Array:
        """|grad f|^2 where the penalty looks, without one at interpolates."""
        x, label = penalty_points(key, real, generated, hyper["penalty.noise_scale"])
        return squared_gradient_norm(lambda x: networks.penalty_critic(params, model_state, x, label)[0].score, x)

    def critic_objective(
        params: Params, state: TrainState, real: Batch, generated: Batch, key: jax.Array, hyper: Hyperparameters
    ) -> Value:
        model_state = state.critic.model_state
        real_score, generated_score, new_state = scores(params, model_state, real, generated)
        assert real_score.shape == generated_score.shape == real.label.shape, "scores are [B], or they would broadcast"
        value = jnp.mean(loss.critic(real_score, generated_score))
        metrics = {"wasserstein_estimate": jnp.mean(real_score) - jnp.mean(generated_score)}
        if penalty is not None:
            squared = squared_norms(params, model_state, real, generated, key, hyper)
            metrics["penalty"] = jnp.mean(penalty(squared))
            metrics["critic_input_gradient_norm"] = jnp.mean(safe_norm(squared))
            value = value + hyper["penalty.weight"] * metrics["penalty"]
        return value, (new_state, state.memory, {"critic_loss": value, **metrics})

    def generator_objective(
        params: Params, state: TrainState, latents: Latents, real: Batch, key: jax.Array, hyper: Hyperparameters
    ) -> Value:
        del real, key, hyper
        generated, new_state = networks.generator(params, state.generator.model_state, *latents)
        output, _ = networks.critic(state.critic.params, state.critic.model_state, generated, latents.label)
        value = jnp.mean(loss.generator(output.score))
        return value, (new_state, state.memory, {"generator_loss": value})

    def gradient_norm(state: TrainState, real: Batch, generated: Batch, key: jax.Array, hyper: Hyperparameters) -> jax.Array:
        squared = squared_norms(state.critic.params, state.critic.model_state, real, generated, key, hyper)
        return jnp.mean(safe_norm(squared))

    def constrain(params: Params, hyper: Hyperparameters) -> Params:
        return clip_parameters(params, hyper["clip"], config.clip_scope) if config.clip > 0 else params

    return Objective(critic_objective, generator_objective, gradient_norm, constrain, {}, penalty is not None)
