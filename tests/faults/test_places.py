"""Data never chooses where programs are loaded from, nor what else is read, written or fetched; nor which file is replaced."""

import json

import numpy as np
import pytest

from experiments.launchers.task import write_task
from experiments.restore import find_model
from experiments.sweep import prepare
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.keys import keys_of
from wgan_jax.plan import load_sweep, plan, resolve, task_of
from wgan_jax.training.workdir import open_workdir, read_config

CACHES, PLACES = keys_of("cache"), ("data.path", "eval.weights")


@pytest.fixture
def foreign(tmp_path, root, make_config):
    """A directory, of a run or a sweep, whose config names a place of its own for each key that is one."""

    def of(kind):
        folder = tmp_path / kind
        config = make_config("wgan_gp.py:folder")
        for key in (*CACHES, *PLACES):
            config.update_from_flattened_dict({key: f"{tmp_path}/of-{key}"})
        with open_workdir(folder, config, kind):
            if kind == "run":
                (folder / "checkpoints").mkdir()
            else:
                write_task(folder, *plan(resolve(config, [{"seed": 0}]), 1))
        return folder

    return of


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_no_place_is_taken_from_a_directory(foreign, kind, monkeypatch, tmp_path):
    folder = foreign(kind)
    point = next(iter(resolve(read_config(folder), [{"seed": 0}]))).id if kind == "sweep" else None
    model = find_model(folder, point)
    mine = load("configs/wgan_gp.py:folder")
    for key in (*CACHES, *PLACES):
        group, _, leaf = key.rpartition(".")
        assert (model.config[group] if group else model.config)[leaf] == (mine[group] if group else mine)[leaf]
    given = find_model(folder, point, [f"--config.cache_dir={tmp_path}/mine", f"--config.data.path={tmp_path}/images"])
    assert (given.config.cache_dir, given.config.data.path) == (f"{tmp_path}/mine", f"{tmp_path}/images")


@pytest.mark.parametrize("name", ["sample", "evaluate"])
def test_a_command_that_needs_a_place_says_what_the_directory_has(command, foreign, tmp_path, name):
    arguments = ["--nearest=3"] if name == "sample" else []
    code, _, err = command(name, f"--workdir={foreign('run')}", *arguments)
    said = "error: config.data.path: empty: no such folder; set --config.data.path=DIR; its own config has "
    said += f"--config.data.path={tmp_path}/of-data.path: give that if it is yours\n"
    assert (code, err) == (2, said)


@pytest.mark.parametrize("key", CACHES)
def test_no_point_of_a_sweep_sets_a_cache(make_config, key):
    with pytest.raises(UserError, match=f"^config.{key}: the place of a cache is the command's to say"):
        resolve(make_config(), [{key: "/tmp/x"}])


def test_a_task_of_the_directory_does_not_bring_points_that_read_elsewhere(root, tmp_path):
    sweep = load_sweep(f"{root}/configs/wgan_gp.py:folder", [], 1)
    with open_workdir(tmp_path, sweep.base, "sweep"):
        write_task(tmp_path, task_of(resolve(sweep.base, [{"seed": 0}, {"seed": 1, "data.path": "/etc"}])))
        with pytest.raises(UserError, match=r"^config.data.path: a task in .* sets it for points that this command has not"):
            prepare(tmp_path, sweep.points, 9)


def test_out_writes_through_a_link_and_refuses_one_that_leads_nowhere(command, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(24, 2)))
    sets = [f"--real={tmp_path}/a.npy", f"--generated={tmp_path}/b.npy", "--seeds=1", "--config.steps=1", "--config.cache_dir="]
    (tmp_path / "link.json").symlink_to("target.json")
    code, _, err = command("distance", *sets, f"--out={tmp_path}/link.json")
    assert (code, err) == (2, f"error: --out: {tmp_path}/link.json is a link that leads nowhere\n")
    (tmp_path / "target.json").touch()
    assert command("distance", *sets, f"--out={tmp_path}/link.json")[0] == 0
    assert (tmp_path / "link.json").is_symlink()
    assert len(json.loads((tmp_path / "target.json").read_text())["seeds"]) == 1
