"""A run directory: its lock, its config and provenance, and the summary."""

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ml_collections import ConfigDict

from wgan_jax import paths
from wgan_jax.config import flatten
from wgan_jax.errors import UserError

# what may differ when a run is resumed: how long and how closely it is watched, where it runs
MAY_CHANGE = (
    "steps",
    "log_every",
    "eval_every",
    "sample_every",
    "checkpoint_every",
    "keep",
    "eval.fail",
    "devices",
    "cache_dir",
    "data.cache_dir",
    "eval.cache_dir",
    "eval.weights",
    "data.resident_mb",
    "data.download",
    "data.path",  # the images are compared themselves, see loop.py
    "data.data_dir",
)
# Variables that may change the bits of a result, and are a user's to choose: recorded, and a resume under others is warned of.
ENVIRONMENT = ("XLA_FLAGS", "NPROC", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_DISABLE_MOST_OPTIMIZATIONS", "NVIDIA_TF32_OVERRIDE")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "ml-collections", "numpy", "scipy", "scikit-learn")


@contextlib.contextmanager
def open_workdir(workdir: Path, config: ConfigDict) -> Iterator[None]:
    """Holds the lock of a run directory, made or resumed for a config.

    Raises:
      UserError: another process holds it, it holds something else than a run, or a run of another config; no checkpoint can be
        written under its path.
    """
    if why := paths.unsuited(str(workdir)):
        raise UserError(f"--workdir: {str(workdir)!a} {why}; choose another")
    stored = workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir: {workdir} is not a directory")
    if workdir.is_dir() and not stored.exists() and any(path.name != ".lock" for path in workdir.iterdir()):
        raise UserError(f"--workdir: {workdir} is not empty and holds no run (no config.json); choose another")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workdir / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise UserError(f"--workdir: {workdir} is in use by another process") from error
    except OSError as error:
        raise UserError(f"--workdir: {workdir}: {error.strerror}") from error
    with lock:
        begun = any((workdir / name).is_dir() for name in ("checkpoints", "tasks"))  # made once data and networks were good
        if stored.exists() and begun:
            _same(workdir, flatten(read_config(workdir)), flatten(config))
        write_json(stored, config.to_dict())
        yield


def read_config(workdir: Path) -> ConfigDict:
    """Returns the config of a run.

    Raises:
      UserError: there is no run or its config.json cannot be read.
    """
    if not workdir.is_dir():
        raise UserError(f"--workdir: no directory {workdir}")
    try:
        return ConfigDict(json.loads((workdir / "config.json").read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserError(f"--workdir: {workdir} holds no run (no config.json)") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"--workdir: {workdir / 'config.json'} cannot be read: {error}") from error


def _same(workdir: Path, stored: dict[str, Any], new: dict[str, Any]) -> None:
    lines = [
        f"config.{key}: the run in {workdir} has {stored.get(key, 'no such key')!r}, this command asks for {new.get(key)!r}"
        for key in {**stored, **new}
        if key not in MAY_CHANGE and stored.get(key) != new.get(key)
    ]
    if lines:
        raise UserError(*lines, "choose another --workdir, or the config of that run")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all, as `to_json` has it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(to_json(value, indent=1) + "\n", encoding="utf-8")
    temporary.rename(path)


def to_json(value: Any, indent: int | None = None) -> str:
    """Returns JSON; numbers that are not finite, for which it has no name, are null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def machine(devices: int) -> dict[str, Any]:
    """Returns what the bits of a trajectory depend on beside the config; a resume on another machine is warned of."""
    import jax  # here, so that `sample` answers a wrong --workdir at once

    return {
        "devices": devices,
        "device_kind": jax.devices()[0].device_kind,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jaxlib": version("jaxlib"),
        "environment": {name: os.environ[name].strip() for name in ENVIRONMENT if name in os.environ},
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(config: ConfigDict, here: dict[str, Any]) -> dict[str, Any]:
    """Returns where, when and by what a run was made."""
    return {
        "command": [Path(sys.argv[0]).stem, *sys.argv[1:]],
        "overrides": [argument for argument in sys.argv[1:] if argument.startswith("--config.")],
        "seed": config.seed,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "git": _git(),
        "machine": here,
        "start": now(),
        "end": None,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _git() -> dict[str, Any] | None:
    """Returns the commit of this source tree and whether it was changed, or None where this file is in no repository.

    An installed package may lie in an environment inside the repository of something else.
    """

    def git(*arguments: str) -> str:
        root = Path(__file__).parents[2]
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607

    try:
        git("ls-files", "--error-unmatch", __file__)
        return {"commit": git("rev-parse", "HEAD"), "dirty": git("status", "--porcelain") != ""}
    except (OSError, subprocess.CalledProcessError):
        return None
