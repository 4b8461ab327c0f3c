"""The one way to a batch: a pure function inside the compiled program, for synthetic, resident and streamed data.

A batch has a position: the number of batches consumed before it (critic and generator updates each consume one). Stored data
is read in permutations of the training split, one per epoch, each a function of (seed, epoch); the last batch of an epoch
continues into the next. Rows of the stream are cut on the host, several updates at a time, into a Feed.
"""

import functools
import math
import mmap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.batching import batches_per_update, example_keys
from wgan_jax.data.dataset import Dataset, Law, Split, Stored
from wgan_jax.data.labels import UNSEEN, draw_conditioned, seen_labels
from wgan_jax.types import Array, Batch

ROWS_PER_FEED = 2**17  # examples; their permutations take about 5 ms to make
STREAMED_BYTES = 2**26  # of pixels in a feed, or one update's batches where they are more


class Feed(NamedTuple):
    """What the program reads stored data from; all None for synthetic data. Shardings of it are Feeds too."""

    resident: Any = None  # Split on the device, replicated; None where pixels are streamed
    first: Any = None  # int32 [], position of the first batch of `rows`
    # indices [positions, B] int32 into the labels of `resident`, of which an example may have several, ~index of one that is
    # unseen, or a Split of [positions, B, ...]; B is sharded
    rows: Any = None


# feed, position, key, count -> `count` consecutive batches of this device: x [count, size, ...], label [count, size]
type Draw = Callable[[Feed, Array, jax.Array, int], Batch]


def make_draw(dataset: Dataset, size: int, axis_name: str | None = None, dtype: jax.typing.DTypeLike = np.float32) -> Draw:
    """Returns the function that draws batches of `size` examples on each device.

    Synthetic data depends on the key and the global example index, stored data on the position; its flips and noise, on both.
    """

    def draw(feed: Feed, position: Array, key: jax.Array, count: int) -> Batch:
        keys = jax.vmap(lambda k: example_keys(k, size, axis_name))(jax.random.split(key, count))
        if isinstance(dataset, Law):
            x = jax.vmap(jax.vmap(dataset.sample))(keys).astype(dtype)
            return Batch(x, jnp.zeros((count, size), jnp.int32))
        rows = jax.tree.map(lambda r: jax.lax.dynamic_slice_in_dim(r, position - feed.first, count), feed.rows)
        if feed.resident is None:
            images, labels = rows
        else:
            stored, at = feed.resident, jnp.where(rows < 0, ~rows, rows)
            several = len(stored.labels) // len(stored.images)
            images, labels = stored.images[at // several if several > 1 else at], jnp.where(rows < 0, UNSEEN, stored.labels[at])
        x = images.astype(dtype) if dataset.scaling.wide else dataset.decode(images, dtype)
        if dataset.flip:
            flips = jax.vmap(jax.vmap(jax.random.bernoulli))(keys)
            x = jnp.where(flips[:, :, None, None, None], x[:, :, :, ::-1], x)
        if dataset.dequantise:
            noise = jax.vmap(jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 1), dataset.shape, dtype)))(keys)
            x = x + (2 * noise - 1) / 255
        return Batch(x, labels)

    return draw


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(examples).astype(np.int32)


def stream_indices(seed: int, first: int, positions: int, size: int, examples: int) -> np.ndarray:
    """Returns rows `first`, ..., `first + positions - 1` of the endless index stream, [positions, size] int32."""
    start, stop = first * size, (first + positions) * size
    epochs = range(start // examples, -(-stop // examples))
    stream = np.concatenate([_permutation(seed, epoch, examples) for epoch in epochs])
    offset = epochs[0] * examples
    return stream[start - offset : stop - offset].reshape(positions, size)


def make_feed(dataset: Stored, resident: Split | None, seed: int, first: int, positions: int, size: int) -> Feed:
    """Returns the feed of `positions` batches from position `first` on.

    resident: the training split on the device, for a feed of indices into it; None for one that carries the pixels of
    the same indices. `positions` is a constant of the config, so that the program is compiled once.
    """
    images, labels = dataset.train
    if dataset.conditions is not None:
        rows, (several, *_) = draw_conditioned(dataset.conditions, seed, first, positions, size), dataset.conditions
        if resident is not None:
            return Feed(resident, np.int32(first), rows)
        gathered = Split(_gather(images, rows // several.shape[1]), several.ravel()[rows])
        return Feed(None, np.int32(first), _for_device(dataset, gathered, first))
    rows = stream_indices(seed, first, positions, size, len(images))
    seen = seen_labels(labels, dataset.labelled, seed)
    if resident is not None:
        return Feed(resident, np.int32(first), np.where(seen[rows], rows, ~rows))
    gathered = Split(_gather(images, rows), np.where(seen, labels, UNSEEN)[rows])
    return Feed(None, np.int32(first), _for_device(dataset, gathered, first))


def _for_device(dataset: Stored, split: Split, seed: int = 0) -> Split:
    return Split(dataset.scaling.for_device(split.images, seed), split.labels)


def _expect_random_reads(images: np.ndarray) -> None:
    """Tells the system not to read on around every image of a memory map: 5,000 of 40 GB then take 0.1 s in place of 10."""
    base: Any = images
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):  # which Windows has not
        base.madvise(mmap.MADV_RANDOM)


def _gather(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns images[rows], read in the order in which they lie on disk."""
    flat = rows.ravel()
    order = np.argsort(flat, kind="stable")
    gathered = np.empty((flat.size, *images.shape[1:]), images.dtype)
    gathered[order] = images[flat[order]]
    return gathered.reshape(*rows.shape, *images.shape[1:])


def positions_per_feed(dataset: Stored, size: int, needed: int, *, streamed: bool) -> int:
    """Returns how many batches of `size` a feed holds: ROWS_PER_FEED indices or STREAMED_BYTES of pixels, `needed` or more."""
    example = math.prod(dataset.shape) * dataset.train.images.itemsize
    return max(needed, (STREAMED_BYTES // example if streamed else ROWS_PER_FEED) // size)


class Feeds(NamedTuple):
    """How stored data comes to the program, feed after feed."""

    at: Callable[[int], Feed]  # the one that begins at a position
    capacity: float  # positions of a feed; without end for synthetic data
    needed: Callable[[int], int]  # positions that the update of a step takes; that of step 0 takes the most


def plan_feeds(
    config: ConfigDict,
    dataset: Dataset,
    place: Callable[[Any], Any],
    shard: Callable[[Feed], Feed],
    seeds: Sequence[int] | None = None,
) -> Feeds:
    """Returns the feeds of a config, laid out for the devices by `shard`.

    Training images of up to config.data.resident_mb are put on the devices by `place`, others are streamed from where they
    lie. With `seeds` rows have a leading axis [members], each with the stream of its seed; else they are config.seed's.
    """
    needed = functools.partial(batches_per_update, config)
    if isinstance(dataset, Law):
        return Feeds(lambda position: shard(Feed()), math.inf, needed)
    streamed = dataset.train.images.nbytes > config.data.resident_mb * 2**20
    images, labels = map(np.asarray, dataset.train)
    labels = labels if dataset.conditions is None else dataset.conditions.labels.ravel()
    resident = None if streamed else place(_for_device(dataset, Split(images, labels)))
    if streamed:
        _expect_random_reads(dataset.train.images)
    together = len(seeds) if seeds and streamed else 1  # whose pixels share the memory
    capacity = positions_per_feed(dataset, config.batch_size * together, needed(0), streamed=streamed)

    def at(first: int) -> Feed:
        if seeds is None:
            return shard(make_feed(dataset, resident, config.seed, first, capacity, config.batch_size))
        feeds = [make_feed(dataset, resident, seed, first, capacity, config.batch_size) for seed in seeds]
        return shard(feeds[0]._replace(rows=jax.tree.map(lambda *rows: np.stack(rows), *(feed.rows for feed in feeds))))

    return Feeds(at, capacity, needed)
