"""Checkpoints of any pytree of arrays: Orbax, written in the background, with a SHA-256 manifest that is checked on restore.

    checkpoints/step_00001000/state/           Orbax
    checkpoints/step_00001000/manifest.json    {"step", "run", "info", "files": {path: SHA-256}, "seal"}
    checkpoints/step_00001000/...              files that were given with the state

What a checkpoint is, it says itself, under its seal: its step, and whose it is; a folder's name alone is not believed. It is
written under another name and renamed when every array was read back and equals what was to be written.
"""

import contextlib
import glob
import logging
import math
import os
import shutil
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from wgan_jax.errors import UserError
from wgan_jax.paths import delete
from wgan_jax.records import file_digest, read_json, sealed, to_json, unsealed
from wgan_jax.training.workdir import checkpoint_steps, leave_out, step_name

BEFORE_SEALS = {"step", "info", "files"}  # the keys of a manifest as earlier versions wrote it
SPARE_BYTES = 2**20  # of a checkpoint beside its arrays
ATTEMPTS = 100  # at reading the newest checkpoint of a run that deletes them meanwhile
LISTED = 6  # steps in a message


class NoCheckpoint(UserError):  # noqa: N818 - named for what is the matter
    """A step has no checkpoint, or has none any more: a run keeps the newest ones only."""


class DamagedError(UserError):
    """A checkpoint is not what it was, or not what its name says."""


class Checkpoints:
    """The checkpoints of one run. `save` returns at once; `wait` joins the writer. Keeps the newest `keep` and the best.

    run: tells whose they are, see `workdir.identity`; those of another run are refused. "" for any.
    """

    def __init__(self, folder: Path, keep: int = 1, run: str = "") -> None:
        self.folder, self.keep, self.run = folder, keep, run
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, tree: Any, info: dict[str, Any], files: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Writes a tree in the background. info["score"], if any and finite, is what `best` minimises.

        files: {name: content} of what is kept beside it, for `file`.

        Raises:
          UserError: an earlier checkpoint could not be written.
        """
        copies = jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)  # the loop donates the state's buffers
        self.wait()
        self._pending = self._writer.submit(self._write, step, copies, info, files)

    def wait(self) -> None:
        """Waits for the checkpoint that is being written.

        Raises:
          UserError: it could not be written, for example for want of space. Earlier checkpoints are untouched.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints, oldest first."""
        return checkpoint_steps(self.folder)

    def info(self, step: int, *needed: str) -> dict[str, Any]:
        """Returns the info saved with a step, which has all keys that are `needed`.

        Raises:
          DamagedError: its manifest is damaged or of something else, or lacks a key, as one of another version may.
        """
        info: dict[str, Any] = _manifest(self._path(step), self.run)["info"]
        if missing := [name for name in needed if name not in info]:
            raise DamagedError(f"{self._path(step)}: its manifest does not say {missing[0]}: it is of another version")
        return info

    def file(self, step: int, name: str) -> bytes | None:
        """Returns a file that was given with a step, None where none was."""
        path = self._path(step) / name
        return path.read_bytes() if path.is_file() else None

    def best(self) -> int | None:
        """Returns the step with the lowest score, or None where none has one; damaged manifests are left out, and said."""
        scored: dict[int, float] = {}
        for step in self.steps():
            try:
                score = self.info(step).get("score")
            except DamagedError as error:
                if self._path(step).is_dir():  # else it was deleted meanwhile
                    leave_out(self._path(step), str(error).removeprefix(f"{self._path(step)}: "))
                continue
            if isinstance(score, int | float) and math.isfinite(score):
                scored[step] = score
        return min(scored, key=lambda step: scored[step]) if scored else None

    def find(self, wanted: str) -> int:
        """Returns the step that `latest`, `best` or a number names.

        Raises:
          NoCheckpoint: there is none such.
        """
        steps = self.steps()
        if not steps:
            raise NoCheckpoint(f"{self.folder}: no checkpoint yet")
        if wanted == "latest":
            return steps[-1]
        best = self.best()
        if wanted == "best" and best is not None:
            return best
        if wanted.isdecimal() and int(wanted) in steps:
            return int(wanted)
        names = "latest" if best is None else "latest, best"
        raise NoCheckpoint(f"--step: no checkpoint {wanted!r} in {self.folder}; there are: {names}, {_listed(steps)}")

    def reading[T](self, wanted: str, read: Callable[[int], T]) -> T:
        """Returns read(step) of the step that `find` gives; where a run deletes it meanwhile, of the one that it gives then.

        Raises:
          UserError: as `find` and `read`.
        """
        for _ in range(ATTEMPTS):
            step = self.find(wanted)
            try:
                return read(step)
            except UserError:
                if self._path(step).is_dir():
                    raise
        raise NoCheckpoint(f"{self.folder}: its checkpoints are deleted faster than they are read")

    def best_score(self) -> float:
        """Returns the lowest score, infinite where no checkpoint has one."""
        best = self.best()
        return float("inf") if best is None else float(self.info(best)["score"])

    def restore(self, step: int, target: Any) -> Any:
        """Returns the tree of a step as NumPy arrays; target has its structure, shapes and dtypes.

        Raises:
          NoCheckpoint: the step has no checkpoint, or it is deleted meanwhile.
          UserError: it is damaged, or does not fit the target.
        """
        path = self._path(step)
        if path.is_dir():
            try:
                return _read(path, target, self.run)
            except Exception:  # whatever Orbax says of files that vanish under its hands
                if path.is_dir():
                    raise
        raise NoCheckpoint(f"{self.folder}: no checkpoint of step {step}; there are: {_listed(self.steps())}")

    def restore_newest(self, target: Any, vet: Callable[[int], None] = lambda step: None) -> tuple[int, Any] | None:
        """Returns (step, tree) of the newest undamaged checkpoint, or None; the damaged ones are warned of and set aside.

        vet: called with the step before its tree is read.

        Raises:
          UserError: it does not fit the target.
        """
        steps = self.steps()
        for step in reversed(steps):
            path = self._path(step)
            if damage := _damage(path, self.run):
                earlier = "the checkpoint before it" if step > steps[0] else "the beginning, as no checkpoint is left"
                logging.getLogger(__name__).warning("%s: %s; falling back to %s", path, damage, earlier)
                aside = path.with_name(f"damaged_{path.name}")
                delete(aside)
                path.rename(aside)
            else:
                vet(step)
                return step, _load(path, target)
        return None

    def discard_after(self, step: int) -> None:
        """Deletes checkpoints of later steps, which belong to a future that will be trained again."""
        for later in self.steps():
            if later > step:
                self._delete(later)

    def _path(self, step: int) -> Path:
        return self.folder / step_name(step)

    def _delete(self, step: int, successor: Path | None = None) -> None:
        """Deletes a checkpoint, at once for who lists them: half deleted it would be taken for a damaged one.

        successor: takes its name before it is deleted, where the step has one already, so that a kill leaves one of them.
        """
        trash, path = self.folder / "deleting", self._path(step)
        delete(trash)  # of a process that was killed here
        if path.exists():
            path.rename(trash)
        if successor is not None:
            successor.rename(path)
        delete(trash)

    def _write(self, step: int, tree: Any, info: dict[str, Any], files: Mapping[str, bytes]) -> None:
        path, temporary = self._path(step), self.folder / f"writing_{step_name(step)}"
        delete(temporary)
        try:
            _check_space(self.folder, tree)
            # Orbax merges the files of an OCDBT database by an unescaped glob; without it, arrays are files of their own
            plain = glob.escape(str(temporary)) == str(temporary)
            with _quiet(), _checkpointer(use_ocdbt=plain) as checkpointer:
                checkpointer.save(temporary / "state", tree)
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            manifest = sealed({"step": step, "run": self.run, "info": info, "files": _hashes(temporary)})
            _check_written(temporary, tree)
            (temporary / "manifest.json").write_text(to_json(manifest, indent=1), encoding="utf-8")
            _settle(temporary)
            self._delete(step, temporary)
        except Exception as error:  # Orbax and TensorStore report a full disk with classes of their own
            delete(temporary)
            cause = next((line for line in str(error).splitlines() if "No space left" in line), None)
            if cause is None and not isinstance(error, OSError):
                raise
            reason = "no space left on the device" if cause else str(error)
            raise UserError(
                f"{path}: could not be written: {reason}; earlier checkpoints are intact: {_listed(self.steps())}"
            ) from error
        best = self.best()
        for old in self.steps()[: -self.keep]:
            if old != best:
                self._delete(old)


def _listed(steps: list[int]) -> str:
    """Returns steps as a message names them: some of many."""
    if len(steps) <= LISTED:
        return str(steps or "none")
    first, last = steps[: LISTED // 2], steps[-LISTED // 2 :]
    return f"[{', '.join(map(str, [*first, '...', *last]))}], {len(steps)} in all"


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "manifest.json")
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def _manifest(path: Path, run: str) -> dict[str, Any]:
    """Returns what a checkpoint says of itself.

    Raises:
      DamagedError: its manifest is missing or damaged, or it is of another step or run.
    """
    try:
        stored = read_json(path / "manifest.json")
        said = stored if isinstance(stored, dict) and stored.keys() == BEFORE_SEALS else unsealed(stored)
        whole = type(said["step"]) is int and isinstance(said["info"], dict) and isinstance(said["files"], dict)
    except FileNotFoundError as error:
        raise DamagedError(f"{path}: has no manifest") from error
    except (OSError, ValueError, KeyError) as error:
        raise DamagedError(f"{path}: its manifest is damaged") from error
    if not whole:
        raise DamagedError(f"{path}: its manifest is damaged")
    if path.name != step_name(said["step"]):
        raise DamagedError(f"{path}: holds step {said['step']}, whatever its name says")
    if run and (said.get("run") or run) != run:
        raise DamagedError(f"{path}: is the checkpoint of another run, or of another config")
    return said


def _damage(path: Path, run: str) -> str | None:
    """Returns what is wrong with a checkpoint, or None."""
    try:
        files = _manifest(path, run)["files"]
    except DamagedError as error:
        return str(error).removeprefix(f"{path}: ")
    found = _hashes(path)
    for name, expected in files.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != expected:
            return f"{name} is damaged: its SHA-256 is not that of the manifest"
    return None


def _read(path: Path, target: Any, run: str) -> Any:
    if damage := _damage(path, run):
        raise DamagedError(f"{path}: {damage}")
    return _load(path, target)


def _load(path: Path, target: Any) -> Any:
    """Returns the tree of a checkpoint that is known to be undamaged."""
    import orbax.checkpoint as ocp

    abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), target)
    try:
        with _quiet(), _checkpointer() as checkpointer:
            arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract)
            tree = checkpointer.restore(path / "state", item=abstract, restore_args=arguments)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: does not fit this config and version: {str(error).splitlines()[0]}") from error
    shapes = [jax.tree.map(np.shape, t) for t in (tree, abstract)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{path}: does not fit this config: the shapes of its arrays differ")
    return tree


def _check_space(folder: Path, tree: Any) -> None:
    """Raises OSError where a tree does not fit on the disk: Orbax would notice too, in threads that print tracebacks."""
    folder.mkdir(exist_ok=True)  # not what it is in: a run directory that is gone is not made anew without a word
    if shutil.disk_usage(folder).free < sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + SPARE_BYTES:
        raise OSError("No space left on the device")


def _check_written(path: Path, tree: Any) -> None:
    """Raises OSError unless what was written, every bit of every array and none beside them, is read back as it was.

    Without Orbax's `metadata`: TensorStore 0.1.86 never frees what it says of an array, 5 kB each time.
    """
    lost = OSError("what was written cannot be read back")
    try:
        read = _load(path, tree)
    except UserError as error:
        raise lost from error
    if not all(map(_same_bits, jax.tree.leaves(read), jax.tree.leaves(tree))):
        raise lost


def _same_bits(read: np.ndarray, written: np.ndarray) -> bool:
    return read.dtype == written.dtype and read.tobytes() == written.tobytes()


def _settle(folder: Path) -> None:
    """Has the system put a folder on the disk, so that the name that it then gets is never that of less than its content."""
    for path in (*folder.rglob("*"), folder) if os.name == "posix" else ():  # elsewhere folders cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checkpointer(*, use_ocdbt: bool = True) -> Any:
    """Returns Orbax's checkpointer, which else would wait for all processes of a run."""
    import orbax.checkpoint as ocp

    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=this, active_processes={this})
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=use_ocdbt, multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


@contextlib.contextmanager
def _quiet() -> Any:
    """Keeps Orbax's advice to its developers and its threads' tracebacks off the user's terminal: its errors are raised."""
    logger, show = logging.getLogger("absl"), threading.excepthook
    level = logger.level

    def excepthook(error: threading.ExceptHookArgs) -> None:
        if not any("orbax" in Path(frame.filename).parts for frame in traceback.extract_tb(error.exc_traceback)):
            show(error)

    logger.setLevel(logging.ERROR)
    threading.excepthook = excepthook
    try:
        yield
    finally:
        logger.setLevel(level)
        threading.excepthook = show
