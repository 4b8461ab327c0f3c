"""A run directory: its lock, its config and provenance, and the summary."""

import contextlib
import functools
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from ml_collections import ConfigDict

from wgan_jax import paths
from wgan_jax.config import flatten
from wgan_jax.errors import UserError
from wgan_jax.keys import keys_of
from wgan_jax.records import digest, file_digest, read_json, read_sealed, to_json

# how long and how closely a run is watched, where it runs; the data itself is compared, see `check_same_data`
MAY_CHANGE = keys_of("schedule", "watch", "place", "cache")
# Variables that may change the bits of a result, and are a user's to choose: recorded, and a resume under others is warned of.
ENVIRONMENT = ("XLA_FLAGS", "NPROC", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_DISABLE_MOST_OPTIMIZATIONS", "NVIDIA_TF32_OVERRIDE")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "ml-collections", "numpy", "scipy", "scikit-learn")


type Kind = Literal["run", "sweep"]
MADE: dict[Kind, str] = {"run": "checkpoints", "sweep": "tasks"}  # a folder that is made once data and networks were good


def kind_of(workdir: Path) -> Kind | None:
    """Returns what a directory holds, or None where nothing was begun in it."""
    begun = (workdir / "config.json").exists()
    return next((kind for kind, folder in MADE.items() if begun and (workdir / folder).is_dir()), None)


def vet_workdir(workdir: Path, kind: Kind) -> None:
    """Checks that a directory is empty or holds what is wanted of it; writes nothing.

    Raises:
      UserError: it holds something else; no checkpoint can be written under its path.
    """
    if why := paths.unsuited(str(workdir)):
        raise UserError(f"--workdir: {str(workdir)!a} {why}; choose another")
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir: {workdir} is not a directory")
    if (
        workdir.is_dir()
        and not (workdir / "config.json").exists()
        and any(path.name != ".lock" and not paths.is_temporary(path.name) for path in workdir.iterdir())
    ):
        why = f"is not empty and holds no {kind} (no config.json); choose another"
        raise UserError(f"--workdir: {workdir} {why}{_again(workdir)}")
    if (held := kind_of(workdir)) not in (None, kind):
        raise UserError(f"--workdir: {workdir} holds a {held}, and this is a {kind}; choose another")


@contextlib.contextmanager
def open_workdir(workdir: Path, config: ConfigDict, kind: Kind = "run") -> Iterator[None]:
    """Holds the lock of the directory of a run, or of a sweep, made or resumed for a config.

    Raises:
      UserError: another process holds it, it holds something else, or a run of another config or of more steps.
    """
    vet_workdir(workdir, kind)
    stored = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        held = FileLock(workdir / ".lock", timeout=0).acquire()
    except Timeout as error:
        raise UserError(f"--workdir: {workdir} is in use by another process") from error
    except OSError as error:
        raise UserError(f"--workdir: {workdir}: {error.strerror}") from error
    with held:
        if kind_of(workdir) is not None:
            _same(workdir, flatten(read_config(workdir)), flatten(config))
        delete_leftovers(workdir)
        write_json(stored, config.to_dict())
        yield


def delete_leftovers(folder: Path) -> None:
    """Deletes what a process that was killed left half-written in the folder of a run or a task, whose lock is held."""
    for part in (folder, folder / "samples", folder / "figures"):
        paths.delete_temporaries(part)
    for part in (folder / "checkpoints", *(folder / "checkpoints").glob("from_*")):
        paths.delete_temporaries(part, "writing_step_*", "deleting")


def read_config(workdir: Path) -> ConfigDict:
    """Returns the config of a run.

    Raises:
      UserError: there is no run or its config.json cannot be read.
    """
    if not workdir.is_dir():
        raise UserError(f"--workdir: no directory {workdir}")
    try:
        return ConfigDict(read_json(workdir / "config.json"))
    except FileNotFoundError as error:
        sweeps = [parent for parent in workdir.parents if kind_of(parent) == "sweep"]
        hint = f"; it is of a sweep, whose models --workdir={sweeps[0]} --point=ID names" if sweeps else _again(workdir)
        raise UserError(f"--workdir: {workdir} holds no run (no config.json){hint}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"--workdir: {workdir / 'config.json'} cannot be read: {said}{_again(workdir)}") from error


def _again(workdir: Path) -> str:
    """Returns how a config.json that was lost is had again, where there is something that it is of."""
    there = any((workdir / folder).is_dir() for folder in MADE.values())
    return "; to go on here, copy config.json from another --workdir of the same command" if there else ""


def check_same_data(stored: str, given: str, kind: Kind = "run") -> None:
    """Compares the fingerprint of a dataset with that of the one that a checkpoint was trained on.

    Raises:
      UserError: they differ.
    """
    if stored != given:
        raise UserError(
            f"config.data: the images, their labels or splits are not those that this {kind} was trained on; "
            "name where those are, or choose another --workdir"
        )


def identity(*configs: ConfigDict) -> str:
    """Returns a hash that tells whose a checkpoint is: of a run's config, or of all configs whose states are stacked in it.

    It is of what may not change when a run is resumed, as `_same` compares it: 1 and 1.0 are one.
    """
    apart = {*MAY_CHANGE, "decay_steps"}  # which may follow the steps
    kept = [{key: value for key, value in flatten(config).items() if key not in apart} for config in configs]
    return digest([{key: value + 0.0 if type(value) in (int, float) else value for key, value in one.items()} for one in kept])


def step_name(step: int) -> str:
    """Returns the name of a step's checkpoint."""
    return f"step_{step:08d}"


def checkpoint_steps(folder: Path) -> list[int]:
    """Returns the steps of the checkpoints in a folder of them, oldest first; what is but named alike is left out, and said."""
    steps = []
    for path in folder.glob("step_*"):
        number = path.name.removeprefix("step_")
        if number.isdecimal() and path.name == step_name(int(number)) and path.is_dir():
            steps.append(int(number))
        elif path.exists():  # else it was deleted meanwhile
            leave_out(path, "is named like a checkpoint and is none")
    return sorted(steps)


@functools.cache
def leave_out(path: Path, why: str) -> None:
    """Says, once in a process, that something in a run directory is left out."""
    logging.getLogger(__name__).warning("%s: %s; it is left out", path, why)


def trained_steps(folder: Path) -> int:
    """Returns the step of the newest checkpoint in a folder of them, 0 without."""
    return max(checkpoint_steps(folder), default=0)


def chunk_size(task: Path) -> int | None:
    """Returns how many members of a sweep's task train together, in the order of its points; None before it was chosen.

    Where chunk.json is lost, the checkpoints of the first members say how many these are.
    """
    path, first = task / "chunk.json", task / "checkpoints" / "from_00000"
    try:
        return int(read_sealed(path)["members"])
    except (OSError, ValueError, KeyError):
        if path.exists():
            leave_out(path, "is damaged, or of an earlier version")
    for step in checkpoint_steps(first):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return len(read_sealed(first / step_name(step) / "manifest.json")["info"]["alive"])
    return None


def read_summary(folder: Path, steps: int, run: str) -> dict[str, Any]:
    """Returns what the summary.json of a run, or of a sweep's task, says, once all that it vouches for is as it says.

    steps: of which it is the end; one of fewer is of a past end, and the files go on. run: whose it is, see `identity`.

    Raises:
      FileNotFoundError: there is none.
      OSError: it cannot be read.
      ValueError: it is damaged or of another config, or a file is not what it was at the end.
    """
    summary = read_sealed(folder / "summary.json")
    if summary.get("run") != run:
        raise ValueError("summary.json is of another config, or of an earlier version")
    for name, written in summary.get("files", {}).items():
        if summary["step"] >= steps and not ((folder / name).is_file() and file_digest(folder / name) == written):
            raise ValueError(f"{name} is not what it was when summary.json was written")
    return summary


def is_finished(workdir: Path, config: ConfigDict) -> bool:
    """Says whether a run directory holds all that a run of so many steps leaves, as it left it."""
    try:
        summary = read_summary(workdir, config.steps, identity(config))
    except (OSError, ValueError):
        return False
    ended = (summary.get("status"), summary["step"]) == ("done", config.steps)
    return ended and trained_steps(workdir / "checkpoints") == config.steps


def _same(workdir: Path, stored: dict[str, Any], new: dict[str, Any]) -> None:
    """Compares configs, and warns where a change of steps moves the learning rates' horizon.

    Raises:
      UserError: another config, or fewer steps than are trained.
    """
    horizons = [config.get("decay_steps") for config in (stored, new)]
    moved = stored.get("steps") != new["steps"] and horizons[0] != horizons[1]
    lines = [
        f"config.{key}: the run in {workdir} has {stored.get(key, 'no such key')!r}, this command asks for {new.get(key)!r}"
        for key in {**stored, **new}
        if key not in MAY_CHANGE and stored.get(key) != new.get(key) and not (moved and key == "decay_steps")
    ]
    if lines:
        raise UserError(*lines, "choose another --workdir, or the config of that run")
    trained = stored["steps"] if kind_of(workdir) == "sweep" else trained_steps(workdir / "checkpoints")
    if new["steps"] < trained:
        raise UserError(f"config.steps: {new['steps']}, but {workdir} has {trained} already; choose another --workdir")
    if moved:
        logging.getLogger(__name__).warning(
            "config.decay_steps: %s so far, %s from here on; --config.decay_steps=%s keeps the learning rates' horizon",
            *horizons,
            horizons[0],
        )


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all, as `to_json` has it."""
    paths.write_whole(path, (to_json(value, indent=1) + "\n").encode())


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


def warn_of_machine(was: dict[str, Any], here: dict[str, Any]) -> None:
    """Warns where what is resumed was trained on another machine than this one, both as `machine` gives them."""
    if was != here:
        changes = [f"{name} {was.get(name)} -> {value}" for name, value in here.items() if was.get(name) != value]
        logging.getLogger(__name__).warning("resuming on another machine (%s): exact up to rounding only", ", ".join(changes))


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
