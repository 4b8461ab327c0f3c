"""The only composer: OBJECTIVES; of the adversarial one loss x terms x penalty x its points x inputs x constraint x memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.batching import MISMATCH, REPLAY, example_keys, pack
from wgan_jax.objectives.constraints import clip_parameters
from wgan_jax.objectives.imle import nearest_latents
from wgan_jax.objectives.inputs import make_inputs
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.objectives.memory import from_mean, init_replay, replay
from wgan_jax.objectives.penalties import PENALTIES, SUMMED, make_points, safe_norm, squared_gradient_norm
from wgan_jax.objectives.targets import make_critic_loss
from wgan_jax.objectives.terms import TERMS
from wgan_jax.types import Array, Batch, CriticOutput, Hyperparameters, Latents, Metrics, Networks, Params, Player, TrainState

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
    # real, generated, key -> the penalty, if there is one, and mean |grad f|; for the log
    look: Callable[[TrainState, Batch, Batch, jax.Array, Hyperparameters], Metrics]
    constrain: Callable[[Player, Hyperparameters], Player]  # the critic after an update
    init_memory: Callable[[Params, Params], Params]  # of the parameters of critic and generator at the start
    penalised: bool  # whether each critic update is, whose metrics then have what `look` gives


class Kind(NamedTuple):
    """A kind of objective. wgan_jax.registries reads `has_critic` from the text of this file, so it is written as a literal."""

    make: Callable[[ConfigDict, Networks, str | None], Objective]
    has_critic: bool = True  # without one config.n_critic is 0, and of the objective `generator` and `init_memory` are called


def make_objective(config: ConfigDict, networks: Networks, axis_name: str | None = None) -> Objective:
    """Returns the objective that config.objective names, for two networks."""
    return OBJECTIVES[config.objective].make(config, networks, axis_name)


def make_adversarial(config: ConfigDict, networks: Networks, axis_name: str | None) -> Objective:
    """Returns the objective that config.loss and what stands below it in configs/default.py describe, for two networks."""
    loss, penalty = LOSSES[config.loss], PENALTIES[config.penalty.name]
    terms = {f"terms.{name}": term for name, term in TERMS.items() if config.terms[name] > 0}
    where = config.penalty.points if penalty is not None else "interpolates"
    penalty_points = make_points(where, config.penalty.perturbation, axis_name)
    halves, every = 2 if where in SUMMED else 1, config.penalty.every
    critic_loss, show_examples = make_critic_loss(config, axis_name), make_inputs(config, axis_name)

    def show(key: jax.Array, real: Batch, generated: Batch, step: jax.Array, hyper: Hyperparameters) -> tuple[Batch, Batch]:
        """What the critic is given of both sides."""
        return pack(show_examples(key, real, generated, step, hyper), config.packing)

    def outputs(params: Params, model_state: Params, *sides: Batch) -> tuple[list[CriticOutput], Params]:
        """What the critic says of each side, of equally many examples."""
        if networks.mixes_examples:  # batches of their own
            apart = []
            for side in sides:
                output, model_state = networks.critic(params, model_state, *side)
                apart.append(output)
            return apart, model_state
        together = jax.tree.map(lambda *examples: jnp.concatenate(examples), *sides)
        output, model_state = networks.critic(params, model_state, *together)
        return [jax.tree.map(lambda x, i=i: jnp.split(x, len(sides))[i], output) for i in range(len(sides))], model_state

    def mismatched(real: Batch, key: jax.Array) -> Batch:
        """The real examples, each with one of the other labels, drawn uniformly."""
        keys = example_keys(jax.random.fold_in(key, MISMATCH), len(real.label), axis_name)
        off = jax.vmap(lambda key: jax.random.randint(key, (), 1, networks.classes, jnp.int32))(keys)
        return real._replace(label=(real.label + off) % networks.classes)

    def classified(hyper: Hyperparameters, *sides: tuple[CriticOutput, Array]) -> list[jax.Array]:
        """-log P(label) by the auxiliary classifier, where there is one: both players minimise it (Odena 2017, section 3).

        Of attributes it has a part for each column.
        """
        loss = networks.label_loss
        if not networks.classes or loss is None:
            return []
        entropies = [loss(output.class_logits, label) for output, label in sides if output.class_logits is not None]
        return [hyper["conditioning.weight"] * jnp.mean(entropy) for entropy in entropies]

    def added(player: str, label: Array, *outputs: CriticOutput, hyper: Hyperparameters) -> jax.Array | float:
        """What the terms add to a player's loss, of the outputs on real and on generated examples."""
        functions = {key: getattr(term, player) for key, term in terms.items()}
        return sum(hyper[key] * function(*outputs, label, axis_name) for key, function in functions.items() if function)

    def slopes(params: Params, model_state: Params, points: Batch) -> Metrics:
        """What a critic's input gradient is at points: mean |grad f|, and the penalty of it if there is one.

        Of a critic that mixes examples, which has no penalty, it is that of evaluation, where each is scored by itself.
        """
        x, label = points

        def scores(x: jax.Array) -> jax.Array:
            if networks.mixes_examples:
                return networks.score({"params": params, **model_state}, Batch(x, label))
            return networks.penalty_critic(params, model_state, x, label)[0].score

        squared = squared_gradient_norm(scores, x)
        metrics = {"critic_input_gradient_norm": jnp.mean(safe_norm(squared))}
        return metrics if penalty is None else {"penalty": halves * jnp.mean(penalty(squared)), **metrics}

    def from_history(
        player: str, params: Params, memory: Params, count: jax.Array, hyper: Hyperparameters
    ) -> tuple[jax.Array | float, Params]:
        """What the distance of a player's parameters from their mean adds to its loss, and the memory with them."""
        if not config.terms.historical_averaging:
            return 0.0, memory
        distance, mean = from_mean(params, memory["means"][player], count)
        return hyper["terms.historical_averaging"] * distance, {**memory, "means": {**memory["means"], player: mean}}

    def critic_objective(
        params: Params, state: TrainState, real: Batch, generated: Batch, key: jax.Array, hyper: Hyperparameters
    ) -> Value:
        model_state, memory = state.critic.model_state, state.memory
        if config.replay.capacity:
            key_replay = jax.random.fold_in(key, REPLAY)
            generated, buffer = replay(memory["replay"], generated, hyper["replay.share"], key_replay, axis_name)
            memory = {**memory, "replay": jax.lax.stop_gradient(buffer)}
        real, generated = show(key, real, generated, state.step, hyper)
        wrong = [mismatched(real, key)] if config.conditioning.mismatch > 0 else []
        (on_real, on_generated, *on_wrong), new_state = outputs(params, model_state, real, generated, *wrong)
        scores = on_real.score, on_generated.score
        assert scores[0].shape == scores[1].shape == real.label.shape[:1], "scores are [B], or they would broadcast"
        value = jnp.mean(critic_loss(key, *scores, hyper))
        for output in on_wrong:  # the matching-aware critic: Reed 2016, algorithm 1
            share = hyper["conditioning.mismatch"]
            value = (1 - share) * value + share * jnp.mean(critic_loss(key, on_real.score, output.score, hyper))
        value = hyper["critic.loss_weight"] * value + added("critic", real.label, on_real, on_generated, hyper=hyper)
        value = value + sum(classified(hyper, (on_real, real.label), (on_generated, generated.label)))
        metrics = {"wasserstein_estimate": jnp.mean(scores[0]) - jnp.mean(scores[1])}
        history, memory = from_history("critic", params, memory, state.critic_step, hyper)
        value = value + history
        metrics["critic_loss"] = value
        if penalty is not None:
            points = penalty_points(key, real, generated, hyper["penalty.noise_scale"])  # which devices may wait for together
            looked = lambda: slopes(params, model_state, points)  # noqa: E731
            if every == 1:
                metrics |= looked()
                value = metrics["critic_loss"] = value + hyper["penalty.weight"] * metrics["penalty"]
            else:
                due = state.critic_step % every == 0
                lazy = jax.lax.cond(due, lambda: looked()["penalty"], lambda: jnp.zeros_like(value))
                value = value + every * hyper["penalty.weight"] * lazy
        return value, (new_state, memory, metrics)

    def generator_objective(
        params: Params, state: TrainState, latents: Latents, real: Batch, key: jax.Array, hyper: Hyperparameters
    ) -> Value:
        x, new_state = networks.generator(params, state.generator.model_state, *latents)
        real, generated = show(key, real, Batch(x, latents.label), state.step, hyper)
        critic = state.critic.params, state.critic.model_state
        on_real, _ = networks.critic(*critic, *real)  # left out by the compiler where nothing reads it
        on_generated, _ = networks.critic(*critic, *generated)
        value = hyper["generator.loss_weight"] * jnp.mean(loss.generator(on_real.score, on_generated.score))
        value = value + added("generator", real.label, on_real, on_generated, hyper=hyper)
        value = value + sum(classified(hyper, (on_generated, latents.label)))
        history, memory = from_history("generator", params, state.memory, state.step, hyper)
        value = value + history
        return value, (new_state, memory, {"generator_loss": value})

    def look(state: TrainState, real: Batch, generated: Batch, key: jax.Array, hyper: Hyperparameters) -> Metrics:
        points = penalty_points(key, *show(key, real, generated, state.step, hyper), hyper["penalty.noise_scale"])
        return slopes(state.critic.params, state.critic.model_state, points)

    def constrain(critic: Player, hyper: Hyperparameters) -> Player:
        if config.clip > 0:
            critic = critic.replace(params=clip_parameters(critic.params, hyper["clip"], config.clip_scope))
        variables = dict(networks.refresh_critic(critic.variables))
        return critic.replace(params=variables.pop("params"), model_state=variables)

    def init_memory(critic: Params, generator: Params) -> Params:
        memory = {"replay": init_replay(config.replay.capacity, networks.example)} if config.replay.capacity else {}
        if config.terms.historical_averaging:
            memory["means"] = jax.tree.map(jnp.zeros_like, {"critic": critic, "generator": generator})
        return memory

    penalised = penalty is not None and every == 1
    return Objective(critic_objective, generator_objective, look, constrain, init_memory, penalised)


def make_imle(config: ConfigDict, networks: Networks, axis_name: str | None) -> Objective:
    """Returns the generator's objective in implicit maximum likelihood estimation (Li & Malik 2018, algorithm 1).

    The mean of |x - G(z)|^2 over the real examples x of a batch, with z that of config.imle.samples per real one whose example
    is nearest to x. They are drawn anew for each update: the paper takes some updates with the same.
    """

    def generator_objective(
        params: Params, state: TrainState, latents: Latents, real: Batch, key: jax.Array, hyper: Hyperparameters
    ) -> Value:
        del latents, hyper
        apply = lambda latents: networks.generator(params, state.generator.model_state, *latents)  # noqa: E731
        label = jnp.repeat(jnp.asarray(real.label), config.imle.samples)
        many = networks.latents(example_keys(key, len(label), axis_name), label)
        generated, model_state = apply(nearest_latents(lambda latents: apply(latents)[0], many, real.x, axis_name))
        value = jnp.sum(jnp.square(generated - real.x)) / len(real.label)
        return value, (model_state, state.memory, {"generator_loss": value})

    def of_critic(*arguments: Any) -> Any:
        raise NotImplementedError("IMLE has no critic")

    return Objective(of_critic, generator_objective, of_critic, of_critic, lambda *_: {}, penalised=False)


OBJECTIVES: dict[str, Kind] = {
    "adversarial": Kind(make_adversarial),
    "imle": Kind(make_imle, has_critic=False),
}
