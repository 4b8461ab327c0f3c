"""Several processes through the real command: two, of two virtual CPU devices each, train as one process does."""

import contextlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments import command, distributed, run
from wgan_jax.errors import UserError
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.logging import read_metrics

# sgd: where a gradient is 0 up to rounding, Adam divides it by epsilon, and moves of 1e-12 come of 1e-20
TINY = (
    *("--config.critic.optimizer=sgd", "--config.generator.optimizer=sgd"),
    *("--config.dtype=float64", "--config.model.width=8", "--config.batch_size=8", "--config.keep=1000000"),
    *("--config.eval.metrics=wasserstein", "--config.eval.samples=50", "--config.eval.draws=1", "--config.checkpoint_every=2"),
)
RING = ("--config=configs/wgan_gp.py:ring8", "--config.decay_steps=8000", *TINY, "--config.log_every=1000000")
DIGITS = (
    "--config=configs/wgan_gp.py:digits",
    "--config.decay_steps=3000",  # a shorter run is the beginning of a longer one
    *TINY,
    "--config.log_every=1",
    "--config.eval_every=4",
    "--config.sample_every=4",
)
ENDLESS = "--config.steps=1000000"
HEARTBEAT = 10  # seconds
PATIENCE = 300  # seconds that a machine at work on other things may take; two free cores need ten for a pair


def _command(workdir, *arguments):
    return [sys.executable, "-m", "experiments.run", *arguments, f"--workdir={workdir}"]


@pytest.fixture(scope="module")
def alone(command):
    """Returns (workdir, arguments) -> exit code and stderr of a run in this process."""

    def call(workdir, *arguments):
        code, _, error = command("run", *arguments, f"--workdir={workdir}")
        return code, error

    return call


def _process(workdir, *arguments):
    """A process of its own, which is refused before it trains; exit code and stderr."""
    done = subprocess.run(_command(workdir, *arguments), capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stderr


@contextlib.contextmanager
def _pair(workdir, *arguments):
    """Processes 0 and 1; killed at the end if they still run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
    flags = ("--distributed", coordinator, "--processes=2", "--config.devices=4")
    pair = [
        subprocess.Popen(
            _command(workdir, *arguments, *flags, f"--process={process}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    try:
        yield pair
    finally:
        for process in pair:
            process.kill()
            process.communicate()


def _ends(pair):
    """Exit code, stdout and stderr of each."""
    outputs = [process.communicate(timeout=PATIENCE) for process in pair]
    return [(process.returncode, *output) for process, output in zip(pair, outputs, strict=True)]


def _wait_for(workdir, step, pair):
    deadline = time.monotonic() + PATIENCE
    while not _path(workdir, step).is_dir():
        assert [process.poll() for process in pair] == [None, None]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _path(workdir, step):
    return workdir / "checkpoints" / f"step_{step:08d}"


def _state(workdir, step):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(_path(workdir, step) / "state")


def _assert_close(workdir, other, step):
    """Each array differs by 1e-9 of its largest value at most, as float64's rounding does after a few updates."""
    ours, theirs = (jax.tree.leaves(_state(folder, step)) for folder in (workdir, other))
    assert len(ours) == len(theirs) > 20
    for x, y in zip(ours, theirs, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-9 * np.max(np.abs(y), initial=0.0))


@pytest.fixture(scope="module")
def ring(alone, tmp_path_factory):
    """One process, one device, 4 updates on sampled data."""
    workdir = tmp_path_factory.mktemp("ring")
    assert alone(workdir, *RING, "--config.devices=1", "--config.steps=4") == (0, "")
    return workdir


@pytest.fixture(scope="module")
def digits(alone, tmp_path_factory):
    """One process for 2 updates on stored data, and two for 2 more."""
    workdir = tmp_path_factory.mktemp("digits")
    assert alone(workdir, *DIGITS, "--config.devices=1", "--config.steps=2") == (0, "")
    with _pair(workdir, *DIGITS, "--config.steps=4") as pair:
        first, second = _ends(pair)
    assert [code for code, _, _ in (first, second)] == [0, 0], (first, second)
    assert "step 4/4" in first[1]
    assert "step" not in second[1]
    return workdir


@pytest.mark.slow
def test_one_process_two_and_one_again_train_as_one(alone, digits, tmp_path):
    """The states are those of a process that is not interrupted."""
    assert alone(tmp_path, *DIGITS, "--config.devices=1", "--config.steps=6") == (0, "")
    written = sorted(path.name for path in (digits / "checkpoints").iterdir())
    assert written == ["step_00000002", "step_00000004"]
    assert [line["step"] for line in read_metrics(digits / "metrics.jsonl")] == [1, 2, 3, 4]
    for step in (2, 4):
        _assert_close(digits, tmp_path, step)
    code, error = alone(digits, *DIGITS, "--config.devices=1", "--config.steps=6")
    assert code == 0
    assert "devices 4 -> 1" in error
    _assert_close(digits, tmp_path, 6)
    ours, theirs = (read_metrics(folder / "metrics.jsonl") for folder in (digits, tmp_path))
    assert [line["step"] for line in ours] == [1, 2, 3, 4, 5, 6]
    for name in ("wasserstein_estimate", "eval/wasserstein_excess"):
        assert ours[3][name] == pytest.approx(theirs[3][name], rel=1e-9)


def test_a_mistake_that_one_process_sees_ends_both(digits):
    with _pair(digits, *DIGITS, "--config.steps=4", "--config.model.width=9") as pair:
        (code, _, error), (other_code, _, other_error) = _ends(pair)
    assert (code, other_code) == (2, 2)
    assert "config.model.width: the run in" in error
    assert other_error == "error: process 0 of 2 ended; its own message says why\n"


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_damages_no_checkpoint(ring, tmp_path):
    with _pair(tmp_path, *RING, ENDLESS, f"--heartbeat={HEARTBEAT}") as pair:
        _wait_for(tmp_path, 4, pair)
        pair[1].kill()
        _, error = pair[0].communicate(timeout=2 * HEARTBEAT)
    assert pair[0].returncode in (1, -signal.SIGABRT)  # as this program sees it, or JAX, first
    _, *lines = error.splitlines()  # a warning of the rate, which ends before the steps do
    assert len(lines) == 1
    assert lines[0].startswith("error: another process was lost; the same command goes on from the newest checkpoint (")
    _assert_close(tmp_path, ring, 4)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    newest = checkpoints.steps()[-1]
    step, state = checkpoints.restore_newest(_state(ring, 4))
    assert step == newest
    assert state["step"] == newest


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_ends_both(tmp_path):
    with _pair(tmp_path, *RING, ENDLESS) as pair:
        _wait_for(tmp_path, 2, pair)
        pair[1].send_signal(signal.SIGTERM)
        codes = [code for code, _, _ in _ends(pair)]
    assert codes == [143, 143]
    assert '"status": "interrupted"' in (tmp_path / "summary.json").read_text()


def test_an_error_of_this_process_ends_it_at_once_with_its_traceback(tmp_path, monkeypatch, capsys):
    """Its exit would wait for the others, which are in a collective; that ends with it."""

    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(distributed, "join", lambda *_: None)
    monkeypatch.setattr("wgan_jax.training.processes.together", contextlib.nullcontext)
    monkeypatch.setattr("wgan_jax.training.loop.train", fail)
    monkeypatch.setattr(command, "leave", leave)
    with pytest.raises(SystemExit) as ended:
        run.run([*RING, f"--workdir={tmp_path}", "--distributed"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory"


def test_a_process_that_finds_no_other_gives_up(tmp_path):
    """Nothing listens on port 9."""
    flags = ("--distributed", "--coordinator=127.0.0.1:9", "--processes=2", "--process=1", "--heartbeat=1")
    code, error = _process(tmp_path / "run", *RING, *flags)
    assert (code, len(error.splitlines())) == (2, 1)
    assert "not all processes came within 1 seconds (--heartbeat)" in error
    assert not (tmp_path / "run").exists()


WHOLE = ("--distributed", "--coordinator=host:80", "--processes=2", "--process=1")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2"], "give --distributed too"),
        (["--heartbeat=2"], "give --distributed too"),
        (["--distributed", "--processes=2"], "--processes: needs --coordinator and --process too"),
        (["--distributed", "--coordinator=host:80", "--process=0"], "--coordinator: needs --processes too"),
        ([*WHOLE, "--coordinator=host"], "'host' is not HOST:PORT"),
        ([*WHOLE, "--coordinator=host:65536"], "'host:65536' is not HOST:PORT"),
        ([*WHOLE, "--process=2"], "--process: 2 of --processes=2"),
        ([*WHOLE, "--process=-1"], "--process: -1 of --processes=2"),
        ([*WHOLE, "--heartbeat=0"], "--heartbeat: 0 is not"),
        ([*WHOLE, "--processes=two"], "invalid int value"),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    with pytest.raises(UserError, match=message) as caught:
        _parse(flags)
    assert len(caught.value.lines) == 1


def _parse(flags):
    parser = command.Parser("experiments.run", None)
    distributed.add_flags(parser)
    parsed, _ = parser.parse(flags)
    distributed.check_flags(parsed)
    return parsed


@pytest.mark.parametrize("flags", [[], ["--distributed"], ["--distributed", "--heartbeat=1"], [*WHOLE]])
def test_flags_that_fit(flags):
    assert _parse(flags).distributed == bool(flags)


def test_without_a_launcher_the_processes_must_be_described(tmp_path):
    code, error = _process(tmp_path, *RING, "--distributed")
    assert (code, len(error.splitlines())) == (2, 1)
    assert "no launcher found; give --coordinator=HOST:PORT" in error
