"""The replay buffer against a list in NumPy, and on eight devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.objectives.memory import init_replay, replay
from wgan_jax.types import Batch

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
