"""Checkpoints: round trip, retention, damage, a full disk."""

import errno
import json
import logging
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from wgan_jax.errors import UserError
from wgan_jax.records import file_digest
from wgan_jax.training import checkpoint as checkpoint_module
from wgan_jax.training.checkpoint import Checkpoints, NoCheckpoint

TREE = {"a": np.arange(2000, dtype=np.float32), "b": {"c": np.int32(7), "d": np.ones((2, 3))}}
SHAPES = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), TREE)


@pytest.fixture
def saved(tmp_path):
    """Three checkpoints: steps 1, 2, 3, each with its step in c."""
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, TREE | {"b": TREE["b"] | {"c": np.int32(step)}}, {"score": abs(step - 2.2)})
    checkpoints.wait()
    return checkpoints


def _largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_round_trip_keeps_every_bit_and_dtype(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, TREE, {"seconds": 1.5})
    checkpoints.wait()
    step, tree = checkpoints.restore_newest(SHAPES)
    assert step == 5
    assert checkpoints.info(5) == {"seconds": 1.5}
    jax.tree.map(lambda new, old: np.testing.assert_array_equal(new, old, strict=True), tree, jax.tree.map(np.asarray, TREE))


def test_the_tree_may_change_while_it_is_written(tmp_path):
    leaf, checkpoints = np.zeros(1000), Checkpoints(tmp_path)
    checkpoints.save(1, {"x": leaf}, {})
    leaf[:] = 1
    checkpoints.wait()
    assert not checkpoints.restore(1, {"x": leaf})["x"].any()


def test_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, score in enumerate([3.0, 1.0, 2.0, None, 5.0]):
        checkpoints.save(step, TREE, {} if score is None else {"score": score})
    checkpoints.wait()
    assert checkpoints.steps() == [1, 3, 4]
    assert (checkpoints.best(), checkpoints.best_score()) == (1, 1.0)
    assert [checkpoints.find(name) for name in ("latest", "best", "3")] == [4, 1, 3]
    with pytest.raises(UserError, match="no checkpoint '2'"):
        checkpoints.find("2")


def test_a_resume_hashes_every_file_once(saved, monkeypatch):
    hashed, folder = [], saved.folder / "step_00000003"
    files = json.loads((folder / "manifest.json").read_text())["files"]
    monkeypatch.setattr(checkpoint_module, "file_digest", lambda path: hashed.append(path) or file_digest(path))
    assert saved.restore_newest(SHAPES)[0] == 3
    assert sorted(hashed) == sorted(folder / name for name in files)


def _flip_a_bit(step):
    path = _largest(step / "state")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(step):
    path = _largest(step / "state")
    path.write_bytes(path.read_bytes()[:-10])


DAMAGES = {
    "a flipped bit": _flip_a_bit,
    "a truncated file": _truncate,
    "a missing file": lambda step: _largest(step / "state").unlink(),
    "no manifest": lambda step: (step / "manifest.json").unlink(),
    "half a manifest": lambda step: (step / "manifest.json").write_text('{"step": 3, "fi'),
    "a manifest of something else": lambda step: (step / "manifest.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(saved, damage, caplog):
    DAMAGES[damage](saved.folder / "step_00000003")
    with caplog.at_level(logging.WARNING):
        step, tree = saved.restore_newest(SHAPES)
    assert step == int(tree["b"]["c"]) == 2
    assert "step_00000003" in caplog.text
    assert "falling back" in caplog.text
    assert saved.steps() == [1, 2]


def test_a_checkpoint_that_was_being_written_does_not_count(saved):
    (saved.folder / "writing_step_00000009" / "state").mkdir(parents=True)
    assert saved.steps() == [1, 2, 3]


def test_restoring_a_damaged_or_missing_step_by_name_is_an_error(saved):
    _flip_a_bit(saved.folder / "step_00000003")
    with pytest.raises(UserError, match="SHA-256"):
        saved.restore(3, SHAPES)
    with pytest.raises(UserError, match=r"no checkpoint of step 8; there are: \[1, 2, 3\]"):
        saved.restore(8, SHAPES)


def test_a_tree_of_other_shapes_is_refused(saved):
    with pytest.raises(UserError, match="does not fit"):
        saved.restore(3, SHAPES | {"a": jax.ShapeDtypeStruct((3,), np.float32)})
    with pytest.raises(UserError, match="does not fit"):
        saved.restore(3, {"other": SHAPES["a"]})


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), ValueError("RESOURCE_EXHAUSTED: write: No space left on device")],
)
def test_a_full_disk_is_a_clear_error_and_harms_no_earlier_checkpoint(saved, error, monkeypatch):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ocp.Checkpointer, "save", fail)
        saved.save(4, TREE, {})
        with pytest.raises(UserError, match=r"(?i)no space left on.*earlier checkpoints are intact: \[1, 2, 3\]"):
            saved.wait()
    assert saved.restore_newest(SHAPES)[0] == 3
    assert sorted(path.name for path in saved.folder.iterdir()) == [f"step_0000000{step}" for step in (1, 2, 3)]


def test_manifest_lists_every_file_with_its_hash(saved):
    folder = saved.folder / "step_00000002"
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}
    assert manifest["files"].keys() == files
    assert all(len(digest) == 64 for digest in manifest["files"].values())


def test_a_full_disk_is_seen_before_writing(tmp_path, monkeypatch, capfd):
    checkpoints = Checkpoints(tmp_path, keep=5)
    checkpoints.save(1, {"a": np.zeros(10)}, {})
    checkpoints.wait()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
    checkpoints.save(2, {"a": np.zeros(10)}, {})
    with pytest.raises(UserError, match=r"step_00000002: could not be written: no space left .* intact: \[1\]"):
        checkpoints.wait()
    assert checkpoints.steps() == [1]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_score_that_does_not_exist_is_never_best_and_json_has_no_name_for_it(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9)
    checkpoints.save(1, TREE, {"score": float("nan")})
    checkpoints.wait()
    json.loads((tmp_path / "step_00000001" / "manifest.json").read_text(), parse_constant=pytest.fail)
    assert checkpoints.best() is None
    with pytest.raises(NoCheckpoint, match=r"no checkpoint 'best' .*; there are: latest, \[1\]$"):
        checkpoints.find("best")
    for step, score in ((2, 3.0), (3, float("inf")), (4, 2.0), (5, float("nan"))):
        checkpoints.save(step, TREE, {"score": score})
    checkpoints.wait()
    assert (checkpoints.best(), checkpoints.best_score()) == (4, 2.0)
    manifest = tmp_path / "step_00000001" / "manifest.json"  # as earlier versions wrote it
    manifest.write_text(manifest.read_text().replace('"score": null', '"score": NaN'))
    assert checkpoints.best() == 4
    with pytest.raises(NoCheckpoint, match=r"there are: latest, best, \[1, 2, 3, 4, 5\]$"):
        checkpoints.find("7")


def test_a_long_list_of_steps_is_shortened(tmp_path):
    for step in range(10, 101, 10):
        (tmp_path / f"step_{step:08d}").mkdir()
    with pytest.raises(NoCheckpoint, match=r"there are: latest, \[10, 20, 30, \.\.\., 80, 90, 100\], 10 in all$"):
        Checkpoints(tmp_path).find("7")


def test_a_checkpoint_that_vanishes_while_it_is_read_is_told_from_a_damaged_one(saved, monkeypatch):
    def vanish(path, run):
        shutil.rmtree(path)
        return "state/a is missing"

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "_damage", vanish)
        with pytest.raises(NoCheckpoint, match=r"no checkpoint of step 3; there are: \[1, 2\]$"):
            saved.restore(3, SHAPES)
    _truncate(saved.folder / "step_00000002")
    with pytest.raises(UserError, match="damaged") as error:
        saved.restore(2, SHAPES)
    assert not isinstance(error.value, NoCheckpoint)


def test_reading_goes_on_with_the_checkpoint_that_is_there_now(saved):
    def read(step):
        if step == 3:
            shutil.rmtree(saved.folder / "step_00000003")
        return saved.restore(step, SHAPES)["b"]["c"]

    assert saved.reading("latest", read) == 2
    with pytest.raises(NoCheckpoint, match="no checkpoint '3'"):
        saved.reading("3", read)
    with pytest.raises(UserError, match="its own mistake"):
        saved.reading("latest", lambda step: (_ for _ in ()).throw(UserError("its own mistake")))


def test_a_checkpoint_is_not_listed_while_it_is_deleted(saved, monkeypatch):
    listed, rmtree = [], shutil.rmtree

    def slow(path, **options):
        listed.append(saved.steps())
        rmtree(path, **options)

    monkeypatch.setattr(checkpoint_module.shutil, "rmtree", slow)
    saved.discard_after(2)
    assert listed[-1] == [1, 2]
    assert not list(saved.folder.glob("deleting*"))
