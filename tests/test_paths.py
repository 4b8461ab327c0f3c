"""Run directories as people name them, through every launcher, from wherever they stand."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import command, distance, evaluate, run, sample, sweep, tags
from wgan_jax import paths
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.places import check_data
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.workdir import open_workdir

ROOT = Path(__file__).parent.parent
TINY = (
    *(f"--config={ROOT}/configs/wgan_gp.py:ring8", "--config.batch_size=8", "--config.model.width=8", "--config.model.depth=1"),
    *("--config.steps=2", "--config.eval_every=2", "--config.eval.samples=30", "--config.eval.feature_samples=30"),
    *("--config.eval.draws=1", "--config.devices=1", "--config.cache_dir="),
)
NAMES = ("runs/a", "~/a", "my [1] run", "../straße 走#%20'")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test stands in an empty folder, and has its own home."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_trained_sampled_evaluated_exported_and_resumed_wherever_it_lies(name, tmp_path, monkeypatch):
    run.run([*TINY, f"--workdir={name}"])
    folder = Path(name).expanduser().resolve()
    assert json.loads((folder / "summary.json").read_text())["status"] == "done"
    assert list(tmp_path.rglob("~*")) == []
    sample.sample([f"--workdir={name}", "--num=3", "--out=samples.npz", "--export=generator"])
    with np.load("samples.npz") as stored:
        assert stored["samples"].shape == (3, 2)
    assert {"generator", "generator.json"} <= {path.name for path in Path().iterdir()}
    evaluate.evaluate([f"--workdir={name}", "--repeats=1", "--num=30"])
    assert (folder / "evaluation.json").exists()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    run.run([*TINY, f"--workdir={os.path.relpath(folder)}", "--config.steps=3"])
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads((folder / "summary.json").read_text())["step"] == 3
    assert [json.loads(line)["step"] for line in lines] == [2]


def test_the_default_run_directory_lies_in_the_current_one(tmp_path):
    run.run(list(TINY))
    assert (tmp_path / "here/runs/wgan_gp-ring8-seed0/summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sweeps/a", "~/a [2]"])
def test_a_sweep_goes_on_wherever_it_lies(name, capsys):
    command = [*TINY, "--seeds=2", f"--workdir={name}"]
    sweep.sweep(command)
    capsys.readouterr()
    sweep.sweep(command)
    assert "of which 0 are to be trained" in capsys.readouterr().out
    rows = Path(name, "results.jsonl").expanduser().read_text().splitlines()
    assert {json.loads(row)["seed"] for row in rows} == {0, 1}


def test_other_launchers_expand_their_paths(tmp_path, capsys):
    Path("configs").symlink_to(ROOT / "configs")  # where --method looks
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / "home" / f"{name}.npy", rng.normal(size=(40, 1)))
    tiny = ["--seeds=1", "--config.steps=2", "--config.batch_size=4", "--config.model.width=4", "--config.cache_dir="]
    distance.distance(["--real=~/a.npy", "--generated=~/b.npy", "--out=~/distance.json", *tiny])
    assert (tmp_path / "home/distance.json").exists()
    with pytest.raises(UserError, match=f"^--images: {tmp_path}/home/none: no such folder") as caught:
        tags.tags(["--tags=~/tags.csv", "--images=~/none"])
    assert caught.value.lines[1:] == (f"--tags: {tmp_path}/home/tags.csv: no such file",)
    capsys.readouterr()


@pytest.mark.parametrize(("name", "why"), [("a\\b", "has a backslash"), (os.fsdecode(b"caf\xe9"), "is not UTF-8")])
def test_a_run_directory_that_checkpoints_cannot_be_written_to_is_refused_at_once(name, why, tmp_path):
    with pytest.raises(UserError, match=f"^--workdir: .* {why}.*; choose another"):
        run.run([*TINY, f"--workdir={name}"])
    assert list((tmp_path / "here").iterdir()) == []


def test_path_keys_of_a_config_are_absolute(tmp_path):
    config = load(f"{ROOT}/configs/wgan_gp.py:folder", ["--config.data.path=images", "--config.data.cache_dir=~/cache/"])
    assert config.data.path == str(tmp_path / "here/images")
    assert config.data.cache_dir == f"{tmp_path}/home/cache/"
    assert config.data.data_dir == ""


def test_without_a_home_a_path_is_refused_and_a_cache_is_done_without(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as of a user whom the system does not know
    with pytest.raises(UserError, match=r"^config.data.path: ~/x: no home directory is known here"):
        load(f"{ROOT}/configs/wgan_gp.py:folder", ["--config.data.path=~/x"])
    with pytest.raises(UserError, match=r"^--workdir: ~/x: no home directory is known here"):
        run.run([*TINY, "--workdir=~/x"])
    config = load(f"{ROOT}/configs/wgan_gp.py:ring8", ["--config.cache_dir=~/cache"])
    check_data(config)  # which lies nowhere
    with pytest.raises(UserError, match=r"^~/tensorflow_datasets: no home directory is known here"):
        check_data(load(f"{ROOT}/configs/wgan_gp.py:mnist"))
    assert config.cache_dir == "~/cache"
    assert paths.cache_folder(config.cache_dir, "it is made anew") is None
    assert caplog.messages == [
        "~/cache: ~/cache: no home directory is known here (HOME is not set); write the path in full; it is made anew"
    ]


def test_a_cache_that_is_a_file_is_done_without(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert paths.cache_folder(str(tmp_path / "file"), "it is made anew") is None
    assert caplog.messages == [f"{tmp_path}/file: file exists; it is made anew"]


# When one array is not found, Orbax gives the others up, whose reads may end after its event loop: of that Python warns.
@pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_whose_index_lacks_an_array_is_not_called_saved(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"a": np.zeros(3), "b": np.ones(2)}, {})
    checkpoints.wait()
    monkeypatch.setattr("wgan_jax.training.checkpoint.glob.escape", lambda text: text)  # what Orbax loses then: see its writer
    (tmp_path / "x [1]").mkdir()
    lost = Checkpoints(tmp_path / "x [1]" / "checkpoints")
    lost.save(1, {"a": np.zeros(3), "b": np.ones(2)}, {})
    with pytest.raises(UserError, match="could not be written: what was written cannot be read back"):
        lost.wait()
    assert lost.steps() == []


def test_a_checkpoint_is_read_in_a_directory_of_another_name(tmp_path):
    tree = {"a": np.arange(3.0), "b": {"c": np.ones((2, 2), np.float32)}}
    for before, after in (("plain", "x [1]"), ("y [2]", "other")):
        checkpoints = Checkpoints(tmp_path / before)
        checkpoints.save(1, tree, {})
        checkpoints.wait()
        (tmp_path / before).rename(tmp_path / after)
        jax.tree.map(np.testing.assert_array_equal, Checkpoints(tmp_path / after).restore(1, tree), tree)


def test_a_workdir_is_locked_under_its_absolute_name(tmp_path):
    config = load(f"{ROOT}/configs/wgan_gp.py:ring8")
    with (
        open_workdir(tmp_path / "run", config),
        pytest.raises(UserError, match="in use by another process"),
        open_workdir(Path(command.path("../run")), config),
    ):
        pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "here" / "file"
    paths.write_whole(file, b"first")
    paths.write_whole(file, b"second")
    assert (file.read_bytes(), file.stat().st_mode) == (b"second", (tmp_path / "here").stat().st_mode & 0o666 | 0o100000)

    def full(number):
        raise OSError("No space left on device")

    monkeypatch.setattr(paths.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        paths.write_whole(file, b"third")
    assert (file.read_bytes(), list(file.parent.iterdir())) == (b"second", [file])


def test_those_who_write_the_same_file_do_not_disturb_each_other(tmp_path):
    file = tmp_path / "file"
    with paths.replacing(file) as slow:
        slow.write(b"slow")
        paths.write_whole(file, b"quick")
        assert file.read_bytes() == b"quick"
    assert (file.read_bytes(), list(tmp_path.glob(".*"))) == (b"slow", [])
