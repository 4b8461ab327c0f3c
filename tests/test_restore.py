"""A sweep's models, each by its point: what is restored is what the sweep's own rows are of."""

import json

import numpy as np
import pytest

from experiments import evaluate, restore, sample, sweep
from experiments.launchers.task import read_task
from wgan_jax import runtime
from wgan_jax.errors import UserError
from wgan_jax.training import members

SMALL = {
    "batch_size": 8,
    "model.width": 8,
    "model.depth": 1,
    "steps": 6,
    "eval_every": 3,
    "checkpoint_every": 3,
    "eval.samples": 30,
    "eval.feature_samples": 30,
    "eval.draws": 1,
    "cache_dir": "",
    "devices": 1,
}
FILE = """
from configs import wgan_gp

def get_config(preset="ring8"):
    return wgan_gp.get_config(preset)

def get_sweep(preset="ring8"):
    rates = [{"critic.learning_rate": rate, "generator.learning_rate": rate} for rate in (1e-3, 0.3, 1e30)]
    return [{**rate, "seed": seed} for rate in rates for seed in (0, 1)]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of six points in one task, trained in chunks of four; the last two become non-finite."""
    folder = tmp_path_factory.mktemp("restore")
    (folder / "ablation.py").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members, "members_that_fit", lambda config, dataset: 4)
        patch.setattr(runtime, "configure_jax", lambda config: None)  # the tests' own settings stay
        words = [f"--config.{key}={value}" for key, value in SMALL.items()]
        sweep.sweep([f"--config={folder / 'ablation.py'}", f"--workdir={folder / 'sweep'}", *words])
    return folder / "sweep"


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    monkeypatch.setattr(runtime, "configure_jax", lambda config: None)


def rows_of(swept, **wanted):
    rows = [json.loads(line) for line in (swept / "results.jsonl").read_text().splitlines()]
    return [row for row in rows if wanted.items() <= row.items()]


@pytest.mark.slow
@pytest.mark.parametrize(("state", "step"), [("last", "latest"), ("best", "best")])
def test_an_evaluation_of_a_point_is_that_of_the_sweep(swept, state, step):
    rows = rows_of(swept, split="test", state=state, status="ok")
    assert len({row["wasserstein_empirical"] for row in rows}) == 4
    row = rows[-1] if state == "last" else next(row for row in rows if row["step"] == 3)  # best is not merely the last
    words = [f"--point={row['point']}", f"--step={step}", "--repeats=1", "--num=30", "--metrics=wasserstein,precision_recall"]
    evaluate.evaluate([f"--workdir={swept}", *words])
    entries = json.loads((swept / "points" / row["point"] / "evaluation.json").read_text())["evaluations"]
    (entry,) = (entry for entry in entries if entry["step"] == row["step"])
    assert entry["critic_step"] == row["critic_step"]
    values = {name: value["mean"] for name, value in entry["values"].items()}
    assert {"wasserstein_excess", "precision"} <= values.keys()
    assert values == pytest.approx({name: row[name] for name in values}, rel=1e-5)
    assert not (swept / "evaluation.json").exists()


def test_every_member_has_its_place_in_its_chunk(swept):
    rows = rows_of(swept, split="test", state="last")
    found = [restore.find_model(swept, row["point"]) for row in rows]
    assert [model.member for model in found] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    states = [restore.restore_run(model, "latest").state for model in found]
    first = [state.ema["params"]["Dense_0"]["kernel"] for state in states]
    assert len({kernel.tobytes() for kernel in first}) == len(states)
    assert [int(state.step) for state in states] == [6] * len(states)


def test_samples_of_a_point_lie_with_it_and_its_beginning_names_it(swept, capsys):
    point = rows_of(swept)[0]["point"]
    sample.sample([f"--workdir={swept}", f"--point={point[:8]}", "--num=5"])
    assert str(swept / "points" / point / "samples" / "step_00000006_seed_0.png") in capsys.readouterr().out
    draws = []
    for words in ([], ["--raw"], ["--step=best"]):
        out = swept.parent / "samples.npz"
        sample.sample([f"--workdir={swept}", f"--point={point}", "--num=5", f"--out={out}", *words])
        with np.load(out) as arrays:
            draws.append(arrays["samples"])
    assert [draw.shape for draw in draws] == [(5, 2)] * 3
    assert not np.array_equal(draws[0], draws[1])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], r"^--workdir: .*sweep holds a sweep of 6 points; choose one with --point=ID \(.*results.csv and "),
        (["--point=zz"], r"^--point: 'zz' in .*sweep: none of its 6 points begins so; .*results.csv and"),
        (["--point="], r"holds a sweep of 6 points"),
        (["--point={0}", "--step=5"], r"^--step: no checkpoint '5' in .*; there are: latest, .*\[6\]"),
        (["--point={0}", "--step=best", "--raw"], r"^--raw: of the best state of a sweep's point only the average"),
        (["--point={4}"], r"^--point: {4} became non-finite at step 1$"),
        (["--point={4}", "--step=best"], r"^--step: no best of point {4}, which has no finite evaluation by step "),
    ],
)
def test_a_wrong_point_is_one_line(swept, words, line):
    ids = list(dict.fromkeys(row["point"] for row in rows_of(swept)))
    assert len(ids) == 6
    with pytest.raises(UserError, match=line.replace("{4}", ids[4])) as caught:
        sample.sample([f"--workdir={swept}", *(word.format(*ids) for word in words)])
    assert len(caught.value.lines) == 1


def test_an_ambiguous_beginning_and_a_run(swept, tmp_path, monkeypatch):
    def same_beginning(workdir, task_id):
        task = read_task(workdir, task_id)
        return task._replace(points=[point._replace(id=f"ab{i}") for i, point in enumerate(task.points)])

    monkeypatch.setattr(restore, "read_task", same_beginning)
    with pytest.raises(UserError, match=r"^--point: 'ab' in .*: 6 points begin so: ab0, ab1, ab2, ab3, ab4; "):
        restore.find_model(swept, "ab")
    assert restore.find_model(swept, "ab3").member == (3, 4)
    (tmp_path / "config.json").write_text((swept / "config.json").read_text())
    with pytest.raises(UserError, match=r"^--point: .* holds a run, not a sweep$"):
        restore.find_model(tmp_path, "ab")
    with pytest.raises(UserError, match=rf"holds no run \(no config.json\); it is of a sweep, .*--workdir={swept} --point"):
        restore.find_model(swept / "tasks", None)
