"""Writes that fail: a full disk, a directory that is gone, a kill in between. Nothing half-written stays; one line is said."""

import errno
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from experiments import launchers
from experiments.launchers.task import run_task, write_task
from wgan_jax import paths
from wgan_jax.data import array, cache
from wgan_jax.errors import UserError
from wgan_jax.paths import delete_stale, is_temporary, write_whole
from wgan_jax.plan import load_sweep, plan
from wgan_jax.training import checkpoint
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.logging import MetricsLog
from wgan_jax.training.workdir import open_workdir

TINY = [
    "--config.batch_size=8",
    "--config.n_critic=1",
    "--config.model.width=4",
    "--config.model.depth=1",
    "--config.devices=1",
]
TINY += ["--config.eval.samples=12", "--config.eval.feature_samples=12", "--config.eval.draws=1", "--config.cache_dir="]
TINY += ["--config.log_every=1", "--config.eval_every=2", "--config.sample_every=2", "--config.checkpoint_every=2"]
RUN = [
    "--config=configs/wgan_gp.py:ring8",
    *TINY,
    "--config.steps=4",
    "--config.decay_steps=9",
    "--config.eval.metrics=wasserstein",
]


def full(*arguments, **keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call):
    path = tmp_path / "x.json"
    write_whole(path, b"old")
    monkeypatch.setattr(*{"fsync": (paths.os, "fsync", full), "replace": (paths.Path, "replace", full)}[call])
    with pytest.raises(OSError, match="No space left") as failed:
        write_whole(path, b"new")
    assert failed.value.filename == str(path)
    assert (files(tmp_path), path.read_bytes()) == (["x.json"], b"old")


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(paths.os, "fsync", lambda number: done.append("fsync"))
    replace = paths.Path.replace
    monkeypatch.setattr(paths.Path, "replace", lambda self, to: done.append("rename") or replace(self, to))
    write_whole(tmp_path / "x", b"new")
    assert done == ["fsync", "rename"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", b"told")
    assert os.read(reader, 9) == b"told"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert files(tmp_path) == ["link", "pipe", "target"]


def test_a_first_start_on_a_full_disk_says_so_and_the_same_command_goes_on(command, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(paths.os, "fsync", full)
        code, _, err = command("run", *RUN, f"--workdir={workdir}")
    assert (code, err) == (2, f"error: {workdir / 'config.json'}: no space left on device\n")
    assert files(workdir) == [".lock"]
    assert command("run", *RUN, f"--workdir={workdir}")[::2] == (0, "")


@pytest.mark.slow
def test_what_a_kill_leaves_half_written_does_not_brick_a_directory_and_is_deleted(command, tmp_path):
    workdir = tmp_path / "run"
    left = [workdir / name / f".{'0' * 32}.tmp" for name in ("", "samples", "figures", "checkpoints")]
    left += [workdir / "checkpoints/writing_step_00000002/state/x", workdir / "checkpoints/deleting/x"]
    workdir.mkdir()
    left[0].touch()
    assert is_temporary(left[0].name)
    assert command("run", *RUN, f"--workdir={workdir}")[::2] == (0, "")
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert command("run", *RUN, "--config.steps=6", f"--workdir={workdir}")[::2] == (0, "")
    assert {path.name for path in workdir.rglob("*")}.isdisjoint({left[0].name, "deleting", "writing_step_00000002"})


def test_a_task_deletes_what_was_left_of_it(root, tmp_path):
    sweep = load_sweep(f"{root}/configs/wgan_gp.py:ring8", [*TINY, "--config.steps=2"], 1)
    (task,) = plan(sweep.points, 9)
    with open_workdir(tmp_path, sweep.base, "sweep"):
        write_task(tmp_path, task)
        folder = tmp_path / "tasks" / task.id
        (folder / "checkpoints/from_00000/writing_step_00000002").mkdir(parents=True)
        (folder / f".{'0' * 32}.tmp").touch()
        run_task(str(tmp_path), task.id)
    assert files(folder / "checkpoints/from_00000") == ["step_00000002"]
    assert [name for name in files(folder) if is_temporary(name)] == []


def test_old_leftovers_of_a_shared_folder_are_deleted_and_what_others_write_is_not(tmp_path):
    for name in (".building-old", ".building-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "images.bin").touch()
    (tmp_path / "kept").touch()
    long_ago = time.time() - 2 * paths.STALE
    for name in (".building-old", ".building-old/images.bin", ".building-new", "kept"):  # one whose file still grows
        os.utime(tmp_path / name, (long_ago, long_ago))
    delete_stale(tmp_path, *cache.UNFINISHED)
    assert files(tmp_path) == [".building-new", "kept"]


def test_a_log_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    with MetricsLog(tmp_path, 0, {}) as log:
        with monkeypatch.context() as patch:
            patch.setattr(log, "_file", type("Full", (), {"write": full, "close": lambda self: None})())
            with pytest.raises(OSError, match="No space left") as failed:
                log.write({"step": 1})
        assert failed.value.filename == str(tmp_path / "metrics.jsonl")
        (tmp_path / "metrics.jsonl").unlink()
        with pytest.raises(FileNotFoundError):
            log.write({"step": 1})


def test_a_disk_that_fills_up_under_a_checkpoint_is_a_line(tmp_path):
    """Where another process takes the room that was there: what Orbax's threads print of it stays off the terminal."""
    code = (
        "import resource, signal, sys, pathlib, numpy as np; from wgan_jax.training.checkpoint import Checkpoints;"
        f"checkpoints = Checkpoints(pathlib.Path('{tmp_path}/checkpoints')); checkpoints.save(1, {{'x': np.zeros(9)}}, {{}});"
        "checkpoints.wait(); signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20));"
        "checkpoints.save(2, {'x': np.random.default_rng(0).normal(size=2**19)}, {}); checkpoints.wait()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Exception in thread" not in done.stderr
    assert files(tmp_path / "checkpoints") == ["step_00000001"]


def test_the_tracebacks_of_orbax_threads_alone_are_kept_off_the_terminal(monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda error: shown.append(error.exc_traceback.tb_next.tb_next.tb_frame))

    def fail(file):
        thread = threading.Thread(target=exec, args=(compile("def f(): 1 / 0\nf()", file, "exec"), {}))
        thread.start()
        thread.join()

    with checkpoint._quiet():
        fail("/x/orbax/checkpoint/future.py")
        fail("/x/wgan_jax/data.py")
    fail("/x/orbax/checkpoint/late.py")
    assert [frame.f_code.co_filename for frame in shown] == ["/x/wgan_jax/data.py", "/x/orbax/checkpoint/late.py"]


def test_a_run_directory_that_is_gone_is_not_made_anew(tmp_path):
    (tmp_path / "run").mkdir()
    checkpoints = Checkpoints(tmp_path / "run/checkpoints")
    checkpoints.save(1, {"x": np.zeros(3)}, {})
    checkpoints.wait()
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    checkpoints.save(2, {"x": np.zeros(3)}, {})
    with pytest.raises(UserError, match=r"could not be written: .*No such file or directory"):
        checkpoints.wait()
    assert files(tmp_path) == []


def test_a_task_that_the_system_refuses_something_fails_in_a_line(tmp_path, capsys):
    def refused(workdir, task_id):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{workdir}/x")

    with pytest.raises(UserError, match="1 of 1 tasks failed"):
        launchers.vectorized(refused, str(tmp_path), ["a"], None)
    assert capsys.readouterr().err == f"task a failed: {tmp_path}/x: no space left on device\n"


def test_numbers_laid_out_on_a_full_disk_are_a_line_and_no_crash(tmp_path):
    """A write into a hole of a file on a full disk is SIGBUS; a limit on the size of files is as good as a full disk."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40_000, 8)))
    code = (
        "import resource, signal; from wgan_jax.config import load; from wgan_jax.data import load_dataset;"
        f"config = load('configs/wgan_gp.py:array', ['--config.data.path={tmp_path}/x.npy', '--config.data.resident_mb=0',"
        f"'--config.data.cache_dir={tmp_path}/cache']);"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20));"
        "load_dataset(config)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"wgan_jax.errors.UserError: config.data.cache_dir: {tmp_path}/cache: file too large"
    assert files(tmp_path / "cache") == []
    status = array._mapped(tmp_path / "x", np.dtype(float), (100_000,)).filename.stat()
    assert status.st_blocks * 512 >= status.st_size == 800_000


def test_every_writer_is_the_one_helper(root):
    """Nothing else opens a file to write it under its final name."""
    allowed = {
        "wgan_jax/paths.py",  # the helper
        "wgan_jax/data/cache.py",  # in a folder that gets its name when it is whole
        "wgan_jax/data/array.py",
        "wgan_jax/training/checkpoint.py",
        "wgan_jax/training/logging.py",  # appends lines; one half-written is cut
        "experiments/launchers/pool.py",  # a log
        "experiments/command.py",  # to nowhere
    }
    writes = re.compile(
        r"""open\(([^()]*, )?"[wxa]b?"|\.write_(text|bytes)\(|\.savefig\((?!file)|np\.savez?\((?!file|stored)|\.save\(path"""
    )
    found = {
        path.relative_to(root).as_posix()
        for folder in ("wgan_jax", "experiments")
        for path in (root / folder).rglob("*.py")
        if writes.search(path.read_text(encoding="utf-8"))
    }
    assert found <= allowed
