"""Packs: what a critic sees of them, their penalty by hand, and what is said where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.batching import pack
from wgan_jax.config import mistakes
from wgan_jax.data import load_dataset
from wgan_jax.errors import UserError
from wgan_jax.evaluation.critic import CRITIC_VALUES
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.models import build_networks
from wgan_jax.objectives import make_objective
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.training.program import make_parts, make_program
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch, CriticOutput, Latents, Player, TrainState

TINY = {"batch_size": 8, "n_critic": 2, "model.width": 8, "model.depth": 2, "latent.dim": 3, "packing": 2}
KEY = jax.random.key(0)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_a_pack_is_of_rows_that_follow_each_other():
    batch = Batch(jnp.arange(12.0).reshape(6, 2), jnp.arange(6))
    packs = pack(batch, 3)
    assert packs.label.tolist() == [[0, 1, 2], [3, 4, 5]]
    np.testing.assert_array_equal(packs.x[1, 0], batch.x[3])
    assert pack(batch, 1) is batch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (3,)),
        ({}, (8, 8, 2)),
        ({"model.name": "dcgan", "model.critic_kernel": "spectral_operator"}, (8, 8, 2)),
        ({"model.name": "resnet"}, (8, 8, 2)),
    ],
)
def test_a_critic_of_packs_is_one_of_examples_side_by_side(make_config, changes, shape):
    """Vectors [D] become [2 D], images [H, W, C] become [H, W, 2 C]."""
    config = make_config("gan.py:ring8", {**TINY, **changes})
    packed = build_networks(config, shape)
    plain = build_networks(make_config("gan.py:ring8", {**TINY, **changes, "packing": 1}), (*shape[:-1], 2 * shape[-1]))
    variables = packed.init_critic(KEY)
    jax.tree.map(np.testing.assert_array_equal, variables, plain.init_critic(KEY))
    x, labels = normal(0, 4, 2, *shape), jnp.zeros((4, 2), jnp.int32)
    joined = jnp.concatenate([x[:, 0], x[:, 1]], axis=-1)
    params, state = variables["params"], {name: variables[name] for name in variables if name != "params"}
    for name in ("critic", "penalty_critic"):
        output, _ = getattr(packed, name)(params, state, x, labels)
        np.testing.assert_array_equal(output.score, getattr(plain, name)(params, state, joined, labels)[0].score)
    np.testing.assert_array_equal(packed.score(variables, Batch(x, labels)), output.score)
    jax.tree.map(np.testing.assert_array_equal, packed.refresh_critic(variables), plain.refresh_critic(variables))


def objective_of(make_config, critic, changes):
    config = make_config("gan.py:ring8", {**TINY, **changes})
    generator = lambda params, state, z, label: (z[:, :2] + params["shift"][None], state)  # noqa: E731
    networks = build_networks(config, (2,))._replace(critic=critic, penalty_critic=critic, generator=generator)
    return make_objective(config, networks), make_hyperparameters(config)


def state_of(params):
    return TrainState(jnp.int32(0), jnp.int32(0), Player(params, {}, None), Player(None, {}, None), None, {})


def linear(params, state, x, label):
    """f of a pack is <w, its first example> + <v, its second>."""
    assert (x.shape[1:], label.shape) == ((2, 2), x.shape[:2])
    return CriticOutput(jnp.sum(x * params["w"], axis=(1, 2)), x[:, 0], None), state


W = {"w": jnp.array([[[3.0, 0.0], [0.0, 4.0]]])}  # the slope over a whole pack is 5; of its examples alone 3 and 4
REAL = Batch(jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 9.0], [9.0, 0.0]]), jnp.zeros(4, jnp.int32))  # packs score 7 and 6
GENERATED = Batch(jnp.array([[0.0, 0.0], [0.0, 0.5], [-1.0, 9.0], [9.0, 0.0]]), jnp.zeros(4, jnp.int32))  # 2 and -3


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_losses_and_penalties_of_packs_by_hand(make_config, loss):
    changes = {"loss": loss, "penalty.name": "two_sided", "penalty.weight": 2.0}
    objective, hyper = objective_of(make_config, linear, changes)
    value, (_, _, metrics) = objective.critic(W, state_of(None), REAL, GENERATED, KEY, hyper)
    assert (metrics["penalty"], metrics["critic_input_gradient_norm"]) == (16, 5)
    assert metrics["wasserstein_estimate"] == (7 + 6) / 2 - (2 - 3) / 2
    scores = jnp.array([7.0, 6.0]), jnp.array([2.0, -3.0])
    np.testing.assert_allclose(value, np.mean(LOSSES[loss].critic(*scores)) + 32, rtol=1e-6)
    latents = Latents(jnp.pad(GENERATED.x, ((0, 0), (0, 1))), GENERATED.label)
    value, _ = objective.generator({"shift": jnp.zeros(2)}, state_of(W), latents, REAL, KEY, hyper)
    np.testing.assert_allclose(value, np.mean(LOSSES[loss].generator(*scores)), rtol=1e-6)


def test_a_point_between_packs_has_one_epsilon(make_config):
    """f = (first - second)^2 / 2 is flat where both examples of a pack are one: (0 - 1)^2 = 1. Two epsilons would part them."""

    def difference(params, state, x, label):
        return CriticOutput(jnp.sum(jnp.square(x[:, 0] - x[:, 1]), axis=-1) / 2 * params["s"], x[:, 0], None), state

    objective, hyper = objective_of(make_config, difference, {"penalty.name": "two_sided"})
    real, generated = (Batch(jnp.full((8, 2), value), jnp.zeros(8, jnp.int32)) for value in (1.0, 0.0))
    state = state_of({"s": jnp.float32(9)})
    assert objective.look(state, real, generated, KEY, hyper)["penalty"] == 1


def test_packs_learn(make_config):
    """Twenty updates of a penalised critic of packs of two: everything finite, and both players move."""
    config = make_config("wgan_gp.py:ring8", TINY)
    dataset = load_dataset(config)
    _, steps = make_parts(config, dataset.shape)
    hyper, state = make_hyperparameters(config), steps.init_state(KEY)

    def take(position, key, count):
        x = dataset.draw(key, count * 8).reshape(count, 8, 2)
        return Batch(x, jnp.zeros((count, 8), jnp.int32))

    body = lambda state, key: steps.update(state, take, key, hyper)  # noqa: E731
    after, metrics = jax.jit(lambda s: jax.lax.scan(body, s, jax.random.split(KEY, 20)))(state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))
    assert np.ptp(metrics["critic_loss"]) > 0 < np.ptp(metrics["generator_loss"])


def test_packs_that_do_not_fit(make_config):
    config = make_config("gan.py:ring8", TINY)
    config.update({"batch_size": 12, "packing": 4, "devices": 2})
    (line,) = mistakes(config)
    assert line == "config.packing: batch_size=12 is no whole number of packs of 4 on each device"
    config.devices = 1
    assert mistakes(config) == []
    config.update({"devices": 0, "batch_size": 16})
    with pytest.raises(UserError, match="no whole number of packs of 4 on each of the 8 devices"):
        make_program(config, load_dataset(config))


def test_a_critic_of_packs_says_nothing_of_the_distance_between_examples(make_config):
    values = {}
    for packing in (1, 2):
        config = make_config("gan.py:ring8", {**TINY, "packing": packing, "eval.samples": 20, "eval.feature_samples": 20})
        dataset = load_dataset(config)
        networks = build_networks(config, dataset.shape)
        variables = networks.init_generator(KEY), networks.init_critic(KEY)
        values[packing] = make_evaluator(config, dataset, networks).of_generator(*variables, "validation", 0)
    assert set(CRITIC_VALUES) <= values[1].keys()
    assert values[1].keys() - values[2].keys() == set(CRITIC_VALUES)
    assert {name: values[1][name] for name in values[2]} == values[2]
