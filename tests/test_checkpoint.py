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
from wgan_jax.training.checkpoint import Checkpoints

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
