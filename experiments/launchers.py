"""How a sweep's tasks are run: one after another in this process, in a local pool, or as jobs of a Slurm cluster.

A launcher calls run_task(workdir, task_id), which trains one task and resumes what it finds, for every task. A task that fails
is told of at once and the others go on; at the end a UserError names all that failed. A signal ends it with Interrupted once
what runs here has saved; jobs of a cluster go on, and the same command waits for them.
"""

import argparse
import json
import multiprocessing
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from experiments.launch import steady_output
from wgan_jax.errors import Interrupted, NonFiniteError, UserError
from wgan_jax.training.interruption import Signals
from wgan_jax.training.workdir import write_json

if TYPE_CHECKING:
    import submitit
    from submitit.core.utils import DelayedSubmission

type RunTask = Callable[[str, str], None]  # (workdir, task id); a module's function, as other processes import it
type Launcher = Callable[[RunTask, str, Sequence[str], argparse.Namespace], None]

MINUTES = 60  # of a job, unless --time says otherwise
REQUEUES = 1000  # time limits that a task may take; it goes on from its checkpoint each time
POLL = {"slurm": 10.0, "local": 0.2}  # seconds between looks at a cluster's jobs


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --launcher and the flags of each launcher; `choose` reads them."""
    parser.add_argument("--launcher", default="vectorized", choices=LAUNCHERS, help="how tasks are run (default: vectorized)")
    pool = parser.add_argument_group("of --launcher=processes")
    pool.add_argument("--workers", type=int, metavar="N", help="tasks at a time (default: one per GPU, or per core without)")
    jobs = parser.add_argument_group("of --launcher=slurm")
    jobs.add_argument("--cluster", choices=POLL, help="local tries the jobs out on this machine, all at once (default: slurm)")
    jobs.add_argument("--partition", metavar="NAME", help="the cluster's partition")
    jobs.add_argument("--account", metavar="NAME", help="who pays")
    jobs.add_argument("--time", type=int, metavar="MINUTES", help=f"of a job, requeued when they are up (default: {MINUTES})")
    jobs.add_argument("--gpus", type=int, metavar="N", help="GPUs of a job")
    jobs.add_argument("--cpus", type=int, metavar="N", help="cores of a job")
    jobs.add_argument("--array-parallelism", type=int, metavar="N", help="jobs at a time (default: 256)")
    jobs.add_argument(
        "--slurm", action="append", metavar="KEY[=VALUE]", help="an option of sbatch, such as qos=high; repeatable"
    )


FLAGS = {
    "vectorized": (),
    "processes": ("workers",),
    "slurm": ("cluster", "partition", "account", "time", "gpus", "cpus", "array_parallelism", "slurm"),
}


def choose(options: argparse.Namespace) -> Launcher:
    """Returns the launcher that parsed flags ask for.

    Raises:
      UserError: a flag of another launcher, a number below 1.
    """
    given = [name for names in FLAGS.values() for name in names if getattr(options, name) is not None]
    lines = [
        f"--{name.replace('_', '-')}: is a flag of --launcher={next(key for key in FLAGS if name in FLAGS[key])}"
        for name in given
        if name not in FLAGS[options.launcher]
    ]
    lines += [
        f"--{name.replace('_', '-')}: {getattr(options, name)} is not a whole number of at least 1"
        for name in given
        if isinstance(getattr(options, name), int) and getattr(options, name) < 1
    ]
    if lines:
        raise UserError(*lines)
    return LAUNCHERS[options.launcher]


def vectorized(run_task: RunTask, workdir: str, task_ids: Sequence[str], options: argparse.Namespace) -> None:
    """Runs tasks one after another in this process, on all that it sees; a task's members train together.

    Raises:
      UserError: some tasks failed.
      Interrupted: from the task that a signal met.
    """
    del options
    failed = [task_id for task_id in task_ids if _failed(task_id, attempt(run_task, workdir, task_id))]
    _end(failed, task_ids)


def attempt(run_task: RunTask, workdir: str, task_id: str) -> str | None:
    """Runs a task; returns None, or why it failed. The traceback of what is no user's mistake goes to stderr."""
    try:
        run_task(workdir, task_id)
    except (UserError, NonFiniteError) as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def _failed(task_id: str, reason: str | None) -> bool:
    if reason is not None:
        print(f"task {task_id} failed: {reason}", file=sys.stderr, flush=True)
    return reason is not None


def _end(failed: Sequence[str], task_ids: Sequence[str]) -> None:
    if failed:
        names = ", ".join(failed)
        raise UserError(f"{len(failed)} of {len(task_ids)} tasks failed: {names}; the same command tries them again")


class Share(NamedTuple):
    """A worker's part of this machine."""

    device: str | None  # of CUDA_VISIBLE_DEVICES; None where there is no GPU
    memory: float  # of the device, as XLA's fraction
    cores: tuple[int, ...]


def processes(run_task: RunTask, workdir: str, task_ids: Sequence[str], options: argparse.Namespace) -> None:
    """Runs every task in a new process, `workers` at a time, each with its own GPU or its share of the cores.

    What they print is in workdir/processes/.

    Raises:
      UserError: some tasks failed.
      Interrupted: by a signal, once the tasks have saved.
    """
    devices, cores = visible_devices(), visible_cores()
    workers = min(options.workers or len(devices) or len(cores), len(task_ids))
    shares: queue.SimpleQueue[Share] = queue.SimpleQueue()
    for share in divide(workers, devices, cores):
        shares.put(share)
    failed: list[str] = []
    # A terminal sends its Ctrl-C to all processes; workers, who inherit this mask, hear of it from here alone.
    block = (signal.SIG_BLOCK, {signal.SIGINT})
    resource_tracker.ensure_running()  # now, as who starts it loses the mask
    with Signals(), ThreadPoolExecutor(workers, initializer=signal.pthread_sigmask, initargs=block) as threads:
        futures = {threads.submit(_in_process, shares, run_task, workdir, task_id): task_id for task_id in task_ids}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                if _failed(futures[future], future.result()):
                    failed.append(futures[future])
                print(f"{done} of {len(task_ids)} tasks ended, {len(failed)} failed", flush=True)
        except Interrupted as error:
            print(f"{error}: the tasks that run save, then end", flush=True)
            threads.shutdown(wait=False, cancel_futures=True)
            told: set[int | None] = set()
            while any(future.running() for future in futures):
                for child in multiprocessing.active_children():  # also one that was about to start
                    if child.pid not in told:
                        child.terminate()
                        told.add(child.pid)
                time.sleep(0.05)
            raise
    _end(failed, task_ids)


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


def divide(workers: int, devices: Sequence[str], cores: Sequence[int]) -> list[Share]:
    """Returns the shares of so many workers: devices and cores go round where there are fewer of them than workers."""
    users = -(-workers // max(1, len(devices)))  # of the device with the most
    parts = [cores[len(cores) * i // workers : len(cores) * (i + 1) // workers] for i in range(workers)]
    return [
        Share(
            devices[i % len(devices)] if devices else None,
            round(0.75 / users, 3),  # 0.75 is XLA's own for one process
            tuple(parts[i]) or (cores[i % len(cores)],),
        )
        for i in range(workers)
    ]


def _in_process(shares: queue.SimpleQueue[Share], run_task: RunTask, workdir: str, task_id: str) -> str | None:
    """Runs a task in a pool of its own, so that a process that is killed takes no other with it; returns why it failed."""
    log = Path(workdir).resolve() / "processes" / f"{task_id}.log"
    log.parent.mkdir(exist_ok=True)
    context, share = multiprocessing.get_context("spawn"), shares.get()
    try:
        with ProcessPoolExecutor(1, context, _take, (share, log), max_tasks_per_child=1) as pool:
            reason = pool.submit(_work, run_task, workdir, task_id).result()
    except BrokenProcessPool:
        reason = "its process was killed, as a system does that runs out of memory"
    finally:
        shares.put(share)
    return reason and f"{reason}; log: {log}"


def _take(share: Share, log: Path) -> None:
    """Narrows a new process to its share, before it imports jax, which sizes its thread pools by the cores that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share.cores)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if share.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = share.device
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", str(share.memory))
    with log.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    steady_output()


def _end_with_parent() -> None:
    """Ends this process, once it has saved, when the one that started it is gone: it would hold on to what it shares out."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _work(run_task: RunTask, workdir: str, task_id: str) -> str | None:
    try:
        return attempt(run_task, workdir, task_id)
    except Interrupted as error:
        return str(error)


def slurm(run_task: RunTask, workdir: str, task_ids: Sequence[str], options: argparse.Namespace) -> None:
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
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
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
    _end(failed, task_ids)


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
                if _failed(task_id, reason and f"{reason}; log: {job.paths.stderr}"):
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


LAUNCHERS: dict[str, Launcher] = {"vectorized": vectorized, "processes": processes, "slurm": slurm}
