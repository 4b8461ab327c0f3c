"""What the critic is shown of the examples, real and generated, in both losses and the penalty: augmented, and with noise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.batching import INPUTS, example_keys
from wgan_jax.types import Array, Batch, Hyperparameters

# key, real, generated, generator updates done, hyper -> what is shown of both
type Show = Callable[[jax.Array, Batch, Batch, jax.Array, Hyperparameters], tuple[Batch, Batch]]


def _color(key: jax.Array, x: Array) -> jax.Array:
    """Brightness plus U[-1/2, 1/2], then saturation times U[0, 2], then contrast times U[1/2, 3/2]."""
    brightness, saturation, contrast = jax.random.uniform(key, (3,), x.dtype)
    x = x + (brightness - 0.5)
    gray = jnp.mean(x, axis=-1, keepdims=True)
    x = gray + (2 * saturation) * (x - gray)
    mean = jnp.mean(x)
    return mean + (contrast + 0.5) * (x - mean)


def _translation(key: jax.Array, x: Array) -> jax.Array:
    """Moved along both axes by whole pixels, up to 1/8 of the image; 0 comes in."""
    height, width, channels = x.shape
    down, right = int(height / 8 + 0.5), int(width / 8 + 0.5)
    row, column = jax.random.randint(key, (2,), 0, jnp.array([2 * down + 1, 2 * right + 1], jnp.int32), jnp.int32)
    padded = jnp.pad(x, ((down, down), (right, right), (0, 0)))
    return jax.lax.dynamic_slice(padded, (row, column, jnp.zeros_like(row)), (height, width, channels))


def _cutout(key: jax.Array, x: Array) -> jax.Array:
    """A rectangle of half the image's height and width is 0; its centre is uniform, so that some of it may lie outside."""

    def cut(key: jax.Array, size: int) -> jax.Array:
        hole = int(size / 2 + 0.5)
        first = jax.random.randint(key, (), 0, size + 1 - hole % 2, jnp.int32) - hole // 2
        return (jnp.arange(size) >= first) & (jnp.arange(size) < first + hole)

    rows, columns = (cut(key, size) for key, size in zip(jax.random.split(key), x.shape[:2], strict=True))
    return jnp.where((rows[:, None] & columns[None])[..., None], 0, x)


# key, one image [H, W, C] -> the image, differentiable in it: DiffAugment (Zhao 2020), in the numbers of its released code
AUGMENTATIONS: dict[str, Callable[[jax.Array, Array], jax.Array]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def make_inputs(config: ConfigDict, axis_name: str | None = None) -> Show:
    """Returns what config.inputs does to the examples [B, ...], with random numbers of each example's own.

    The augmentations come in the order in which they are named. Then comes normal noise, whose standard deviation falls
    linearly to 0 over inputs.noise_steps generator updates (Sonderby 2017; Arjovsky & Bottou 2017, section 3).
    """
    names, noisy = [name for name in config.inputs.augment.split(",") if name], config.inputs.noise > 0

    def show(key: jax.Array, real: Batch, generated: Batch, step: jax.Array, hyper: Hyperparameters) -> tuple[Batch, Batch]:
        if not names and not noisy:
            return real, generated

        def one(key: jax.Array, x: Array) -> Array:
            key_noise, *keys = jax.random.split(key, 1 + len(names))
            for own, name in zip(keys, names, strict=True):
                x = AUGMENTATIONS[name](own, x)
            if noisy:
                left = jnp.maximum(0, 1 - step.astype(x.dtype) / hyper["inputs.noise_steps"])
                x = x + hyper["inputs.noise"] * left * jax.random.normal(key_noise, x.shape, x.dtype)
            return x

        def both(key: jax.Array, batch: Batch) -> Batch:
            return batch._replace(x=jax.vmap(one)(example_keys(key, len(batch.x), axis_name), batch.x))

        key_real, key_generated = jax.random.split(jax.random.fold_in(key, INPUTS))
        return both(key_real, real), both(key_generated, generated)

    return show
