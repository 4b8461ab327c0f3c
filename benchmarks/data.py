"""What images cost before and during training: decoding, the next start, memory, and streaming from the disk.

    python -m benchmarks.data --config=configs/wgan_gp.py:folder --config.data.path=DIR [--config.key=value ...]
    python -m benchmarks.data --config=... --sparse-gb=40 [--updates=100]

The first decodes the config's images into a fresh cache and opens it again, each in a process of its own, and prints the
seconds until the dataset is there, images per second, and the processes' peak memory, that of Python and JAX included.
With --sparse-gb the images are instead a sparse file of that size: the real training loop streams from it, and trains from a
resident set of the same shape; both rates are printed, and the peak memory. To show that no more memory is needed than is
allowed, run it in a control group whose memory.max is below the file's size.
"""

import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from ml_collections import ConfigDict

from experiments import command
from wgan_jax import runtime
from wgan_jax.config import load
from wgan_jax.errors import UserError

RESIDENT = 2000  # images of the resident set


def data(argv: list[str]) -> None:
    """Parses the flags, measures, prints."""
    parser = command.Parser("benchmarks.data", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE:PRESET")
    parser.add_argument("--sparse-gb", type=float, default=0, metavar="GB", help="stream from a sparse file of this size")
    parser.add_argument("--updates", type=int, default=100, help="generator updates of each training (default: 100)")
    flags, overrides = parser.parse(argv)
    config = load(flags.config, overrides)
    if flags.sparse_gb < 0 or flags.updates < 1:
        raise UserError("--sparse-gb is at least 0, --updates at least 1")
    with tempfile.TemporaryDirectory() as folder:
        config.data.cache_dir = config.eval.cache_dir = folder
        if flags.sparse_gb:
            stream(config, Path(folder), round(flags.sparse_gb * 1e9), flags.updates)
        else:
            starts(config)


def alone(work: Any, *arguments: Any) -> Any:
    """Returns work(*arguments) and the peak memory in MB, from a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_memory, (work, *arguments))


def _with_memory(work: Any, *arguments: Any) -> Any:
    result = work(*arguments)
    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def start(config: ConfigDict) -> tuple[float, int, int]:
    """Returns seconds until the dataset is there, its number of images, and the bytes of one."""
    from wgan_jax.data import load_dataset
    from wgan_jax.data.dataset import Stored

    began = time.perf_counter()
    dataset = load_dataset(config)
    seconds = time.perf_counter() - began
    splits = dataset.splits.values() if isinstance(dataset, Stored) else ()
    return seconds, sum(len(split.images) for split in splits), int(np.prod(dataset.shape))


def starts(config: ConfigDict) -> None:
    """Prints the first start, which decodes, and the second, which opens the cache."""
    for name in ("first start", "second start"):
        (seconds, count, size), peak = alone(start, config)
        rate = f", {count / seconds:.0f} images/s" if name.startswith("first") else ""
        memory = f"pixels {count * size / 2**20:.0f} MB, peak memory {peak:.0f} MB"
        print(f"{name}: {seconds:.2f} s for {count} images{rate}; {memory}")


def trained(config: ConfigDict, folder: Path, images: int, shape: tuple[int, ...]) -> float:
    """Returns updates per second of the training loop on a sparse file of so many images."""
    from wgan_jax.data.dataset import Split, Stored
    from wgan_jax.training import loop

    runtime.configure_jax(config)
    path = folder / f"{images}.bin"
    with path.open("wb") as file:
        file.truncate(images * int(np.prod(shape)))
    stored = np.memmap(path, np.uint8, "r", shape=(images, *shape))
    part = Split(stored, np.zeros(images, np.int32))
    few = Split(stored[:100], np.zeros(100, np.int32))
    workdir = folder / f"run_{images}"
    workdir.mkdir()
    with mock.patch.object(loop, "load_dataset", return_value=Stored(shape, part, few, few)):
        loop.train(config, workdir, time.perf_counter())
    return float(json.loads((workdir / "summary.json").read_text(encoding="utf-8"))["updates_per_second"])


def stream(config: ConfigDict, folder: Path, size: int, updates: int) -> None:
    """Prints the rates of training from the disk and from memory, and the peak memory of either."""
    shape = (config.data.image_size or 28,) * 2 + (config.data.channels or 1,)
    every = {f"{name}_every": updates for name in ("eval", "sample", "checkpoint")}
    config.update({"steps": updates, "devices": 1, **every})
    config.eval.update({"metrics": "wasserstein", "samples": 50, "draws": 1})
    counts = {"streamed": size // int(np.prod(shape)), "resident": RESIDENT}
    for name, count in counts.items():
        config.data.resident_mb = 0 if name == "streamed" else 2048
        rate, peak = alone(trained, config, folder, count, shape)
        of = count * int(np.prod(shape)) / 1e9
        print(
            f"{name}: {rate:.2f} updates/s from {count} images of {shape}, {of:.1f} GB; peak memory {peak:.0f} MB", flush=True
        )


if __name__ == "__main__":
    command.main(data)
