"""The launcher `slurm`: every task as a job of an array, on a cluster, or on this machine to try the jobs out."""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.launchers.running import RunTask, attempt, end, report_failure
from wgan_jax.errors import Interrupted, UserError
from wgan_jax.records import read_json
from wgan_jax.training.interruption import Signals
from wgan_jax.training.workdir import leave_out, write_json

if TYPE_CHECKING:
    import submitit
    from submitit.core.utils import DelayedSubmission

MINUTES = 60  # of a job, unless --time says otherwise
REQUEUES = 1000  # time limits that a task may take; it goes on from its checkpoint each time
POLL = {"slurm": 10.0, "local": 0.2}  # seconds between looks at a cluster's jobs


def run(run_task: RunTask, workdir: str, task_ids: Sequence[str], options: argparse.Namespace) -> None:
    """Runs every task as a job of an array, waits for all of them, and shows how many there are of each state.

    Logs are in workdir/slurm/. A job whose time is up, or that is preempted, saves and is requeued. Tasks whose jobs an earlier
    command left in the queue are waited for, not submitted again.

    Raises:
      UserError: no Slurm here, what sbatch refused, tasks that failed, a line each with the path of their log.
      Interrupted: by a signal; the jobs go on.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    cluster, folder = options.cluster or "slurm", Path(workdir).resolve() / "slurm"
    folder.mkdir(exist_ok=True)
    record = folder / "jobs.json"
    known = _recorded(record)
    try:
        executor = submitit.AutoExecutor(folder, cluster, **{f"{cluster}_max_num_timeout": REQUEUES})
        queued = _queue() if cluster == "slurm" else {}
        jobs: dict[str, submitit.Job[str | None]] = {
            name: submitit.SlurmJob(folder, known[name]) for name in task_ids if known.get(name) in queued
        }
        executor.update_parameters(
            name=f"sweep-{folder.parent.name}",
            timeout_min=options.time or MINUTES,
            cpus_per_task=options.cpus,
            gpus_per_node=options.gpus,
            slurm_partition=options.partition,
            slurm_account=options.account,
            slurm_array_parallelism=options.array_parallelism,
            slurm_additional_parameters={"requeue": True, **dict(_parameter(word) for word in options.slurm or ())},
        )
        new = [name for name in task_ids if name not in jobs]
        with Signals() as signals:
            signals.deferred = True  # until it is on record what has been submitted
            if new:
                submitted = executor.map_array(Job(run_task), [str(folder.parent)] * len(new), new)
                jobs |= dict(zip(new, submitted, strict=True))
            write_json(record, {**known, **{name: job.job_id for name, job in jobs.items()}})
        if signals.received:
            raise Interrupted(signals.received)
    except (FailedJobError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise UserError(f"--launcher=slurm: {error}") from error
    print(f"{len(new)} jobs submitted, {len(jobs) - len(new)} were in the queue; logs: {folder}", flush=True)
    try:
        with Signals():
            failed = _wait(jobs, cluster)
    except Interrupted:
        ids = " ".join(sorted({job.job_id.partition("_")[0] for job in jobs.values()}))
        print(f"the jobs go on: squeue --me shows them, scancel {ids} ends them; the same command waits for them", flush=True)
        raise
    end(failed, task_ids)


def _recorded(path: Path) -> dict[str, str]:
    """Returns the ids of the jobs that were submitted, by task."""
    try:
        stored = read_json(path) if path.exists() else {}
    except (OSError, ValueError):
        stored = None
    if isinstance(stored, dict):
        return stored
    leave_out(path, "cannot be read")
    return {}


def _parameter(word: str) -> tuple[str, str | bool]:
    key, given, value = word.partition("=")
    return key.removeprefix("--"), value if given else True


@dataclass(frozen=True)
class Job:
    """What a job calls. Its method `checkpoint` is submitit's sign that it may be requeued, and how."""

    run_task: RunTask

    def __call__(self, workdir: str, task_id: str) -> str | None:
        """Runs a task; returns None, or why it failed. Requeues the job if its time is up, or if it is preempted."""
        import submitit

        try:
            return attempt(self.run_task, workdir, task_id)
        except Interrupted as error:
            number, here = error.signum, submitit.JobEnvironment()
            # Slurm sends SIGTERM to a job that it ends, and to one that it lets run on for the grace time of a preemption
            if number == signal.SIGTERM and here.cluster == "slurm" and _queue().get(here.job_id) == "RUNNING":
                number = signal.SIGUSR2
            signal.raise_signal(number)  # the task has saved: to submitit's handlers, which at SIGUSR2 requeue the job
            sys.exit(128 + number)

    def checkpoint(self, workdir: str, task_id: str) -> "DelayedSubmission":
        """Returns what the requeued job calls: the same, as the task resumes from its own checkpoint."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self, workdir, task_id)


def _queue() -> dict[str, str]:
    """Returns the state of every job of this user in Slurm's queue: {job id: "PENDING", "RUNNING", ...}."""
    # submitit asks sacct, which answers only on clusters that keep accounts
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i %T"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return dict(line.split() for line in listed.stdout.splitlines())


def _wait(jobs: dict[str, "submitit.Job[str | None]"], cluster: str) -> list[str]:
    """Waits until no job is in the queue any more; returns the tasks that failed."""
    console, shown = Console(), ""
    waiting, gone, failed = dict(jobs), set[str](), list[str]()
    with console.status("") as status:
        while waiting:
            try:
                states = _queue() if cluster == "slurm" else {j.job_id: "RUNNING" for j in jobs.values() if not j.done()}
            except subprocess.CalledProcessError as error:
                console.print(f"squeue: {error.stderr.strip()}; asking again", markup=False)
                states = dict.fromkeys((job.job_id for job in jobs.values()), "UNKNOWN")
            for task_id, job in list(waiting.items()):
                if job.job_id in states:
                    continue
                if job.paths.result_pickle.exists():
                    reason = _result(job)
                elif task_id in gone:
                    reason = "its job ended without a result"
                else:
                    gone.add(task_id)  # its result may take a while to be seen on this side of a shared disk
                    continue
                del waiting[task_id]
                if report_failure(task_id, reason and f"{reason}; log: {job.paths.stderr}"):
                    failed.append(task_id)
            running = sum(states.get(job.job_id) == "RUNNING" for job in waiting.values())
            done = len(jobs) - len(waiting) - len(failed)
            text = f"{len(waiting) - running} pending, {running} running, {done} done, {len(failed)} failed"
            if text != shown and not console.is_terminal:
                print(text, flush=True)
            shown = text
            status.update(text)
            if waiting:
                time.sleep(POLL[cluster])
    return failed


def _result(job: "submitit.Job[str | None]") -> str | None:
    """Returns why a job's task failed, or None; of an error of submitit's, or before the task, its last line."""
    from submitit.core.utils import pickle_load

    outcome, value = pickle_load(job.paths.result_pickle)
    return value if outcome == "success" else value.strip().splitlines()[-1]
