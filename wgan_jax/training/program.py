"""Many updates as one compiled call, and its mapping over devices. Nothing else names jit, pmap or shardings of the update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from wgan_jax.data.dataset import Dataset
from wgan_jax.data.source import Feed, draw
from wgan_jax.errors import UserError
from wgan_jax.models import Networks, build_networks, param_dtype
from wgan_jax.objectives import make_objective
from wgan_jax.training.update import Steps, make_steps
from wgan_jax.types import Batch, Hyperparameters, Metrics, TrainState

AXIS = "data"

# (state, n, hyper, run_key, feed) -> (state, metrics at the last update, updates done)
type RunUpdates = Callable[..., tuple[TrainState, Metrics, jax.Array]]


class Program(NamedTuple):
    """A config's program on its devices. The state given to `run_updates` is donated."""

    networks: Networks
    init_state: Callable[[jax.Array], TrainState]  # key -> state, placed
    run_updates: Any  # a jitted RunUpdates
    place: Callable[[Any], Any]  # puts a state, hyperparameters or resident data on every device
    shard: Callable[[Feed], Feed]  # lays out a feed's rows [positions, B, ...] for the devices
    devices: int


def make_run_updates(config: ConfigDict, dataset: Dataset, axis_name: str | None = None, shards: int = 1) -> RunUpdates:
    """Returns the pure function that takes up to n updates; n is traced, so that one compilation serves every n.

    It stops early after an update whose losses or gradients are not finite. Metrics are those of the last update.
    """
    _, steps = make_parts(config, dataset.shape, axis_name)
    size = config.batch_size // shards

    def run_updates(
        state: TrainState, n: jax.Array, hyper: Hyperparameters, run_key: jax.Array, feed: Feed
    ) -> tuple[TrainState, Metrics, jax.Array]:
        def take(position: jax.Array, key: jax.Array, count: int) -> Batch:
            return draw(dataset, feed, position, key, count, size, axis_name, param_dtype(config))

        def body(carry: tuple) -> tuple:
            done, state, _, _ = carry
            key = jax.random.fold_in(run_key, state.step)
            state, metrics = steps.update(state, take, key, hyper, measure=done + 1 == n)
            finite = jnp.all(jnp.isfinite(jnp.stack(list(metrics.values()))))
            return done + 1, state, metrics, finite

        shapes = jax.eval_shape(lambda s: steps.update(s, take, run_key, hyper)[1], state)
        metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        carry = (jnp.zeros((), jnp.int32), state, metrics, jnp.asarray(True))
        done, state, metrics, _ = jax.lax.while_loop(lambda c: (c[0] < n) & c[3], body, carry)
        metrics["critic_parameter_norm"] = optax.tree.norm(state.critic.params)
        metrics["generator_parameter_norm"] = optax.tree.norm(state.generator.params)
        return state, metrics, done

    return run_updates


def make_parts(config: ConfigDict, shape: tuple[int, ...], axis_name: str | None = None) -> tuple[Networks, Steps]:
    """Returns the networks of a config for examples of a shape, and the pieces of its update."""
    networks = build_networks(config, shape, axis_name)
    objective = make_objective(config, networks.generator, networks.critic, networks.penalty_critic, axis_name)
    return networks, make_steps(config, networks, objective, axis_name)


def make_program(config: ConfigDict, dataset: Dataset, mapping: str = "auto") -> Program:
    """Returns the program of a config over config.devices devices (0 for all).

    mapping: "auto" is jit on one device and pmap on several; "shard_map" is pmap's twin, which gives the same numbers.

    Raises:
      UserError: fewer devices than asked for, or a batch that they do not divide.
    """
    available = jax.local_devices()
    if config.devices > len(available):
        raise UserError(f"config.devices: {config.devices} asked for, but jax sees {len(available)}: {available}")
    devices = available[: config.devices or len(available)]
    if config.batch_size % len(devices):
        raise UserError(f"config.batch_size: {config.batch_size} is not divisible by the {len(devices)} devices in use")
    mesh = Mesh(np.array(devices), (AXIS,))
    replicated = NamedSharding(mesh, PartitionSpec())
    networks, steps = make_parts(config, dataset.shape)
    init_state = jax.jit(steps.init_state, out_shardings=replicated)
    place = lambda tree: jax.device_put(tree, replicated)  # noqa: E731
    count = len(devices)
    single = count == 1 and mapping == "auto"

    def _placed(feed: Feed, rows: PartitionSpec) -> Feed:
        """Puts a feed on the devices once, since several calls read it."""
        return Feed(place(feed.resident), place(feed.first), jax.device_put(feed.rows, NamedSharding(mesh, rows)))

    run_updates = make_run_updates(config, dataset, None if single else AXIS, count)
    if single:
        compiled, shard = jax.jit(run_updates, donate_argnums=0), place
    elif mapping == "auto":
        feeds = Feed(None, None, 0)
        compiled = jax.pmap(
            run_updates, AXIS, in_axes=(None, None, None, None, feeds), out_axes=None, donate_argnums=0, devices=devices
        )
        shard = lambda feed: _placed(_by_device(feed, count), PartitionSpec(AXIS))  # noqa: E731
    else:
        everywhere, over = PartitionSpec(), PartitionSpec(None, AXIS)
        specs = (everywhere, everywhere, everywhere, everywhere, Feed(everywhere, everywhere, over))
        mapped = jax.shard_map(run_updates, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False)
        compiled, shard = jax.jit(mapped, donate_argnums=0), lambda feed: _placed(feed, over)
    return Program(networks, init_state, compiled, place, shard, count)


def _by_device(feed: Feed, count: int) -> Feed:
    """Returns the feed with rows [positions, B, ...] as [devices, positions, B / devices, ...].

    Synthetic data gets rows that nothing reads: pmap asks for at least one argument that differs between devices.
    """
    if feed.rows is None:
        return feed._replace(rows=np.zeros((count, 1), np.int32))

    def split(rows: np.ndarray) -> np.ndarray:
        shares = rows.reshape(rows.shape[0], count, -1, *rows.shape[2:])
        return np.ascontiguousarray(np.moveaxis(shares, 1, 0))

    return feed._replace(rows=jax.tree.map(split, feed.rows))
