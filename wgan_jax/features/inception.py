"""Inception-v3 as the Frechet and Inception distances know it: TensorFlow's graph of 2015-12-05, with its resize.

It is not the network of Szegedy 2016 to the letter: averages do not count the padding, the last block pools by the maximum, and
there are 1,008 outputs. Layers bear PyTorch's names, as in torch-fidelity (Obukhov 2020) and pytorch-fid (Seitzer 2020).
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax.errors import UserError
from wgan_jax.features.weights import read_weights
from wgan_jax.types import Params

SIZE = 299
EPSILON = 0.001  # of the batch normalisations
PUBLISHED = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
UNUSED = re.compile(r"AuxLogits\..*|.*\.num_batches_tracked")  # entries of a file that the network does without


class InceptionV3(nn.Module):
    """Images [n, 299, 299, 3] in [-1, 1] to features [n, 2048] and logits without bias [n, 1008]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = _convolve(x, "Conv2d_1a_3x3", 32, 3, 3, stride=2)
        x = _convolve(x, "Conv2d_2a_3x3", 32, 3, 3, padding="VALID")
        x = _convolve(x, "Conv2d_2b_3x3", 64, 3, 3)
        x = _halve(x)
        x = _convolve(x, "Conv2d_3b_1x1", 80, 1, 1)
        x = _convolve(x, "Conv2d_4a_3x3", 192, 3, 3, padding="VALID")
        x = _halve(x)
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = _block_a(x, name, pooled)
        x = _block_b(x, "Mixed_6a")
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = _block_c(x, name, width)
        x = _block_d(x, "Mixed_7a")
        x = _block_e(x, "Mixed_7b", _average(x))
        x = _block_e(x, "Mixed_7c", nn.max_pool(x, (3, 3), padding="SAME"))
        features = x.mean((1, 2))
        return features, nn.Dense(1008, use_bias=False, name="fc")(features)


def _convolve(
    x: jax.Array, name: str, features: int, height: int, width: int, *, stride: int = 1, padding: str = "SAME"
) -> jax.Array:
    """Convolution, with the batch normalisation folded into it, and ReLU. Called inside a compact method."""
    padding = "VALID" if stride > 1 else padding  # so it is in all that have a stride
    return nn.relu(nn.Conv(features, (height, width), stride, padding, name=name)(x))


def _chain(x: jax.Array, name: str, *layers: tuple[int, int, int], last_stride: int = 1) -> jax.Array:
    """Convolutions name_1, name_2, ... of (features, height, width)."""
    for number, layer in enumerate(layers, 1):
        x = _convolve(x, f"{name}_{number}", *layer, stride=last_stride if number == len(layers) else 1)
    return x


def _average(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def _halve(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _block_a(x: jax.Array, name: str, pooled: int) -> jax.Array:
    one = _convolve(x, f"{name}.branch1x1", 64, 1, 1)
    five = _chain(x, f"{name}.branch5x5", (48, 1, 1), (64, 5, 5))
    three = _chain(x, f"{name}.branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3))
    pool = _convolve(_average(x), f"{name}.branch_pool", pooled, 1, 1)
    return jnp.concatenate([one, five, three, pool], axis=-1)


def _block_b(x: jax.Array, name: str) -> jax.Array:
    three = _convolve(x, f"{name}.branch3x3", 384, 3, 3, stride=2)
    double = _chain(x, f"{name}.branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3), last_stride=2)
    return jnp.concatenate([three, double, _halve(x)], axis=-1)


def _block_c(x: jax.Array, name: str, width: int) -> jax.Array:
    one = _convolve(x, f"{name}.branch1x1", 192, 1, 1)
    seven = _chain(x, f"{name}.branch7x7", (width, 1, 1), (width, 1, 7), (192, 7, 1))
    double = _chain(x, f"{name}.branch7x7dbl", (width, 1, 1), (width, 7, 1), (width, 1, 7), (width, 7, 1), (192, 1, 7))
    pool = _convolve(_average(x), f"{name}.branch_pool", 192, 1, 1)
    return jnp.concatenate([one, seven, double, pool], axis=-1)


def _block_d(x: jax.Array, name: str) -> jax.Array:
    three = _chain(x, f"{name}.branch3x3", (192, 1, 1), (320, 3, 3), last_stride=2)
    seven = _chain(x, f"{name}.branch7x7x3", (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3), last_stride=2)
    return jnp.concatenate([three, seven, _halve(x)], axis=-1)


def _block_e(x: jax.Array, name: str, pooled: jax.Array) -> jax.Array:
    one = _convolve(x, f"{name}.branch1x1", 320, 1, 1)
    three = _chain(x, f"{name}.branch3x3", (384, 1, 1))
    double = _chain(x, f"{name}.branch3x3dbl", (448, 1, 1), (384, 3, 3))
    ends = [
        _convolve(branch, f"{name}.{end}", 384, height, width)
        for branch, stem in ((three, "branch3x3_2"), (double, "branch3x3dbl_3"))
        for end, height, width in ((f"{stem}a", 1, 3), (f"{stem}b", 3, 1))
    ]
    pool = _convolve(pooled, f"{name}.branch_pool", 192, 1, 1)
    return jnp.concatenate([one, *ends, pool], axis=-1)


def resize(images: jax.Array) -> jax.Array:
    """Returns images [n, H, W, C] resized to [n, 299, 299, C] float32, bilinearly as TensorFlow 1 does.

    Pixel i of the result is at i * H / 299 of the original (align_corners=False, no half-pixel centres, no antialiasing), and
    the border is repeated.
    """
    rows, columns = (jnp.asarray(_interpolation(size)) for size in images.shape[1:3])
    images = jnp.einsum("ih,nhwc->niwc", rows, images.astype(jnp.float32))
    return jnp.einsum("jw,niwc->nijc", columns, images)


def _interpolation(size: int) -> np.ndarray:
    place = np.arange(SIZE, dtype=np.float32) * np.float32(size / SIZE)  # in float32, as TensorFlow rounds it
    low = place.astype(int)
    matrix = np.zeros((SIZE, size), np.float32)
    matrix[np.arange(SIZE), low] = 1 - (place - low)
    matrix[np.arange(SIZE), np.minimum(low + 1, size - 1)] += place - low
    return matrix


def load_inception(path: str | Path) -> tuple[Callable[[np.ndarray], tuple[jax.Array, jax.Array]], str]:
    """Returns the network of a file of weights, and the file's SHA-256 in hex.

    The network takes uint8 images [n, H, W, 1 or 3] to the pool's features [n, 2048] and logits without bias [n, 1008], both
    float32: torch-fidelity's `2048` and `logits_unbiased`. It is compiled per n, its resize per n, H and W.

    Raises:
      UserError: no such file, not readable, or not the weights of this network.
    """
    file = Path(path)
    if not path or not file.is_file():
        given = f"no file {path}" if path else "it is empty"
        raise UserError(f"config.eval.weights: {given}; features=inception needs the weights, for example of {PUBLISHED}")
    variables = _variables(file)
    network = InceptionV3()

    @jax.jit
    def prepare(images: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return (resize(jnp.broadcast_to(images, (*images.shape[:3], 3))) - 128) / 128

    @jax.jit
    def apply(variables: Params, x: jax.Array) -> Any:
        with jax.default_matmul_precision("highest"):  # accelerators would round to 10 bits
            return network.apply(variables, x)

    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return lambda images: apply(variables, prepare(images)), sha256


def _variables(path: Path) -> Params:
    """Returns the network's parameters from a file with PyTorch's names, batch normalisation folded into the convolutions."""
    arrays = read_weights(path)
    shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32))
    wanted: dict[str, tuple[int, ...]] = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    layers = {name: layer["kernel"].shape for name, layer in shapes["params"].items() if name != "fc"}
    for name, (height, width, inputs, features) in layers.items():
        wanted[f"{name}.conv.weight"] = (features, inputs, height, width)
        wanted |= {f"{name}.bn.{part}": (features,) for part in ("weight", "bias", "running_mean", "running_var")}
    given = {name: array.shape for name, array in arrays.items() if not UNUSED.fullmatch(name)}
    if wrong := sorted(name for name in wanted | given if wanted.get(name) != given.get(name)):
        name = wrong[0]
        raise UserError(
            f"config.eval.weights: {path} is not of this Inception: {len(wrong)} entries differ, first {name!r:.100}, "
            f"{given.get(name, 'absent')} in the file and {wanted.get(name, 'absent')} in the network; see {PUBLISHED}"
        )
    for name in wanted:
        real = arrays[name].dtype.kind == "f" and (np.abs(arrays[name]) <= np.finfo(np.float32).max).all()
        if not real or (name.endswith(".running_var") and arrays[name].min() < 0):
            raise UserError(f"config.eval.weights: {path}: {name} holds NaN, infinity, a negative variance or no real numbers")
    params = {"fc": {"kernel": arrays["fc.weight"].T.astype(np.float32)}}
    for name in layers:
        scale, bias, mean, variance = (
            arrays[f"{name}.bn.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + EPSILON)
        kernel = np.einsum("oihw,o->hwio", arrays[f"{name}.conv.weight"], factor)
        params[name] = {"kernel": kernel.astype(np.float32), "bias": (bias - mean * factor).astype(np.float32)}
    return jax.tree.map(jnp.asarray, {"params": params})  # to the device once, not at every call
