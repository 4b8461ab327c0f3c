"""A checkpoint that is not what it was, or not what its name says, is never taken for one."""

import json
import logging
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

from wgan_jax.errors import UserError
from wgan_jax.records import sealed
from wgan_jax.training import checkpoint as checkpoint_module
from wgan_jax.training.checkpoint import Checkpoints, DamagedError
from wgan_jax.training.workdir import checkpoint_steps, identity, trained_steps

FLIPS = 200
RNG = np.random.default_rng(0)
TREE = {"a": RNG.normal(size=200).astype(np.float32), "b": {"c": np.int32(0), "d": RNG.normal(size=(3, 5))}}
SHAPES = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), TREE)
RECORD = b'{"step": 1}\n'


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Checkpoints of steps 1, 2, 3 of one run, each with its step in c; 2 is the best."""
    folder = tmp_path_factory.mktemp("vouch") / "checkpoints"
    checkpoints = Checkpoints(folder, keep=3, run="this")
    for step in (1, 2, 3):
        tree = TREE | {"b": TREE["b"] | {"c": np.int32(step)}}
        checkpoints.save(step, tree, {"score": 3 / step if step < 3 else 9.0, "seconds": 1.5}, {"metrics.jsonl": RECORD * step})
    checkpoints.wait()
    return folder


@pytest.fixture
def saved(written, tmp_path):
    """A copy of `written`."""
    shutil.copytree(written, tmp_path / "checkpoints")
    return Checkpoints(tmp_path / "checkpoints", keep=3, run="this")


def folder_of(saved, step):
    return saved.folder / f"step_{step:08d}"


def rewrite(saved, step, change, *, seal=True):
    """Changes what a manifest says, under a seal of its own or as a version without seals wrote it."""
    path = folder_of(saved, step) / "manifest.json"
    said = {key: value for key, value in json.loads(path.read_text()).items() if key != "seal"}
    change(said)
    path.write_text(json.dumps(sealed(said) if seal else {key: said[key] for key in said if key != "run"}))


def test_no_flipped_bit_is_restored(saved):
    newest, harmless = folder_of(saved, 3), 0
    files = sorted(path for path in newest.rglob("*") if path.is_file() and path.stat().st_size)
    assert {"manifest.json", "metrics.jsonl"} < {path.name for path in files}
    rng, said = np.random.default_rng(1), json.loads((newest / "manifest.json").read_text())
    for index in range(FLIPS):
        path = files[index % len(files)]  # small ones as often as large ones
        whole = path.read_bytes()
        bit, flipped = int(rng.integers(8 * len(whole))), bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if checkpoint_module._damage(newest, "this") is None:
            harmless += 1
            assert path.name == "manifest.json", f"bit {bit} of {path}"
            assert json.loads(flipped) == said  # 1e-05 is 1E-05
        path.write_bytes(whole)
    assert harmless <= 3
    assert saved.restore_newest(SHAPES)[0] == 3


def test_every_bit_of_a_manifest_counts(saved):
    path = folder_of(saved, 3) / "manifest.json"
    whole = path.read_bytes()
    said = json.loads(whole)
    for index in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[index] ^= 1 << index % 7  # so that it stays ASCII
        path.write_bytes(flipped)
        try:
            info = saved.info(3)
        except DamagedError:
            continue
        assert (json.loads(flipped), info) == (said, said["info"])


def test_swapped_checkpoints_are_refused_by_name_and_passed_over(saved, caplog):
    (folder_of(saved, 3)).rename(saved.folder / "third")
    (folder_of(saved, 1)).rename(folder_of(saved, 3))
    (saved.folder / "third").rename(folder_of(saved, 1))
    with pytest.raises(UserError, match=r"step_00000003: holds step 1, whatever its name says$"):
        saved.restore(3, SHAPES)
    with pytest.raises(UserError, match="step_00000001: holds step 3"):
        saved.info(1)
    step, tree = saved.restore_newest(SHAPES)
    assert step == int(tree["b"]["c"]) == 2
    assert "step_00000003: holds step 1, whatever its name says; falling back to the checkpoint before it" in caplog.text


def test_a_copied_checkpoint_is_not_that_of_another_step(saved, caplog):
    shutil.copytree(folder_of(saved, 1), folder_of(saved, 7))
    assert saved.find("latest") == 7
    with pytest.raises(UserError, match="step_00000007: holds step 1"):
        saved.reading("latest", lambda step: saved.restore(step, SHAPES))
    assert saved.best() == 2
    assert saved.restore_newest(SHAPES)[0] == 3
    assert saved.steps() == [1, 2, 3]


def test_a_checkpoint_of_another_run_is_refused(saved, caplog):
    other = Checkpoints(saved.folder, run="other")
    with pytest.raises(UserError, match=r"step_00000003: is the checkpoint of another run, or of another config$"):
        other.restore(3, SHAPES)
    assert other.best() is None
    assert other.restore_newest(SHAPES) is None
    assert caplog.text.count("falling back to the checkpoint before it") == 2
    assert caplog.text.count("falling back to the beginning, as no checkpoint is left") == 1
    assert len(list(saved.folder.glob("damaged_step_*"))) == 3  # nothing is deleted


@pytest.mark.parametrize("key", ["score", "seconds"])
def test_what_a_manifest_says_is_under_its_seal(saved, key, caplog):
    path = folder_of(saved, 2) / "manifest.json"
    said = json.loads(path.read_text())
    said["info"][key] = -1.0
    path.write_text(json.dumps(said))
    with pytest.raises(DamagedError, match=r"step_00000002: its manifest is damaged$"):
        saved.info(2)
    with caplog.at_level(logging.WARNING):
        assert (saved.best(), saved.best(), saved.best_score()) == (1, 1, 3.0)
    assert caplog.text.count("step_00000002: its manifest is damaged; it is left out") == 1


def test_a_key_that_is_misspelt_or_missing_is_one_line(saved):
    rewrite(saved, 3, lambda said: said["info"].update(secnods=said["info"].pop("seconds")))
    assert saved.info(3, "score")["score"] == 9.0
    with pytest.raises(UserError, match=r"step_00000003: its manifest does not say seconds: it is of another version$"):
        saved.info(3, "score", "seconds")
    for part in ("step", "info", "files"):
        rewrite(saved, 3, lambda said, part=part: said.update({part: None}))
        with pytest.raises(DamagedError, match="its manifest is damaged"):
            saved.info(3)
    rewrite(saved, 3, lambda said: said.pop("info"))
    with pytest.raises(DamagedError, match="its manifest is damaged"):
        saved.info(3)


def test_checkpoints_of_earlier_versions_are_read(saved):
    for step in (1, 2, 3):
        rewrite(saved, step, lambda said: None, seal=False)
        (folder_of(saved, step) / "metrics.jsonl").unlink()
        rewrite(saved, step, lambda said: said["files"].pop("metrics.jsonl"), seal=False)
    assert (saved.best(), saved.file(3, "metrics.jsonl")) == (2, None)
    step, tree = saved.restore_newest(SHAPES)
    assert step == int(tree["b"]["c"]) == 3
    folder_of(saved, 3).rename(folder_of(saved, 4))
    with pytest.raises(UserError, match="holds step 3"):
        saved.restore(4, SHAPES)
    rewrite(saved, 2, lambda said: said["info"].update(score="low"), seal=False)
    assert saved.best() == 1


def test_files_beside_the_state_are_checked_with_it(saved):
    assert saved.file(2, "metrics.jsonl") == RECORD * 2
    (folder_of(saved, 2) / "metrics.jsonl").write_bytes(RECORD)
    with pytest.raises(UserError, match=r"metrics.jsonl is damaged: its SHA-256"):
        saved.restore(2, SHAPES)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree | {"a": tree["a"] + np.float32(1e-6) * (np.arange(200) == 17)},
        lambda tree: tree | {"a": tree["a"].astype(np.float64)},
        lambda tree: tree | {"a": tree["a"][:-1]},
        lambda tree: tree | {"one more": tree["a"]},
        lambda tree: {name: leaf for name, leaf in tree.items() if name != "a"},
    ],
    ids=["a bit", "a dtype", "a shape", "one more", "one fewer"],
)
def test_a_checkpoint_whose_arrays_are_not_what_was_to_be_written_is_not_called_saved(saved, monkeypatch, change):
    save = ocp.Checkpointer.save

    def wrong(checkpointer, path, tree, **options):
        save(checkpointer, path, change(tree), **options)

    monkeypatch.setattr(ocp.Checkpointer, "save", wrong)
    saved.save(4, TREE, {})
    with pytest.raises(UserError, match=r"step_00000004: could not be written: what was written cannot be read back; earlier"):
        saved.wait()
    assert saved.steps() == [1, 2, 3]
    assert not list(saved.folder.glob("writing_*"))


def test_a_step_that_is_written_again_is_never_without_a_checkpoint(saved, monkeypatch):
    there, delete = [], checkpoint_module.delete
    monkeypatch.setattr(checkpoint_module, "delete", lambda path: (delete(path), there.append(saved.steps())))
    saved.save(3, TREE | {"b": TREE["b"] | {"c": np.int32(33)}}, {})
    saved.wait()
    assert len(there) > 2
    assert {tuple(steps) for steps in there} == {(1, 2, 3)}
    assert int(saved.restore(3, SHAPES)["b"]["c"]) == 33
    assert not list(saved.folder.glob("deleting*"))


def test_a_checkpoint_that_is_a_link_is_deleted_as_one_and_its_target_stays(saved):
    """As of somebody who moved it to where there is more room."""
    elsewhere = saved.folder.parent / "elsewhere"
    elsewhere.mkdir()
    for step in (1, 3):
        folder_of(saved, step).rename(elsewhere / str(step))
        folder_of(saved, step).symlink_to(elsewhere / str(step))
    saved.discard_after(2)
    for step in (4, 5):
        saved.keep = 1
        saved.save(step, TREE, {"score": -1.0 * step})
        saved.wait()
    assert saved.steps() == [5]
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step_00000005"]
    assert sorted(path.name for path in elsewhere.iterdir()) == ["1", "3"]
    (saved.folder / "damaged_step_00000005").write_text("a file")
    (folder_of(saved, 5) / "manifest.json").write_text("{")
    assert saved.restore_newest(SHAPES) is None
    assert [path.name for path in saved.folder.iterdir()] == ["damaged_step_00000005"]


def test_values_that_are_equal_to_none_are_saved(tmp_path):
    """NaN is not equal to itself, 0 is equal to -0: what is compared are bits."""
    checkpoints, tree = Checkpoints(tmp_path), {"x": np.array([np.nan, -0.0, np.inf])}
    checkpoints.save(1, tree, {})
    checkpoints.wait()
    assert checkpoints.restore(1, tree)["x"].tobytes() == tree["x"].tobytes()


STRANGE = ("step_old", "step_00000200.bak", "step_7", "step_", "step_-0000001", "step_٣", "step_00000009 (copy)")


def test_names_that_are_not_those_of_checkpoints_are_left_out_and_said_once(saved, caplog):
    for name in STRANGE:
        shutil.copytree(folder_of(saved, 1), saved.folder / name)
    (saved.folder / "step_00000099").write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert saved.steps() == checkpoint_steps(saved.folder) == [1, 2, 3]
        assert trained_steps(saved.folder) == 3
        assert (saved.find("latest"), saved.best()) == (3, 2)
        assert saved.restore_newest(SHAPES)[0] == 3
    for name in (*STRANGE, "step_00000099"):
        assert caplog.text.count(f"{saved.folder / name}: is named like a checkpoint and is none; it is left out") == 1
    saved.discard_after(1)
    assert all((saved.folder / name).exists() for name in STRANGE)


def test_an_identity_is_of_what_may_not_change(make_config):
    changes = {"penalty.weight": 1.0, "steps": 50}
    config = make_config("wgan_gp.py:ring8", changes)
    stored = config.to_dict()
    stored["penalty"]["weight"] = 1  # as a file may have it
    assert identity(ConfigDict(stored)) == identity(config)
    for key, value in {"steps": 90, "decay_steps": 7, "keep": 3, "cache_dir": "/x", "devices": 2}.items():
        assert identity(make_config("wgan_gp.py:ring8", {**changes, key: value})) == identity(config), key
    for key, value in {"seed": 1, "batch_size": 8, "loss": "hinge", "eval.samples": 77, "penalty.weight": 2.0}.items():
        assert identity(make_config("wgan_gp.py:ring8", {**changes, key: value})) != identity(config), key
    other = make_config("wgan_gp.py:ring8", {**changes, "seed": 1})
    assert len({identity(config), identity(config, other), identity(other, config), identity(config, config)}) == 4
