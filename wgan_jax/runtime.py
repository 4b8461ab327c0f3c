"""What a process asks of JAX before it starts: settings, threads, the cache of programs; and the devices and cores here.

Imports jax only where it sets something of it.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from wgan_jax import paths
from wgan_jax.errors import UserError

# Multiplications of a layer. Two cores, jaxlib 0.12.0.1, ms per update on one thread and on two: ring8 at width 32 1.22 and
# 1.31, at 64 3.53 and 3.67, at 128 11.8 and 10.1; grid25, at 128 with half the batch, 5.94 and 5.78.
# Digits, at 256 with a quarter: 13.6 and 10.2.
ONE_THREAD = 2**21
# Switches of JAX's that would change the numbers of a run unseen, or under which its compiled program is none.
IGNORED = (
    *("JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE", "JAX_ENABLE_CUSTOM_PRNG", "JAX_LEGACY_PRNG_KEY"),
    *("JAX_RANDOM_SEED_OFFSET", "JAX_DEFAULT_DTYPE_BITS", "JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION"),
    *("JAX_DISABLE_JIT", "JAX_TRANSFER_GUARD", "JAX_TRANSFER_GUARD_HOST_TO_DEVICE", "JAX_TRANSFER_GUARD_DEVICE_TO_HOST"),
    "JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE",
)


def settle_environment() -> None:
    """Takes out of the environment what would decide unseen: IGNORED, each with a warning, and a notebook's backend of figures.

    What may change bits and is a user's to choose is recorded with the machine, see `wgan_jax.training.workdir.machine`.
    """
    os.environ["MPLBACKEND"] = "agg"  # figures are files; that of a notebook may not be importable here
    for name in IGNORED:
        if (value := os.environ.pop(name, None)) is not None:
            print(f"warning: {name}={value} is ignored: it would change a run's numbers, or its program", file=sys.stderr)


def choose_threads(config: ConfigDict) -> None:
    """Gives XLA:CPU one thread where sharing out matmuls costs more than it brings; before jax starts a backend."""
    small = config.model.name == "mlp" and config.batch_size * config.model.width**2 <= ONE_THREAD
    if small and config.devices <= 1:
        os.environ.setdefault("NPROC", "1")  # the size of XLA's thread pools


def configure_jax(config: ConfigDict) -> None:
    """Sets what a config asks of JAX, see `set_jax`, and starts its backend.

    Raises:
      UserError: the platform that JAX_PLATFORMS asks for is not there.
    """
    set_jax(config)
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where JAX knows the platform and has no plugin for it
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked:
            raise
        why = (str(error).strip().splitlines() or ["JAX has no backend of that name here"])[0]
        raise UserError(f"JAX_PLATFORMS={asked}: {why}; unset JAX_PLATFORMS, or install JAX for that device") from error


def set_jax(config: ConfigDict) -> None:
    """Sets what a config asks of JAX: float64, so many virtual CPU devices, threads, and the cache of compiled programs."""
    choose_threads(config)
    import jax

    jax.config.update("jax_enable_x64", config.dtype == "float64")
    if config.devices > 1:
        jax.config.update("jax_num_cpu_devices", config.devices)
    cache = paths.cache_folder(config.cache_dir, "compiled programs are not kept") if config.cache_dir else None
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        _rebuild_damaged(cache)


def _rebuild_damaged(cache: Path) -> None:
    """Deletes a cache entry that JAX says it cannot read: JAX warns before it compiles anew, and then stores the result."""
    show = warnings.showwarning

    def showwarning(message: Warning | str, *arguments: Any, **keywords: Any) -> None:
        text = str(message)
        if "persistent compilation cache entry" not in text:
            show(message, *arguments, **keywords)
        elif "Error reading" in text and "'" in text:
            module = text.split("'")[1]
            with contextlib.suppress(OSError):  # not ours to delete: it is compiled anew each time
                for entry in [path for path in cache.glob(f"{module}-*") if os.access(path, os.R_OK)]:
                    entry.unlink(missing_ok=True)
                    logging.getLogger(__name__).warning("%s: damaged; it was deleted and is rebuilt", entry)

    warnings.showwarning = showwarning


def visible_devices() -> list[str]:
    """Returns the GPUs that JAX would see, named as in CUDA_VISIBLE_DEVICES."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    if (command := shutil.which("nvidia-smi")) is None:
        return []
    query = [command, "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False)  # noqa: S603
    return listed.stdout.split() if listed.returncode == 0 else []


def visible_cores() -> list[int]:
    """Returns the cores that this process may run on, or, where a system pins no process, all of them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
