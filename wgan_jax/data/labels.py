"""Labels of examples that are to be made, of each class as large a share as in the training split; which labels are seen."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax.batching import example_keys
from wgan_jax.data.attributes import LISTED, Attributes
from wgan_jax.data.dataset import Conditions, Dataset, Law
from wgan_jax.errors import UserError

LABEL = 1  # folded into an example's key, which by itself is its latent's
SEEN = 2**32 - 1  # beside a seed, in place of the epochs of its stream
CONDITIONED = 2**32 - 2  # beside a seed, in place of the epochs of its stream
UNSEEN = -1  # the label of an example whose own training does not see


def class_counts(dataset: Dataset) -> tuple[int, ...]:
    """Returns how many training examples each class has, one of a table in each of its columns; () without classes."""
    if isinstance(dataset, Law) or not dataset.class_names:
        return ()
    if dataset.conditions is not None:
        return tuple(dataset.conditions.counts.tolist())
    return tuple(np.bincount(dataset.train.labels, minlength=len(dataset.class_names)).tolist())


def label_info(dataset: Dataset) -> dict[str, Any]:
    """Returns what a checkpoint says of a dataset's labels, as JSON takes it."""
    attributes = attributes_of(dataset)
    told = attributes.told() if attributes else None
    return {"class_counts": class_counts(dataset), "class_names": class_names(dataset), "attributes": told}


def attributes_of(dataset: Dataset) -> Attributes | None:
    """Returns what labels are combinations of; None of classes, or without labels."""
    return None if isinstance(dataset, Law) else dataset.attributes


def class_names(dataset: Dataset) -> tuple[str, ...]:
    """Returns the names of the classes; () without any."""
    return () if isinstance(dataset, Law) else dataset.class_names


def find_class(text: str, names: Sequence[str]) -> int:
    """Returns the class that a name, or else a number, is of.

    Raises:
      UserError: of none.
    """
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    listed = ", ".join(f"{index} {name}" if name != str(index) else name for index, name in enumerate(names[:LISTED]))
    raise UserError(f"--label: no class {text!r}; there are {listed}{', ...' * (len(names) > LISTED)}")


def draw_labels(counts: Sequence[int], key: jax.Array, count: int, first: int = 0) -> jax.Array:
    """Returns the labels [count] int32 of examples first, first + 1, ... of a key, drawn by `class_counts`; 0 without classes.

    The i-th is a function of the key and i alone, the label of a training example drawn uniformly.
    """
    if not counts:
        return jnp.zeros(count, jnp.int32)
    return _draw(example_keys(key, count, first=first), jnp.asarray(np.cumsum(counts), jnp.int32))


@jax.jit
def _draw(keys: jax.Array, ends: jax.Array) -> jax.Array:
    rows = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, LABEL), (), 0, ends[-1], jnp.int32))(keys)
    return jnp.searchsorted(ends, rows, side="right").astype(jnp.int32)


def conditions_of(labels: np.ndarray, count: int, balance: float = 0.0) -> Conditions:
    """Returns the conditions of rows' labels [N, M], of `count` in all.

    balance: 0 for drawing them as often as rows have them, 1 by the logarithm of that (Xu 2019, section 4.3), and between.
    """
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=count)
    weights = counts ** (1 - balance) * np.log1p(counts) ** balance
    return Conditions(labels, np.argsort(flat, kind="stable").astype(np.int32), counts, np.where(counts > 0, weights, 0))


def draw_conditioned(conditions: Conditions, seed: int, first: int, positions: int, size: int) -> np.ndarray:
    """Returns places in conditions.labels, laid out row by row: a condition and a row that has it, [positions, size] int32.

    Training by sampling (Xu 2019, section 4.3): the column is drawn uniformly, its category by its weight, the row uniformly
    among those that have it. A position's are a function of the seed and the position alone.
    """
    draws = [
        np.random.default_rng((seed, CONDITIONED, position)).random((3, size)) for position in range(first, first + positions)
    ]
    u, column, row = np.stack(draws, axis=1)
    _, columns = conditions.labels.shape
    starts = np.cumsum([0, *conditions.counts])
    of_column = starts[:-1] // len(conditions.labels)  # [K], as those of each column add up to N
    totals = np.bincount(of_column.clip(max=columns - 1), conditions.weights, columns)
    shares = conditions.weights / totals[of_column.clip(max=columns - 1)]
    wanted = np.searchsorted(np.cumsum(shares), np.floor(column * columns) + u, side="right")
    seen = np.flatnonzero(conditions.counts)
    label = seen[np.searchsorted(seen, wanted).clip(max=len(seen) - 1)]  # rounding may end beside a category
    return conditions.order[starts[label] + (row * conditions.counts[label]).astype(int)]


def seen_labels(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns which [N] of the training labels a run of that seed sees: `count` of them at random, 0 for all.

    Of every class as many, up to one, and as far as it has so many.
    """
    if not count:
        return np.ones(len(labels), bool)
    order = np.random.default_rng((seed, SEEN)).permutation(len(labels))
    rank = np.empty(len(labels), int)  # of an example within its class
    for label in np.unique(labels):
        own = order[labels[order] == label]
        rank[own] = np.arange(len(own))
    chosen = order[np.argsort(rank[order], kind="stable")[:count]]
    seen = np.zeros(len(labels), bool)
    seen[chosen] = True
    return seen
