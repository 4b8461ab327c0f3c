"""The generator's gradient while a critic is trained from scratch against it, and discriminators of low-dimensional data.

Arjovsky & Bottou 2017, "Towards Principled Methods for Training GANs", figures 2 and 3: a GAN is trained for a while, its
generator is held, and as a new discriminator gets better the gradient of log(1 - D) falls by orders of magnitude; that of
-log D grows, and a critic's stays. Here the GAN is configs/gan.py on 8x8 digits. Beside it theorem 2.2: the supports of two
laws of few dimensions can be told apart without a mistake, until noise fills the space.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import gan, wgan_lp
from experiments.figures.members import QUICK, Moment, one, seeds, train
from wgan_jax.batching import example_keys
from wgan_jax.data import digits
from wgan_jax.data.dataset import Stored
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.report.drawing import BLUE, DASHES, GREEN, ORANGE, PLAIN, colour
from wgan_jax.training.program import make_parts
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Array, Batch, Networks, Params, TrainState

type Draw = Callable[[jax.Array], tuple[Batch, Batch]]  # key -> real and generated examples
type Look = Callable[[Networks, Params, Batch, Batch], dict[str, jax.Array]]  # at a critic's variables and examples

COLOURS = {"minimax": ORANGE, "non_saturating": GREEN, "wasserstein": BLUE}
STAGES = (25, 250, 2500)  # updates of the GAN
SETTINGS = {"model.width": 128, "decay_steps": 0, "devices": 1}
BATCH, EVERY = 64, 25  # examples of a side; critic updates between looks
NOISES = (0.0, 1.0, 3.0)  # standard deviations; a coordinate's own is about .7
AMBIENT, INTRINSIC, HIDDEN = 64, 2, 32  # dimensions


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns gradient norms [loss, stage, look] of the generator, and a discriminator's accuracies [noise, look]."""
    stages, looks, changes = (STAGES[:1], 9, SETTINGS | QUICK) if quick else (STAGES, 61, SETTINGS)
    data = digits.load(gan.get_config("digits").data)
    config = gan.get_config("digits")
    config.update_from_flattened_dict(changes)
    norms = [gradient_norms(data, moment, changes, looks) for moment in train(config, data, seeds(1), stages)]
    return {
        "losses": np.array(list(COLOURS)),
        "stages": np.array(stages),
        "updates": EVERY * np.arange(looks),
        "norms": np.array([[own[loss] for own in norms] for loss in COLOURS]),
        "noises": np.array(NOISES),
        "accuracies": accuracies(changes, looks),
    }


def follow(config: ConfigDict, shape: tuple[int, ...], draw: Draw, look: Look, looks: int) -> dict[str, jax.Array]:
    """Returns what `look` says of a fresh critic, on fresh examples, at its start and after each EVERY updates."""
    networks, steps = make_parts(config, shape)
    hyper = make_hyperparameters(config)

    def update(state: TrainState, key: jax.Array) -> tuple[TrainState, None]:
        key_draw, key_step = jax.random.split(key)
        return steps.critic_step(state, *draw(key_draw), key_step, hyper)[0], None

    def block(state: TrainState, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        key_look, key_run = jax.random.split(key)
        found = look(networks, state.critic.variables, *draw(key_look))
        return jax.lax.scan(update, state, jax.random.split(key_run, EVERY))[0], found

    return jax.lax.scan(block, steps.init_state(jax.random.key(1)), jax.random.split(jax.random.key(2), looks))[1]


def gradient_norms(data: Stored, moment: Moment, changes: Mapping[str, Any], looks: int) -> dict[str, np.ndarray]:
    """Returns {loss: [look]}, |d mean loss / d parameters| of a generator that is held, by a new discriminator or critic."""
    images, networks = data.decode(data.train.images), moment.networks
    generator = one(moment.states.generator.variables, 0)
    labels = jnp.zeros(BATCH, jnp.int32)

    def draw(key: jax.Array) -> tuple[Batch, Batch]:
        key_real, key_latents = jax.random.split(key)
        latents = networks.latents(example_keys(key_latents, BATCH), labels)
        real = jnp.asarray(images)[jax.random.choice(key_real, len(images), (BATCH,))]
        return Batch(real, labels), Batch(networks.generate(generator, latents), labels)

    def make_look(*losses: str) -> Look:
        def look(critics: Networks, critic: Params, real: Batch, generated: Batch) -> dict[str, jax.Array]:
            del generated  # made again, of parameters to differentiate by
            latents = networks.latents(example_keys(jax.random.key(3), BATCH), labels)
            on_real = critics.score(critic, real)

            def loss(variables: Params, name: str) -> jax.Array:
                score = critics.score(critic, Batch(networks.generate(variables, latents), labels))
                return jnp.mean(LOSSES[name].generator(on_real, score))

            return {name: optax.tree.norm(jax.grad(loss)(generator, name)) for name in losses}

        return look

    norms: dict[str, np.ndarray] = {}
    for method, losses in ((gan, ("minimax", "non_saturating")), (wgan_lp, ("wasserstein",))):
        config = method.get_config("digits")
        config.update_from_flattened_dict(changes)
        found = jax.jit(functools.partial(follow, config, data.shape, draw, make_look(*losses), looks))()
        norms |= jax.device_get(found)
    return norms


def accuracies(changes: Mapping[str, Any], looks: int) -> np.ndarray:
    """Returns the shares [noise, look] of fresh examples of two random surfaces that a discriminator tells apart."""
    rng = np.random.default_rng(0)
    inner = rng.normal(size=(2, INTRINSIC, HIDDEN)).astype(np.float32)
    outer = rng.normal(0, HIDDEN**-0.5, size=(2, HIDDEN, AMBIENT)).astype(np.float32)
    labels = jnp.zeros(BATCH, jnp.int32)

    def surface(key: jax.Array, side: int, noise: jax.Array) -> Batch:
        key_latent, key_noise = jax.random.split(jax.random.fold_in(key, side))
        points = jnp.tanh(jax.random.normal(key_latent, (BATCH, INTRINSIC)) @ inner[side]) @ outer[side]
        return Batch(points + noise * jax.random.normal(key_noise, points.shape), labels)

    def look(networks: Networks, critic: Params, real: Batch, generated: Batch) -> dict[str, jax.Array]:
        right = jnp.mean(networks.score(critic, real) > 0) + jnp.mean(networks.score(critic, generated) < 0)
        return {"accuracy": right / 2}

    config = gan.get_config("digits")
    config.update_from_flattened_dict(changes)

    def with_noise(noise: jax.Array) -> dict[str, jax.Array]:
        return follow(config, (AMBIENT,), lambda key: (surface(key, 0, noise), surface(key, 1, noise)), look, looks)

    return np.asarray(jax.jit(lambda noises: jax.lax.map(with_noise, noises))(jnp.array(NOISES))["accuracy"])


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns the gradients' norms, a panel per stage of the GAN, and the discriminator's accuracies."""
    count = len(arrays["stages"])
    figure = Figure(figsize=(3.4 * (count + 1) + 0.6, 4.4), layout="constrained")
    *panels, last = figure.subplots(1, count + 1)
    for index, (axes, stage) in enumerate(zip(panels, arrays["stages"], strict=True)):
        for loss, norms in zip(arrays["losses"], arrays["norms"], strict=True):
            axes.plot(arrays["updates"], norms[index], color=COLOURS[str(loss)], label=str(loss).replace("_", " "))
        axes.set(yscale="log", xlabel="updates of the new critic", ylim=_decades(arrays["norms"]))
        axes.set_title(f"GAN of {stage:,.0f} updates, held", fontsize=10)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.grid(alpha=0.3)
        if index:
            axes.tick_params(labelleft=False)
    panels[0].set_ylabel("norm of the generator's gradient")
    panels[0].legend(fontsize=9, loc="center right")
    for index, (noise, shares) in enumerate(zip(arrays["noises"], arrays["accuracies"], strict=True)):
        told = f"noise {noise:g}" if noise else "no noise"
        last.plot(arrays["updates"], 100 * shares, DASHES[index], color=colour(index), label=told)
    last.set(xlabel="updates of the discriminator", ylabel="right on fresh examples (%)", ylim=(40, 102))
    last.set_title(f"two {INTRINSIC}-D surfaces in {AMBIENT} dimensions", fontsize=10)
    last.xaxis.set_major_formatter(PLAIN)
    last.grid(alpha=0.3)
    last.legend(fontsize=9, loc="lower right")
    return figure


def _decades(norms: Array) -> tuple[float, float]:
    """Returns limits that all norms above 0 lie between."""
    positive = np.asarray(norms)[np.asarray(norms) > 0]
    return float(positive.min() / 2), float(positive.max() * 2)
