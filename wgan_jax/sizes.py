"""What numbers of a config or a flag ask of memory at least, against what this machine has. Imports no jax.

These are lower bounds: they refuse slips, such as a batch of 2,147,483,647, in place of a crash, and no model that would fit.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from wgan_jax.errors import UserError


def physical_memory() -> int:
    """Returns the bytes of memory that this process may have: the machine's, or the limit of its control group."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**63
    if (limit := control_group() / "memory.max").exists() and (most := limit.read_text(encoding="utf-8").strip()) != "max":
        return min(total, int(most))
    return total


def control_group() -> Path:
    """Returns the folder of this process's control group, which may be nowhere."""
    listed = Path("/proc/self/cgroup")
    own = listed.read_text(encoding="utf-8").split("::/")[-1].strip() if listed.exists() else "nowhere"
    return Path("/sys/fs/cgroup") / own


def check_bytes(what: str, size: int, memory: int | None = None) -> None:
    """Checks that so many bytes fit into memory.

    what: the key or the flag, and what it asks for, such as "--num: 10 samples".

    Raises:
      UserError: they do not.
    """
    memory = physical_memory() if memory is None else memory
    if size > memory:
        raise UserError(f"{what} take at least {_gigabytes(size)}, and there are {_gigabytes(memory)} of memory")


def check_pairs(key: str, points: int) -> None:
    """Checks that the distances between so many points of each side, which an optimal assignment looks at, fit into memory.

    Raises:
      UserError: they do not.
    """
    check_bytes(f"config.{key}: the distances between {points:,} points and as many others", 8 * points**2)


def check_batches(config: ConfigDict, numbers: int = 1) -> None:
    """Checks that the examples and latents of one update fit into memory, and the first layer of the generator.

    numbers: of an example, where the data is known.

    Raises:
      UserError: they do not.
    """
    item, latent = 8 if config.dtype == "float64" else 4, config.latent.dim
    numbers = max(numbers, config.data.dim)
    layer = f"config.model.width={config.model.width} and config.latent.dim={latent}: the generator's weights"
    check_bytes(layer, item * latent * config.model.width)
    rows = config.batch_size * (config.n_critic + 1)
    asked = f"config.batch_size={config.batch_size} and config.n_critic={config.n_critic}: the examples of an update"
    check_bytes(asked, item * rows * (2 * numbers + latent))
    if config.objective == "imle":
        drawn = f"config.imle.samples={config.imle.samples}: for each of batch_size={config.batch_size} examples, they"
        check_bytes(drawn, item * config.batch_size * config.imle.samples * (numbers + latent))


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
