"""Trains one model and writes a run directory, resuming what is there.

    python -m experiments.run --config=configs/wgan_gp.py[:preset] [--workdir=DIR] [--config.key=value ...]

A preset is a dataset with its natural architecture, by default digits; `,paper=True` asks for a paper's full budget. The README
has the table of methods. Exit codes: 0 done, 2 a mistake in flags, config or data, 3 training became non-finite, 130 and 143
interrupted by SIGINT and SIGTERM after saving.
"""

import time

STARTED = time.perf_counter()

from pathlib import Path  # noqa: E402 - the clock starts before the imports

from experiments import launch  # noqa: E402
from wgan_jax.config import default_workdir, load  # noqa: E402
from wgan_jax.training.workdir import open_workdir  # noqa: E402


def run(argv: list[str]) -> None:
    """Parses the flags, checks the config, trains."""
    parser = launch.Parser("experiments.run", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:PRESET]", help="a file of configs/ and its preset")
    parser.add_argument("--workdir", metavar="DIR", help="the run directory (default: runs/<method>-<preset>-seed<seed>)")
    flags, overrides = parser.parse(argv)
    config = load(flags.config, overrides)
    workdir = Path(default_workdir(config) if flags.workdir is None else flags.workdir)
    with open_workdir(workdir, config):
        launch.configure_jax(config)
        from wgan_jax.training.loop import train

        train(config, workdir, STARTED)


if __name__ == "__main__":
    launch.main(run)
