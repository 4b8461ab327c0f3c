"""The update as pure functions of arrays: n_critic critic updates fused by a scan, then one generator update."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from wgan_jax.batching import batch_mean, example_keys
from wgan_jax.models import Networks, param_dtype
from wgan_jax.models.latent import sample_latents
from wgan_jax.objectives import Objective
from wgan_jax.types import Batch, Hyperparameters, Metrics, Params, Player, TrainState

# (learning rate, beta1, beta2), which may be traced -> optimizer
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": lambda rate, beta1, beta2: optax.adam(rate, b1=beta1, b2=beta2, eps=1e-8),
    # as PyTorch's, which the papers ran: decay .99 by default there, epsilon outside the root
    "rmsprop": lambda rate, beta1, beta2: optax.rmsprop(rate, decay=beta2, eps=1e-8, eps_in_sqrt=False),
    "sgd": lambda rate, beta1, beta2: optax.sgd(rate),
}

type Take = Callable[[jax.Array, jax.Array, int], Batch]  # position, key, count -> stacked batches [count, B, ...]


class Steps(NamedTuple):
    """The pieces of an update, usable alone and together."""

    init_state: Callable[[jax.Array], TrainState]
    critic_phase: Callable[..., tuple[TrainState, Metrics]]
    generator_update: Callable[..., tuple[TrainState, Metrics]]
    update: Callable[..., tuple[TrainState, Metrics]]


def make_hyperparameters(config: ConfigDict) -> Hyperparameters:
    """Returns the numbers of a config that are arguments of the program."""
    players = {
        f"{player}_{name}": config[player][name]
        for player in ("critic", "generator")
        for name in ("learning_rate", "beta1", "beta2")
    }
    values = dict(
        players,
        decay_steps=config.decay_steps or jnp.inf,
        penalty_weight=config.penalty.weight,
        noise_scale=config.penalty.noise_scale,
        clip=config.clip,
        ema_decay=config.ema_decay,
    )
    return Hyperparameters(**{name: jnp.asarray(value, param_dtype(config)) for name, value in values.items()})


def warmup_phases(config: ConfigDict, step: jax.Array | int) -> jax.Array | int:
    """Returns the number of critic phases before the generator update of a step: 1, or more where the warm-up asks."""
    warm = (step < config.warmup.first) | (step % config.warmup.every == 0)
    return jnp.where(warm, config.warmup.critic_steps // config.n_critic, 1) if config.warmup.critic_steps else 1


def make_steps(config: ConfigDict, networks: Networks, objective: Objective, axis_name: str | None = None) -> Steps:
    """Returns the update of a config. batch_size / (number of devices on axis_name) examples are handled on each device."""

    def optimizer(player: str, step: jax.Array, hyper: Hyperparameters) -> optax.GradientTransformation:
        rate, beta1, beta2 = (getattr(hyper, f"{player}_{name}") for name in ("learning_rate", "beta1", "beta2"))
        decayed = rate * jnp.maximum(0, 1 - step.astype(rate.dtype) / hyper.decay_steps)
        return OPTIMIZERS[config[player].optimizer](decayed, beta1, beta2)

    def init_player(player: str, variables: Params) -> Player:
        params = variables.pop("params")
        hyper = make_hyperparameters(config)
        return Player(params, variables, optimizer(player, jnp.zeros((), jnp.int32), hyper).init(params))

    def init_state(key: jax.Array) -> TrainState:
        key_critic, key_generator = jax.random.split(key)
        critic = init_player("critic", dict(networks.init_critic(key_critic)))
        generator = init_player("generator", dict(networks.init_generator(key_generator)))
        ema = jax.tree.map(jnp.copy, {"params": generator.params, **generator.model_state})
        zero = jnp.zeros((), jnp.int32)
        return TrainState(zero, jnp.copy(zero), critic, generator, ema, objective.init_state)

    def descend(
        name: str, player: Player, gradients: Params, model_state: Params, step: jax.Array, hyper: Hyperparameters
    ) -> Player:
        updates, opt_state = optimizer(name, step, hyper).update(gradients, player.opt_state, player.params)
        return Player(optax.apply_updates(player.params, updates), model_state, opt_state)

    def latents(key: jax.Array, size: int) -> jax.Array:
        return sample_latents(example_keys(key, size, axis_name), config, param_dtype(config))

    def critic_phase(
        state: TrainState, batches: Batch, key: jax.Array, hyper: Hyperparameters, measure: jax.Array | bool = True
    ) -> tuple[TrainState, Metrics]:
        """Takes a critic update per stacked batch, [n_critic, B, ...]. Metrics are those of the last one.

        The generator is fixed meanwhile, so all the generated examples are made at once, each minibatch with batch
        statistics of its own. Without a penalty the input gradient's norm costs a pass of its own, after the last
        update, and is computed only if `measure`.
        """
        key_latents, key_objective, key_measure = jax.random.split(key, 3)
        count, size = batches.label.shape
        generator = state.generator
        latent_batches = jax.vmap(lambda k: latents(k, size))(jax.random.split(key_latents, count))
        generated, _ = jax.vmap(networks.generator, in_axes=(None, None, 0, 0))(
            generator.params, generator.model_state, latent_batches, batches.label
        )

        def critic_update(
            carry: tuple[Player, Params], inputs: tuple[Batch, jax.Array, jax.Array]
        ) -> tuple[tuple[Player, Params], Metrics]:
            critic, objective_state = carry
            batch, fake, step_key = inputs
            (_, aux), gradients = jax.value_and_grad(objective.critic, has_aux=True)(
                critic.params,
                critic.model_state,
                batch.x,
                fake,
                batch.label,
                state.step,
                step_key,
                hyper,
                objective_state,
            )
            gradients, (model_state, objective_state, metrics) = batch_mean((gradients, aux), axis_name)
            metrics["critic_gradient_norm"] = optax.tree.norm(gradients)
            critic = descend("critic", critic, gradients, model_state, state.step, hyper)
            critic = critic.replace(params=objective.constrain(critic.params, hyper))
            return (critic, objective_state), metrics

        inputs = (batches, generated, jax.random.split(key_objective, count))
        (critic, objective_state), stacked = jax.lax.scan(critic_update, (state.critic, state.objective_state), inputs)
        metrics = {name: values[-1] for name, values in stacked.items()}
        if not objective.penalised:
            real, labels, fake = batches.x[-1], batches.label[-1], generated[-1]

            def gradient_norm() -> jax.Array:
                return objective.gradient_norm(critic.params, critic.model_state, real, fake, labels, key_measure, hyper)

            if config.model.critic_normalization == "batch":
                norm = jnp.where(measure, gradient_norm(), 0)  # its statistics are collectives: none may wait inside a cond
            else:
                norm = jax.lax.cond(measure, gradient_norm, lambda: jnp.zeros((), real.dtype))
            metrics["critic_input_gradient_norm"] = batch_mean(norm, axis_name)
        state = state.replace(critic=critic, objective_state=objective_state, critic_step=state.critic_step + jnp.int32(count))
        return state, metrics

    def generator_update(state: TrainState, batch: Batch, key: jax.Array, hyper: Hyperparameters) -> tuple[TrainState, Metrics]:
        """Takes one generator update, with as many latents as the batch [B, ...] has examples, and moves the average."""
        key_latents, key_objective = jax.random.split(key)
        generator, critic = state.generator, state.critic
        (_, aux), gradients = jax.value_and_grad(objective.generator, has_aux=True)(
            generator.params,
            generator.model_state,
            critic.params,
            critic.model_state,
            latents(key_latents, len(batch.label)),
            batch.x,
            batch.label,
            state.step,
            key_objective,
            hyper,
            state.objective_state,
        )
        gradients, (model_state, objective_state, metrics) = batch_mean((gradients, aux), axis_name)
        metrics["generator_gradient_norm"] = optax.tree.norm(gradients)
        generator = descend("generator", generator, gradients, model_state, state.step, hyper)
        t = state.step.astype(hyper.ema_decay.dtype)
        decay = jnp.minimum(hyper.ema_decay, (1 + t) / (10 + t))
        variables = {"params": generator.params, **generator.model_state}
        ema = jax.tree.map(lambda average, new: average + (1 - decay) * (new - average), state.ema, variables)
        step = state.step + jnp.int32(1)
        return state.replace(step=step, generator=generator, ema=ema, objective_state=objective_state), metrics

    def update(
        state: TrainState, take: Take, key: jax.Array, hyper: Hyperparameters, measure: jax.Array | bool = True
    ) -> tuple[TrainState, Metrics]:
        """Takes one generator update after its critic phases: one, or as many as the warm-up asks of this step."""
        key_critic, key_generator = jax.random.split(key)

        def phase(index: jax.Array | int, state: TrainState) -> tuple[TrainState, Metrics]:
            key_batches, key_phase = jax.random.split(jax.random.fold_in(key_critic, index))
            batches = take(state.critic_step + state.step, key_batches, config.n_critic)
            return critic_phase(state, batches, key_phase, hyper, measure)

        if config.warmup.critic_steps:
            shapes = jax.eval_shape(lambda s: phase(0, s)[1], state)
            metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            phases = warmup_phases(config, state.step)
            state, metrics = jax.lax.fori_loop(0, phases, lambda i, carry: phase(i, carry[0]), (state, metrics))
        else:
            state, metrics = phase(0, state)
        key_batch, key_update = jax.random.split(key_generator)
        batches = take(state.critic_step + state.step, key_batch, 1)
        batch = jax.tree.map(lambda stacked: stacked[0], batches)
        state, generator_metrics = generator_update(state, batch, key_update, hyper)
        return state, {**metrics, **generator_metrics}

    return Steps(init_state, critic_phase, generator_update, update)
