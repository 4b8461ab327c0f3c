"""One task of a sweep, in whatever process a launcher runs it; and the sweep's folder of tasks."""

import re
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wgan_jax import runtime
from wgan_jax.errors import UserError
from wgan_jax.plan import Task, resolve, task_of
from wgan_jax.records import read_json
from wgan_jax.training.workdir import delete_leftovers, identity, leave_out, read_config, read_summary, write_json

ID = re.compile("[0-9a-f]{12}")  # of a task


def write_task(workdir: Path, task: Task) -> None:
    """Writes tasks/<id>/task.json: the overrides of the task's points."""
    folder = workdir / "tasks" / task.id
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "task.json", [point.overrides for point in task.points])


def task_names(workdir: Path) -> list[str]:
    """Returns the ids of a sweep's tasks; a folder of another name is left out, and said."""
    folders = sorted(path.parent for path in (workdir / "tasks").glob("*/task.json"))
    for folder in folders:
        if not ID.fullmatch(folder.name):
            leave_out(folder, "is no task by its name")
    return [folder.name for folder in folders if ID.fullmatch(folder.name)]


def read_task(workdir: Path, task_id: str) -> Task:
    """Returns a task by its id.

    Raises:
      UserError: the directory holds no such task, or its file holds other points than those that the id is the hash of.
    """
    path = workdir / "tasks" / task_id / "task.json"
    again = f"delete {path}: the same sweep writes it anew"
    try:
        stored: list[dict[str, Any]] = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{workdir}: task {task_id} cannot be read: {error}; {again}") from error
    if not isinstance(stored, list) or not all(isinstance(point, dict) for point in stored):
        raise UserError(f"{workdir}: task {task_id} cannot be read: it is no list of points; {again}")
    task = task_of(resolve(read_config(workdir), stored))
    if task.id != task_id:
        raise UserError(f"{workdir}: task {task_id} holds other points than it was made of; {again}")
    return task


def is_done(workdir: Path, task: Task) -> bool:
    """Says whether a task has trained to the end of its config's steps, and its rows are those that it ended with."""
    try:
        return summary_of(workdir, task)["step"] >= task.points[0].config.steps
    except (OSError, ValueError):
        return False


def summary_of(workdir: Path, task: Task) -> dict[str, Any]:
    """Returns what the summary.json of a task says; raises as `read_summary`."""
    configs = [point.config for point in task.points]
    return read_summary(workdir / "tasks" / task.id, configs[0].steps, identity(*configs))


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
            delete_leftovers(folder)
            if not is_done(Path(workdir), task):
                train_task(task.points, folder, f"task {task_id}", started)
    except Timeout as error:
        raise UserError(f"{folder} is being trained by another process") from error
