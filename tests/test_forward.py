"""Forward values of the convolutional networks, against NumPy written from their papers' descriptions and nothing of the code.

All variables are random, running statistics, scales and biases too, so that every one of them and the order of layers shows.
"""

import jax
import numpy as np
import pytest

from wgan_jax.models import build_networks
from wgan_jax.types import Batch, Latents

LATENT, EXAMPLES = 3, 2


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


# What the layers are


def padded(size, taps, stride):
    """TensorFlow's SAME: the size of the output, and zeros before and after; the odd one comes after."""
    out = -(-size // stride)
    total = max((out - 1) * stride + taps - size, 0)
    return out, total // 2, total - total // 2


def convolution(x, layer, stride=1):
    """y[i, j] = sum_ab x[s i + a, s j + b] K[a, b] + bias, of images padded with zeros."""
    kernel, taps = layer["kernel"], len(layer["kernel"])
    out, before, after = padded(x.shape[1], taps, stride)
    x = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    y = np.zeros((len(x), out, out, kernel.shape[3]))
    for a in range(taps):
        for b in range(taps):
            y += x[:, a : a + stride * out : stride, b : b + stride * out : stride][:, :out, :out] @ kernel[a, b]
    return y + layer.get("bias", 0)


def transposed_convolution(y, layer, size):
    """x[2 i + a, 2 j + b] += K[a, b] y[i, j]: the transpose of the convolution of stride 2 that halves an image of `size`."""
    kernel, taps = layer["kernel"], len(layer["kernel"])
    out, before, after = padded(size, taps, 2)
    x = np.zeros((len(y), size + before + after, size + before + after, kernel.shape[2]))
    for i in range(out):
        for j in range(out):
            x[:, 2 * i : 2 * i + taps, 2 * j : 2 * j + taps] += np.einsum("abfc,nc->nabf", kernel, y[:, i, j])
    return x[:, before : before + size, before : before + size] + layer.get("bias", 0)


def dense(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0)


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def relu(x):
    return np.maximum(x, 0)


class Reader:
    """Layers of a kind in the order in which they are used, as flax numbers them."""

    def __init__(self, variables):
        self.params, self.statistics = variables["params"], variables.get("batch_stats", {})
        self.used = dict.fromkeys(("Dense", "Convolution", "TransposedConvolution", "BatchNorm", "LayerNorm", "Block"), 0)

    def next(self, kind):
        name = f"{kind}_{self.used[kind]}"
        self.used[kind] += 1
        return self.params[name], self.statistics.get(name)

    def block(self):
        params, statistics = self.next("Block")
        return Reader({"params": params, "batch_stats": statistics or {}})

    def normalise(self, x, kind):
        if kind == "none":
            return x
        params, running = self.next({"batch": "BatchNorm", "layer": "LayerNorm"}[kind])
        if kind == "batch":  # evaluation: by running statistics
            x = (x - running["mean"]) / np.sqrt(running["var"] + 1e-5)
        else:  # over the whole example
            axes = tuple(range(1, x.ndim))
            x = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-6)
        return x * params["scale"] + params["bias"]

    def all_used(self):
        return sum(self.used.values()) == len(self.params)


def built(make_config, shape, **changes):
    """The networks of a config and random variables of both."""
    fixed = {"dtype": "float64", "latent.dim": LATENT, **{f"model.{name}": value for name, value in changes.items()}}
    networks, rng = build_networks(make_config("wgan_gp.py:digits", fixed), shape), np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 2, leaf.shape)
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
        return rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)

    inits = (networks.init_generator, networks.init_critic)
    return networks, *(jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(0))) for init in inits)


def close(found, expected):
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def images_in_tanh(found, expected):
    """Compares images; they reach where tanh is no line, and are not at its ends alone."""
    close(found, expected)
    assert np.mean(np.abs(expected) > 0.5) > 0.1
    assert np.mean(np.abs(expected) < 0.95) > 0.1


# DCGAN (Radford 2016): 14, 7, 4


def dcgan_generator(variables, z, shape, norm, activation):
    read = Reader(variables)
    x = dense(z, read.next("Dense")[0])
    x = x.reshape(len(z), 4, 4, -1)
    for size in (7, 14):
        x = activation(read.normalise(x, norm))
        x = transposed_convolution(x, read.next("TransposedConvolution")[0], size)
    assert read.all_used()
    assert x.shape[1:] == shape
    return np.tanh(x)


def dcgan_critic(variables, x, norm, activation, first):
    read = Reader(variables)
    for kind in (norm if first else "none", norm):
        x = activation(read.normalise(convolution(x, read.next("Convolution")[0], 2), kind))
    score = dense(x.reshape(len(x), -1), read.next("Dense")[0])[:, 0]
    assert read.all_used()
    return score


def images_of(networks, variables, z):
    return jax.jit(networks.generate)(variables, Latents(z, np.zeros(len(z), np.int32)))


def scores_of(networks, variables, x):
    return jax.jit(networks.score)(variables, Batch(x, np.zeros(len(x), np.int32)))


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_dcgan(make_config, norm):
    shape, critic_norm = (14, 14, 2), "none" if norm == "none" else "layer"
    changes = {"generator_normalization": norm, "critic_normalization": critic_norm, "normalize_first": norm == "layer"}
    networks, generator, critic = built(
        make_config, shape, name="dcgan", width=3, critic_activation="leaky_relu", generator_activation="relu", **changes
    )
    rng = np.random.default_rng(1)
    z, x = 3 * rng.normal(size=(EXAMPLES, LATENT)), rng.uniform(-1, 1, (EXAMPLES, *shape))
    images_in_tanh(images_of(networks, generator, z), dcgan_generator(generator, z, shape, norm, relu))
    close(scores_of(networks, critic, x), dcgan_critic(critic, x, critic_norm, leaky, norm == "layer"))


# The residual networks of Gulrajani 2017, appendix F: images of 8 in the manner of 32, and 64


def doubled(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def halved(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def block(read, x, norm, resample=""):
    """x's shortcut + conv(act(norm(conv(act(norm(x))))); resized before the first convolution or after the second.

    The shortcut is x itself where the block neither resizes nor widens, else a 1x1 convolution.
    """
    up, down = (doubled if resample == "up" else np.copy), (halved if resample == "down" else np.copy)
    h = convolution(up(relu(read.normalise(x, norm))), read.next("Convolution")[0])
    h = down(convolution(relu(read.normalise(h, norm)), read.next("Convolution")[0]))
    learned = "Convolution_2" in read.params
    assert learned == (resample != "")
    out = h + (down(convolution(up(x), read.next("Convolution")[0])) if learned else x)
    assert read.all_used()
    return out


def first_block(read, x):
    """The critic's first block begins with a convolution, of pixels, and is not normalised."""
    h = convolution(relu(convolution(x, read.next("Convolution")[0])), read.next("Convolution")[0])
    out = halved(h) + convolution(halved(x), read.next("Convolution")[0])
    assert read.all_used()
    return out


def resnet_generator(variables, z, shape, norm, doublings):
    read = Reader(variables)
    x = dense(z, read.next("Dense")[0]).reshape(len(z), 4, 4, -1)
    for _ in range(doublings):
        x = block(read.block(), x, norm, "up")
    x = convolution(relu(read.normalise(x, norm)), read.next("Convolution")[0])
    assert read.all_used()
    assert x.shape[1:] == shape
    return np.tanh(x)


def small_resnet_critic(variables, x, norm):
    read = Reader(variables)
    x = first_block(read.block(), x)
    for resample in ("down", "", ""):
        x = block(read.block(), x, norm, resample)
    score = dense(relu(x).mean((1, 2)), read.next("Dense")[0])[:, 0]
    assert read.all_used()
    return score


def large_resnet_critic(variables, x, norm):
    read = Reader(variables)
    x = convolution(x, read.next("Convolution")[0])
    for _ in range(4):
        x = block(read.block(), x, norm, "down")
    score = dense(x.reshape(len(x), -1), read.next("Dense")[0])[:, 0]
    assert read.all_used()
    return score


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_resnet(make_config, norm):
    shape, critic_norm = (8, 8, 2), "none" if norm == "none" else "layer"
    changes = {"generator_normalization": norm, "critic_normalization": critic_norm}
    networks, generator, critic = built(make_config, shape, name="resnet", width=3, **changes)
    rng = np.random.default_rng(1)
    z, x = rng.normal(size=(EXAMPLES, LATENT)), rng.uniform(-1, 1, (EXAMPLES, *shape))
    images_in_tanh(images_of(networks, generator, z), resnet_generator(generator, z, shape, norm, 1))
    close(scores_of(networks, critic, x), small_resnet_critic(critic, x, critic_norm))


def test_resnet_of_large_images(make_config):
    shape = (64, 64, 1)
    changes = {"generator_normalization": "batch", "critic_normalization": "layer"}
    networks, generator, critic = built(make_config, shape, name="resnet", width=1, **changes)
    rng = np.random.default_rng(1)
    z, x = rng.normal(size=(EXAMPLES, LATENT)), rng.uniform(-1, 1, (EXAMPLES, *shape))
    images_in_tanh(images_of(networks, generator, z), resnet_generator(generator, z, shape, "batch", 4))
    close(scores_of(networks, critic, x), large_resnet_critic(critic, x, "layer"))
