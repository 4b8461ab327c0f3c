"""A signal at any moment of a run or a task: it is answered at once or after saving, is never lost, and costs no evaluation."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from wgan_jax.errors import Interrupted
from wgan_jax.plan import resolve
from wgan_jax.records import parse_lines
from wgan_jax.report.names import SCORE
from wgan_jax.training import loop, members
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.interruption import Signals, is_handled, unless_interrupted
from wgan_jax.training.workdir import open_workdir

TINY = {
    "batch_size": 8,
    "n_critic": 1,
    "model.width": 4,
    "model.depth": 1,
    "steps": 4,
    "decay_steps": 9,
    "devices": 1,
    "log_every": 1,
    "eval_every": 2,
    "sample_every": 100,
    "checkpoint_every": 100,
    "cache_dir": "",
    "eval.samples": 12,
    "eval.feature_samples": 12,
    "eval.draws": 1,
    "eval.metrics": "wasserstein",
}
PROMPT = 20  # seconds, of a busy machine; what is interrupted would take a minute


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def never():
    threading.Event().wait(60)
    pytest.fail("the signal was not answered")


@pytest.fixture
def trained(make_config, tmp_path):
    """Returns (name, changes) -> the summary of a tiny run in that directory, begun or gone on with."""

    def of(name, **changes):
        config = make_config("wgan_gp.py:ring8", TINY | changes)
        with open_workdir(tmp_path / name, config):
            return loop.train(config, tmp_path / name, time.perf_counter())

    return of


@pytest.fixture
def whole(trained, tmp_path):
    trained("whole")
    return tmp_path / "whole"


def lines(workdir):
    read = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read]


def same_run(workdir, other):
    """Logs, scores and the whole last states are equal, to the last bit."""
    assert lines(workdir) == lines(other)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        states = [checkpointer.restore(folder / "checkpoints/step_00000004/state") for folder in (workdir, other)]
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, strict=True), *states)
    infos = [Checkpoints(folder / "checkpoints").info(4) for folder in (workdir, other)]
    assert infos[0]["score"] == infos[1]["score"]


def status(workdir):
    return json.loads((workdir / "summary.json").read_text())["status"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_last_checkpoint_is_written_ends_the_run_before_its_final_evaluation(
    trained, tmp_path, monkeypatch, number
):
    write = Checkpoints._write

    def writing(self, step, *rest):
        if step == 4:
            send(number)
        write(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_write", writing)
        patch.setattr(loop.results, "on_test", lambda *arguments, **keywords: never())
        with pytest.raises(Interrupted) as ended:
            trained("run")
    assert (ended.value.signum, status(tmp_path / "run")) == (number, "interrupted")
    assert Checkpoints(tmp_path / "run/checkpoints").steps()[-1] == 4
    assert trained("run")["status"] == "done"


@pytest.mark.slow
def test_a_signal_in_an_evaluation_is_answered_and_the_run_goes_on_with_that_evaluation(trained, whole, tmp_path, monkeypatch):
    """Twice at one step, and an evaluation that the directory's interrupted run has not is in its log once."""
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(loop.results, "on_validation", lambda *arguments, **keywords: send() or never())
            began = time.monotonic()
            with pytest.raises(Interrupted):
                trained("run")
            assert time.monotonic() - began < PROMPT
        checkpoints = Checkpoints(tmp_path / "run/checkpoints")
        assert checkpoints.steps() == [2]
        assert "score" not in checkpoints.info(2)
        assert [line["step"] for line in lines(tmp_path / "run")] == [1]
    trained("run", steps=3)  # another kill, after the evaluation that was waited for
    trained("run")
    same_run(tmp_path / "run", whole)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir() if "step_" not in path.name] == []


def test_an_evaluation_that_was_waited_for_is_saved_though_it_is_no_better(trained, tmp_path, monkeypatch):
    """Else each later kill would have it made again."""
    evaluate, signalled = loop.results.on_validation, []

    def rising(evaluator, state, **keywords):
        if int(state.step) == 2 and not signalled:
            signalled.append(True)
            send()
            never()
        return evaluate(evaluator, state, **keywords) | {f"eval/{SCORE}": float(state.step)}

    monkeypatch.setattr(loop.results, "on_validation", rising)
    with pytest.raises(Interrupted):
        trained("run", eval_every=1, keep=9)
    checkpoints = Checkpoints(tmp_path / "run/checkpoints")
    assert (checkpoints.steps(), "pending" in checkpoints.info(2)) == ([1, 2], True)
    trained("run", eval_every=1, keep=9)
    assert checkpoints.steps() == [1, 2, 4]
    assert checkpoints.info(2)["score"] == 2.0
    assert "pending" not in checkpoints.info(2)
    assert [line["step"] for line in parse_lines(checkpoints.file(2, "metrics.jsonl"))[0]] == [1, 2]


def test_a_signal_in_the_final_evaluation_is_answered(trained, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop.results, "on_test", lambda *arguments, **keywords: send() or never())
        with pytest.raises(Interrupted):
            trained("run")
    assert status(tmp_path / "run") == "interrupted"
    assert trained("run")["status"] == "done"


def test_an_interrupted_start_leaves_the_summary_of_what_was_trained(trained, whole, monkeypatch):
    before = (whole / "summary.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "load_dataset", lambda config: send() or never())
        with pytest.raises(Interrupted):
            trained("whole", steps=6)
    assert (whole / "summary.json").read_text() == before


@pytest.mark.slow
def test_a_signal_in_the_evaluations_of_a_task_is_answered(make_config, tmp_path, monkeypatch):
    points = resolve(make_config("wgan_gp.py:ring8", TINY), [{"seed": seed} for seed in range(2)])
    folder = tmp_path / "task"
    folder.mkdir()
    train = functools.partial(members.train_task, points, folder, "task", 0.0)
    for name in ("evaluate_members", "rows_on_test"):
        with monkeypatch.context() as patch:
            patch.setattr(members, name, lambda *arguments, **keywords: send() or never())
            began = time.monotonic()
            with pytest.raises(Interrupted):
                train()
            assert time.monotonic() - began < PROMPT
        assert not (folder / "summary.json").exists()
    train()
    other = tmp_path / "whole"
    other.mkdir()
    members.train_task(points, other, "task", 0.0)
    rows = [[json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()] for path in (folder, other)]
    assert [{**row, "seconds": 0} for row in rows[0]] == [{**row, "seconds": 0} for row in rows[1]]


def test_work_is_given_up_at_a_signal_alone():
    with Signals() as signals:
        signals.deferred = True
        assert unless_interrupted(lambda: 3, signals) == 3
        with pytest.raises(ZeroDivisionError):
            unless_interrupted(lambda: 1 / 0, signals)
        assert unless_interrupted(lambda: send(signal.SIGHUP) or never(), signals) is None
        with pytest.raises(Interrupted):
            signals.obey()


def test_a_closed_terminal_is_heard_but_under_nohup(monkeypatch):
    assert is_handled(signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert not is_handled(signal.SIGHUP)
        with Signals():
            send(signal.SIGHUP)  # nohup's
        assert is_handled(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


RUN = [sys.executable, "-m", "experiments.run", "--config=configs/wgan_gp.py:ring8"]
RUN += [f"--config.{key}={value}" for key, value in TINY.items() if key not in ("steps", "cache_dir")]


@pytest.mark.slow
def test_a_closed_terminal_saves_and_a_closed_pipe_goes_on(root, tmp_path):
    """The reader is gone after a line; then the terminal."""
    command = [*RUN, f"--workdir={tmp_path / 'run'}", "--config.steps=1000000", "--config.eval_every=1000000"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            process.stdout.close()
            log, end = tmp_path / "run/metrics.jsonl", time.monotonic() + 300
            while not (log.exists() and len(log.read_text().splitlines()) > 3):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < end
                time.sleep(0.05)
            process.send_signal(signal.SIGHUP)
            assert process.wait(300) == 128 + signal.SIGHUP
            assert "interrupted by SIGHUP" in process.stderr.read()
        finally:
            process.kill()
    assert status(tmp_path / "run") == "interrupted"
