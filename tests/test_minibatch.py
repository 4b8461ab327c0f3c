"""Minibatch discrimination, virtual batch normalisation and dropout against NumPy, and on eight devices against one."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from wgan_jax.models import build_networks
from wgan_jax.models.dropout import drop
from wgan_jax.models.minibatch import Closeness, Referring, VirtualBatchNorm
from wgan_jax.types import Batch, Latents

pytestmark = pytest.mark.usefixtures("strict_dtypes")

RNG = np.random.default_rng(0)
M = RNG.normal(size=(16, 3, 2)).astype(np.float32)  # of kernels' values: 16 examples, 3 kernels, 2 dims
START = {"batch_stats": {"mean": jnp.full(3, 5.0)}}
TINY = {"latent.dim": 3, "model.width": 8, "model.depth": 2, "batch_size": 6, "loss": "hinge", "penalty.name": "none"}


def labels(count):
    return jnp.zeros(count, jnp.int32)


# Minibatch discrimination


def closeness(m):
    return np.array([[sum(np.exp(-np.abs(m[i, k] - m[j, k]).sum()) for j in range(len(m)) if j != i) for k in range(3)]
                     for i in range(len(m))])  # fmt: skip


def test_closeness_by_hand():
    """Two examples apart by (1, 2): exp(-3) each, and nothing of oneself."""
    m = jnp.array([[[0.0, 0.0]], [[1.0, 2.0]]])
    one = {"batch_stats": {"mean": jnp.zeros(1)}}
    values, state = Closeness(None).apply(one, m, train=True, mutable=True)
    np.testing.assert_allclose(values, [[np.exp(-3)]] * 2, rtol=1e-6)
    np.testing.assert_allclose(state["batch_stats"]["mean"], [0.1 * np.exp(-3)], rtol=1e-6)


def test_closeness_is_to_all_others_and_its_mean_stands_for_it_in_evaluation():
    values, state = Closeness(None).apply(START, M, train=True, mutable=True)
    np.testing.assert_allclose(values, closeness(M), rtol=1e-5)
    mean = 0.9 * 5 + 0.1 * closeness(M).mean(axis=0)
    np.testing.assert_allclose(state["batch_stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_array_equal(Closeness(None).apply(state, M[:2], train=False), [state["batch_stats"]["mean"]] * 2)


def test_a_share_on_each_device_is_as_close_to_the_whole_batch_and_has_its_gradient():
    def loss(m, axis_name):
        values, state = Closeness(axis_name).apply(START, m, train=True, mutable=True)
        return jnp.mean(jnp.sum(jnp.sin(values), axis=1)), (values, state["batch_stats"]["mean"])

    (_, (whole, state)), gradient = jax.value_and_grad(loss, has_aux=True)(M, None)
    (_, (parts, states)), shares = jax.pmap(lambda m: jax.value_and_grad(loss, has_aux=True)(m, "data"), "data")(
        M.reshape(8, 2, 3, 2)
    )
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, rtol=1e-5)
    np.testing.assert_allclose(states.mean(0), state, rtol=1e-5)
    np.testing.assert_allclose(shares.reshape(M.shape) / 8, gradient, rtol=1e-4, atol=1e-6)  # of the mean over devices


def test_the_score_is_linear_in_features_and_closeness(make_config):
    networks = build_networks(make_config("gan.py:ring8", TINY | {"model.critic_head": "minibatch_discrimination"}), (2,))
    variables = dict(networks.init_critic(jax.random.key(0)))
    params, state, x = variables.pop("params"), variables, jnp.asarray(M[:, 0])
    output, _ = networks.critic(params, state, x, labels(16))
    features = np.asarray(output.features, np.float64)
    kernel, last = params["Dense_1"]["kernel"], params["Dense_0"]
    assert (kernel.shape, last["kernel"].shape) == ((8, 500), (108, 1))
    m = (features @ np.asarray(kernel, np.float64)).reshape(16, 100, 5)
    distance = np.abs(m[:, None] - m[None]).sum(-1)
    close = np.exp(-distance).sum(1) - 1  # oneself
    wanted = np.concatenate([features, close], axis=1) @ np.asarray(last["kernel"])[:, 0]
    np.testing.assert_allclose(output.score, wanted, rtol=1e-4, atol=1e-5)
    evaluated = networks.score({"params": params, **state}, Batch(x, labels(16)))  # whose mean is still 0
    np.testing.assert_allclose(evaluated, features @ np.asarray(last["kernel"])[:8, 0], rtol=1e-4, atol=1e-5)


# Virtual batch normalisation


@pytest.mark.parametrize("shape", [(4,), (3, 3, 4)])
def test_the_virtual_moments_weigh_an_example_with_the_reference(shape):
    """Of R = 5 by hand: mean = (R mean of reference + own mean) / (R + 1), and so the mean of squares."""
    x = RNG.normal(1, 2, (7, *shape)).astype(np.float32)
    params = {"scale": jnp.array([1.0, 2.0, 3.0, 4.0]), "bias": jnp.array([0.0, 1.0, 0.0, -1.0])}
    y = VirtualBatchNorm(5).apply({"params": params}, x)
    channels, over = x.astype(np.float64), tuple(range(len(shape)))[:-1]
    reference = channels[:5].reshape(-1, 4)
    for index, example in enumerate(channels):
        own = [np.mean(moment, axis=over) for moment in (example, example**2)]
        fixed = [reference.mean(0), (reference**2).mean(0)]
        mean, square = fixed if index < 5 else ((5 * a + b) / 6 for a, b in zip(fixed, own, strict=True))
        wanted = (example - mean) / np.sqrt(square - mean**2 + 1e-5) * np.asarray(params["scale"]) + np.asarray(params["bias"])
        np.testing.assert_allclose(y[index], wanted, rtol=1e-4, atol=1e-4)


def test_a_virtually_normalised_generator_makes_each_example_by_itself(make_config):
    """The same in training and in evaluation, whatever is made beside it, and not as without the reference."""
    config = make_config("gan.py:ring8", TINY | {"model.generator_normalization": "virtual_batch"})
    networks = build_networks(config, (2,))
    variables = jax.jit(networks.init_generator)(jax.random.key(0))
    assert variables.keys() == {"params"}
    latents = networks.latents(jax.random.split(jax.random.key(1), 4), labels(4))
    whole = networks.generate(variables, latents)
    assert whole.shape == (4, 2)
    for index in range(4):
        one = jax.tree.map(lambda leaf, i=index: leaf[i : i + 1], latents)
        np.testing.assert_allclose(networks.generate(variables, one)[0], whole[index], rtol=1e-5, atol=1e-6)
    trained, state = networks.generator(variables["params"], {}, *latents)
    np.testing.assert_allclose(trained, whole, rtol=1e-6)
    assert state == {}
    assert np.abs(whole).max() > 0.01


@pytest.mark.parametrize("conditioning", ["embedding", "projection"])
def test_shares_of_one_class_are_that_label_to_a_virtually_normalised_generator(make_config, conditioning):
    changes = {"data.name": "digits", "model.generator_normalization": "virtual_batch", "conditioning.name": conditioning}
    networks = build_networks(make_config("gan.py:digits", TINY | changes), (2,), classes=3)
    params = jax.jit(networks.init_generator)(jax.random.key(0))["params"]
    noise = lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(2), leaf.shape)  # noqa: E731 - classes begin alike
    variables = {"params": jax.tree.map(noise, params)}
    latents = networks.latents(jax.random.split(jax.random.key(1), 3), jnp.arange(3, dtype=jnp.int32))
    of_labels, of_shares = (networks.generate(variables, latents._replace(label=y)) for y in (latents.label, jnp.eye(3)))
    np.testing.assert_allclose(of_shares, of_labels, rtol=1e-5)
    assert not np.allclose(of_labels, networks.generate(variables, latents._replace(label=latents.label[::-1])), rtol=1e-2)


def test_the_reference_has_the_first_label_however_labels_are_written():
    class First(nn.Module):
        """Makes of every example the first label of the batch."""

        @nn.compact
        def __call__(self, latent, label, train):
            return jnp.broadcast_to(label[:1], label.shape)

    generator = Referring(First(), lambda: jnp.zeros((2, 3)), (1.0, 0.0, 0.0, 1.0, -0.5))  # two columns of names, a number
    codes = jnp.ones((4, 5))
    np.testing.assert_array_equal(generator.apply({}, jnp.zeros((4, 3)), codes, train=True), [[1, 0, 0, 1, -0.5]] * 4)
    numbers = jnp.full(4, 7, jnp.int32)
    np.testing.assert_array_equal(generator.apply({}, jnp.zeros((4, 3)), numbers, train=True), [0] * 4)


@pytest.mark.parametrize("conditioning", ["embedding", "projection"])
def test_a_labels_scale_and_bias_replace_a_virtual_normalisations_own(make_config, conditioning):
    changes = {"data.name": "digits", "model.generator_normalization": "virtual_batch", "conditioning.name": conditioning}
    networks = build_networks(make_config("gan.py:digits", TINY | changes), (2,), classes=3)
    params = jax.eval_shape(networks.init_generator, jax.random.key(0))["params"]
    own = [path for path, _ in jax.tree.leaves_with_path(params) if "VirtualBatchNorm" in jax.tree_util.keystr(path)]
    assert len(own) == (4 if conditioning == "embedding" else 0)  # two layers, a scale and a bias each


# Dropout


def test_a_latent_drops_the_same_units_whatever_its_label(make_config):
    """Of what stands before the last layer: whose weights are 1 for one unit and 0 for the others, unit by unit."""
    changes = {"data.name": "digits", "conditioning.name": "embedding", "model.generator_dropout": 0.5, "model.depth": 1}
    networks = build_networks(make_config("gan.py:digits", TINY | changes), (8,), classes=3, bounded=False)
    params = jax.jit(networks.init_generator)(jax.random.key(0))["params"]
    params["Dense_0"]["kernel"] = jnp.eye(8)
    params["Hidden_0"]["Dense_0"]["bias"] = jnp.full(8, 50.0)  # so that no unit is 0 but where it is dropped
    latents = Latents(jnp.repeat(jax.random.normal(jax.random.key(1), (5, 3)), 3, axis=0), jnp.tile(jnp.arange(3), 5))
    kept = np.asarray(networks.generate({"params": params}, latents) != 0).reshape(5, 3, 8)
    assert (kept == kept[:, :1]).all()
    assert 0 < kept.mean() < 1


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_dropout_zeroes_a_share_and_keeps_the_mean(rate):
    z = jax.random.normal(jax.random.key(0), (4000, 3))
    y = np.asarray(drop(jnp.ones((4000, 5)), z, 0, rate))
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)
    kept = y > 0
    np.testing.assert_allclose(kept.mean(0), 1 - rate, atol=0.03)
    patterns = np.unique(kept @ (1 << np.arange(5)), return_counts=True)[1]
    if rate == 0.5:
        assert scipy.stats.chisquare(patterns, [125] * 32).pvalue > 0.001  # units are dropped independently
    other = np.asarray(drop(jnp.ones((4000, 5)), z, 1, rate)) > 0
    assert abs(np.corrcoef(kept[:, 0], other[:, 0])[0, 1]) < 0.06
    assert drop(y, z, 0, 0.0) is y


def test_the_mask_is_a_function_of_the_latent_alone():
    z = jax.random.normal(jax.random.key(0), (64, 2))
    mask = np.asarray(drop(jnp.ones((64, 30)), z, 0, 0.5))
    np.testing.assert_array_equal(drop(jnp.ones((3, 30)), z[5:8], 0, 0.5), mask[5:8])
    np.testing.assert_array_equal(drop(jnp.ones((64, 30)), z * (1 + 1e-7), 0, 0.5), mask)  # nor of its last bit
    for other in (z + 0.001, z[:, ::-1], -z):
        assert 0.4 < np.mean(np.asarray(drop(jnp.ones((64, 30)), other, 0, 0.5)) == mask) < 0.6
    assert len(np.unique(mask, axis=0)) == 64


ARCHITECTURES = {"mlp": (2,), "dcgan": (8, 8, 1), "mlp_dcgan": (8, 8, 1), "resnet": (8, 8, 1)}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_generator_drops_in_training_and_in_sampling_alike(make_config, name):
    changes = TINY | {"model.name": name, "model.width": 2}
    build = functools.partial(build_networks, shape=ARCHITECTURES[name])
    networks, whole = (build(make_config("gan.py:ring8", changes | {"model.generator_dropout": rate})) for rate in (0.5, 0.0))
    variables = jax.jit(networks.init_generator)(jax.random.key(0))
    latents = Latents(jax.random.normal(jax.random.key(1), (3, 3)), labels(3))
    sampled = networks.generate(variables, latents)
    np.testing.assert_allclose(networks.generator(variables["params"], {}, *latents)[0], sampled, rtol=1e-5, atol=1e-6)
    assert np.abs(sampled - whole.generate(variables, latents)).max() > 1e-3
