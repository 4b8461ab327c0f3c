"""The update as pure functions of arrays: n_critic critic updates fused by a scan, then one generator update."""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from wgan_jax.batching import UNROLLED, batch_mean, example_keys, warmup_phases
from wgan_jax.keys import keys_of
from wgan_jax.models import param_dtype
from wgan_jax.objectives import Objective, Value
from wgan_jax.types import Array, Batch, Hyperparameters, Latents, Metrics, Networks, Params, Player, TrainState

# learning rate, beta1, beta2 -> optimizer
OPTIMIZERS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], optax.GradientTransformation]] = {
    "adam": lambda rate, beta1, beta2: optax.adam(rate, b1=beta1, b2=beta2, eps=1e-8),
    # as PyTorch's, which the papers ran: decay .99 by default there, epsilon outside the root
    "rmsprop": lambda rate, beta1, beta2: optax.rmsprop(rate, decay=beta2, eps=1e-8, eps_in_sqrt=False),
    "sgd": lambda rate, beta1, beta2: optax.sgd(rate),
    "lion": lambda rate, beta1, beta2: optax.lion(rate, b1=beta1, b2=beta2, weight_decay=0.0),  # Chen 2023, algorithm 2
}
# share of decay_steps that is over, in [0, 1] -> factor of the learning rates
DECAYS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": lambda over: 1 - over,
    "cosine": lambda over: (1 + jnp.cos(jnp.pi * over)) / 2,  # Loshchilov & Hutter 2017, equation 5, without restarts
}

TINY = 1e-36  # a second moment that is as good as 0

type Take = Callable[[jax.Array, jax.Array, int], Batch]  # position, key, count -> stacked batches [count, B, ...]
type Updated = tuple[TrainState, Metrics]


class Steps(NamedTuple):
    """The pieces of an update, usable alone and together."""

    init_state: Callable[[jax.Array], TrainState]
    critic_step: Callable[[TrainState, Batch, Batch, jax.Array, Hyperparameters], Updated]
    critic_phase: Callable[[TrainState, Batch, jax.Array, Hyperparameters], Updated]
    generator_update: Callable[[TrainState, Batch, jax.Array, Hyperparameters], Updated]
    update: Callable[[TrainState, Take, jax.Array, Hyperparameters], Updated]
    look: Callable[[TrainState, Batch, jax.Array, Hyperparameters], Metrics]


def make_hyperparameters(config: ConfigDict) -> Hyperparameters:
    """Returns the numbers of a config that are arguments of the program; 0 steps to fall in, for never, are inf."""
    values = {key: functools.reduce(operator.getitem, key.split("."), config) for key in keys_of("number", "switch")}
    for key in ("decay_steps", "inputs.noise_steps"):
        values[key] = values[key] or jnp.inf
    return {key: jnp.asarray(value, param_dtype(config)) for key, value in values.items()}


def make_steps(config: ConfigDict, networks: Networks, objective: Objective, axis_name: str | None = None) -> Steps:
    """Returns the update of a config. batch_size / (number of devices on axis_name) examples are handled on each device."""

    def optimizer(player: str, step: jax.Array, hyper: Hyperparameters) -> optax.GradientTransformation:
        """The player's optimizer at a step, after clipping of its gradients' norm and before decay of its parameters.

        The decay is decoupled (Loshchilov & Hutter 2019, algorithm 2): with adam it is AdamW.
        """
        rate, beta1, beta2 = (hyper[f"{player}.{name}"] for name in ("learning_rate", "beta1", "beta2"))
        rate = rate * DECAYS[config.decay](jnp.minimum(1, step.astype(rate.dtype) / hyper["decay_steps"]))
        parts = [OPTIMIZERS[config[player].optimizer](rate, beta1, beta2)]
        if config[player].max_gradient_norm > 0:
            parts.insert(0, optax.clip_by_global_norm(hyper[f"{player}.max_gradient_norm"]))
        if config[player].weight_decay > 0:
            parts.append(optax.add_decayed_weights(-rate * hyper[f"{player}.weight_decay"]))
        return functools.reduce(optax.chain, parts)

    def init_player(player: str, variables: Params) -> Player:
        params = variables.pop("params")
        hyper = make_hyperparameters(config)
        return Player(params, variables, optimizer(player, jnp.zeros((), jnp.int32), hyper).init(params))

    def init_state(key: jax.Array) -> TrainState:
        key_critic, key_generator = jax.random.split(key)
        critic = init_player("critic", dict(networks.init_critic(key_critic)))
        generator = init_player("generator", dict(networks.init_generator(key_generator)))
        zero = jnp.zeros((), jnp.int32)
        ema = jax.tree.map(jnp.copy, generator.variables)
        return TrainState(zero, jnp.copy(zero), critic, generator, ema, objective.init_memory(critic.params, generator.params))

    def descend(
        name: str, state: TrainState, loss: Callable[[Params], Value], hyper: Hyperparameters
    ) -> tuple[Player, Params, Metrics]:
        """Returns a player one optimizer's step down its loss, the new memory, and the metrics of the global batch."""
        player: Player = getattr(state, name)
        (_, (model_state, memory, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(player.params)
        gradients, model_state, metrics = batch_mean((gradients, model_state, metrics), axis_name)
        metrics[f"{name}_gradient_norm"] = optax.tree.norm(gradients)
        updates, opt_state = optimizer(name, state.step, hyper).update(gradients, player.opt_state, player.params)
        return Player(optax.apply_updates(player.params, updates), model_state, opt_state), memory, metrics

    def draw_latents(key: jax.Array, label: Array) -> Latents:
        return networks.latents(example_keys(key, len(label), axis_name), label)

    def generate(player: Player, latents: Latents) -> Batch:
        x, _ = networks.generator(player.params, player.model_state, *latents)
        return Batch(x, latents.label)

    def critic_step(state: TrainState, real: Batch, generated: Batch, key: jax.Array, hyper: Hyperparameters) -> Updated:
        """Takes one critic update between real and generated examples, [B, ...] each."""
        loss = lambda params: objective.critic(params, state, real, generated, key, hyper)  # noqa: E731
        critic, memory, metrics = descend("critic", state, loss, hyper)
        critic = objective.constrain(critic, hyper)
        return state.replace(critic=critic, memory=memory, critic_step=state.critic_step + jnp.int32(1)), metrics

    def critic_phase(state: TrainState, batches: Batch, key: jax.Array, hyper: Hyperparameters) -> Updated:
        """Takes a critic update per stacked batch, [n_critic, B, ...]. Metrics are those of the last one.

        The generator is fixed meanwhile, so all the generated examples are made at once, each minibatch with batch
        statistics of its own.
        """
        count, (key_latents, key_steps) = len(batches.label), jax.random.split(key)
        make = lambda key, label: generate(state.generator, draw_latents(key, label))  # noqa: E731
        generated = jax.vmap(make)(jax.random.split(key_latents, count), batches.label)
        inputs = (batches, generated, jax.random.split(key_steps, count))
        state, stacked = jax.lax.scan(lambda state, each: critic_step(state, *each, hyper), state, inputs)
        return state, jax.tree.map(lambda values: values[-1], stacked)

    def unrolled(state: TrainState, real: Batch, generated: Batch, key: jax.Array, hyper: Hyperparameters) -> TrainState:
        """Returns the state after config.unroll more critic updates between the same examples, to be differentiated by them."""

        def step(state: TrainState, key: jax.Array) -> tuple[TrainState, None]:
            # Metz 2016, section 2.2, Adam included. Where a gradient was always 0, as a dead ReLU's, the optimizer takes the
            # root of 0, whose derivative is infinite.
            opt_state = jax.tree.map(_off_zero, state.critic.opt_state)
            state = state.replace(critic=state.critic.replace(opt_state=opt_state))
            return critic_step(state, real, generated, key, hyper)[0], None

        return jax.lax.scan(step, state, jax.random.split(key, config.unroll))[0]

    def generator_update(state: TrainState, batch: Batch, key: jax.Array, hyper: Hyperparameters) -> Updated:
        """Takes one generator update, with as many latents as the batch [B, ...] has examples, and moves the average.

        With config.unroll its loss is of the critic after so many more updates, which are then forgotten.
        """
        key_latents, key_objective = jax.random.split(key)
        latents = draw_latents(key_latents, batch.label)

        def loss(params: Params) -> Value:
            critic = state.critic
            if config.unroll:
                generated = generate(state.generator.replace(params=params), latents)
                key_unrolled = jax.random.fold_in(key, UNROLLED)
                critic = unrolled(state, batch, generated, key_unrolled, hyper).critic
            return objective.generator(params, state.replace(critic=critic), latents, batch, key_objective, hyper)

        generator, memory, metrics = descend("generator", state, loss, hyper)
        t = state.step.astype(hyper["ema_decay"].dtype)
        decay = jnp.minimum(hyper["ema_decay"], (1 + t) / (10 + t))
        ema = jax.tree.map(lambda average, new: average + (1 - decay) * (new - average), state.ema, generator.variables)
        return state.replace(step=state.step + jnp.int32(1), generator=generator, ema=ema, memory=memory), metrics

    def update(state: TrainState, take: Take, key: jax.Array, hyper: Hyperparameters) -> Updated:
        """Takes one generator update after its critic phases: one, or as many as the warm-up asks of this step."""
        key_critic, key_generator = jax.random.split(key)

        def phase(index: jax.Array | int, state: TrainState) -> Updated:
            key_batches, key_phase = jax.random.split(jax.random.fold_in(key_critic, index))
            batches = take(state.batches_taken, key_batches, config.n_critic)
            return critic_phase(state, batches, key_phase, hyper)

        metrics: Metrics = {}
        if config.warmup.critic_steps:
            shapes = jax.eval_shape(lambda s: phase(0, s)[1], state)
            metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            phases = warmup_phases(config, state.step)
            state, metrics = jax.lax.fori_loop(0, phases, lambda i, carry: phase(i, carry[0]), (state, metrics))
        elif config.n_critic:
            state, metrics = phase(0, state)
        key_batch, key_update = jax.random.split(key_generator)
        batches = take(state.batches_taken, key_batch, 1)
        batch = jax.tree.map(lambda stacked: stacked[0], batches)
        state, generator_metrics = generator_update(state, batch, key_update, hyper)
        return state, {**metrics, **generator_metrics}

    def look(state: TrainState, real: Batch, key: jax.Array, hyper: Hyperparameters) -> Metrics:
        """Returns what no update needs: where no penalty in each tells it, the critic's slope, and a lazy penalty.

        They are of real examples [B, ...] and newly generated ones.
        """
        if objective.penalised or not config.n_critic:
            return {}
        key_latents, key_points = jax.random.split(key)
        generated = generate(state.generator, draw_latents(key_latents, real.label))
        return batch_mean(objective.look(state, real, generated, key_points, hyper), axis_name)

    return Steps(init_state, critic_step, critic_phase, generator_update, update, look)


def _off_zero(leaf: jax.Array) -> jax.Array:
    return leaf + jnp.where(leaf == 0, TINY, 0).astype(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
