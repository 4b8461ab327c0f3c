"""Networks: their exact sizes, ranges, initial laws and dtypes, and the laws of latents."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from wgan_jax.batching import example_keys
from wgan_jax.errors import UserError
from wgan_jax.models import ARCHITECTURES, build_networks, make_sampler
from wgan_jax.models.latent import LATENTS, sample_latents
from wgan_jax.models.layers import ACTIVATIONS, HEADS, INITIALIZERS, NORMALIZATIONS
from wgan_jax.types import Batch, CriticOutput, Latents

pytestmark = pytest.mark.usefixtures("strict_dtypes")

IMAGE, POINT = (4, 4, 1), (2,)
TINY = {"loss": "hinge", "penalty.name": "none", "latent.dim": 3, "model.width": 8, "model.depth": 2}


@pytest.fixture
def tiny(make_config):
    """Returns (shape, {dotted key: value}) -> the config and the networks of a tiny model."""

    def make(shape=POINT, **changes):
        config = make_config("gan.py:ring8", TINY | {f"model.{key}": value for key, value in changes.items()})
        return config, build_networks(config, shape)

    return make


def initial(networks, player):
    """Variables of a player as they begin, drawn by NumPy, so that nothing is compiled: N(0, 2 / fan in), 0 or 1."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        value = rng.normal(0, np.sqrt(2 / leaf.shape[0]), leaf.shape) if name == "kernel" else float(name in ("scale", "var"))
        return jnp.asarray(np.broadcast_to(value, leaf.shape).astype(leaf.dtype))

    shapes = jax.eval_shape(getattr(networks, f"init_{player}"), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def in_numpy(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def split(variables):
    """flax's variables as (params, model_state)."""
    return variables["params"], {name: value for name, value in variables.items() if name != "params"}


def shapes(variables):
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(variables)}


def count(init):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))


def labels(x):
    return jnp.zeros(len(x), jnp.int32)


def scores_of(networks, variables, x):
    return networks.score(variables, Batch(x, labels(x)))


def uniform(seed, *shape, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-scale, scale, shape).astype(np.float32))


# Sizes


@pytest.mark.parametrize(
    ("latent", "width", "depth", "shape", "generator", "critic"),
    [
        # 1 -> 128 -> 128 -> 1 twice: 256 + 16,512 + 129 (Bethune & Coiffier 2018)
        (1, 128, 2, (1,), 16_897, 16_897),
        # 2 -> 3 x 512 -> 2: 1,536 + 2 * 262,656 + 1,026; -> 1: 513 (Gulrajani 2017, toys)
        (2, 512, 3, (2,), 527_874, 527_361),
        # 64 -> 3 x 512 -> 64: 33,280 + 2 * 262,656 + 32,832; -> 1: 513
        (64, 512, 3, (8, 8, 1), 591_424, 559_105),
    ],
)
def test_the_number_of_parameters(make_config, latent, width, depth, shape, generator, critic):
    changes = {"latent.dim": latent, "model.width": width, "model.depth": depth}
    networks = build_networks(make_config("wgan_gp.py:ring8", changes), shape)
    assert count(networks.init_generator) == generator
    assert count(networks.init_critic) == critic


@pytest.mark.parametrize(("preset", "count_of_both"), [("gaussian", 2 * 16_897), ("ring8", 527_874 + 527_361)])
def test_the_papers_sizes(make_config, preset, count_of_both):
    shape = {"gaussian": (1,), "ring8": (2,)}[preset]
    networks = build_networks(make_config(f"wgan_gp.py:{preset},paper=True"), shape)
    assert count(networks.init_generator) + count(networks.init_critic) == count_of_both


def test_the_shapes_of_parameters_and_outputs(tiny):
    _, networks = tiny(IMAGE)
    params = initial(networks, "critic")["params"]
    assert sorted(shapes(params).values()) == [(1,), (8,), (8,), (8, 1), (8, 8), (16, 8)]
    label = jnp.zeros(5, jnp.int32)
    output, state = jax.eval_shape(networks.critic, params, {}, jnp.zeros((5, *IMAGE)), label)
    assert (output.score.shape, output.features.shape, output.class_logits, state) == ((5,), (5, 8), None, {})
    params = initial(networks, "generator")["params"]
    assert sorted(shapes(params).values()) == [(3, 8), (8,), (8,), (8, 8), (8, 16), (16,)]
    images, state = jax.eval_shape(networks.generator, params, {}, jnp.zeros((5, 3)), label)
    assert (images.shape, state) == ((5, *IMAGE), {})


def test_a_critic_by_hand(tiny):
    _, networks = tiny()
    params = jax.tree.map(lambda leaf: leaf + 0.1, initial(networks, "critic")["params"])  # so that biases count
    x = uniform(1, 5, 2)
    first, second, last = (in_numpy(layer) for layer in (*params["Hidden_0"].values(), params["Dense_0"]))
    h = np.maximum(in_numpy(x) @ first["kernel"] + first["bias"], 0)
    h = np.maximum(h @ second["kernel"] + second["bias"], 0)
    output, _ = networks.critic(params, {}, x, labels(x))
    np.testing.assert_allclose(output.features, h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.score, (h @ last["kernel"] + last["bias"])[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(NORMALIZATIONS) - {"none"}))
def test_no_bias_before_a_normalisation(tiny, name):
    refers = NORMALIZATIONS[name].refers  # which is the generator's alone
    _, networks = tiny(generator_normalization=name, **({} if refers else {"critic_normalization": name}))
    for init in (networks.init_generator, *([] if refers else [networks.init_critic])):
        params = jax.eval_shape(init, jax.random.key(0))["params"]
        params = next(iter(params.values())) if refers else params  # of the generator that is wrapped
        dense = {key: set(value) for key, value in params["Hidden_0"].items() if key.startswith("Dense")}
        norms = [set(value) for key, value in params["Hidden_0"].items() if not key.startswith("Dense")]
        assert dense == {"Dense_0": {"kernel"}, "Dense_1": {"kernel"}}
        assert norms == [{"scale", "bias"}] * 2
        assert set(params["Dense_0"]) == {"kernel", "bias"}


class Dropped(nn.Module):
    """A critic of one's own with dropout, in training or always off."""

    deterministic: bool

    @nn.compact
    def __call__(self, x, label, train):
        features = nn.Dropout(0.5, deterministic=self.deterministic or not train)(nn.Dense(4)(x))
        return CriticOutput(nn.Dense(1)(features)[:, 0], features, None)


def test_dropout_is_refused_where_networks_are_made_and_not_where_it_is_off(make_config, monkeypatch):
    for off in (True, False):
        own = ARCHITECTURES["mlp"]._replace(critic=lambda style, off=off: Dropped(off))
        monkeypatch.setitem(ARCHITECTURES, "mlp", own)
        networks = build_networks(make_config("wgan_gp.py:ring8"), (2,))
        if off:
            assert count(networks.init_critic) == 2 * 4 + 4 + 4 + 1
            continue
        with pytest.raises(UserError, match=r"^config.model.name: Dropped draws random numbers, as nn.Dropout does") as caught:
            jax.jit(networks.init_critic)(jax.random.key(0))
        assert len(caught.value.lines) == 1


# Outputs


def test_images_end_in_tanh_and_points_do_not(tiny):
    """The same weights on 16 outputs: as an image they are the tanh of what they are as a point."""
    (_, image), (_, point) = tiny(IMAGE), tiny((16,))
    params = initial(image, "generator")["params"]
    z = uniform(1, 6, 3, scale=100.0)
    images, points = (networks.generator(params, {}, z, labels(z))[0] for networks in (image, point))
    assert jnp.max(jnp.abs(points)) > 2
    assert jnp.max(jnp.abs(images)) <= 1
    np.testing.assert_allclose(images.reshape(6, 16), np.tanh(points), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("player", ["generator", "critic"])
def test_scores_and_points_are_not_bounded(tiny, player):
    _, networks = tiny()
    params = initial(networks, player)["params"]
    x = uniform(1, 8, 3 if player == "generator" else 2, scale=1e4)
    output, _ = getattr(networks, player)(params, {}, x, labels(x))
    assert jnp.max(jnp.abs(output.score if player == "critic" else output)) > 100


PUBLISHED_ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "tanh": np.tanh,
    "shifted_softplus": lambda x: np.log1p(np.exp(2 * x + 2)) / 2 - 1,
    "maxmin": lambda x: np.concatenate([op(*np.split(x, 2, axis=-1)) for op in (np.maximum, np.minimum)], axis=-1),
    "groupsort": lambda x: np.sort(x, axis=-1),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation(tiny, name):
    x = np.linspace(3, -3, 26, dtype=np.float32)
    y = ACTIVATIONS[name](jnp.asarray(x))
    np.testing.assert_allclose(y, PUBLISHED_ACTIVATIONS[name](x.astype(np.float64)), rtol=1e-5, atol=1e-6)
    _, networks = tiny(critic_activation=name)
    params = initial(networks, "critic")["params"]
    features = networks.critic(params, {}, uniform(0, 4, 2), jnp.zeros(4, jnp.int32))[0].features
    first, second = (in_numpy(params["Hidden_0"][f"Dense_{i}"]["kernel"]) for i in (0, 1))  # biases begin at 0
    wanted = PUBLISHED_ACTIVATIONS[name]
    np.testing.assert_allclose(features, wanted(wanted(in_numpy(uniform(0, 4, 2)) @ first) @ second), rtol=1e-4, atol=1e-5)


# Initial laws


def check_he_normal(kernel):
    """N(0, 2 / fan in), cut at two standard deviations and widened so that the variance is kept."""
    fan_in = kernel.shape[0]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_in), rtol=0.02)
    scale = np.sqrt(2 / fan_in) / scipy.stats.truncnorm(-2, 2).std()
    assert scipy.stats.kstest(kernel.ravel() / scale, scipy.stats.truncnorm(-2, 2).cdf).pvalue > 0.01


def check_glorot_uniform(kernel):
    bound = np.sqrt(6 / sum(kernel.shape))
    assert scipy.stats.kstest((kernel.ravel() / bound + 1) / 2, "uniform").pvalue > 0.01


def check_orthogonal(kernel):
    """Orthonormal rows or columns times the gain 1.4."""
    square = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
    np.testing.assert_allclose(square, 1.4**2 * np.eye(len(square)), atol=1e-5)


def check_normal(kernel):
    """N(0, .02^2), whatever the shape (Radford 2016)."""
    assert scipy.stats.kstest(kernel.ravel() / 0.02, "norm").pvalue > 0.01


INITIAL = {
    "he_normal": check_he_normal,
    "glorot_uniform": check_glorot_uniform,
    "orthogonal": check_orthogonal,
    "normal": check_normal,
}


@pytest.mark.parametrize("name", sorted(INITIALIZERS))
def test_kernels_have_the_configs_law_and_hes_last_glorots(tiny, name):
    _, networks = tiny(initializer=name, width=100)
    init = jax.jit(networks.init_generator)
    params = init(jax.random.key(1))["params"]
    first, second = params["Hidden_0"]["Dense_0"], params["Hidden_0"]["Dense_1"]
    INITIAL[name](in_numpy(second["kernel"]))
    if name == "orthogonal":  # wide: its rows
        INITIAL[name](in_numpy(first["kernel"]))
    INITIAL["glorot_uniform" if name == "he_normal" else name](in_numpy(params["Dense_0"]["kernel"]))
    assert not any(np.any(layer["bias"]) for layer in (first, second, params["Dense_0"]))
    assert not np.any(
        np.isclose(init(jax.random.key(2))["params"]["Dense_0"]["kernel"], params["Dense_0"]["kernel"], atol=1e-7)
    )


# Normalisations


def test_batch_normalisation_in_training_and_in_evaluation(tiny):
    """By hand: tanh of normalised sums in training, of running statistics, begun at (0, 1) with momentum .9, in evaluation."""
    _, networks = tiny(critic_normalization="batch", critic_activation="tanh", depth=1)
    variables = initial(networks, "critic")
    params, state = split(variables)
    x = uniform(1, 64, 2) + 1
    sums = in_numpy(x) @ in_numpy(params["Hidden_0"]["Dense_0"]["kernel"])
    output, new_state = networks.critic(params, state, x, labels(x))
    mean, variance = sums.mean(axis=0), sums.var(axis=0)
    np.testing.assert_allclose(output.features, np.tanh((sums - mean) / np.sqrt(variance + 1e-5)), atol=1e-5)
    (running,) = new_state["batch_stats"]["Hidden_0"].values()
    np.testing.assert_allclose(running["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * variance, rtol=1e-5)
    last = in_numpy(params["Dense_0"]["kernel"])
    np.testing.assert_allclose(scores_of(networks, variables, x), (np.tanh(sums / np.sqrt(1 + 1e-5)) @ last)[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "mixes"),
    [
        *(({"critic_normalization": name}, norm.mixes_examples) for name, norm in NORMALIZATIONS.items() if not norm.refers),
        *(({"critic_head": name}, head.mixes_examples) for name, head in HEADS.items()),
    ],
)
def test_a_critic_says_whether_it_mixes_the_examples_of_a_batch(tiny, changes, mixes):
    _, networks = tiny(**changes, critic_activation="tanh", depth=1)
    params, state = split(initial(networks, "critic"))
    x = uniform(1, 6, 2)
    among, among_others = (networks.critic(params, state, y, labels(y))[0].score[0] for y in (x, x.at[1:].add(1)))
    assert networks.mixes_examples == mixes == (abs(among - among_others) > 1e-4)


def test_layer_normalisation_is_per_example(tiny):
    _, networks = tiny(critic_normalization="layer", critic_activation="tanh", depth=1)
    params, state = split(initial(networks, "critic"))
    x = uniform(1, 6, 2)
    sums = in_numpy(x) @ in_numpy(params["Hidden_0"]["Dense_0"]["kernel"])
    normal = (sums - sums.mean(axis=1, keepdims=True)) / np.sqrt(sums.var(axis=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(networks.critic(params, state, x, labels(x))[0].features, np.tanh(normal), atol=2e-5)
    assert state == {}


def test_batch_statistics_are_those_of_the_global_batch(make_config):
    config = make_config("gan.py:ring8", TINY | {"model.critic_normalization": "batch"})
    alone, shared = build_networks(config, POINT), build_networks(config, POINT, "data")
    params, state = split(initial(alone, "critic"))
    x = uniform(1, 8, 2)
    whole, whole_state = alone.critic(params, state, x, labels(x))
    mapped = jax.vmap(functools.partial(shared.critic, params, state), axis_name="data")
    parts, part_state = mapped(x.reshape(4, 2, 2), jnp.zeros((4, 2), jnp.int32))
    np.testing.assert_allclose(parts.score.ravel(), whole.score, rtol=1e-5, atol=1e-6)
    for mine, wanted in zip(jax.tree.leaves(part_state), jax.tree.leaves(whole_state), strict=True):
        np.testing.assert_allclose(mine, np.tile(wanted, (4, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NORMALIZATIONS))
def test_evaluation_is_per_example(tiny, name):
    critics = {} if NORMALIZATIONS[name].refers else {"critic_normalization": name}
    _, networks = tiny(generator_normalization=name, generator_dropout=0.5, critic_head="minibatch_discrimination", **critics)
    generator, critic = initial(networks, "generator"), initial(networks, "critic")
    z, x = uniform(1, 4, 3), uniform(2, 4, 2)
    images, few = (networks.generate(generator, Latents(z, labels(z))) for z in (z, z[:2]))
    np.testing.assert_allclose(images[:2], few, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        scores_of(networks, critic, x)[:2],
        scores_of(networks, critic, x[:2]),
        rtol=1e-5,
        atol=1e-6,
    )
    assert scores_of(networks, critic, x).shape == (4,)


# Precision


@pytest.mark.parametrize("name", sorted(NORMALIZATIONS))
def test_bfloat16_is_only_for_computing(make_config, name):
    changes = {"model.generator_normalization": name, "model.critic_head": "minibatch_discrimination"}
    changes |= {} if NORMALIZATIONS[name].refers else {"model.critic_normalization": name}
    narrow = build_networks(make_config("gan.py:ring8", TINY | changes | {"dtype": "bfloat16"}), IMAGE)
    wide = build_networks(make_config("gan.py:ring8", TINY | changes), IMAGE)
    inputs = {"generator": uniform(1, 4, 3), "critic": uniform(2, 4, *IMAGE)}
    for player, x in inputs.items():
        with jax.numpy_dtype_promotion("standard"):  # flax's normalisations subtract a float32 mean
            variables = initial(narrow, player)
            assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
            rough = jax.jit(getattr(narrow, player))(*split(variables), x, labels(x))
        assert {leaf.dtype for leaf in jax.tree.leaves(rough)} == {jnp.dtype("float32")}
        exact = jax.jit(getattr(wide, player))(*split(variables), x, labels(x))
        rough, exact = (out[0].score if player == "critic" else out[0] for out in (rough, exact))
        assert jnp.max(jnp.abs(rough - exact)) > 1e-5  # a rounding of 2^-8 shows
        np.testing.assert_allclose(rough, exact, atol=0.1)


def test_the_penaltys_critic_and_the_score_are_not_rounded(make_config):
    narrow = build_networks(make_config("gan.py:ring8", TINY | {"dtype": "bfloat16"}), POINT)
    wide = build_networks(make_config("gan.py:ring8", TINY), POINT)
    variables, x = initial(wide, "critic"), uniform(1, 4, 2)
    exact = wide.critic(*split(variables), x, labels(x))[0].score
    np.testing.assert_array_equal(narrow.penalty_critic(*split(variables), x, labels(x))[0].score, exact)
    np.testing.assert_array_equal(scores_of(narrow, variables, x), exact)
    switched = {"dtype": "bfloat16", "penalty.name": "two_sided", "penalty.dtype": "bfloat16"}
    rough = build_networks(make_config("gan.py:ring8", TINY | switched), POINT)
    np.testing.assert_array_equal(scores_of(rough, variables, x), exact)
    assert jnp.max(jnp.abs(rough.penalty_critic(*split(variables), x, labels(x))[0].score - exact)) > 1e-5
    jaxpr = str(jax.make_jaxpr(lambda x: narrow.critic(*split(variables), x, labels(x))[0].score)(x))
    assert "bf16[4,8]" in jaxpr


def test_float64_is_float64_throughout(make_config):
    with jax.enable_x64(True):
        networks = build_networks(make_config("gan.py:ring8", TINY | {"dtype": "float64"}), POINT)
        variables = jax.eval_shape(networks.init_generator, jax.random.key(0))
        latents = jax.eval_shape(networks.latents, jax.random.split(jax.random.key(1), 2), jnp.zeros(2, jnp.int32))
        outputs = jax.eval_shape(networks.generator, *split(variables), *latents)
        assert {leaf.dtype for leaf in jax.tree.leaves((variables, latents.z, outputs))} == {jnp.dtype("float64")}


# Latents and samples


@pytest.mark.parametrize("name", sorted(LATENTS))
def test_the_law_of_latents(make_config, name):
    config = make_config("gan.py:ring8", {"latent.name": name, "latent.dim": 3, "latent.low": -2.0, "latent.high": 5.0})
    keys = jax.random.split(jax.random.key(0), 4000)
    z = sample_latents(keys, config, jnp.float32)
    assert (z.shape, z.dtype) == ((4000, 3), jnp.float32)
    law = {"normal": scipy.stats.norm(), "uniform": scipy.stats.uniform(-2, 7)}[name]
    for coordinate in np.asarray(z, np.float64).T:
        assert scipy.stats.kstest(coordinate, law.cdf).pvalue > 0.01
    assert np.abs(np.corrcoef(np.asarray(z).T) - np.eye(3)).max() < 0.06
    np.testing.assert_allclose(sample_latents(keys[7:9], config, jnp.float32), z[7:9], rtol=1e-6)  # one key, one latent


def test_a_sample_is_a_function_of_the_key_its_number_and_its_label(tiny):
    _, networks = tiny(IMAGE, generator_normalization="batch")
    variables = initial(networks, "generator")
    sample, key = make_sampler(networks), jax.random.key(1)
    label = jnp.arange(6, dtype=jnp.int32)
    latents, images = sample(variables, key, label, 0)
    assert (latents.z.shape, images.shape) == ((6, 3), (6, *IMAGE))
    np.testing.assert_array_equal(latents.z, networks.latents(example_keys(key, 6), 0 * label).z)  # whatever the label
    np.testing.assert_array_equal(latents.label, label)
    np.testing.assert_allclose(images, networks.generate(variables, latents), rtol=1e-5, atol=1e-6)
    later_latents, later_images = sample(variables, key, label[4:], 4)
    np.testing.assert_array_equal(later_latents.z, latents.z[4:])
    np.testing.assert_allclose(later_images, images[4:], rtol=1e-5, atol=1e-6)
    assert not np.any(np.isclose(sample(variables, jax.random.key(2), label, 0)[0].z, latents.z))
