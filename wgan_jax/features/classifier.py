"""A small convolutional classifier of a dataset's labels, trained once and kept: features that know what the images show."""

import hashlib
import io
import json
import logging
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from flax.traverse_util import flatten_dict, unflatten_dict
from rich.console import Console

from wgan_jax.data.attributes import Attributes
from wgan_jax.data.dataset import Decode, Split, Stored
from wgan_jax.models.embedding import label_loss
from wgan_jax.models.layers import Convolution, Dense, Style
from wgan_jax.paths import cache_folder, write_whole
from wgan_jax.types import Params

NOT_KEPT = "the classifier is trained anew next time"  # where its cache cannot be written
VERSION = 2  # of the network and its training: another one trains anew
STEPS, BATCH, RATE, CALL = 1000, 128, 2e-3, 50  # updates, images each, the first learning rate, updates per compiled call
WIDTH = 128  # of the features
SMALLEST = 7  # pixels, at most, that the convolutions halve an image down to
SILENCE = 15.0  # seconds between lines
STYLE = Style(
    width=16,
    depth=0,
    activation="relu",
    initializer="he_normal",
    kernel="none",
    normalization="none",
    normalize_first=False,
    axis_name=None,
    dtype=np.float32,
    param_dtype=np.float32,
)


class Classifier(NamedTuple):
    apply: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # uint8 images [n, H, W, C] -> [n, WIDTH], [n, classes]
    accuracy: float  # on the test split
    sha256: str  # of the weights


class Network(nn.Module):
    """Images [B, H, W, C] in [-1, 1] to features [B, WIDTH] and logits [B, classes]; of attributes to their code."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = STYLE.width
        while x.shape[1] > SMALLEST:
            x = nn.relu(Convolution(width, STYLE, taps=4, stride=2)(x))
            width = min(2 * width, WIDTH)
        features = nn.relu(Dense(WIDTH, STYLE)(x.reshape(len(x), -1)))
        return features, Dense(self.classes, STYLE)(features)


def cached_classifier(dataset: Stored, folder: Path) -> Classifier:
    """Returns the classifier of a labelled dataset from a folder of classifiers, trained and put there where it is missing."""
    attributes = dataset.attributes
    network = Network(attributes.size if attributes else len(dataset.class_names))
    labels = attributes.columns if attributes else dataset.class_names
    told = json.dumps([VERSION, dataset.fingerprint or _fingerprint(dataset.train), dataset.shape, labels])
    path = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.npz"
    stored = _read(path, network, dataset.shape, told)
    if stored is not None:
        params, share = stored
        return Classifier(make_apply(network, params, dataset.decode), share, _hash(params))
    params = jax.device_get(train(network, dataset.train, dataset.decode, attributes))
    apply = make_apply(network, params, dataset.decode)
    share = accuracy(apply, dataset.test, attributes)
    _write(path, params, share, told)
    return Classifier(apply, share, _hash(params))


def make_apply(network: Network, params: Params, decode: Decode) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns the compiled function of images as they are stored."""
    compiled = jax.jit(lambda variables, images: network.apply(variables, decode(images, jnp.float32)))
    return lambda images: compiled({"params": params}, images)


def accuracy(
    apply: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    split: Split,
    attributes: Attributes | None = None,
    chunk: int = 1000,
) -> float:
    """Returns the share of a split's images whose label is the largest logit; of attributes the mean over columns of names.

    Where all columns are of numbers, 1 less the mean squared error in standard deviations.
    """
    parts = range(0, len(split.images), chunk)
    logits = np.concatenate([np.asarray(apply(np.asarray(split.images[start : start + chunk]))[1]) for start in parts])
    if attributes is None:
        return float(np.mean(logits.argmax(axis=1) == split.labels))
    rows, blocks = attributes.rows[split.labels], attributes.blocks
    if columns := attributes.of_names:
        return float(np.mean([logits[:, blocks[c]].argmax(axis=1) == rows[:, c] for c in columns]))
    return float(1 - np.mean(np.square(logits - rows)))


def train(network: Network, split: Split, decode: Decode, attributes: Attributes | None = None) -> Params:
    """Returns parameters after STEPS updates of Adam on the cross-entropy, the learning rate falling to 0 as a cosine.

    Of attributes the loss is `label_loss`. A function of the data alone: in 32 bits whatever a run computes in.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))

    def loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
        _, logits = cast(tuple[jax.Array, jax.Array], network.apply({"params": params}, decode(images, jnp.float32)))
        return label_loss(logits, labels, attributes).mean()

    def step(carry: tuple[Params, Any], batch: tuple[jax.Array, jax.Array]) -> tuple[tuple[Params, Any], None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, *batch), state)
        return (optax.apply_updates(params, updates), state), None

    several = jax.jit(lambda carry, batches: jax.lax.scan(step, carry, batches)[0])
    rng = np.random.default_rng(0)
    with jax.enable_x64(False):
        params = network.init(jax.random.key(0), decode(split.images[:1]))["params"]
        carry = (params, optimizer.init(params))
        for _ in shown(STEPS // CALL, rich.get_console()):
            rows = rng.integers(0, len(split.images), (CALL, BATCH))
            carry = jax.block_until_ready(several(carry, (split.images[rows], split.labels[rows])))
    return carry[0]


def shown(calls: int, console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Yields 0, ..., calls - 1, and tells how far that is in lines with the seconds left, which a bar may stand below.

    The first call compiles: what is left is estimated from those after it.
    """
    task = "training a classifier of the labels, once"
    console.print(task, highlight=False, soft_wrap=True)
    compiled = told = clock()
    for call in range(calls):
        yield call
        now, done, of = clock(), call + 1, calls
        if done == 1:
            compiled = told = now
        elif done < of and (done == 2 or now - told >= SILENCE):
            told, left = now, (now - compiled) / call * (of - done)
            console.print(f"{task}: {done / of:.0%}, about {left:.0f} s left", highlight=False, soft_wrap=True)


def _fingerprint(split: Split) -> str:
    return hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()


def _hash(params: Params) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(flatten_dict(params, sep="/").items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def _write(path: Path, params: Params, accuracy: float, told: str) -> None:
    if cache_folder(str(path.parent), NOT_KEPT) is None:
        return
    stored = io.BytesIO()
    np.savez(stored, told=told, accuracy=accuracy, **flatten_dict(params, sep="/"))
    try:
        write_whole(path, stored.getvalue())
    except OSError as error:
        logging.getLogger(__name__).warning("%s: %s; %s", path.parent, (error.strerror or str(error)).lower(), NOT_KEPT)


def _read(path: Path, network: Network, shape: tuple[int, ...], told: str) -> tuple[Params, float] | None:
    """Returns stored parameters and their accuracy; None where there are none, or wrong ones, which are warned of.

    told: what they were trained on.
    """
    wanted = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), np.float32))["params"]
    names = {name: leaf.shape for name, leaf in flatten_dict(wanted, sep="/").items()}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in names}
            accuracy, own = float(stored["accuracy"]), str(stored["told"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        logging.getLogger(__name__).warning("%s cannot be read (%s); it is trained and written anew", path, error)
        return None
    if own != told or {name: array.shape for name, array in arrays.items()} != names:
        logging.getLogger(__name__).warning("%s is of other data or another network; it is trained and written anew", path)
        return None
    return unflatten_dict(arrays, sep="/"), accuracy
