"""The launcher `processes`: every task in a new process of this machine, so many at a time."""

import argparse
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

from experiments.command import steady_output
from experiments.launchers.running import RunTask, attempt, end, report_failure
from wgan_jax.errors import Interrupted
from wgan_jax.runtime import visible_cores, visible_devices
from wgan_jax.training.interruption import Signals


class Share(NamedTuple):
    """A worker's part of this machine."""

    device: str | None  # of CUDA_VISIBLE_DEVICES; None where there is no GPU
    memory: float  # of the device, as XLA's fraction
    cores: tuple[int, ...]


def run(run_task: RunTask, workdir: str, task_ids: Sequence[str], options: argparse.Namespace) -> None:
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
    # A terminal sends its Ctrl-C and its end to all processes; workers, who inherit this mask, hear of it from here alone.
    block = (signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    resource_tracker.ensure_running()  # now, as who starts it loses the mask
    with Signals() as signals, ThreadPoolExecutor(workers, initializer=signal.pthread_sigmask, initargs=block) as threads:
        signals.deferred = True  # until every task is known to who tells them
        futures = {threads.submit(_in_process, shares, run_task, workdir, task_id): task_id for task_id in task_ids}
        try:
            signals.obey()
            for done, future in enumerate(as_completed(futures), 1):
                if report_failure(futures[future], future.result()):
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
    end(failed, task_ids)


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
