"""experiments.sweep as its users call it: what it writes, what it trains again, what it refuses."""

import csv
import json
import signal
import subprocess
import sys

import pytest

from experiments import sweep as command
from wgan_jax import runtime
from wgan_jax.errors import UserError

SMALL = {
    "batch_size": 8,
    "model.width": 8,
    "model.depth": 1,
    "steps": 6,
    "eval_every": 3,
    "checkpoint_every": 2,
    "eval.samples": 30,
    "eval.feature_samples": 30,
    "eval.draws": 1,
    "cache_dir": "",
    "devices": 1,
}
TINY = [f"--config.{key}={value}" for key, value in SMALL.items()]
ABLATION = """
from configs import wgan_gp

def get_config(preset="ring8"):
    return wgan_gp.get_config(preset)

def get_sweep(preset="ring8"):
    return [{"n_critic": n, "penalty.weight": w, "seed": s} for n in (1, 2) for w in (0.1, 1.0) for s in (0, 1)]
"""


@pytest.fixture
def ablation(tmp_path):
    path = tmp_path / "ablation.py"
    path.write_text(ABLATION)
    return str(path)


@pytest.fixture
def sweep(ablation, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime, "configure_jax", lambda config: None)  # JAX is set up already

    def run(*arguments, config=ablation):
        command.sweep([f"--config={config}", f"--workdir={tmp_path / 'sweep'}", *TINY, *arguments])
        return capsys.readouterr().out

    return run


def rows_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_sweep_writes_its_results(sweep, tmp_path):
    out, folder = sweep(), tmp_path / "sweep"
    assert "8 points in 2 tasks, of which 2 are to be trained" in out
    assert out.startswith(f"sweep directory: {folder}\n")
    assert out.count("step 3/6: 4 of 4 finite, excess ") == out.count(", 4 members, 6 updates") == 2
    rows = rows_of(folder)
    points = {row["point"] for row in rows}
    assert len(points) == 8
    for point in points:
        own = [(row["split"], row["state"], row["step"]) for row in rows if row["point"] == point]
        assert own[:3] == [("validation", "last", 3), ("validation", "last", 6), ("test", "last", 6)]
        assert len(own) == 4
    assert {(row["n_critic"], row["penalty.weight"], row["seed"]) for row in rows} == {
        (n, w, s) for n in (1, 2) for w in (0.1, 1.0) for s in (0, 1)
    }
    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["point"] for row in table] == [row["point"] for row in rows]
    assert [float(row["wasserstein_excess"]) for row in table] == [row["wasserstein_excess"] for row in rows]
    summary = (folder / "summary.md").read_text()
    assert summary.strip() in out
    assert "modes<8" in summary
    assert {path.name for path in (folder / "figures").iterdir()} >= {"results.png", "curves.png"}
    assert json.loads((folder / "config.json").read_text())["steps"] == 6
    assert "command" in json.loads((folder / "provenance.json").read_text())
    assert out.count("data: ring8, points of 2 numbers drawn from a law without end, 8 modes\n") == 2  # of each task
    for path in (folder / "tasks").glob("*/provenance.json"):
        assert json.loads(path.read_text())["data"]["shape"] == [2]


@pytest.mark.slow
def test_nothing_is_trained_twice(sweep, tmp_path):
    sweep()
    tasks = tmp_path / "sweep" / "tasks"
    before = {path: path.stat().st_mtime_ns for path in tasks.rglob("*") if path.name != ".lock"}
    results = (tmp_path / "sweep" / "results.csv").read_text()
    assert "8 points in 2 tasks, of which 0 are to be trained" in sweep()
    assert {path: path.stat().st_mtime_ns for path in tasks.rglob("*") if path.name != ".lock"} == before
    assert (tmp_path / "sweep" / "results.csv").read_text() == results


@pytest.mark.slow
def test_a_grown_sweep_trains_what_is_new(sweep, tmp_path, ablation):
    sweep("--seeds=1")
    first = rows_of(tmp_path / "sweep")
    assert "8 points in 4 tasks, of which 2 are to be trained" in sweep()
    rows = rows_of(tmp_path / "sweep")
    assert [row for row in rows if row["seed"] == 0] == first
    assert {row["seed"] for row in rows} == {0, 1}
    assert "4 points in 2 tasks, of which 0 are to be trained" in sweep("--seeds=1")
    assert rows_of(tmp_path / "sweep") == first


@pytest.mark.slow
def test_stages_follow_one_another(sweep, tmp_path):
    path = tmp_path / "staged.py"
    more = """
def get_next(preset="ring8", *, rows):
    best = min((row for row in rows if row["split"] == "validation"), key=lambda row: row["wasserstein_excess"])
    return [{"penalty.weight": best["penalty.weight"], "n_critic": best["n_critic"], "seed": 100}]
"""
    path.write_text(ABLATION + more)
    out = sweep(config=str(path))
    assert "8 points in 2 tasks, of which 2" in out
    assert "9 points in 3 tasks, of which 1" in out
    last = [row for row in rows_of(tmp_path / "sweep") if row["seed"] == 100]
    assert len({row["point"] for row in last}) == 1
    assert "of which 0" in sweep(config=str(path))


def test_a_list_trains_nothing(sweep, root, tmp_path):
    out = sweep("--list")
    assert "8 points in 2 tasks" in out
    assert out.count("penalty.weight=0.1") == 4
    assert "1 point in 1 task\n" in sweep("--list", "--seeds=1", config=f"{root}/configs/gan.py:ring8")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_a_method_is_swept_over_seeds(sweep, root, tmp_path):
    out = sweep("--seeds=3", "--members=2", config=f"{root}/configs/gan.py:ring8")
    assert "3 points in 2 tasks" in out
    ended = [row for row in rows_of(tmp_path / "sweep") if (row["split"], row["state"]) == ("test", "last")]
    assert [row["seed"] for row in ended] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.n_critic=3"], "config.n_critic: is swept by"),
        (["--config.eval.fail=mode<8"], "no metric mode; did you mean modes"),
        (["--config.eval.fail=modes=8"], "config.eval.fail: 'modes=8' is not"),
        (["--seeds=0"], "--seeds: 0 is not"),
        (["--members=0"], "--members: 0 is not"),
        (["--launcher=slurmm"], "--launcher: invalid choice"),
        (["--workers=2"], "--workers: is a flag of --launcher=processes"),
        (["--config.model.widht=3"], "did you mean config.model.width"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(sweep, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        sweep(*arguments)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_another_base_config_is_refused(sweep):
    sweep("--seeds=1")
    with pytest.raises(UserError, match=r"config.model.width: the run in .* has 8, this command asks for 9"):
        sweep("--seeds=1", "--config.model.width=9")


@pytest.mark.slow
def test_more_steps_extend_a_sweep_and_fewer_are_refused(sweep, tmp_path):
    sweep("--seeds=1")
    before = {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*.json*")}
    with pytest.raises(UserError, match=r"^config.steps: 5, but .*sweep has 6 already; choose another --workdir$"):
        sweep("--seeds=1", "--config.steps=5")
    assert {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*.json*")} == before
    assert "4 points in 2 tasks, of which 2 are to be trained" in sweep("--seeds=1", "--config.steps=9")
    rows = rows_of(tmp_path / "sweep")
    assert {row["step"] for row in rows if (row["split"], row["state"]) == ("test", "last")} == {9}
    assert {row["step"] for row in rows if row["split"] == "validation"} == {3, 6, 9}


KILLED = """
import os, signal, sys, time
from pathlib import Path
from experiments import command, sweep
from wgan_jax.training import members

class Display(members.Display):
    def show(self, step, *arguments):
        if step == 5:
            while not list(Path(sys.argv[2].partition("=")[2]).glob("tasks/*/checkpoints/*/step_*")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

members.Display = Display
command.main(sweep.sweep)
"""


@pytest.mark.slow
def test_a_killed_sweep_goes_on(sweep, ablation, tmp_path, root):
    """kill -9 in the middle of a task; the results are those of a sweep that was left alone."""
    more = ["--config.devices=2", "--config.eval_every=5", "--seeds=1"]
    command = [sys.executable, "-c", KILLED, f"--config={ablation}", f"--workdir={tmp_path / 'sweep'}", *TINY, *more]
    assert subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
    assert not list((tmp_path / "sweep").glob("tasks/*/summary.json"))
    assert "4 points in 2 tasks, of which 2 are to be trained" in sweep(*more)
    killed = rows_of(tmp_path / "sweep")
    (tmp_path / "sweep").rename(tmp_path / "killed")
    sweep(*more)
    kept = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in (killed, rows_of(tmp_path / "sweep"))
    ]
    assert kept[0] == kept[1]
