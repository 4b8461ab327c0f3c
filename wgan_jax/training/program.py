"""Many updates as one compiled call, and its mapping over devices. Nothing else names jit, pmap or shardings of the update."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from wgan_jax.data.attributes import Attributes
from wgan_jax.data.columns import Layout
from wgan_jax.data.dataset import Dataset
from wgan_jax.data.labels import attributes_of, class_counts
from wgan_jax.data.source import Feed, make_draw
from wgan_jax.errors import UserError
from wgan_jax.models import build_networks, param_dtype
from wgan_jax.objectives import make_objective
from wgan_jax.training.update import Steps, make_steps
from wgan_jax.types import Batch, Hyperparameters, Metrics, Networks, TrainState

AXIS = "data"
LOOK = 2  # the part of a step's key that no update draws from: they split it into 0 and 1

# of run_updates: the state, the metrics at its last update, the updates done, whether they were finite
type Outputs = tuple[TrainState, Metrics, jax.Array, jax.Array]


class RunUpdates(Protocol):
    """Takes up to n updates."""

    def __call__(
        self, state: TrainState, n: ArrayLike, hyper: Hyperparameters, run_key: jax.Array, feed: Feed, /
    ) -> Outputs: ...


class CompiledRunUpdates(RunUpdates, Protocol):
    """As JAX compiles it, at its first call or ahead of it. The state given is donated."""

    def lower(
        self, state: TrainState, n: ArrayLike, hyper: Hyperparameters, run_key: jax.Array, feed: Feed, /
    ) -> jax.stages.Lowered: ...


class Place(Protocol):
    """Puts a pytree of arrays on the devices."""

    def __call__[T](self, tree: T, /) -> T: ...


class Program(NamedTuple):
    """A config's program on its devices, of one model or of many members that differ in seed and Hyperparameters only.

    Of members, whose number is a multiple of `devices`, the state, n, the hyperparameters, the key and a feed's rows have a
    leading axis [members], and so has all that `run_updates` returns.
    """

    networks: Networks
    init_state: Callable[[jax.Array], TrainState]  # key [] or keys [members] -> state, placed
    run_updates: CompiledRunUpdates
    place: Place  # puts what all read, such as resident data, on every device
    spread: Place  # lays out what is each member's own; of one model it is `place`
    shard: Callable[[Feed], Feed]  # lays out a feed's rows, [positions, B, ...] or [members, positions, B, ...]
    devices: int


def make_run_updates(config: ConfigDict, dataset: Dataset, axis_name: str | None = None, shards: int = 1) -> RunUpdates:
    """Returns the pure function that takes up to n updates; n is traced, so that one compilation serves every n.

    It stops early after an update whose losses or gradients are not finite, and says so: a matter of updates, however they are
    cut into calls. Metrics are those of the last update, and, of the state after the call, the norms of its parameters.
    """
    _, steps = parts_of(config, dataset, axis_name)
    draw = make_draw(dataset, config.batch_size // shards, axis_name, param_dtype(config))

    def run_updates(state: TrainState, n: ArrayLike, hyper: Hyperparameters, run_key: jax.Array, feed: Feed) -> Outputs:
        def take(position: jax.Array, key: jax.Array, count: int) -> Batch:
            return draw(feed, position, key, count)

        @functools.partial(jax.jit, inline=True)  # so that its shapes and the loop's body are of one trace, half of the time
        def update(state: TrainState) -> tuple[TrainState, Metrics]:
            return steps.update(state, take, jax.random.fold_in(run_key, state.step), hyper)

        def body(carry: tuple) -> tuple:
            state, metrics = update(carry[1])
            return carry[0] + 1, state, metrics, _all_finite(metrics)

        metrics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(update, state)[1])
        carry = (jnp.zeros((), jnp.int32), state, metrics, jnp.asarray(True))
        done, state, metrics, finite = jax.lax.while_loop(lambda c: (c[0] < n) & c[3], body, carry)
        key_batch, key_look = jax.random.split(jax.random.fold_in(jax.random.fold_in(run_key, state.step), LOOK))
        batches = take(state.batches_taken - 1, key_batch, 1)  # the last one that was taken, if any was
        seen = steps.look(state, jax.tree.map(lambda stacked: stacked[0], batches), key_look, hyper)
        trained = ("critic", "generator") if config.n_critic else ("generator",)
        norms = {f"{name}_parameter_norm": optax.tree.norm(getattr(state, name).params) for name in trained}
        return state, metrics | norms | seen, done, finite

    return run_updates


def _all_finite(metrics: Metrics) -> jax.Array:
    return jnp.all(jnp.isfinite(jnp.stack(list(metrics.values()))))


def make_parts(
    config: ConfigDict,
    shape: tuple[int, ...],
    axis_name: str | None = None,
    *,
    classes: int = 0,
    attributes: Attributes | None = None,
    bounded: bool | None = None,
    layout: Layout | None = None,
) -> tuple[Networks, Steps]:
    """Returns the networks of a config, as `build_networks` does, and the pieces of its update."""
    networks = build_networks(config, shape, axis_name, classes=classes, attributes=attributes, bounded=bounded, layout=layout)
    return networks, make_steps(config, networks, make_objective(config, networks, axis_name), axis_name)


def parts_of(config: ConfigDict, dataset: Dataset, axis_name: str | None = None) -> tuple[Networks, Steps]:
    """Returns `make_parts` for the examples of a dataset, with its labels."""
    scaling = dataset.scaling
    return make_parts(
        config,
        dataset.shape,
        axis_name,
        classes=len(class_counts(dataset)),
        attributes=attributes_of(dataset),
        bounded=scaling.bounded,
        layout=scaling.layout,
    )


def make_program(config: ConfigDict, dataset: Dataset, mapping: str = "auto") -> Program:
    """Returns the program of a config over config.devices devices (0 for all).

    mapping: "auto" is jit on one device and pmap on several; "shard_map" is pmap's twin, which gives the same numbers, and
    the one that is used where several processes share the devices, each giving equally many.

    Raises:
      UserError: fewer devices than asked for, or a batch that they do not divide.
    """
    processes = jax.process_count()
    available = [jax.local_devices(process_index=process) for process in range(processes)]
    share = -(-config.devices // processes) or None
    devices = [device for own in available for device in own[:share]]
    if config.devices not in (0, len(devices)):
        seen = [device for own in available for device in own]
        equal = f" of {processes} processes, which take equally many" if processes > 1 else ""
        raise UserError(f"config.devices: {config.devices} asked for, but jax sees {len(seen)}{equal}: {seen}")
    if config.batch_size % len(devices):
        raise UserError(f"config.batch_size: {config.batch_size} is not divisible by the {len(devices)} devices in use")
    if config.batch_size % (len(devices) * config.packing):
        packs = f"packs of {config.packing} on each of the {len(devices)} devices in use"
        raise UserError(f"config.packing: batch_size={config.batch_size} is no whole number of {packs}")
    mesh, count = Mesh(np.array(devices), (AXIS,)), len(devices)
    everywhere, over = PartitionSpec(), PartitionSpec(None, AXIS)
    networks, steps = parts_of(config, dataset)
    init_state = jax.jit(steps.init_state, out_shardings=NamedSharding(mesh, everywhere))
    place = _place(mesh, everywhere)
    mapping = "shard_map" if processes > 1 else mapping
    single = count == 1 and mapping == "auto"
    run_updates = make_run_updates(config, dataset, None if single else AXIS, count)
    compiled: CompiledRunUpdates
    shard: Callable[[Feed], Feed]
    if single:
        compiled, shard = jax.jit(run_updates, donate_argnums=0), place
    elif mapping == "auto":
        feeds = Feed(None, None, 0)
        compiled = jax.pmap(
            run_updates, AXIS, in_axes=(None, None, None, None, feeds), out_axes=None, donate_argnums=0, devices=devices
        )
        shard = lambda feed: _sharded(_by_device(feed, count), mesh, PartitionSpec(AXIS))  # noqa: E731
    else:
        specs = (everywhere, everywhere, everywhere, everywhere, Feed(everywhere, everywhere, over))
        mapped = jax.shard_map(run_updates, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False)
        compiled, shard = jax.jit(mapped, donate_argnums=0), lambda feed: _sharded(feed, mesh, over)
    return Program(networks, init_state, compiled, place, place, shard, count)


def _place(mesh: Mesh, spec: PartitionSpec) -> Place:
    sharding = NamedSharding(mesh, spec)
    if jax.process_count() > 1:  # device_put would first compare what the processes have: a collective, of the whole data too
        return jax.jit(lambda tree: tree, out_shardings=sharding)
    return lambda tree: jax.device_put(tree, sharding)


def _sharded(feed: Feed, mesh: Mesh, rows: PartitionSpec) -> Feed:
    """Puts a feed on the devices once, since several calls read it; its resident data lies there already."""
    sharding = NamedSharding(mesh, rows)
    put = lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)  # noqa: E731
    return Feed(feed.resident, _place(mesh, PartitionSpec())(feed.first), jax.tree.map(put, feed.rows))


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


def make_members(config: ConfigDict, dataset: Dataset, most: int, vectorised: bool | None = None) -> Program:
    """Returns the program of up to `most` members of a config over config.devices devices (0 for all).

    Each device trains its share: on a CPU one member after another, which keeps a small model's arrays in the cache and its
    matmuls apart (two cores, ms per update and member, after one another on each, by vmap, and one run alone: ring8 at width 64
    1.8, 3.9, 3.6; at 128 6.2, 7.8, 8.0; digits at 256 8.1, 12.3, 13.7), elsewhere by vmap. A member that becomes non-finite
    stops alone, and one whose n is 0 is left as it is, which costs nothing on a CPU. vectorised: vmap or not, None by platform.

    Raises:
      UserError: fewer devices than asked for.
    """
    available = jax.local_devices()
    if config.devices > len(available):
        raise UserError(f"config.devices: {config.devices} asked for, but jax sees {len(available)}: {available}")
    devices = available[: min(config.devices or len(available), most)]
    mesh = Mesh(np.array(devices), (AXIS,))
    everywhere, over = PartitionSpec(), PartitionSpec(AXIS)
    networks, steps = parts_of(config, dataset)
    run_one = make_run_updates(config, dataset)
    if vectorised is None:
        vectorised = devices[0].platform != "cpu"

    def each(function: Callable[..., Any], *arguments: Any) -> Any:
        if vectorised:
            return jax.vmap(function)(*arguments)
        return jax.lax.map(lambda member: function(*member), arguments)

    def run_members(states: TrainState, n: jax.Array, hyper: Hyperparameters, run_keys: jax.Array, feed: Feed) -> Outputs:
        def member(state: TrainState, n: jax.Array, hyper: Hyperparameters, run_key: jax.Array, rows: Any) -> Outputs:
            return run_one(state, n, hyper, run_key, feed._replace(rows=rows))

        return each(member, states, n, hyper, run_keys, feed.rows)

    def mapped(function: Callable[..., Any], specs: tuple[Any, ...]) -> Callable[..., Any]:
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=over, check_vma=False)

    init_states = jax.jit(mapped(lambda keys: each(steps.init_state, keys), (over,)))
    run_updates = jax.jit(mapped(run_members, (over, over, over, over, Feed(everywhere, everywhere, over))), donate_argnums=0)
    place, spread = _place(mesh, everywhere), _place(mesh, over)
    shard = lambda feed: Feed(feed.resident, place(feed.first), spread(feed.rows))  # noqa: E731
    return Program(networks, init_states, run_updates, place, spread, shard, len(devices))
