"""What every test shares: jax's settings, set before it starts a backend, and a few builders."""

import gc
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker inherits what follows
    # What tests and the commands that they start keep, they keep here, and never in the caches of the person who tests.
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "wgan_jax" / "tests"
    os.environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # eight virtual devices, float64 and exact sums; set it to run elsewhere
# A program is compiled here to run for milliseconds: XLA's optimisations would take longer than all else together.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# One cache of compiled programs for all workers and commands; only one that has a limit is locked while it is read or written.
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**32)

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.command import main
from wgan_jax import config as configuration
from wgan_jax import runtime
from wgan_jax.data.dataset import Stored
from wgan_jax.data.scaling import Scaling
from wgan_jax.training.interruption import SIGNALS

ROOT = Path(__file__).parent.parent
MAPS = 20_000  # pieces of memory that a worker may have; each compiled program takes some

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")  # [B, 1] against [B] is an error
jax.config.update("jax_compilation_cache_dir", str(Path("~/.cache/wgan_jax").expanduser()))  # that of the commands
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def pytest_configure(config: pytest.Config) -> None:
    """Leaves the slow tests to `-m slow` where neither a path nor -m is given; a file that is named is run whole."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.markexpr:
        config.option.markexpr = "not slow"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A worker per core that this process may use; each takes up to 2 GiB."""
    return min(len(runtime.visible_cores()), 8)


@pytest.fixture(autouse=True, scope="module")
def _few_maps() -> Iterator[None]:
    """Gives compiled programs back before they are too many: past vm.max_map_count, 65530 by default, XLA ends in a crash."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def strict_dtypes() -> Iterator[None]:
    """No implicit promotion between dtypes. Not for every test: optax's Adam raises a float32 to an int32 power."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def optimised() -> Iterator[None]:
    """Programs compiled as users have them, where a value in float32 hangs on the order of a sum."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository, with configs/ and wgan_jax/."""
    return ROOT


@pytest.fixture(scope="session")
def make_config() -> Callable[..., ConfigDict]:
    """Returns (spec, {dotted key: value}) -> the checked config of configs/<spec>, such as "wgan_gp.py:ring8"."""

    def make(spec: str = "wgan_gp.py:ring8", changes: dict[str, Any] | None = None) -> ConfigDict:
        config = configuration.load(f"{ROOT}/configs/{spec}")
        config.update_from_flattened_dict(changes or {})
        return configuration.check(config)

    return make


@pytest.fixture(scope="session")
def negated() -> Callable[[Stored], Stored]:
    """Returns (stored images) -> the same with every pixel negated, int16, and the scaling of such: equal in network units."""

    def of(dataset: Stored) -> Stored:
        splits = {name: split._replace(images=-split.images.astype(np.int16)) for name, split in dataset.splits.items()}
        return dataset._replace(**splits, scaling=Scaling("int16", (-127.5,), (1.0,), bounded=True))

    return of


@pytest.fixture(scope="session")
def command() -> Callable[..., tuple[int, str, str]]:
    """Returns (name, arguments) -> exit code, stdout and stderr of experiments.<name>, here rather than in a new process.

    JAX is set up already. A test that ends or kills a command by a signal starts a process of its own.
    """

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        program = getattr(importlib.import_module(f"experiments.{name}"), name)
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
                patch.setattr(sys, "argv", [name, *arguments])
                patch.setattr(logging.root, "handlers", [])  # so that what is logged goes to stderr
                patch.setattr(
                    runtime, "configure_jax", lambda config: jax.config.update("jax_enable_x64", config.dtype == "float64")
                )
                with pytest.raises(SystemExit) as ended:
                    main(program)
        finally:
            jax.config.update("jax_enable_x64", False)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return ended.value.code, *(stream.buffer.getvalue().decode() for stream in (out, err))

    return call
