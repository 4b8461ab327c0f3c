"""The replay buffer against a list in NumPy, on eight devices against one, and historical averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.objectives.memory import from_mean, init_replay, replay
from wgan_jax.training.program import make_parts
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch

SGD = {"optimizer": "sgd", "learning_rate": 0.1}
EXAMPLE = jax.ShapeDtypeStruct((2,), jnp.float32)


def batch(first, size=4):
    """Examples that show their number, from `first` on."""
    numbers = jnp.arange(first, first + size, dtype=jnp.float32)
    return Batch(jnp.stack([numbers, -numbers], axis=1), numbers.astype(jnp.int32))


@pytest.mark.parametrize("capacity", [3, 4, 10])
def test_the_buffer_holds_the_newest(capacity):
    buffer = init_replay(capacity, EXAMPLE)
    for update in range(8):
        _, buffer = replay(buffer, batch(4 * update), 0.5, jax.random.key(update), None)
        seen = range(4 * (update + 1))
        held = np.asarray(buffer["label"])[: len(seen)]
        assert sorted(held.tolist()) == list(seen)[-capacity:]
        np.testing.assert_array_equal(buffer["x"][: len(seen), 0], held)
    assert buffer["stored"] < 2 * capacity + 4


def test_a_share_of_the_batch_is_replaced_by_earlier_examples_uniformly():
    buffer = init_replay(8, EXAMPLE)
    shown, buffer = replay(buffer, batch(0), 1.0, jax.random.key(0), None)
    np.testing.assert_array_equal(shown.label, [0, 1, 2, 3])  # there are none yet
    many = jax.vmap(lambda key: replay(buffer, batch(4), 0.25, key, None)[0])(jax.random.split(jax.random.key(1), 4000))
    labels = np.asarray(many.label)
    np.testing.assert_array_equal(many.x[..., 0], labels)
    np.testing.assert_allclose((labels < 4).mean(), 0.25, atol=0.015)
    np.testing.assert_allclose(np.bincount(labels[labels < 4]) / (labels < 4).sum(), 0.25, atol=0.03)
    new = labels[labels >= 4] - 4
    assert set(np.unique(new)) == {0, 1, 2, 3}
    assert (np.where(labels >= 4, labels - 4, np.arange(4)) == np.arange(4)).all()  # what is not replaced stays in its place


def test_eight_devices_remember_and_show_what_one_does():
    first, second = batch(0, 16), batch(16, 16)
    share = lambda b: jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), b)  # noqa: E731

    def twice(first, second, axis_name):
        _, buffer = replay(init_replay(20, EXAMPLE), first, 0.5, jax.random.key(3), axis_name)
        return replay(buffer, second, 0.5, jax.random.key(4), axis_name)

    shown, buffer = twice(first, second, None)
    shown_parts, buffers = jax.pmap(lambda a, b: twice(a, b, "data"), "data")(share(first), share(second))
    np.testing.assert_array_equal(shown_parts.label.reshape(-1), shown.label)
    for name, value in buffer.items():
        for device in range(8):
            np.testing.assert_array_equal(buffers[name][device], value)


def test_the_distance_from_the_mean_by_hand():
    """theta = (0, 0), (3, 4), (6, -1): means (0, 0), (1.5, 2), (3, 1), squares 0, 6.25, 13 and their slopes."""
    mean = {"w": jnp.full(2, 7.0)}  # of no theta: it does not count
    for count, (w, wanted, slope) in enumerate(
        [((0.0, 0.0), 0, (0, 0)), ((3.0, 4.0), 6.25, (3, 4)), ((6.0, -1.0), 13, (6, -4))]
    ):
        params = {"w": jnp.array(w)}
        distance = lambda params, mean=mean, count=count: from_mean(params, mean, jnp.int32(count))  # noqa: E731
        (value, new), gradient = jax.value_and_grad(distance, has_aux=True)(params)
        assert value == wanted
        np.testing.assert_allclose(gradient["w"], slope)
        mean = new
    np.testing.assert_allclose(mean["w"], [3, 1])


@pytest.mark.slow
def test_an_update_remembers_the_mean_of_both_players_parameters(make_config):
    """By SGD whose rate is so small that the means are seen, of as many updates as each player has had."""
    sgd = {f"{player}.{key}": value for player in ("critic", "generator") for key, value in SGD.items()}
    small = {"model.width": 4, "model.depth": 1, "batch_size": 4, "n_critic": 2, "decay_steps": 0}
    config = make_config("gan.py:ring8", {**small, **sgd, "terms.historical_averaging": 0.5})
    (_, steps), hyper = make_parts(config, (2,)), make_hyperparameters(config)
    state = steps.init_state(jax.random.key(0))
    seen = {"critic": [], "generator": []}
    for update in range(3):
        for _ in range(2):
            seen["critic"].append(state.critic.params)
            state, _ = steps.critic_step(state, batch(update), batch(9), jax.random.key(update), hyper)
        seen["generator"].append(state.generator.params)
        before = state
        state, _ = steps.generator_update(state, batch(update), jax.random.key(update), hyper)
    for player, params in seen.items():
        mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.memory["means"][player], mean)
    without, _ = steps.generator_update(
        before, batch(2), jax.random.key(2), hyper | {"terms.historical_averaging": jnp.float32(0)}
    )
    mean, rate = state.memory["means"]["generator"], SGD["learning_rate"]
    wanted = jax.tree.map(
        lambda w, old, m: w - rate * 0.5 * 2 * (old - m), without.generator.params, before.generator.params, mean
    )
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, state.generator.params, wanted)
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), state.generator.params, without.generator.params))
    assert max(moved) > 1e-4
