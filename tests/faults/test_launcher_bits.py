"""A sweep's numbers belong to its points: whatever launcher trains them, and whichever goes on, gives the same bits."""

import csv
import json
import os
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from wgan_jax import runtime

# A gradient of small weights over a large batch: XLA:CPU adds it up in as many parts as it has threads.
ABLATION = """
from configs import wgan_gp
def get_config(preset="ring8"):
    config = wgan_gp.get_config(preset)
    config.batch_size, config.n_critic, config.model.depth, config.decay_steps, config.eval.draws = 4096, 1, 2, 0, 1
    config.eval_every = config.checkpoint_every = 3
    config.eval.samples = config.eval.feature_samples = 12
    config.eval.metrics = "wasserstein"
    return config
def get_sweep(preset="ring8"):
    return [{"model.width": width, "seed": seed} for width in (8, 32) for seed in range(2)]
"""


@pytest.fixture(scope="module")
def swept(root, tmp_path_factory):
    """Returns (name, launcher, steps) -> the rows and all arrays of the newest checkpoints of a sweep in that directory."""
    place = tmp_path_factory.mktemp("sweeps")
    environment = {name: value for name, value in os.environ.items() if name != "JAX_DISABLE_MOST_OPTIMIZATIONS"}

    def sweep(name, launcher, steps):
        ablation = place / "widths.py"
        ablation.write_text(ABLATION)
        words = [f"--config={ablation}", f"--workdir={place / name}", f"--launcher={launcher}", f"--config.steps={steps}"]
        words += ["--workers=2"] * (launcher == "processes")
        command = [sys.executable, "-m", "experiments.sweep", *words]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with (place / name / "results.csv").open(newline="") as file:
            rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
        states = {}
        for path in sorted((place / name).glob(f"tasks/*/checkpoints/*/step_{steps:08d}/state")):
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                states[path.parts[-5]] = checkpointer.restore(path)
        assert len(states) == 2
        return json.dumps(rows, sort_keys=True), states

    return sweep


def same(one, other):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, strict=True), one[1], other[1])
    assert one[0] == other[0]


@pytest.mark.skipif(len(runtime.visible_cores()) < 2, reason="one core has one number of threads")
def test_a_sweep_gives_the_same_bits_whoever_trains_it_and_goes_on_with_it(swept):
    """Begun by processes with a core each, and ended by one that has all cores."""
    whole = swept("vectorized", "vectorized", 6)
    swept("both", "processes", 3)
    same(swept("both", "vectorized", 6), whole)
