"""IMLE: the nearest examples and the pull of the loss by hand, its gradient alone, and a run without a critic."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.data import load_dataset
from wgan_jax.data.source import Feed
from wgan_jax.evaluation.critic import CRITIC_VALUES
from wgan_jax.models import build_networks
from wgan_jax.objectives import make_objective
from wgan_jax.objectives.imle import nearest, nearest_latents
from wgan_jax.training.program import make_program
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch, Latents, Player, TrainState

NO_LABEL = jnp.zeros(3, jnp.int32)


def test_the_nearest_are_those_of_all_distances():
    rng = np.random.default_rng(0)
    real, generated = (rng.normal(size=(n, 2, 3, 1)).astype(np.float32) for n in (7, 40))
    distances = np.linalg.norm((real[:, None] - generated[None]).reshape(7, 40, -1), axis=2)
    np.testing.assert_array_equal(nearest(real, generated), distances.argmin(axis=1))


def test_each_real_example_finds_its_nearest_on_any_device():
    """G(z) = 10 z of latents 0, ..., 7, two on each of four devices; examples lie nearest to those of other devices."""
    z = jnp.arange(8.0)[:, None]
    real = jnp.array([71.0, 52.0, -5.0, 18.0])[:, None]

    def found(z, real, axis_name):
        return nearest_latents(lambda latents: 10 * latents.z, Latents(z, z[:, 0].astype(int)), real, axis_name)

    whole = found(z, real, None)
    np.testing.assert_array_equal(whole.z[:, 0], [7, 5, 0, 2])
    np.testing.assert_array_equal(whole.label, [7, 5, 0, 2])
    shares = jax.vmap(lambda z, real: found(z, real, "data"), axis_name="data")(z.reshape(4, 2, 1), real.reshape(4, 1, 1))
    np.testing.assert_array_equal(shares.z.reshape(-1), [7, 5, 0, 2])


def test_the_loss_is_the_mean_squared_distance_to_the_nearest(make_config):
    """G(z) = z + s of the latents that are drawn, at s = (1, 0): value, and the gradient 2 mean (G(z) - x)."""
    config = make_config("imle.py:ring8", {"imle.samples": 4})
    networks = build_networks(config, (2,))
    drawn = []

    def generator(params, model_state, z, label):
        drawn.append(z)
        return z + params["shift"][None], model_state

    objective = make_objective(config, networks._replace(generator=generator))
    real = jnp.array([[0.5, 0.1], [-1.0, 2.0], [0.0, 0.3]])
    state = TrainState(jnp.int32(0), jnp.int32(0), None, Player(None, {}, None), None, {})
    latents = Latents(jnp.full((3, 2), jnp.nan), NO_LABEL)  # of its own it draws as many as config.imle.samples asks

    def loss(params):
        return objective.generator(params, state, latents, Batch(real, NO_LABEL), jax.random.key(0), {})

    value, (_, _, metrics) = loss({"shift": jnp.array([1.0, 0.0])})
    many = np.asarray(drawn[0]) + np.array([1.0, 0.0])
    assert many.shape == (12, 2)
    differences = many[None] - np.asarray(real)[:, None]
    squared = (differences**2).sum(axis=2)
    assert value == metrics["generator_loss"] == pytest.approx(squared.min(axis=1).mean())
    gradient = jax.grad(lambda params: loss(params)[0])({"shift": jnp.array([1.0, 0.0])})["shift"]
    chosen = differences[np.arange(3), squared.argmin(axis=1)]
    np.testing.assert_allclose(gradient, 2 * chosen.mean(axis=0), rtol=1e-5)


def test_training_moves_the_generator_alone(make_config):
    config = make_config("imle.py:ring8", {"model.width": 8, "batch_size": 64, "devices": 1})
    program = make_program(config, load_dataset(config))
    start = jax.device_get(program.init_state(jax.random.key(0)))
    arguments = program.place((start, np.int32(200), make_hyperparameters(config), jax.random.key(1)))
    state, metrics, done, finite = jax.device_get(program.run_updates(*arguments, program.shard(Feed())))
    assert (done, finite, state.step, state.critic_step) == (200, True, 200, 0)
    jax.tree.map(np.testing.assert_array_equal, state.critic, start.critic)
    assert metrics.keys() == {"generator_loss", "generator_gradient_norm", "generator_parameter_norm"}
    first = program.place((start, np.int32(1), make_hyperparameters(config), jax.random.key(1)))
    assert metrics["generator_loss"] < 0.5 * program.run_updates(*first, program.shard(Feed()))[1]["generator_loss"]


@pytest.mark.slow
def test_a_run_without_a_critic_says_nothing_of_one(command, tmp_path, caplog):
    small = {"steps": 20, "model.width": 8, "batch_size": 16, "eval.samples": 20, "eval.feature_samples": 20, "devices": 1}
    flags = [f"--config.{key}={value}" for key, value in small.items()]
    every = [f"--config.{name}_every=10" for name in ("log", "eval", "sample", "checkpoint")]
    with caplog.at_level(logging.WARNING):
        code, _, err = command("run", "--config=configs/imle.py:ring8", f"--workdir={tmp_path}", *flags, *every)
    assert (code, err) == (0, "")
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert [name for name in line if "critic" in name] == ["critic_step"]
    assert (line["critic_step"], line["examples"]) == (0, 20 * 16)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert not set(CRITIC_VALUES) & summary["final"].keys()
    assert (tmp_path / "figures" / "wasserstein.png").is_file()
    code, out, _ = command("evaluate", f"--workdir={tmp_path}", "--step=all", "--repeats=1", "--num=20")
    assert code == 0
    assert "estimate" not in out
