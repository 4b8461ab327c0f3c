"""Batch means, deviations and per-example keys: eight devices give what one device gives for the global batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.batching import batch_mean, batch_std, example_keys, in_chunks
from wgan_jax.objectives.penalties import PERTURBATIONS, POINTS, make_points
from wgan_jax.types import Batch

DEVICES, SHARE = 8, 3


def on_devices(f, *arguments, out_axes=0):
    """f under pmap, each argument [global batch, ...] cut into equal shares in order."""
    shares = [x.reshape(DEVICES, -1, *x.shape[1:]) for x in arguments]
    return jax.pmap(f, "data", in_axes=0, out_axes=out_axes)(*shares)


@pytest.fixture
def x():
    """A batch whose shares differ in mean and in spread, so that a mean of the shares' deviations would be wrong."""
    rng = np.random.default_rng(0)
    share = np.repeat(np.arange(DEVICES), SHARE)[:, None]
    return (rng.normal(size=(DEVICES * SHARE, 5)) * (1 + share) + 3 * share).astype(np.float32)


def test_batch_mean_is_the_global_mean_of_every_leaf(x):
    def means(share):
        return batch_mean({"sum": jnp.sum(share, axis=1).mean(), "each": [jnp.mean(share, axis=0)]}, "data")

    one = batch_mean({"sum": jnp.sum(x, axis=1).mean(), "each": [jnp.mean(x, axis=0)]}, None)
    eight = on_devices(means, x)
    np.testing.assert_allclose(one["sum"], x.sum(axis=1).mean(), rtol=1e-6)
    np.testing.assert_allclose(one["each"][0], x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(eight["sum"], np.full(DEVICES, one["sum"]), rtol=1e-6)
    np.testing.assert_allclose(eight["each"][0], np.tile(one["each"][0], (DEVICES, 1)), rtol=1e-6)


def test_batch_std_is_the_global_deviation(x):
    np.testing.assert_allclose(batch_std(x, None), np.std(x.astype(float)), rtol=1e-6)
    eight = on_devices(lambda share: batch_std(share, "data"), x)
    np.testing.assert_allclose(eight, np.full(DEVICES, np.std(x.astype(float))), rtol=1e-6)


def test_batch_std_far_from_zero_keeps_its_digits():
    x = (1e4 + np.random.default_rng(1).normal(size=(DEVICES * SHARE, 5))).astype(np.float32)  # E[x^2] - E[x]^2 has none left
    exact = np.std(x.astype(float))
    np.testing.assert_allclose(batch_std(x, None), exact, rtol=1e-4)
    np.testing.assert_allclose(on_devices(lambda share: batch_std(share, "data"), x)[0], exact, rtol=1e-4)


@pytest.mark.usefixtures("optimised")
def test_batch_std_of_equal_entries_is_zero():
    assert batch_std(jnp.full((4, 2), 0.3), None) == 0


def test_example_keys_depend_on_the_global_index_alone():
    key = jax.random.key(7)
    one = jax.random.key_data(example_keys(key, DEVICES * SHARE, None))
    eight = on_devices(lambda share: jax.random.key_data(example_keys(key, len(share), "data")), np.zeros(DEVICES * SHARE))
    assert len(np.unique(one, axis=0)) == DEVICES * SHARE
    np.testing.assert_array_equal(eight.reshape(one.shape), one)
    np.testing.assert_array_equal(one[5], jax.random.key_data(jax.random.fold_in(key, 5)))


def test_noise_is_distinct_per_global_example_and_equal_to_one_devices():
    def noise(key, count, axis_name):
        return jax.vmap(lambda k: jax.random.normal(k, (2,)))(example_keys(key, count, axis_name))

    key = jax.random.key(3)
    one = noise(key, DEVICES * SHARE, None)
    eight = on_devices(lambda share: noise(key, len(share), "data"), np.zeros(DEVICES * SHARE))
    assert len(np.unique(one)) == one.size
    np.testing.assert_array_equal(eight.reshape(one.shape), one)


def test_a_larger_batch_begins_with_the_smaller_ones_keys_and_other_keys_differ():
    few, many = (jax.random.key_data(example_keys(jax.random.key(0), count, None)) for count in (4, 9))
    np.testing.assert_array_equal(many[:4], few)
    other = jax.random.key_data(example_keys(jax.random.key(1), 4, None))
    assert not np.any(np.all(few == other, axis=1))


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_penalised_points_are_one_devices(x, perturbation):
    """Everywhere that a penalty may look: epsilons and noise of the global example, in deviations of the global batch."""
    real, generated, key = x.astype(float), x[::-1].astype(float) / 2, jax.random.key(4)

    def points(real, fake, axis_name):
        sides = [Batch(x, jnp.zeros(len(x), jnp.int32)) for x in (real, fake)]
        return {name: make_points(name, perturbation, axis_name)(key, *sides, 0.5).x for name in POINTS}

    with jax.enable_x64(True):
        one = points(real, generated, None)
        eight = on_devices(lambda *shares: points(*shares, "data"), real, generated)
    for name in POINTS:  # [devices, kinds * share, D] to [kinds * batch, D], kinds: real, generated or both
        shares = eight[name].reshape(DEVICES, -1, SHARE, x.shape[1])
        everything = np.moveaxis(shares, 1, 0).reshape(one[name].shape)
        np.testing.assert_allclose(everything, one[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_chunks_are_of_one_size_and_their_filling_is_left_out():
    sizes = []

    def apply(images):
        sizes.append(len(images))
        flat = images.reshape(len(images), -1)
        return flat.sum(1), flat[:, :2]

    images = np.arange(4 * 23).reshape(-1, 2, 2)
    sums, pairs = in_chunks(apply, images, 10)
    assert sizes == [10, 10, 10]
    np.testing.assert_array_equal(sums, images.sum((1, 2)))
    np.testing.assert_array_equal(pairs, images.reshape(-1, 4)[:, :2])
    assert len(in_chunks(apply, images[:3], 10)[0]) == 3
    assert sizes[3:] == [3]
