"""A trained run, restored from its directory: what the launchers that look at one share. Imports no jax before it restores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import ConfigDict

from experiments import launch
from wgan_jax.config import check, override
from wgan_jax.errors import UserError
from wgan_jax.training.workdir import MAY_CHANGE, read_config

if TYPE_CHECKING:
    from wgan_jax.data.dataset import Dataset
    from wgan_jax.models import Networks
    from wgan_jax.types import Params, TrainState

PLACES = tuple(key for key in MAY_CHANGE if key.startswith("data."))  # where a run's data may lie elsewhere


class Restored(NamedTuple):
    """A run at one of its checkpoints."""

    config: ConfigDict
    networks: "Networks"
    step: int
    state: "TrainState"  # NumPy arrays
    info: dict[str, Any]  # saved with the checkpoint: the examples' shape, the data's fingerprint, ...

    def generator(self, *, raw: bool) -> "Params":
        """Returns the variables of the generator itself, or of its average."""
        generator = self.state.generator
        return {"params": generator.params, **generator.model_state} if raw else self.state.ema


def restore_run(workdir: Path, step: str, overrides: Sequence[str] = (), keys: Sequence[str] = ()) -> Restored:
    """Returns the run of a directory at step `latest`, `best` or a number, and sets JAX as its config asks.

    overrides: `--config.key=value` of PLACES, for a run whose data has moved, and of `keys`.

    Raises:
      UserError: no run or no such checkpoint, either of them damaged, or overrides of other keys.
    """
    stored = check(read_config(workdir))
    config = override(lambda: stored, overrides, [*PLACES, *keys])
    launch.configure_jax(config)
    import jax

    from wgan_jax.training.checkpoint import Checkpoints
    from wgan_jax.training.program import make_parts

    checkpoints = Checkpoints(workdir / "checkpoints")

    def read(number: int) -> Restored:
        info = checkpoints.info(number)
        if "shape" not in info:
            raise UserError(f"{checkpoints.folder}: the manifest of step {number} cannot be read; try another --step")
        networks, steps = make_parts(config, tuple(info["shape"]))
        state = checkpoints.restore(number, jax.eval_shape(steps.init_state, jax.random.key(0)))
        return Restored(config, networks, number, state, info)

    return checkpoints.reading(step, read)


def load_data(restored: Restored) -> "Dataset":
    """Returns the dataset that a run was trained on.

    Raises:
      UserError: it is not there, or the images are others.
    """
    from wgan_jax.data import load_dataset

    dataset = load_dataset(restored.config)
    if dataset.fingerprint != restored.info["data"]:
        raise UserError("config.data: the images, their labels or splits are not those that this run was trained on")
    return dataset
