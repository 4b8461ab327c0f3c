"""How a run is logged, evaluated, drawn, checkpointed, cut into calls and stopped changes no bit of what it trains."""

import functools
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wgan_jax.errors import Interrupted
from wgan_jax.training import calls, loop
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.program import make_program
from wgan_jax.training.workdir import open_workdir

STEPS = 12
TINY = {
    "batch_size": 6,
    "n_critic": 2,
    "model.width": 4,
    "model.depth": 1,
    "decay_steps": 20,
    "devices": 1,
    "cache_dir": "",
    "eval.samples": 12,
    "eval.feature_samples": 12,
    "eval.draws": 1,
    "eval.metrics": "wasserstein",
    "keep": 1,
    "penalty.every": 3,
    "warmup.critic_steps": 4,
    "warmup.first": 1,
    "warmup.every": 5,
    "replay.capacity": 12,
}
EVERY = ("log_every", "eval_every", "sample_every", "checkpoint_every")
FEW = settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def trained(make_config):
    """Returns (steps, intervals, stops, seconds of a call) -> metrics lines and the last state of a run of digits."""
    programs = {}

    def program(config, dataset):
        return programs.setdefault(dataset.shape, make_program(config, dataset))  # one compilation for all schedules

    class Stopped:
        """A machine that hears a signal after so many calls."""

        def __init__(self, after):
            self.left = after

        def agree(self, seconds, signum):
            self.left -= seconds > 0
            return seconds, signum or (15 if self.left == 0 else 0)

    def of(intervals=(STEPS,) * 4, stops=(), seconds=0.5):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            workdir = Path(folder) / "run"
            config = make_config("wgan_gp.py:digits", TINY | {"steps": STEPS} | dict(zip(EVERY, intervals, strict=True)))
            patch.setattr(loop, "make_program", program)
            patch.setattr(loop, "CALL_SECONDS", seconds)
            for stop in (*stops, 0):
                patch.setattr(calls.processes, "agree", Stopped(stop).agree)
                with open_workdir(workdir, config):
                    try:
                        loop.train(config, workdir, time.perf_counter())
                        break
                    except Interrupted:
                        continue
            lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
            fresh = jax.eval_shape(programs[8, 8, 1].init_state, jax.random.key(0))
            checkpoints = Checkpoints(workdir / "checkpoints")
            assert checkpoints.steps()[-1] == STEPS
            return {line.pop("step"): line for line in lines}, checkpoints.restore(STEPS, fresh)

    return of


@pytest.fixture(scope="module")
def plain(trained):
    return trained(intervals=(1, STEPS, STEPS, STEPS))


intervals = st.tuples(*[st.integers(1, STEPS + 1)] * len(EVERY))


@pytest.mark.slow
@FEW
@given(intervals, st.lists(st.integers(1, 5), max_size=3), st.sampled_from((0.0, 1e-3, 9.0)))
def test_no_schedule_changes_a_bit(trained, plain, intervals, stops, seconds):
    lines, state = trained(intervals, stops, seconds)
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), state, plain[1])
    log_every, eval_every, *_ = intervals
    assert list(lines) == [step for step in range(1, STEPS + 1) if step % log_every == 0 or step % eval_every == 0]
    for step, line in lines.items():
        same = {name: value for name, value in plain[0][step].items() if name != "seconds" and not name.startswith("eval/")}
        assert same.items() <= line.items()
