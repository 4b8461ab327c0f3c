"""What a directory holds decides what may be done in it; extending a run, and a run that is done already."""

import json
import time

import pytest

from experiments import run as command
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.records import file_digest, sealed, unsealed
from wgan_jax.training import loop
from wgan_jax.training.loop import train
from wgan_jax.training.workdir import identity, is_finished, kind_of, open_workdir, trained_steps, write_json


@pytest.fixture
def begun(tmp_path, make_config):
    """Returns a directory of a kind, begun with a config of ring8, with a checkpoint of a run's step 40."""

    def begin(kind="run", **changes):
        folder = tmp_path / kind
        with open_workdir(folder, make_config("wgan_gp.py:ring8", changes), kind):
            (folder / {"run": "checkpoints/step_00000040", "sweep": "tasks/0123"}[kind]).mkdir(parents=True)
            (folder / "metrics.jsonl").write_text('{"step": 40}\n')
        return folder

    return begin


def stored(folder):
    return json.loads((folder / "config.json").read_text())


def test_a_folder_of_tasks_alone_is_no_sweep(tmp_path):
    (tmp_path / "tasks").mkdir()  # as somebody may have one at home
    assert kind_of(tmp_path) is None


@pytest.mark.parametrize(("held", "other"), [("run", "sweep"), ("sweep", "run")])
def test_a_directory_is_of_one_kind(begun, make_config, held, other):
    folder = begun(held)
    assert kind_of(folder) == held
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with (
        pytest.raises(UserError, match=rf"holds a {held}, and this is a {other}; choose another$"),
        open_workdir(folder, make_config("wgan_gp.py:ring8"), other),
    ):
        pytest.fail("it was opened")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with open_workdir(folder, make_config("wgan_gp.py:ring8"), held):
        pass


def test_fewer_steps_than_are_trained_are_refused_and_nothing_is_lost(begun, make_config):
    folder = begun(steps=60)
    assert trained_steps(folder / "checkpoints") == 40
    with (
        pytest.raises(UserError, match=r"^config.steps: 39, but .*run has 40 already; choose another --workdir$"),
        open_workdir(folder, make_config("wgan_gp.py:ring8", {"steps": 39})),
    ):
        pytest.fail("it was opened")
    assert stored(folder)["steps"] == 60
    with open_workdir(folder, make_config("wgan_gp.py:ring8", {"steps": 40})):
        pass


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"steps": 60}, {"steps": 60}, None),
        ({"steps": 60}, {"steps": 90}, (60, 90)),
        ({"steps": 60}, {"steps": 90, "decay_steps": 60}, None),
        ({"steps": 60, "decay_steps": 20}, {"steps": 90, "decay_steps": 20}, None),
        ({"steps": 60, "decay_steps": 20}, {"steps": 90, "decay_steps": 120}, (20, 120)),
        ({"steps": 60, "decay_steps": 0}, {"steps": 90, "decay_steps": 0}, None),
    ],
)
def test_more_steps_may_move_the_horizon_which_is_said(begun, make_config, caplog, before, after, told):
    folder = begun(**before)
    with open_workdir(folder, make_config("wgan_gp.py:ring8", after)):
        pass
    line = "config.decay_steps: {0} so far, {1} from here on; --config.decay_steps={0} keeps the learning rates' horizon"
    assert caplog.messages == ([line.format(*told)] if told else [])
    assert stored(folder)["decay_steps"] == after.get("decay_steps", after["steps"])


def test_the_horizon_of_the_same_steps_does_not_change(begun, make_config):
    folder = begun(steps=60)
    with (
        pytest.raises(UserError, match=r"config.decay_steps: the run in .* has 60, this command asks for 30"),
        open_workdir(folder, make_config("wgan_gp.py:ring8", {"steps": 60, "decay_steps": 30})),
    ):
        pytest.fail("it was opened")


@pytest.mark.parametrize(
    ("status", "step", "steps", "finished"),
    [
        ("done", 40, 40, True),
        ("done", 40, 60, False),
        ("interrupted", 40, 40, False),
        ("done", 30, 30, False),
        (None, 0, 40, False),
    ],
)
def test_what_is_finished(begun, make_config, status, step, steps, finished):
    folder, config = begun(steps=40), make_config("wgan_gp.py:ring8", {"steps": steps})
    files = {"metrics.jsonl": file_digest(folder / "metrics.jsonl")}
    if status:
        write_json(folder / "summary.json", sealed({"status": status, "step": step, "run": identity(config), "files": files}))
    assert is_finished(folder, config) == finished


def test_a_finished_run_is_left_as_it_is(begun, make_config, root, capsys):
    folder = begun(steps=40)
    summary = {"status": "done", "step": 40, "critic_step": 200, "updates_per_second": 7.5}
    summary = sealed(summary | {"run": identity(make_config("wgan_gp.py:ring8"))})
    write_json(folder / "summary.json", summary)
    command.run([f"--config={root}/configs/wgan_gp.py:ring8", f"--workdir={folder}", "--config.steps=40"])
    assert capsys.readouterr().out.startswith("already done: 40 of 40 steps; ")
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert {path.name for path in folder.iterdir()} == {".lock", "config.json", "checkpoints", "metrics.jsonl", "summary.json"}


def test_data_that_is_not_there_leaves_no_directory(root, tmp_path):
    flags = [f"--config={root}/configs/wgan_gp.py:folder", f"--config.data.path={tmp_path}/no", f"--workdir={tmp_path}/run"]
    for more in ([], ["--distributed"]):
        with pytest.raises(UserError, match=f"^config.data.path: {tmp_path}/no: no such folder"):
            command.run([*flags, *more])
    assert not (tmp_path / "run").exists()


# Runs, with learning rates that fall to 0 within them


@pytest.fixture
def trained(tmp_path):
    """Returns a run of three updates or so in a directory, as often as it is called."""
    sizes = {"batch_size": 8, "n_critic": 2, "model.width": 8, "model.depth": 1, "devices": 1, "cache_dir": "", "log_every": 1}
    sizes |= {"eval.samples": 30, "eval.feature_samples": 30, "eval.draws": 1, "eval.metrics": "wasserstein", "eval_every": 100}

    def run(name, **changes):
        values = {**sizes, **changes}
        config = load("configs/wgan_gp.py:ring8", [f"--config.{key}={value}" for key, value in values.items()])
        with open_workdir(tmp_path / name, config):
            return train(config, tmp_path / name, time.perf_counter())

    return run


def lines_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.fixture(autouse=True)
def _at_the_root(root, monkeypatch):
    monkeypatch.chdir(root)


@pytest.mark.slow
def test_a_resumed_run_whose_rates_fall_is_the_uninterrupted_one(trained, tmp_path):
    trained("parts", steps=2, decay_steps=4)
    trained("parts", steps=4, decay_steps=4)
    trained("whole", steps=4)
    assert lines_of(tmp_path / "parts") == lines_of(tmp_path / "whole")
    assert stored(tmp_path / "parts") == stored(tmp_path / "whole")


def test_a_finished_run_goes_on_learning_when_it_is_extended(trained, tmp_path, caplog):
    trained("run", steps=2)
    ended = lines_of(tmp_path / "run")[-1]
    trained("run", steps=4)
    (line,) = caplog.messages
    assert line.startswith("config.decay_steps: 2 so far, 4 from here on; ")
    after = lines_of(tmp_path / "run")
    assert [line["step"] for line in after] == [1, 2, 3, 4]
    assert after[1] == ended
    assert after[2]["generator_parameter_norm"] != ended["generator_parameter_norm"]


@pytest.mark.slow
def test_a_run_that_lacks_its_end_alone_is_not_trained_again(trained, tmp_path, monkeypatch):
    before = trained("run", steps=2)
    (tmp_path / "run" / "summary.json").unlink()
    path = tmp_path / "run" / "checkpoints" / "step_00000002" / "manifest.json"
    manifest = unsealed(json.loads(path.read_text()))
    manifest["info"]["seconds"] = 0.5
    write_json(path, sealed(manifest))
    monkeypatch.setattr(loop, "plan_feeds", lambda *arguments: pytest.fail("it trains"))
    after = trained("run", steps=2)
    assert (after["status"], after["step"], after["critic_step"]) == ("done", 2, 4)
    assert after["final"] == before["final"]
    assert after["updates_per_second"] == 4
