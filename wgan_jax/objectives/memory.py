"""What an objective remembers between updates: generated examples, means of parameters.

It is the same on all devices: examples are gathered over them, and parameters are the same.
"""

import jax
import jax.numpy as jnp
import optax

from wgan_jax.batching import example_keys
from wgan_jax.types import Array, Batch, Params


def init_replay(capacity: int, example: jax.ShapeDtypeStruct) -> Params:
    """Returns an empty buffer for so many generated examples."""
    return {
        "x": jnp.zeros((capacity, *example.shape), example.dtype),
        "label": jnp.zeros(capacity, jnp.int32),
        "stored": jnp.zeros((), jnp.int32),
    }


def replay(buffer: Params, generated: Batch, share: Array, key: jax.Array, axis_name: str | None) -> tuple[Batch, Params]:
    """Returns the batch [B, ...] with a share of it replaced by earlier examples, and the buffer with all of it put in.

    Each example is replaced with probability `share`, by one drawn uniformly from what is in the buffer, which forgets the
    oldest (experience replay: Pfau & Vinyals 2016, section 3; Shrivastava 2017, section 2.3).
    """
    capacity = len(buffer["label"])

    def choose(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_row, key_use = jax.random.split(key)
        row = jax.random.randint(key_row, (), 0, jnp.clip(buffer["stored"], 1, capacity), jnp.int32)
        return row, jax.random.bernoulli(key_use, share) & (buffer["stored"] > 0)

    rows, used = jax.vmap(choose)(example_keys(key, len(generated.label), axis_name))
    old = Batch(buffer["x"][rows], buffer["label"][rows])
    shown = jax.tree.map(lambda a, b: jnp.where(used.reshape(-1, *[1] * (b.ndim - 1)), a, b), old, generated)
    new = generated if axis_name is None else jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), generated)
    new = jax.tree.map(lambda x: x[-capacity:], new)
    places = (buffer["stored"] + jnp.arange(len(new.label), dtype=jnp.int32)) % capacity
    stored = buffer["stored"] + len(new.label)
    stored = jnp.where(stored >= 2 * capacity, stored - capacity, stored)  # which never overflows, and is as full
    return shown, {"x": buffer["x"].at[places].set(new.x), "label": buffer["label"].at[places].set(new.label), "stored": stored}


def from_mean(params: Params, mean: Params, count: Array) -> tuple[Array, Params]:
    """Returns |theta - mean|^2, [], and the mean of parameters with theta in it, as the last of count + 1.

    That mean is of theta at all of its player's updates until now (historical averaging: Salimans 2016, section 3.3).
    """
    rate = 1 / (count + 1).astype(jax.tree.leaves(params)[0].dtype)
    mean = jax.lax.stop_gradient(jax.tree.map(lambda old, new: old + rate * (new - old), mean, params))
    return optax.tree.norm(jax.tree.map(jnp.subtract, params, mean), squared=True), mean
