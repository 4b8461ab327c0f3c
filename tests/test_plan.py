"""Sweeps as data: what an ablation file describes, which points are one program, and the mistakes of its author."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from wgan_jax.config import flatten
from wgan_jax.errors import UserError
from wgan_jax.plan import load_sweep, plan, program_of, resolve, swept_keys

FILE = """
from configs import wgan_gp

def get_config(preset="ring8"):
    return wgan_gp.get_config(preset)

def get_sweep(preset="ring8"):
    return {points}
"""


@pytest.fixture
def ablation(tmp_path):
    def write(points, more=""):
        path = tmp_path / "ablation.py"
        path.write_text(FILE.format(points=points) + more)
        return str(path)

    return write


def test_points_are_the_base_with_overrides(ablation):
    sweep = load_sweep(
        ablation('[{"penalty.weight": w, "seed": s} for w in (1, 10.0) for s in range(2)]'), ["--config.steps=50"]
    )
    assert [(p.config.penalty.weight, p.config.seed) for p in sweep.points] == [(1, 0), (1, 1), (10, 0), (10, 1)]
    assert {p.config.steps for p in sweep.points} == {50}
    assert type(sweep.points[0].config.penalty.weight) is float
    assert len({p.id for p in sweep.points}) == 4
    assert swept_keys(sweep.points) == ["penalty.weight"]
    assert sweep.base.penalty.weight == 0.1


def test_a_preset_reaches_both_functions(ablation):
    path = ablation('[{"model.width": 32 if preset == "digits" else 64}]')
    assert load_sweep(f"{path}:digits").points[0].config.model.width == 32
    assert load_sweep(f"{path}:digits").base.data.name == "digits"
    assert load_sweep(path).points[0].config.model.width == 64


def test_an_id_follows_from_the_overrides_alone(ablation):
    once = load_sweep(ablation('[{"clip": 0.1, "penalty.name": "none", "seed": 1}]')).points[0]
    again = load_sweep(ablation('[{"seed": 1, "penalty.name": "none", "clip": 0.1}]'), ["--config.steps=7"]).points[0]
    other = load_sweep(ablation('[{"clip": 0.2, "penalty.name": "none", "seed": 1}]')).points[0]
    assert once.id == again.id != other.id


def test_seeds_take_the_place_of_the_points_own(ablation):
    path = ablation('[{"n_critic": n, "seed": s} for n in (1, 2) for s in (100, 101)]')
    points = load_sweep(path, seeds=3).points
    assert [(p.config.n_critic, p.config.seed) for p in points] == [(n, s) for n in (1, 2) for s in range(3)]


def test_a_path_of_a_point_is_one_from_any_directory(ablation, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    points = load_sweep(ablation('[{"data.data_dir": "~/x"}, {"data.data_dir": "y"}]'), ["--config.data.name=tfds"]).points
    wanted = [f"{tmp_path}/x", str(Path("y").absolute())]
    assert [point.overrides["data.data_dir"] for point in points] == wanted
    assert [point.config.data.data_dir for point in points] == wanted


def test_a_method_is_swept_over_seeds(root):
    points = load_sweep(f"{root}/configs/gan.py:ring8", seeds=3).points
    assert [p.config.seed for p in points] == [0, 1, 2]
    with pytest.raises(UserError, match="--seeds=N"):
        load_sweep(f"{root}/configs/gan.py:ring8")


def test_a_next_stage_sees_the_rows(ablation):
    more = """
def get_next(preset="ring8", *, rows):
    return [{"n_critic": len(rows), "seed": 7}] if rows else []
"""
    sweep = load_sweep(ablation('[{"n_critic": 1}]', more))
    assert sweep.further([]) == []
    assert [p.config.n_critic for p in sweep.further([{}, {}])] == [2]
    assert load_sweep(ablation('[{"n_critic": 1}]')).further([{}]) == []


@pytest.mark.parametrize(
    ("points", "overrides", "lines"),
    [
        ('[{"penalty.wieght": 1.0}]', [], ["config.penalty.wieght: no such key; did you mean config.penalty.weight?"]),
        (
            '[{"n_critic": 2}, {"n_critic": 0}]',
            [],
            ["config.n_critic: 0 with objective=adversarial", "(point 1 of the sweep: n_critic=0)"],
        ),
        ('[{"n_critic": "two"}]', [], ["config.n_critic: 'two' is not"]),
        ('[{"clip": 0.1}]', [], ["config.clip and config.penalty.name"]),
        ('[{"clip": -1.0, "seed": s} for s in range(9)]', [], ["config.clip: -1.0 is not"]),
        ('[{"seed": 1}, {"seed": 1}]', [], ["two points of the sweep are the same: seed=1"]),
        ('[{"steps": 5}]', ["--config.steps=6"], ["config.steps: is swept by"]),
        ('[{"steps": 5}]', ["--config.stepz=6"], ["config.stepz: no such key"]),
        ("[]", [], ["gives no point"]),
        ('{"steps": [5]}', [], ["no list of dicts"]),
        ("[5]", [], ["no list of dicts"]),
        ('[{"steps": undefined}]', [], ["line 8: NameError", "undefined"]),
        ('[{"steps": 1 / 0}]', [], ["line 8: ZeroDivisionError"]),
    ],
)
def test_mistakes_are_named_in_lines(ablation, points, overrides, lines):
    with pytest.raises(UserError) as caught:
        load_sweep(ablation(points), overrides)
    text = str(caught.value)
    assert all(line in text for line in lines), text
    assert len(caught.value.lines) <= 2, "a mistake that many points share is said once"


@pytest.mark.parametrize("source", ["def get_sweep(): return []", "get_config = (", "raise ValueError('no')"])
def test_a_file_that_is_no_config(tmp_path, source):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(UserError):
        load_sweep(str(path), seeds=1)


def test_points_that_are_one_program(make_config):
    base = make_config("wgan.py:ring8")
    numbers = [{"critic.learning_rate": 1e-3}, {"clip": 0.3}, {"seed": 5}, {"decay_steps": 0}, {"ema_decay": 0.5}]
    others = [{"n_critic": 2}, {"model.width": 32}, {"batch_size": 32}, {"steps": 10}, {"critic.optimizer": "adam"}]
    same = {program_of(point.config) for point in resolve(base, numbers)}
    assert same == {program_of(base)}
    assert len({program_of(point.config) for point in resolve(base, others)} | same) == 1 + len(others)


@pytest.mark.parametrize(
    ("base", "point", "decay"),
    [
        ({}, {"steps": 10}, 10),
        ({"steps": 40}, {"n_critic": 2}, 40),
        ({}, {"steps": 10, "decay_steps": 4}, 4),
        ({"decay_steps": 5}, {"steps": 10}, 5),
        ({"decay_steps": 0}, {"steps": 10}, 0),
    ],
)
def test_a_points_learning_rates_fall_to_its_own_end(make_config, base, point, decay):
    config = make_config("wgan.py:ring8", base)
    stored = ConfigDict(json.loads(json.dumps(config.to_dict())))  # as a task reads it
    points = [resolve(config, [point])[0] for config in (config, stored)]
    assert [p.config.decay_steps for p in points] == [decay, decay]
    assert points[0].overrides == {"seed": 0, **point}


def test_a_clipped_program_is_another_one(make_config):
    base = make_config("wgan_gp.py:ring8")
    clipped = resolve(base, [{"clip": 0.1, "clip_with_penalty": True}, {"clip_with_penalty": True}])
    assert len({program_of(point.config) for point in clipped}) == 2


def test_tasks_hold_each_point_once(make_config):
    points = resolve(make_config(), [{"n_critic": n, "seed": s} for s in range(5) for n in (1, 2)])
    tasks = plan(points, 3)
    assert [len(task.points) for task in tasks] == [3, 2, 3, 2]
    assert sorted(p.id for task in tasks for p in task.points) == sorted(p.id for p in points)
    assert all(len({program_of(p.config) for p in task.points}) == 1 for task in tasks)
    assert plan(points, 3) == tasks


def test_what_was_begun_stays_in_its_tasks(make_config):
    points = resolve(make_config(), [{"seed": s} for s in range(6)])
    begun = plan(points[1:4], 2)
    tasks = plan(points, 64, begun)
    assert tasks[:2] == begun
    assert [[p.config.seed for p in task.points] for task in tasks] == [[1, 2], [3], [0, 4, 5]]


def test_a_sweep_is_planned_without_jax(root):
    code = (
        "import sys; from wgan_jax.plan import load_sweep, plan;"
        "tasks = plan(load_sweep('configs/ablations/penalty_weight.py').points, 64);"
        "assert len(tasks) == 6, tasks; assert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_point_resolves_to_all_keys(make_config):
    base = make_config()
    point = resolve(base, [{"seed": 3}])[0]
    assert flatten(point.config) == {**flatten(base), "seed": 3}
