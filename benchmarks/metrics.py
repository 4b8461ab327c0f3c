"""Seconds and memory of every metric of two samples.

    python -m benchmarks.metrics [--samples=10000] [--features=128,2048]

Each metric runs once, in a process of its own, on features of two Gaussians in float32 (for the Inception score they are the
logits of as many classes). Its memory is that process's largest resident set: interpreter, libraries and both samples included,
which the line `nothing` shows alone. Exact transport is nearly cubic in the number of examples and has its own sizes. How far
the values are from those of independent implementations is in the tests.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from experiments import command
from wgan_jax.errors import UserError

SUBSET = 1000  # examples of the kernel distance's subsets
TRANSPORT_SAMPLES = (500, 2000)
TRANSPORT = ("assignment", "optimal transport")


def _metrics() -> dict[str, Callable[[np.ndarray, np.ndarray], Any]]:
    from scipy.special import softmax

    from wgan_jax.metrics import divergences, fidelity, kernels, transport

    return {
        "nothing": lambda x, y: None,
        "assignment": transport.empirical_wasserstein,
        "optimal transport": transport.optimal_transport,
        "sliced Wasserstein": transport.sliced_wasserstein,
        "histograms and Jensen-Shannon": lambda x, y: divergences.jensen_shannon(*divergences.histograms(x[:, :2], y[:, :2])),
        "energy distance": kernels.energy_distance,
        "maximum mean discrepancy": kernels.maximum_mean_discrepancy,
        "kernel distance": lambda x, y: kernels.kernel_distance(x, y, size=SUBSET),
        "Frechet distance": fidelity.frechet_distance,
        "Inception score": lambda x, y: fidelity.inception_score(softmax(y, axis=1)),
        "precision, recall, density, coverage": fidelity.neighbourhoods,
        "two-sample accuracy": fidelity.two_sample_accuracy,
        "distances to the nearest": fidelity.nearest_distances,
    }


def measure(metric: str, samples: int, features: int) -> tuple[float, float]:
    """Returns the seconds of a metric and the largest resident set of this process, in MiB."""
    from wgan_jax.metrics.transport import optimal_transport

    compute = _metrics()[metric]
    x, y = np.random.default_rng(0).standard_normal((2, samples, features), np.float32)
    y *= 1.1
    optimal_transport(x[:2], y[:2])  # loads what is loaded lazily
    start = time.perf_counter()
    compute(x, y)
    seconds = time.perf_counter() - start
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def metrics(argv: list[str]) -> None:
    """Parses the flags, measures every metric, prints a table."""
    parser = command.Parser("benchmarks.metrics", __doc__)
    parser.add_argument("--samples", type=int, default=10_000, metavar="N", help="examples of each side (default: 10000)")
    parser.add_argument("--features", default="128,2048", metavar="F,...", help="features of an example (default: 128,2048)")
    flags, overrides = parser.parse(argv)
    if overrides:
        raise UserError(f"{overrides[0]}: there is no config here")
    if flags.samples < SUBSET:
        raise UserError(f"--samples: {flags.samples} is less than {SUBSET}, a subset of the kernel distance")
    sizes = flags.features.split(",")
    if not all(size.isdecimal() and int(size) > 1 for size in sizes):
        raise UserError(f"--features: {flags.features!r} is not a list of whole numbers from 2 up, such as 128,2048")

    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    cases = [
        (metric, samples, int(size))
        for size in sizes
        for metric in _metrics()
        for samples in (TRANSPORT_SAMPLES if metric in TRANSPORT else (flags.samples,))
    ]
    table = Table("metric", title="one run each; memory is the whole process's largest resident set")
    for column in ("samples", "features", "seconds", "MiB"):
        table.add_column(column, justify="right")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as processes:
        for case in track(cases, "measuring", transient=True):
            seconds, memory = processes.submit(measure, *case).result()
            metric, samples, features = case
            table.add_row(metric, f"{samples:,}", f"{features:,}", f"{seconds:.2f}", f"{memory:,.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    command.main(metrics)
