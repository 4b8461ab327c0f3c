"""The program against the papers' algorithms written out, on batches and latents that are known without any key.

Networks, losses, optimizers and the average are written here again; of jax only `grad` is taken. The law of the latents is a
point, and the penalty looks at real examples, so that chance decides nothing but the start.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.data import load_dataset
from wgan_jax.data.source import make_feed
from wgan_jax.training.program import make_program
from wgan_jax.training.update import make_hyperparameters

BATCH, N_CRITIC, UPDATES, LATENT, RATE, WEIGHT, CLIP = 8, 2, 4, 3, 1e-3, 10.0, 0.1
TINY = {"batch_size": BATCH, "n_critic": N_CRITIC, "latent.dim": LATENT, "model.width": 6, "model.depth": 1, "devices": 1}
TINY |= {"critic.learning_rate": RATE, "generator.learning_rate": RATE, "decay_steps": 0, "warmup.critic_steps": 0}
CELLS = {
    "wgan": {"clip": CLIP},
    "wgan_gp": {"penalty.points": "real", "penalty.weight": WEIGHT, "critic.beta1": 0.5, "generator.beta1": 0.5},
}


# Networks


def mlp(params, x):
    hidden, last = params["Hidden_0"]["Dense_0"], params["Dense_0"]
    return jnp.maximum(x @ hidden["kernel"] + hidden["bias"][None], 0) @ last["kernel"] + last["bias"][None]


def generate(params, z):
    return jnp.tanh(mlp(params, z))


def score(params, x):
    return mlp(params, x)[:, 0]


# Losses: Arjovsky 2017, algorithm 1; Gulrajani 2017, algorithm 2, with the penalty at x


def critic_loss(params, real, generated, weight):
    slopes = jax.vmap(jax.grad(lambda x: score(params, x[None])[0]))(real)
    penalty = jnp.mean((jnp.sqrt(jnp.sum(slopes**2, axis=1)) - 1) ** 2)
    return jnp.mean(score(params, generated)) - jnp.mean(score(params, real)) + weight * penalty


def generator_loss(params, critic, z):
    return -jnp.mean(score(critic, generate(params, z)))


# Optimizers: of PyTorch's RMSProp, and Kingma & Ba 2015, algorithm 1


class RMSProp:
    def __init__(self):
        self.square = 0.0

    def step(self, w, g):
        self.square = 0.99 * self.square + 0.01 * g**2
        return w - RATE * g / (np.sqrt(self.square) + 1e-8)


class Adam:
    def __init__(self):
        self.mean, self.square, self.t = 0.0, 0.0, 0

    def step(self, w, g):
        self.t += 1
        self.mean, self.square = 0.5 * self.mean + 0.5 * g, 0.9 * self.square + 0.1 * g**2
        return w - RATE * (self.mean / (1 - 0.5**self.t)) / (np.sqrt(self.square / (1 - 0.9**self.t)) + 1e-8)


def descend(params, gradients, optimizers):
    return jax.tree.map(lambda w, g, own: np.asarray(own.step(w, g)), params, gradients, optimizers)


@pytest.mark.slow
@pytest.mark.parametrize("method", CELLS)
def test_updates_are_the_papers(make_config, method):
    """From a state whose average is not the generator: the critic meets the generator, and only the average itself averages."""
    with jax.enable_x64(True):
        law = {"dtype": "float64", "latent.name": "uniform", "latent.low": 1.0, "latent.high": 1 + 1e-15}
        config = make_config(f"{method}.py:digits", {**TINY, **law, **CELLS[method]})
        dataset = load_dataset(config)
        program = make_program(config, dataset)
        state = jax.device_get(program.init_state(jax.random.key(0)))
        state = state.replace(ema=jax.tree.map(lambda leaf: 0.3 - 2 * leaf, state.ema))
        critic, generator, ema = state.critic.params, state.generator.params, state.ema["params"]
        kind = {"wgan": RMSProp, "wgan_gp": Adam}[method]
        of_critic, of_generator = (jax.tree.map(lambda _: kind(), params) for params in (critic, generator))
        images = dataset.train.images.reshape(1000, 64) / 127.5 - 1
        batches = iter(images[np.random.default_rng((0, 0)).permutation(1000)[: UPDATES * (N_CRITIC + 1) * BATCH]])
        z = np.ones((BATCH, LATENT))
        losses = [jax.jit(jax.value_and_grad(loss)) for loss in (critic_loss, generator_loss)]
        images_of, scores = jax.jit(generate), jax.jit(score)
        for step in range(UPDATES):
            generated = np.asarray(images_of(generator, z))
            for _ in range(N_CRITIC):
                real = np.stack(list(itertools.islice(batches, BATCH)))
                on_real, on_generated = (np.mean(scores(critic, x)) for x in (real, generated))
                weight = WEIGHT if method == "wgan_gp" else 0.0
                on_critic, gradients = jax.device_get(losses[0](critic, real, generated, weight))
                critic = descend(critic, gradients, of_critic)
                if method == "wgan":
                    critic = jax.tree.map(lambda w: np.clip(w, -CLIP, CLIP), critic)
            list(itertools.islice(batches, BATCH))  # the generator's, of which its loss takes the number alone
            on_generator, gradients = jax.device_get(losses[1](generator, critic, z))
            generator = descend(generator, gradients, of_generator)
            decay = min(config.ema_decay, (1 + step) / (10 + step))
            ema = jax.tree.map(lambda average, new, d=decay: d * average + (1 - d) * new, ema, generator)

        feed = make_feed(dataset, program.place(dataset.train), 0, 0, UPDATES * (N_CRITIC + 1), BATCH)
        arguments = program.place((state, np.int32(UPDATES), make_hyperparameters(config), jax.random.key(1)))
        found, metrics, *_ = jax.device_get(program.run_updates(*arguments, program.shard(feed)))
        expected = {"critic_loss": on_critic, "generator_loss": on_generator, "wasserstein_estimate": on_real - on_generated}
        assert {name: metrics[name] for name in expected} == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-9)
        trees = ((found.critic.params, critic), (found.generator.params, generator), (found.ema["params"], ema))
        for mine, theirs in trees:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), mine, theirs)
        for mine, begun in ((critic, state.critic.params), (generator, state.generator.params)):
            moved = [np.abs(a - b).max() for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(begun), strict=True)]
            assert np.median(moved) > RATE  # but the last bias of a critic, which cannot matter, each array by steps
