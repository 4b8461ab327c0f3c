"""One task of a sweep, in whatever process a launcher runs it; and the sweep's folder of tasks."""

import json
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wgan_jax import runtime
from wgan_jax.errors import UserError
from wgan_jax.plan import Task, resolve
from wgan_jax.training.workdir import read_config, write_json


def write_task(workdir: Path, task: Task) -> None:
    """Writes tasks/<id>/task.json: the overrides of the task's points."""
    folder = workdir / "tasks" / task.id
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "task.json", [point.overrides for point in task.points])


def read_task(workdir: Path, task_id: str) -> Task:
    """Returns a task by its id.

    Raises:
      UserError: the directory holds no such task.
    """
    try:
        stored: list[dict[str, Any]] = json.loads((workdir / "tasks" / task_id / "task.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{workdir}: task {task_id} cannot be read: {error}") from error
    return Task(task_id, resolve(read_config(workdir), stored))


def is_done(workdir: Path, task: Task) -> bool:
    """Says whether a task has trained to the end of its config's steps."""
    path = workdir / "tasks" / task.id / "summary.json"
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["step"] >= task.points[0].config.steps


def run_task(workdir: str, task_id: str) -> None:
    """Trains a task that is not done, resuming what it finds, on all devices that it sees; every core of a CPU is one.

    Raises:
      UserError: another process trains it; of the devices, the data or the checkpoints.
      Interrupted: by a signal, after saving.
    """
    started = time.perf_counter()
    task = read_task(Path(workdir), task_id)
    folder = Path(workdir) / "tasks" / task_id
    config = task.points[0].config.copy_and_resolve_references()
    config.devices = config.devices or len(runtime.visible_cores())  # virtual ones, on a CPU
    runtime.configure_jax(config)
    from wgan_jax.training.members import train_task

    try:
        with FileLock(folder / ".lock", timeout=0):
            if not is_done(Path(workdir), task):
                train_task(task.points, folder, f"task {task_id}", started)
    except Timeout as error:
        raise UserError(f"{folder} is being trained by another process") from error
