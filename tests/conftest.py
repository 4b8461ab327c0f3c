"""What every test shares: jax's settings, set before it starts a backend, and a few builders."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # eight virtual devices, float64 and exact sums; set it to run elsewhere

import jax
import pytest
from ml_collections import ConfigDict

from wgan_jax import config as configuration

ROOT = Path(__file__).parent.parent

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")  # [B, 1] against [B] is an error
# Compiled programs are kept between runs, a folder per pytest-xdist worker: jax does not lock the files it writes.
cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wgan_jax" / "tests"
jax.config.update("jax_compilation_cache_dir", str(cache / os.environ.get("PYTEST_XDIST_WORKER", "main")))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture
def strict_dtypes() -> Iterator[None]:
    """No implicit promotion between dtypes. Not for every test: optax's Adam raises a float32 to an int32 power."""
    with jax.numpy_dtype_promotion("strict"):
        yield


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
