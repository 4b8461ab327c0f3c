"""Samples of a trained generator, and what is drawn of them: paths between latents, nearest training images."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax.batching import example_keys
from wgan_jax.data.attributes import Attributes, filled
from wgan_jax.data.columns import Columns
from wgan_jax.data.dataset import Encode
from wgan_jax.data.labels import draw_labels
from wgan_jax.data.scaling import PIXELS, Scaling
from wgan_jax.models import make_sampler
from wgan_jax.types import Batch, Latents, Networks, Params

CHUNK = 64  # examples generated at once, always so many: an example's bits do not depend on how many are asked for
DRAWN, DRAWN_VALUES = 250, 2**22  # examples that `make_draw` makes at once, fewer where they are large
COMPARED_VALUES = 2**24  # of training images compared at once

# generate(latents [n]) -> the examples [n, *shape] in parts, each of CHUNK but the last
type Generate = Callable[[Latents], Iterator[np.ndarray]]


class DrawExamples(Protocol):
    """Gives examples [count, *shape], NumPy, after `encode`, and their labels: the i-th is a function of key and i alone."""

    def __call__(self, variables: Params, key: jax.Array, count: int, encode: Encode = np.asarray, /) -> Batch: ...


@functools.lru_cache(maxsize=4)
def make_draw(networks: Networks, counts: tuple[int, ...], shape: tuple[int, ...]) -> DrawExamples:
    """Returns the DrawExamples of networks, with labels drawn by `class_counts`; all who ask for it share what it compiles."""
    size, sample = min(DRAWN, max(1, DRAWN_VALUES // math.prod(shape))), make_sampler(networks)

    @jax.jit
    def compiled(variables: Params, key: jax.Array, first: int) -> Batch:
        label = draw_labels(counts, key, size, first)
        return Batch(sample(variables, key, label, first)[1], label)

    def draw(variables: Params, key: jax.Array, count: int, encode: Encode = np.asarray, /) -> Batch:
        parts = (compiled(variables, key, first) for first in range(0, count, size))
        encoded = [(encode(x), np.asarray(label)) for x, label in parts]
        return Batch(*(np.concatenate(leaves)[:count] for leaves in zip(*encoded, strict=True)))

    return draw


def draw_latents(networks: Networks, counts: Sequence[int], key: jax.Array, count: int) -> Latents:
    """Returns NumPy latents [count] with labels drawn by `class_counts`.

    The i-th is a function of key and i alone; its z is the one that `make_sampler` draws.
    """
    return make_draw_latents(networks, counts, key)(0, count)


def make_draw_latents(networks: Networks, counts: Sequence[int], key: jax.Array) -> Callable[[int, int], Latents]:
    """Returns (first, count) -> the latents first, ..., first + count - 1 of `draw_latents`; it compiles once."""
    compiled = jax.jit(
        lambda first: networks.latents(example_keys(key, CHUNK, first=first), draw_labels(counts, key, CHUNK, first))
    )

    def draw(first: int, count: int) -> Latents:
        parts = [compiled(start) for start in range(first, first + count, CHUNK)]
        return Latents(*(np.concatenate(leaves)[:count] for leaves in zip(*parts, strict=True)))

    return draw


def make_generate(networks: Networks, variables: Params) -> Generate:
    """Returns the Generate of a generator's variables; it compiles once, for CHUNK latents."""
    variables, compiled = jax.tree.map(jnp.asarray, variables), jax.jit(networks.generate)

    def generate(latents: Latents) -> Iterator[np.ndarray]:
        for first in range(0, len(latents.z), CHUNK):
            z, label = (leaf[first : first + CHUNK] for leaf in latents)
            missing = CHUNK - len(z)
            padded = Latents(*(np.pad(leaf, ((0, missing), *[(0, 0)] * (leaf.ndim - 1))) for leaf in (z, label)))
            yield np.asarray(compiled(variables, padded))[: len(z)]

    return generate


def lerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Returns the straight line from latents a to b [n, Z] at times t [T] in [0, 1]: [T, n, Z]."""
    t = t[:, None, None]
    return (1 - t) * a + t * b


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Returns the great circle from latents a to b [n, Z] at times t [T] in [0, 1]: [T, n, Z].

    sin((1 - t) w) / sin w a + sin(t w) / sin w b with w the angle between a and b (White 2016, section 2.1): norms stay those
    of the normal law, which a straight line would leave. A line where there is one dimension, in which nothing turns.
    """
    if a.shape[-1] == 1:
        return lerp(a, b, t)
    cosine = (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    angle, t = np.arccos(np.clip(cosine, -1, 1))[:, None] / np.pi, t[:, None, None]
    # sin(t w) / sin w as t sinc(t w) / sinc w: exact at both ends, and a line where a and b are parallel
    share = np.sinc(angle)
    return (1 - t) * np.sinc((1 - t) * angle) / share * a + t * np.sinc(t * angle) / share * b


# By the name of the latent law: a way from latents a to b [n, Z] at times t [T] that stays where the law has its mass.
PATHS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {"normal": slerp, "uniform": lerp}


def interpolation(law: str, latents: Latents, steps: int) -> Latents:
    """Returns ways [steps, n] between pairs of latents [2n], both ends included: the r-th from the 2r-th to the next."""
    return _way(law, _every(latents, 2, 0), _every(latents, 2, 1), np.linspace(0, 1, steps))


def every_label(latents: Latents, classes: int) -> Latents:
    """Returns latents [classes * n]: the z of n latents with label 0, then the same with label 1, and so on."""
    count = len(latents.z)
    return Latents(np.tile(latents.z, (classes, 1)), np.repeat(np.arange(classes, dtype=np.int32), count))


def label_walk(latents: Latents, ends: Sequence[int], classes: int, steps: int) -> Latents:
    """Returns ways [steps, n] from one label to another at the z of n latents, both ends included, as shares of the classes."""
    first, last = np.eye(classes, dtype=np.float32)[list(ends)]
    shape = (len(latents.z), classes)
    return code_walk(latents, np.broadcast_to(first, shape), np.broadcast_to(last, shape), steps)


def code_walk(latents: Latents, first: np.ndarray, last: np.ndarray, steps: int) -> Latents:
    """Returns ways [steps, n] from codes [n, K] to others at the z of n latents, both ends included."""
    t = np.linspace(0, 1, steps, dtype=np.float32)[:, None, None]
    return Latents(np.broadcast_to(latents.z, (steps, *latents.z.shape)), (1 - t) * first + t * last)


def every_code(
    latents: Latents,
    attributes: Attributes,
    entries: Sequence[tuple[int, float]],
    fixed: Mapping[int, float] = MappingProxyType({}),
) -> Latents:
    """Returns latents [len(entries) * n]: the z of n latents, whose labels are combinations, with each (column, entry) in turn.

    fixed: entries of other columns, of all.
    """
    rows = filled(attributes.rows[np.asarray(latents.label)], fixed)
    codes = [attributes.encode(filled(rows, {column: entry})) for column, entry in entries]
    return Latents(np.tile(latents.z, (len(entries), 1)), np.concatenate(codes))


def closed_walk(law: str, latents: Latents, stops: int, steps: int) -> Latents:
    """Returns closed walks [stops * steps, n]: the r-th through `stops` latents of [n * stops], those from r * stops on.

    It takes `steps` from each to the next, and the last step's next is the first.
    """
    at, times = [_every(latents, stops, first) for first in range(stops)], np.arange(steps) / steps
    legs = [_way(law, a, b, times) for a, b in zip(at, at[1:] + at[:1], strict=True)]
    return Latents(*map(np.concatenate, zip(*legs, strict=True)))


def _every(latents: Latents, n: int, first: int) -> Latents:
    return Latents(*(leaf[first::n] for leaf in latents))


def _way(law: str, a: Latents, b: Latents, t: np.ndarray) -> Latents:
    """Returns the way from latents a to b [n] at times t [T]: [T, n]. Codes go along a line, a class is the nearer end's."""
    z = PATHS[law](np.asarray(a.z, np.float64), np.asarray(b.z, np.float64), t)
    first, last = np.asarray(a.label), np.asarray(b.label)
    label = np.where(t[:, None] < 0.5, first, last) if first.ndim == 1 else lerp(first, last, t).astype(first.dtype)
    return Latents(z.astype(a.z.dtype), label)


def nearest_images(
    samples: np.ndarray, train: np.ndarray, k: int, scaling: Scaling | Columns = PIXELS
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices [n, k] of the training examples nearest to samples, nearest first, and the distances [n, k].

    samples: [n, *shape] in network units, rounded as saving them would; train: [N, *shape] as stored, k of them at least.
    Distances are Euclidean, over all entries in network units. Those of pixels are computed on uint8 levels, of which squared
    distances are whole numbers and exact: of a copy it is 0.
    """
    from sklearn.neighbors import NearestNeighbors

    def units(stored: np.ndarray) -> np.ndarray:
        x = stored if scaling == PIXELS else scaling.decode(stored, np.float64)
        return x.reshape(len(x), -1).astype(np.float64)

    points = units(scaling.encode(samples))
    step = max(1, COMPARED_VALUES // points.shape[1])
    distances: np.ndarray = np.empty((len(points), 0))
    indices: np.ndarray = np.empty((len(points), 0), np.int64)
    for first in range(0, len(train), step):
        chunk = units(train[first : first + step])
        found = NearestNeighbors(n_neighbors=min(k, len(chunk)), algorithm="brute").fit(chunk).kneighbors(points)
        distances, indices = np.hstack([distances, found[0]]), np.hstack([indices, found[1] + first])
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        distances, indices = (np.take_along_axis(x, order, axis=1) for x in (distances, indices))
    return indices, distances / (127.5 if scaling == PIXELS else 1.0)
