"""The only composer: loss x penalty x where it looks x constraint -> Objective."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.objectives.constraints import clip_parameters
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.objectives.penalties import PENALTIES, penalty_points, safe_norm, squared_gradient_norm
from wgan_jax.types import Apply, Hyperparameters, Metrics, Params


class Objective(NamedTuple):
    """What each player minimises. Losses and metrics are means over this device's share; the caller averages over devices."""

    # (params, model_state, real, generated, labels, step, key, hyper, objective_state)
    #   -> loss, (model_state, objective_state, metrics)
    critic: Callable[..., tuple[jax.Array, tuple[Params, Params, Metrics]]]
    # (params, model_state, critic_params, critic_state, latents, real, labels, step, key, hyper, objective_state)
    #   -> loss, (model_state, objective_state, metrics)
    generator: Callable[..., tuple[jax.Array, tuple[Params, Params, Metrics]]]
    # (params, model_state, real, generated, labels, key, hyper) -> mean |grad f| on this device; for the log
    gradient_norm: Callable[..., jax.Array]
    constrain: Callable[[Params, Hyperparameters], Params]  # the critic's parameters after an update
    init_state: Params  # first objective_state
    penalised: bool


def make_objective(
    config: ConfigDict, generator: Apply, critic: Apply, penalty_critic: Apply, axis_name: str | None = None
) -> Objective:
    """Returns the objective that config.loss, config.penalty and config.clip describe, for two networks.

    penalty_critic is the critic that computes in the parameters' dtype: the whole penalty pass is float32 under bfloat16.
    """
    loss, penalty = LOSSES[config.loss], PENALTIES[config.penalty.name]
    separate = config.model.critic_normalization == "batch"  # real and generated as batches of their own

    def scores(
        params: Params, model_state: Params, real: jax.Array, generated: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array, Params]:
        if separate:
            output, model_state = critic(params, model_state, real, labels)
            generated_output, model_state = critic(params, model_state, generated, labels)
            return output.score, generated_output.score, model_state
        both, twice = jnp.concatenate([real, generated]), jnp.concatenate([labels, labels])
        output, model_state = critic(params, model_state, both, twice)
        return *jnp.split(output.score, 2), model_state

    def squared_norms(
        params: Params,
        model_state: Params,
        real: jax.Array,
        generated: jax.Array,
        labels: jax.Array,
        key: jax.Array,
        hyper: Hyperparameters,
    ) -> jax.Array:
        """|grad f|^2 where the penalty looks, without one at interpolates; these keep the real example's label."""
        where = config.penalty.points if penalty is not None else "interpolates"
        noise = config.penalty.perturbation
        points = penalty_points(where, noise, hyper.noise_scale, key, real, generated, axis_name)
        labels = jnp.tile(labels, len(points) // len(labels))
        return squared_gradient_norm(lambda x: penalty_critic(params, model_state, x, labels)[0].score, points)

    def critic_objective(
        params: Params,
        model_state: Params,
        real: jax.Array,
        generated: jax.Array,
        labels: jax.Array,
        step: jax.Array,
        key: jax.Array,
        hyper: Hyperparameters,
        objective_state: Params,
    ) -> tuple[jax.Array, tuple[Params, Params, Metrics]]:
        del step
        real_score, generated_score, new_state = scores(params, model_state, real, generated, labels)
        assert real_score.shape == generated_score.shape == labels.shape, "scores are [B], or they would broadcast"
        value = jnp.mean(loss.critic(real_score, generated_score))
        metrics = {"wasserstein_estimate": jnp.mean(real_score) - jnp.mean(generated_score)}
        if penalty is not None:
            squared = squared_norms(params, model_state, real, generated, labels, key, hyper)
            metrics["penalty"] = jnp.mean(penalty(squared))
            metrics["critic_input_gradient_norm"] = jnp.mean(safe_norm(squared))
            value = value + hyper.penalty_weight * metrics["penalty"]
        return value, (new_state, objective_state, {"critic_loss": value, **metrics})

    def generator_objective(
        params: Params,
        model_state: Params,
        critic_params: Params,
        critic_state: Params,
        latents: jax.Array,
        real: jax.Array,
        labels: jax.Array,
        step: jax.Array,
        key: jax.Array,
        hyper: Hyperparameters,
        objective_state: Params,
    ) -> tuple[jax.Array, tuple[Params, Params, Metrics]]:
        del real, step, key, hyper
        generated, new_state = generator(params, model_state, latents, labels)
        output, _ = critic(critic_params, critic_state, generated, labels)
        value = jnp.mean(loss.generator(output.score))
        return value, (new_state, objective_state, {"generator_loss": value})

    def gradient_norm(*arguments: Any) -> jax.Array:
        return jnp.mean(safe_norm(squared_norms(*arguments)))

    def constrain(params: Params, hyper: Hyperparameters) -> Params:
        return clip_parameters(params, hyper.clip, config.clip_scope) if config.clip > 0 else params

    return Objective(critic_objective, generator_objective, gradient_norm, constrain, {}, penalty is not None)
