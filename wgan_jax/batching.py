"""What depends on the batch as a whole: means and per-example randomness, the same on one device and on many; its parts; and
how many batches an update takes.

`axis_name` names the mapped device axis, each device holding an equal share of the global batch; None means one device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

from wgan_jax.types import Array

# Folded into an update's key for what is drawn beside its examples, whose own numbers are smaller; no two are one.
REPLAY, INPUTS, TARGETS, MISMATCH, UNROLLED = range(2**32 - 1, 2**32 - 6, -1)


def warmup_phases(config: ConfigDict, step: jax.Array | int) -> jax.Array | int:
    """Returns the number of critic phases before the generator update of a step: 1, or more where the warm-up asks."""
    warm = (step < config.warmup.first) | (step % config.warmup.every == 0)
    return jnp.where(warm, config.warmup.critic_steps // config.n_critic, 1) if config.warmup.critic_steps else 1


def batches_per_update(config: ConfigDict, step: int) -> int:
    """Returns how many batches the update of a step takes, a critic update one, and the generator's; step 0 takes the most."""
    return int(warmup_phases(config, step)) * config.n_critic + 1


def batch_mean[T](tree: T, axis_name: str | None) -> T:
    """Returns the mean over devices of every leaf; of means over equal shares this is the mean over the global batch.

    The leaves, all floating, travel as one vector: one collective in place of one per leaf. Never call it inside a
    `lax.cond`: there XLA:CPU (jaxlib 0.12.0.1) crashes now and then.
    """
    if axis_name is None:
        return tree
    vector, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(vector, axis_name))


def example_keys(key: jax.Array, count: int, axis_name: str | None = None, first: jax.Array | int = 0) -> jax.Array:
    """Returns a key per example, [count]: a function of `key` and the example's index in the global batch alone.

    On one device the indices start at `first`.
    """
    if axis_name is not None:
        first = jax.lax.axis_index(axis_name) * count
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(first + jnp.arange(count))


def batch_std(x: Array, axis_name: str | None) -> jax.Array:
    """Returns the standard deviation over all entries of the global batch, []."""
    mean = batch_mean(jnp.mean(x), axis_name)
    return jnp.sqrt(batch_mean(jnp.mean(jnp.square(x - mean)), axis_name))


def pack[T](examples: T, size: int) -> T:
    """Returns a critic's examples: arrays [B, ...] as they are, or for a size above 1 as [B / size, size, ...], row by row."""
    return examples if size == 1 else jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), examples)


def in_chunks[T](apply: Callable[[T], tuple[Any, ...]], examples: T, size: int) -> tuple[np.ndarray, ...]:
    """Returns apply(examples) as float64 for any number of examples, at most `size` at a time.

    apply: an array [n, ...], or a Batch of such, -> arrays [n, ...]; it sees one n only, as the last chunk is filled up, so
    that it compiles once.
    """
    count = len(jax.tree.leaves(examples)[0])
    size, parts = max(1, min(size, count)), []
    for start in range(0, count, size):
        own = min(size, count - start)

        def filled(leaf: np.ndarray, start: int = start, own: int = own) -> np.ndarray:
            return np.concatenate([leaf[start : start + own], np.zeros((size - own, *leaf.shape[1:]), leaf.dtype)])

        parts.append([np.asarray(array, np.float64)[:own] for array in apply(jax.tree.map(filled, examples))])
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
