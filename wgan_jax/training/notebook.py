"""Training from a notebook or a program of one's own: train(config, dataset), in this process."""

import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.config import override
from wgan_jax.data import load_dataset, stored
from wgan_jax.data.array import from_arrays
from wgan_jax.data.dataset import Dataset, Law, Stored
from wgan_jax.data.labels import class_counts, draw_labels
from wgan_jax.errors import UserError
from wgan_jax.models import make_sampler
from wgan_jax.paths import absolute
from wgan_jax.training import loop
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.logging import read_metrics
from wgan_jax.training.program import parts_of
from wgan_jax.training.workdir import identity, open_workdir
from wgan_jax.types import Networks, TrainState


class Trained(NamedTuple):
    """What a run came to."""

    networks: Networks
    state: TrainState  # the last, as NumPy arrays; state.ema are the variables of the averaged generator
    metrics: list[dict[str, Any]]  # the lines of metrics.jsonl
    summary: dict[str, Any]  # as summary.json has it: test metrics of the last and of the best state, and real data's
    workdir: Path  # the run directory, with its checkpoints, samples and figures
    dataset: Dataset  # what it was trained on

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """Returns examples [count, ...] of the averaged generator as the dataset has them, in their units and dtype."""
        key = jax.random.key(seed)
        labels = draw_labels(class_counts(self.dataset), key, count)
        _, examples = make_sampler(self.networks)(self.state.ema, key, labels, 0)
        return self.dataset.encode(examples)


def train(config: ConfigDict, dataset: Dataset | np.ndarray | None = None, workdir: str | Path | None = None) -> Trained:
    """Trains a config on a dataset, by default that of config.data; prints its progress as experiments.run does.

    An array of examples [N, ...] is split and scaled as config.data says of array; see `data.array.from_arrays`. workdir: the
    run directory; the same call again goes on where it was stopped or, with more steps, where it ended. Without one it is a
    fresh temporary folder. JAX's own settings, such as float64, are the caller's.

    Raises:
      UserError: a mistake in the config, the dataset or the run directory, a line each.
      NonFiniteError: training became non-finite.
      Interrupted: by SIGINT, which a notebook's stop button sends; what is in a workdir was saved before.
    """
    started, config = time.perf_counter(), override(config.copy_and_resolve_references, [])
    if config.dtype == "float64" and not jax.config.jax_enable_x64:
        raise UserError('config.dtype: float64 needs jax.config.update("jax_enable_x64", True) before anything is computed')
    if isinstance(dataset, np.ndarray):
        dataset = from_arrays(dataset, config=config.data)
    dataset = load_dataset(config) if dataset is None else _own(dataset, config)
    folder = Path(absolute(str(workdir or tempfile.mkdtemp(prefix="wgan_jax-"))))
    with open_workdir(folder, config):
        summary = loop.train(config, folder, started, dataset)
        networks, steps = parts_of(config, dataset)
        checkpoints = Checkpoints(folder / "checkpoints", run=identity(config))
        fresh = jax.eval_shape(steps.init_state, jax.random.key(0))
        state = checkpoints.restore(checkpoints.find("latest"), fresh)
        return Trained(networks, state, read_metrics(folder / "metrics.jsonl"), summary, folder, dataset)


def _own(dataset: Dataset, config: ConfigDict) -> Dataset:
    """Returns the caller's dataset with the fingerprint by which a run directory knows it again.

    Raises:
      UserError: it has neither a law nor all three splits, or they are not what a Split is.
    """
    if isinstance(dataset, Law):
        return dataset._replace(fingerprint=dataset.fingerprint or "a law of the caller's")
    if not isinstance(dataset, Stored):
        raise UserError("dataset: has neither a law, `sample`, nor the splits train, validation and test")
    dataset, digest = stored(dataset, config, "dataset: has"), hashlib.sha256()
    for images, labels in dataset.splits.values():
        digest.update(np.ascontiguousarray(images).tobytes() + np.ascontiguousarray(labels).tobytes())
    return dataset._replace(fingerprint=dataset.fingerprint or digest.hexdigest())
