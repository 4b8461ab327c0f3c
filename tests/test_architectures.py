"""Convolutional networks: the published tables' shapes and numbers of parameters, counted by hand, and what they refuse."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.errors import UserError
from wgan_jax.models import ARCHITECTURES, build_networks
from wgan_jax.models.layers import NORMALIZATIONS, Convolution, Style, TransposedConvolution
from wgan_jax.models.resnet import mean_pool, upsample
from wgan_jax.types import Batch, Latents

pytestmark = pytest.mark.usefixtures("strict_dtypes")

DCGAN = {"model.name": "dcgan", "model.width": 64, "model.critic_activation": "leaky_relu"}
RESNET = {"model.name": "resnet", "latent.dim": 128}
BATCH = {"model.generator_normalization": "batch"}


@pytest.fixture
def networks(make_config):
    def build(shape, **changes):
        return build_networks(make_config("wgan_gp.py:digits", changes), shape)

    return build


def parameters(init):
    return jax.eval_shape(init, jax.random.key(0))["params"]


def count(init):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(parameters(init)))


@pytest.mark.parametrize(
    ("changes", "shape", "generator", "critic"),
    [
        # The anime-face report's DCGAN-64, latent 100. Generator, no bias before a normalisation: 100 * 4*4*512, kernels
        # 25 * (512*256 + 256*128 + 128*64 + 64*3) + 3, scales and biases 2 * (512 + 256 + 128 + 64). Critic: kernels
        # 25 * (3*64 + 64*128 + 128*256 + 256*512), biases 64 + 128 + 256 + 512, and 4*4*512 + 1.
        ({**DCGAN, **BATCH, "latent.dim": 100}, (64, 64, 3), 5_126_723, 4_314_753),
        # Gulrajani's MNIST code, DIM 64, latent 128: 128 * 4096 + 4096, 25*256*128 + 128, 25*128*64 + 64, 25*64 + 1;
        # 25*64 + 64, 25*64*128 + 128, 25*128*256 + 256, 4096 + 1.
        ({**DCGAN, "latent.dim": 128}, (28, 28, 1), 1_554_177, 1_030_145),
        ({**DCGAN, "latent.dim": 128}, (32, 32, 1), 1_554_177, 1_030_145),
        # A series of 9 steps and 2 channels, width 4, sizes 9, 5, 3: 3 * 24 + 24, 5*8*4 + 4, 5*4*2 + 2; 5*2*4 + 4, 5*4*8 + 8,
        # 3*8 + 1.
        ({**DCGAN, "latent.dim": 3, "model.width": 4}, (9, 2), 302, 237),
        # A rectangle of 5 channels, sizes 6x9, 3x5, 2x3: 3 * 48 + 48, 25*8*4 + 4, 25*4*5 + 5; 25*5*4 + 4, 25*4*8 + 8, 6*8 + 1.
        ({**DCGAN, "latent.dim": 3, "model.width": 4}, (6, 9, 5), 1_501, 1_361),
        # A volume, sizes 2x5x3, 1x3x2: 3 * 24 + 24, 27*4 + 1; 27*4 + 4, 6*4 + 1.
        ({**DCGAN, "latent.dim": 3, "model.width": 4}, (2, 5, 3, 1), 205, 137),
        # Gulrajani's ResNet for CIFAR-10, width 128. Generator: 128 * 2048 + 2048, three blocks of 2 * 256 + 147,456 + 147,584
        # + 16,512, then 256 + 3,459. Critic: 3,584 + 147,584 + 512; 2 * 147,584 + 16,512; 4 * 147,584; 129.
        ({**RESNET, **BATCH, "model.width": 128}, (32, 32, 3), 1_204_099, 1_053_825),
        # Its 64x64 one, width 64: 1,056,768, blocks 512-512, 512-256, 256-128, 128-64 of 4,983,808, 1,902,592, 476,160 and
        # 119,296, then 128 + 1,731.
        ({**RESNET, **BATCH, "model.critic_normalization": "layer", "model.width": 64}, (64, 64, 3), 8_540_483, None),
        # Arjovsky's figure 7: 4 x 512, of 128 latents to 3,072 values: 66,048 + 3 * 262,656 + 1,575,936.
        ({**DCGAN, "model.name": "mlp_dcgan", "latent.dim": 128}, (32, 32, 3), 2_429_952, None),
    ],
)
def test_the_number_of_parameters(networks, changes, shape, generator, critic):
    built = networks(shape, **changes)
    assert count(built.init_generator) == generator
    if critic is not None:
        assert count(built.init_critic) == critic


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 64, 1)])
def test_images_and_scores_have_their_shapes(networks, name, shape):
    changes = {"model.name": name, "model.width": 2, "model.depth": 1, **BATCH, "model.critic_normalization": "layer"}
    built = networks(shape, **changes)
    generator, critic = (jax.eval_shape(init, jax.random.key(0)) for init in (built.init_generator, built.init_critic))
    latents, labels = jnp.zeros((5, 32)), jnp.zeros(5, jnp.int32)
    state = {"batch_stats": generator["batch_stats"]}
    images, new_state = jax.eval_shape(built.generator, generator["params"], state, latents, labels)
    assert (images.shape, images.dtype) == ((5, *shape), jnp.float32)
    assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)
    output, _ = jax.eval_shape(built.critic, critic["params"], {}, images, labels)
    assert (output.score.shape, output.score.dtype, output.features.shape[0]) == ((5,), jnp.float32, 5)
    assert len(output.features.shape) == 2


def test_dcgan_layer_by_layer(networks):
    built = networks((28, 28, 1), **{**DCGAN, **BATCH, "model.width": 4})
    kernels = {name: layer["kernel"].shape for name, layer in parameters(built.init_generator).items() if "kernel" in layer}
    assert kernels == {
        "Dense_0": (32, 4 * 4 * 16),
        "TransposedConvolution_0": (5, 5, 8, 16),
        "TransposedConvolution_1": (5, 5, 4, 8),
        "TransposedConvolution_2": (5, 5, 1, 4),
    }
    biased = {name for name, layer in parameters(built.init_generator).items() if "bias" in layer and "kernel" in layer}
    assert biased == {"TransposedConvolution_2"}


@pytest.mark.parametrize(("first", "norms"), [(False, 2), (True, 3)])
def test_whether_the_first_layer_is_normalised(networks, first, norms):
    changes = {**DCGAN, "loss": "hinge", "penalty.name": "none", "model.critic_normalization": "batch"}
    params = parameters(networks((32, 32, 3), **changes, **{"model.normalize_first": first}).init_critic)
    assert sum("BatchNorm" in name for name in params) == norms
    assert ("bias" in params["Convolution_0"]) is not first


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("dcgan", (2,), "series, images and volumes"),
        ("dcgan", (4, 3, 1), "more than 4"),
        ("resnet", (8, 16, 1), "square"),
        ("resnet", (28, 28, 1), "4 \\* 2\\^k"),
    ],
)
def test_examples_that_do_not_fit_are_refused(networks, name, shape, wanted):
    with pytest.raises(UserError, match=wanted):
        networks(shape, **{"model.name": name})


def style(**changes):
    kinds = {"activation": "relu", "initializer": "he_normal", "kernel": "none"}
    kinds |= {"normalization": "none", "normalize_first": False}
    dtypes = {"dtype": jnp.dtype("float32"), "param_dtype": jnp.dtype("float32")}
    return Style(**{"width": 8, "depth": 1, "axis_name": None, **kinds, **dtypes, **changes})


def test_layer_normalisation_is_over_the_whole_example():
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, x):
            return NORMALIZATIONS["layer"].apply(x, style(), True)

    x = np.random.default_rng(0).normal(3, 2, (2, 4, 4, 3)).astype(np.float32)
    y, variables = Normalised().init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(
        y, (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True), rtol=1e-4, atol=1e-4
    )
    assert {leaf.shape for leaf in jax.tree.leaves(variables)} == {(3,)}


def test_the_scale_of_images_is_kept_by_he_initialisation():
    """ReLU's mean square is that of the input, through a strided convolution and through its transpose."""
    x = np.maximum(np.random.default_rng(0).normal(size=(4, 16, 16, 64)), 0).astype(np.float32)
    for layer in (Convolution(256, style(), 5, 2), TransposedConvolution(256, (32, 32), style(), 5)):
        y, _ = jax.jit(layer.init_with_output)(jax.random.key(0), x)
        inside = np.maximum(y[:, 3:-3, 3:-3], 0)
        np.testing.assert_allclose(np.square(inside).mean(), np.square(x).mean(), rtol=0.1)


def test_upsampling_and_pooling():
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    up = upsample(jnp.asarray(x))
    np.testing.assert_array_equal(up, x.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(mean_pool(up), x)
    np.testing.assert_array_equal(mean_pool(jnp.asarray(x)), x.mean((1, 2), keepdims=True))


# Rematerialisation


def penalised(built, generator, critic, latents):
    """A penalty's kind of loss, with second derivatives, of both players' parameters; and the new batch statistics."""
    label = jnp.zeros(len(latents), jnp.int32)
    images, state = built.generator(generator, built_state(built), latents, label)
    slope = jax.grad(lambda x: built.penalty_critic(critic, {}, x, label)[0].score.sum())(images)
    return jnp.square(slope).sum(), state


def built_state(built):
    variables = jax.eval_shape(built.init_generator, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), {"batch_stats": variables["batch_stats"]})


@pytest.mark.slow
def test_rematerialised_blocks_are_the_same_functions(networks):
    """Parameters, values and gradients, of the second order too, as without."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # flax's batch statistics
        latents = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)))
        changes = {**RESNET, **BATCH, "model.width": 1, "latent.dim": 5, "dtype": "float64"}
        found = []
        for remat in (False, True):
            built = networks((8, 8, 1), **changes, **{"model.remat": remat})
            keys = jax.random.split(jax.random.key(1))
            players = built.init_generator(keys[0])["params"], built.init_critic(keys[1])["params"]
            of = jax.value_and_grad(lambda g, c, built=built: penalised(built, g, c, latents), (0, 1), has_aux=True)
            assert ("remat" in str(jax.make_jaxpr(of)(*players))) is remat
            found.append((players, jax.jit(of)(*players)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), *found)
        assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(found[0][1][1])) > 1e-6


def test_rematerialised_blocks_take_less_memory(networks):
    """A generator of two blocks holds one block's activations at a time, of which the last is the largest."""
    taken = []
    for remat in (False, True):
        built = networks((16, 16, 1), **RESNET, **{"model.width": 4, "model.remat": remat})
        params = jax.eval_shape(built.init_generator, jax.random.key(0))["params"]
        loss = lambda p, z, built=built: jnp.square(built.generator(p, {}, z, jnp.zeros(8, jnp.int32))[0]).sum()  # noqa: E731
        compiled = jax.jit(jax.grad(loss)).lower(params, jax.ShapeDtypeStruct((8, 128), jnp.float32)).compile()
        taken.append(compiled.memory_analysis().temp_size_in_bytes)
    assert taken[1] < 0.85 * taken[0]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 2), (6, 9, 5), (2, 5, 3, 1), (5, 5, 1)])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("name", ["dcgan", "mlp_dcgan"])
def test_examples_have_their_shape_and_their_range(make_config, name, shape, bounded):
    config = make_config("wgan_gp.py:digits", {"model.name": name, "model.width": 4, "latent.dim": 3})
    built, label = build_networks(config, shape, bounded=bounded), jnp.zeros(16, jnp.int32)
    z = 20 * jax.random.normal(jax.random.key(1), (16, 3))
    x = built.generate(built.init_generator(jax.random.key(0)), Latents(z, label))
    assert x.shape == (16, *shape)
    assert bool(jnp.abs(x).max() <= 1) == bounded
    assert built.score(built.init_critic(jax.random.key(0)), Batch(x, label)).shape == (16,)
