"""How a sweep's tasks are run: one after another in this process, in a local pool, or as jobs of a Slurm cluster.

A launcher calls run_task(workdir, task_id), which trains one task and resumes what it finds, for every task. A task that fails
is told of at once and the others go on; at the end a UserError names all that failed. A signal ends it with Interrupted once
what runs here has saved; jobs of a cluster go on, and the same command waits for them.
"""

import argparse
from collections.abc import Callable, Sequence

from experiments.launchers import pool, slurm
from experiments.launchers.running import RunTask, attempt, end, report_failure
from experiments.launchers.slurm import MINUTES, POLL
from wgan_jax.errors import UserError

type Launcher = Callable[[RunTask, str, Sequence[str], argparse.Namespace], None]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --launcher and the flags of each launcher; `choose` reads them."""
    parser.add_argument("--launcher", default="vectorized", choices=LAUNCHERS, help="how tasks are run (default: vectorized)")
    local = parser.add_argument_group("of --launcher=processes")
    local.add_argument("--workers", type=int, metavar="N", help="tasks at a time (default: one per GPU, or per core without)")
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
    failed = [task_id for task_id in task_ids if report_failure(task_id, attempt(run_task, workdir, task_id))]
    end(failed, task_ids)


LAUNCHERS: dict[str, Launcher] = {"vectorized": vectorized, "processes": pool.run, "slurm": slurm.run}
