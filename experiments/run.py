"""Trains one model and writes a run directory, resuming what is there.

    python -m experiments.run --config=configs/wgan_gp.py[:preset] [--workdir=DIR] [--config.key=value ...] [--distributed]

A preset is a dataset with its natural architecture, by default digits; `,paper=True` asks for a paper's full budget. The README
has the table of methods. Exit codes: 0 done, 2 a mistake in flags, config or data, 3 training became non-finite, 129, 130 and
143 interrupted by SIGHUP, SIGINT and SIGTERM after saving;
where another process was lost 1, or 134 if JAX notices it first.

With --distributed several processes, which share the batch, run the same command: under a launcher such as Slurm, or each with
--coordinator=HOST:PORT --processes=N --process=I. The first writes the run directory. When one is lost, the others end too.
"""

import time

STARTED = time.perf_counter()

import traceback  # noqa: E402 - the clock starts before the imports
from argparse import Namespace  # noqa: E402
from contextlib import nullcontext  # noqa: E402
from pathlib import Path  # noqa: E402

from ml_collections import ConfigDict  # noqa: E402

from experiments import command, distributed  # noqa: E402
from wgan_jax import runtime  # noqa: E402
from wgan_jax.config import default_workdir, load, warn_of_idle_updates  # noqa: E402
from wgan_jax.places import check_data  # noqa: E402
from wgan_jax.sizes import check_batches  # noqa: E402
from wgan_jax.training.workdir import is_finished, open_workdir  # noqa: E402


def run(argv: list[str]) -> None:
    """Parses the flags, checks the config, trains."""
    parser = command.Parser("experiments.run", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:PRESET]", help="a file of configs/ and its preset")
    parser.add_argument(
        "--workdir", type=command.path, metavar="DIR", help="the run directory (default: runs/<method>-<preset>-seed<seed>)"
    )
    distributed.add_flags(parser)
    flags, overrides = parser.parse(argv)
    distributed.check_flags(flags)
    config = load(flags.config, overrides)
    check_batches(config)
    warn_of_idle_updates([config])
    workdir = Path(flags.workdir or command.path(default_workdir(config)))
    if not is_finished(workdir, config):
        check_data(config)
    if flags.distributed:
        _run_together(config, workdir, flags)
        return
    with open_workdir(workdir, config):
        if is_finished(workdir, config):
            print(f"already done: {config.steps} of {config.steps} steps; summary.json and figures/: {workdir}")
            return
        print(f"run directory: {workdir}", flush=True)
        runtime.configure_jax(config)
        from wgan_jax.training.loop import train

        train(config, workdir, STARTED)


def _run_together(config: ConfigDict, workdir: Path, flags: Namespace) -> None:
    try:
        distributed.join(config, flags)
        from wgan_jax.training import processes
        from wgan_jax.training.loop import train

        with processes.together(), open_workdir(workdir, config) if processes.is_first() else nullcontext():
            processes.agree(0.0, 0)  # that the run directory is theirs
            if processes.is_first():
                print(f"run directory: {workdir}", flush=True)
            train(config, workdir, STARTED)
    except RuntimeError:  # JAX's, of this process: at its exit JAX would wait for the others, which wait for it
        traceback.print_exc()
        command.leave(command.FAILED)


if __name__ == "__main__":
    command.main(run)
