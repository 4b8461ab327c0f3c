"""What fits into memory: a model at all, and how many members of a sweep's task together."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.batching import batches_per_update
from wgan_jax.data.dataset import Dataset, Law
from wgan_jax.data.source import Feed, make_feed
from wgan_jax.sizes import check_batches, check_bytes, control_group, physical_memory
from wgan_jax.training.program import make_run_updates, parts_of
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import TrainState

FILLED = 0.6  # of the memory, by members: the rest is the data's, the metrics' and the compiler's


def check_fits(config: ConfigDict, shape: tuple[int, ...], init_state: Callable[[jax.Array], TrainState]) -> None:
    """Checks that the state of a model and the examples of its update fit into the memory of its devices, at least.

    shape: of an example.

    Raises:
      UserError: they do not.
    """
    check_batches(config, math.prod(shape))
    check_state(config, init_state)


def check_state(config: ConfigDict, init_state: Callable[[jax.Array], TrainState]) -> None:
    """Checks that the state of a model fits into the memory of a device.

    Raises:
      UserError: it does not.
    """
    device, memory = jax.local_devices()[0], None
    if device.platform != "cpu":
        memory = (device.memory_stats() or {}).get("bytes_limit")
    state = jax.eval_shape(init_state, jax.random.key(0))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    asked = f"config.model.width={config.model.width} and its like: the networks, with what their optimizers keep,"
    check_bytes(asked, size, memory)


def members_that_fit(config: ConfigDict, dataset: Dataset, memory: int | None = None, vectorised: bool | None = None) -> int:
    """Returns how many members of a config fit on its devices together, at least 1.

    Raises UserError as `check_fits`.

    memory: bytes that each device, or on a CPU the whole machine, can give; by default what it has. A member takes its state
    three times (in training, being checkpointed, and the best), and under vmap temporary arrays of its own, as the compiled
    program of one member tells them.
    """
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"
    if memory is None and on_cpu:
        memory = _free_memory()
    elif memory is None:
        memory = (devices[0].memory_stats() or {}).get("bytes_limit", 2**33)
    _, steps = parts_of(config, dataset)
    check_fits(config, dataset.shape, steps.init_state)
    key = jax.random.key(0)
    state = jax.eval_shape(steps.init_state, key)
    size = 3 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    if not on_cpu if vectorised is None else vectorised:
        positions, feed = batches_per_update(config, 0), Feed()
        if not isinstance(dataset, Law):
            feed = make_feed(dataset, dataset.train, 0, 0, positions, config.batch_size)
        lowered = jax.jit(make_run_updates(config, dataset)).lower(state, np.int32(1), make_hyperparameters(config), key, feed)
        analysis = lowered.compile().memory_analysis()
        size += analysis.temp_size_in_bytes if analysis else size
    count = 1 if on_cpu else min(config.devices or len(devices), len(devices))
    return max(1, int(FILLED * memory) // size * count)


def _free_memory() -> int:
    """Returns the bytes that this process can still take: what the system can free, within the limit of its control group."""
    if not Path("/proc/meminfo").exists():
        return physical_memory()
    table = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    free = 1024 * int(table["MemAvailable"].split()[0])
    limit, used = (control_group() / name for name in ("memory.max", "memory.current"))
    if limit.exists() and (most := limit.read_text(encoding="utf-8").strip()) != "max":
        free = min(free, int(most) - int(used.read_text(encoding="utf-8")))
    return free
