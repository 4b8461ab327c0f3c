"""End to end through the launchers: a run directory, exact resume, signals, mistakes.

Most commands run in this process. Those that a signal ends or kills, and those whose imports are looked at, have their own.
"""

import contextlib
import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from wgan_jax import runtime
from wgan_jax.data import source

CONFIG = (
    "--config=configs/wgan_gp.py",
    *("--config.model.width=16", "--config.batch_size=16", "--config.n_critic=2", "--config.eval.draws=1"),
    *("--config.log_every=10", "--config.eval_every=50", "--config.sample_every=100", "--config.checkpoint_every=50"),
    *("--config.keep=10", "--config.decay_steps=3000"),  # a horizon of its own: a shorter run is the beginning of a longer one
    *("--config.devices=1", "--config.eval.samples=100", "--config.eval.feature_samples=100", "--config.eval.raw=True"),
)
PATIENCE = 300  # seconds that a machine at work on other things may take; a free core needs ten


@pytest.fixture(scope="module")
def run(command):
    """Returns (arguments) -> exit code, stdout and stderr of a tiny run."""
    return functools.partial(command, "run", *CONFIG)


def _start(module, *arguments, **pipes):
    return subprocess.Popen([sys.executable, "-m", f"experiments.{module}", *arguments], text=True, **pipes)


@contextlib.contextmanager
def _running(workdir, steps, until):
    """A run under way whose metrics.jsonl contains a text; killed at the end if it still runs."""
    arguments = (*CONFIG, f"--config.steps={steps}", f"--workdir={workdir}")
    with _start("run", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            path, deadline = workdir / "metrics.jsonl", time.monotonic() + PATIENCE
            while not (path.exists() and until in path.read_text()):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def _size(path):
    with Image.open(path) as image:
        return image.size


def _lines(workdir):
    """The metrics without their clock columns."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def _assert_same_state(workdir, other, step):
    """The whole states of a step are equal to the last bit."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        states = [checkpointer.restore(folder / "checkpoints" / f"step_{step:08d}" / "state") for folder in (workdir, other)]
    assert len(jax.tree.leaves(states[0])) > 30
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, strict=True), *states)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A run of 300 updates that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    code, out, err = run("--config.steps=300", f"--workdir={workdir}")
    assert (code, err) == (0, "")
    return workdir, out


@pytest.mark.slow
def test_a_run_directory_holds_what_is_documented(whole):
    workdir, out = whole
    files = {path.relative_to(workdir).as_posix() for path in workdir.rglob("*")}
    assert {"config.json", "provenance.json", "metrics.jsonl", "summary.json"} <= files
    assert {"figures/loss.png", "figures/wasserstein.png", "figures/samples.png", "samples/step_00000300.png"} <= files
    assert any(name.startswith("tensorboard/events") for name in files)
    summary = json.loads((workdir / "summary.json").read_text())
    assert (summary["status"], summary["step"], summary["critic_step"]) == ("done", 300, 600)
    assert summary["best"]["metric"] == "wasserstein_excess"
    assert {"wasserstein_ratio", "precision", "recall", "copying_z", "smallest_class"} <= summary["final"].keys()
    assert set(summary["seconds"]) == {"total", "startup", "compile", "train", "evaluate"}
    lines = _lines(workdir)
    assert [line["step"] for line in lines] == list(range(10, 301, 10))
    assert lines[-1]["examples"] == 600 * 16
    named = {"critic_loss", "generator_loss", "wasserstein_estimate", "penalty", "critic_input_gradient_norm"}
    assert named <= lines[0].keys()
    assert {"eval/wasserstein_excess", "eval/raw/wasserstein_excess", "eval/estimate_normalised"} <= lines[4].keys()
    best = min(lines[4::5], key=lambda line: line["eval/wasserstein_excess"])
    assert summary["best"]["step"] == best["step"]
    assert str(workdir) in out
    assert "real" in out
    assert _size(workdir / "samples/step_00000300.png") == (8 * 66 + 2, 8 * 66 + 2)


@pytest.mark.slow
def test_kill_and_resume_is_exact_to_the_last_bit(run, whole, tmp_path, monkeypatch):
    reference, workdir = whole[0], tmp_path / "killed"
    monkeypatch.setenv("NPROC", str(len(runtime.visible_cores())))  # the threads of this process, to be those of its child
    with _running(workdir, 300, until='"step": 170,'):
        pass  # killed
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9999, "critic_lo')  # what a kill leaves of a line
    code, _, err = run("--config.steps=300", f"--workdir={workdir}")
    assert (code, err) == (0, "")
    assert _lines(workdir) == _lines(reference)
    _assert_same_state(workdir, reference, 300)


def test_other_intervals_do_not_change_the_trajectory(run, whole, tmp_path):
    workdir = tmp_path / "other"
    code, _, err = run(
        *("--config.steps=150", "--config.log_every=7", "--config.eval_every=40", "--config.checkpoint_every=31"),
        *("--config.sample_every=1000", f"--workdir={workdir}"),
    )
    assert (code, err) == (0, "")
    _assert_same_state(workdir, whole[0], 150)
    by_step = {line["step"]: line for line in _lines(whole[0])}
    shared = [line for line in _lines(workdir) if line["step"] in by_step and "eval/recall" not in line]
    assert shared
    for line in shared:
        assert line.items() <= by_step[line["step"]].items()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_under_way_holds_its_directory_and_a_signal_saves_it(run, tmp_path, number, code):
    """With the documented exit codes."""
    workdir = tmp_path / "run"
    with _running(workdir, 1_000_000, until='"step": 20,') as process:
        other, _, err = run("--config.steps=40", f"--workdir={workdir}")
        assert other == 2
        assert "in use by another process" in err
        process.send_signal(number)
        assert process.wait(PATIENCE) == code
        assert signal.Signals(number).name in process.stderr.read()
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    newest = max(path.name for path in (workdir / "checkpoints").iterdir())
    assert newest == f"step_{summary['step']:08d}"


@pytest.mark.slow
def test_a_finished_run_goes_on_to_more_steps_and_refuses_another_config(run, whole, tmp_path):
    workdir = tmp_path / "short"
    assert run("--config.steps=100", f"--workdir={workdir}")[0] == 0
    assert run("--config.steps=120", f"--workdir={workdir}")[0] == 0
    assert _lines(workdir) == _lines(whole[0])[:12]
    code, _, err = run("--config.steps=120", "--config.model.width=17", f"--workdir={workdir}")
    assert code == 2
    assert "config.model.width: the run in" in err
    assert "has 16, this command asks for 17" in err


def test_a_non_finite_run_stops_and_names_the_quantity(run, tmp_path):
    workdir = tmp_path / "run"
    code, _, err = run("--config.steps=100", "--config.critic.learning_rate=1e30", f"--workdir={workdir}")
    assert code == 3
    assert "non-finite at step 1: " in err
    assert json.loads((workdir / "summary.json").read_text())["status"] == "non-finite"


def test_sample_needs_the_workdir_alone_and_is_a_function_of_the_seed(command, whole, tmp_path):
    workdir = whole[0]

    def samples(*arguments):
        out = tmp_path / "samples.npz"
        code, _, err = command("sample", f"--workdir={workdir}", f"--out={out}", *arguments)
        assert (code, err) == (0, "")
        with np.load(out) as arrays:
            return arrays["samples"], arrays["latents"]

    images, latents = samples("--num=5")
    assert (images.shape, images.dtype, latents.shape) == ((5, 8, 8, 1), np.uint8, (5, 32))
    np.testing.assert_array_equal(samples("--num=1003")[0][:5], images)
    assert not np.array_equal(samples("--num=5", "--seed=1")[0], images)
    assert not np.array_equal(samples("--num=5", "--raw")[0], images)


def test_a_grid_of_samples(command, whole, tmp_path):
    out = tmp_path / "grid.png"
    assert command("sample", f"--workdir={whole[0]}", f"--out={out}", "--num=10", "--step=best")[0] == 0
    assert _size(out) == (4 * 66 + 2, 3 * 66 + 2)


MISTAKES = {
    "run": {
        "no config": ([], "--config"),
        "an unknown flag": (["--confg=configs/wgan.py"], "did you mean --config?"),
        "a word that is no flag": (["--config=configs/wgan.py", "digits"], "digits: not a flag"),
        "no such config": (["--config=configs/wgna.py"], "no file configs/wgna.py"),
        "a file without its flag": (["configs/gan.py"], "configs/gan.py: not a flag; write --config=configs/gan.py"),
        "a word before its flag": (["steps=3", "--config=configs/gan.py"], "steps=3: not a flag; write --name=value"),
        "a file without get_config": (["--config=configs/default.py"], "no function get_config"),
        "an unknown preset": (["--config=configs/wgan.py:digit"], "unknown preset 'digit'"),
        "an unknown option": (["--config=configs/wgan.py:digits,papr=True"], "the only one is paper=True"),
        "two mistakes": (
            ["--config=configs/wgan.py", "--config.stepz=3", "--config.n_critic=-1"],
            "did you mean config.steps?\nerror: config.n_critic: -1 is not a whole number",
        ),
        "a workdir that is a file": (["--config=configs/wgan.py", "--workdir=README.md"], "README.md is not a directory"),
        "a workdir that is no run": (["--config=configs/wgan.py", "--workdir=configs"], "holds no run"),
    },
    "sample": {
        "no workdir": ([], "--workdir"),
        "a directory without its flag": (["runs/a"], "runs/a: not a flag; write --workdir=runs/a"),
        "no such workdir": (["--workdir=nowhere"], f"no directory {Path('nowhere').absolute()}"),
        "a workdir without a run": (["--workdir=configs"], "holds no run"),
        "no samples": (["--workdir=configs", "--num=0"], "--num: 0 is not"),
        "another format": (["--workdir=configs", "--out=x.jpg"], "ends neither in .png nor in .npz"),
    },
}


@pytest.mark.parametrize(("module", "mistake"), [(module, mistake) for module in MISTAKES for mistake in MISTAKES[module]])
def test_mistakes_are_one_line_and_exit_code_2(command, module, mistake):
    arguments, message = MISTAKES[module][mistake]
    code, out, err = command(module, *arguments)
    assert code == 2
    assert message in err
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert out == ""


def test_a_mistake_ends_a_process_with_exit_code_2():
    with _start("run", "--config=configs/wgna.py", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, len(err.splitlines())) == (2, "", 1)


def test_help_answers(command):
    for module in ("run", "sample", "references"):
        code, out, _ = command(module, "--help")
        assert code == 0
        assert f"python -m experiments.{module}" in out


def test_the_launchers_import_no_jax():
    probe = "import sys, experiments.run, experiments.sample, experiments.references; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], cwd=Path(__file__).parents[1], check=False).returncode == 0


@pytest.mark.slow
def test_data_that_stays_on_disk_trains_the_same(run, tmp_path):
    """Pixels read ahead give the numbers that resident data gives, up to how the two programs round."""
    for name, limit in (("resident", 1), ("streamed", 0)):
        code, _, error = run("--config.steps=60", f"--config.data.resident_mb={limit}", f"--workdir={tmp_path / name}")
        assert (code, error) == (0, "")
    resident, streamed = (_lines(tmp_path / name) for name in ("resident", "streamed"))
    assert len(resident) == len(streamed) == 6
    for ours, theirs in zip(resident, streamed, strict=True):
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(ours["wasserstein_estimate"], theirs["wasserstein_estimate"], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_streamed_run_goes_on_from_feed_to_feed(run, tmp_path, monkeypatch):
    """A step takes 3 batches of 16 images of 64 bytes: a feed holds 10 steps, and an interrupted run cuts others."""
    monkeypatch.setattr(source, "STREAMED_BYTES", 31 * 16 * 64)
    streamed = ("--config.data.resident_mb=0", "--config.eval_every=1000000", "--config.log_every=5")
    code, _, error = run(*streamed, "--config.steps=50", f"--workdir={tmp_path / 'whole'}")
    assert (code, error) == (0, "")
    for steps in (25, 50):
        code, _, error = run(*streamed, f"--config.steps={steps}", f"--workdir={tmp_path / 'parts'}")
        assert (code, error) == (0, "")
    assert len(_lines(tmp_path / "whole")) == 10
    assert _lines(tmp_path / "parts") == _lines(tmp_path / "whole")
    _assert_same_state(tmp_path / "parts", tmp_path / "whole", 50)


@pytest.mark.slow
def test_a_folder_of_images_from_a_mistake_to_a_resumed_run(command, tmp_path):
    """The suggested flag mends the first try in the same workdir; other images are then refused."""
    for index in range(60):
        folder = tmp_path / "images" / ("light", "dark")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (4 * index, index, 255 - 4 * index)).save(folder / f"{index}.png")
    tiny = (
        "--config=configs/wgan_gp.py:folder",
        "--config.data.image_size=8",
        "--config.model.width=2",
        "--config.batch_size=8",
    )
    tiny += ("--config.data.resident_mb=0", "--config.eval.draws=1", "--config.eval_every=6", f"--workdir={tmp_path / 'run'}")
    tiny += (f"--config.data.cache_dir={tmp_path / 'cache'}", "--config.n_critic=2", "--config.devices=1")
    code, _, error = command("run", *tiny)
    assert (code, len(error.splitlines())) == (2, 1)
    assert "--config.data.path=DIR" in error
    tiny += (f"--config.data.path={tmp_path / 'images'}",)
    code, _, error = command("run", *tiny, "--config.data.label=hair")
    assert (code, len(error.splitlines())) == (2, 1)
    assert "no metadata.csv" in error
    (tmp_path / "images" / "0.tif").write_bytes(b"")
    code, out, error = command("run", *tiny, "--config.steps=6")
    assert (code, error) == (0, "")
    told = "48 train / 6 validation / 6 test images 8x8x3, 2 classes (dark: 30, light: 30); left out: 1 .tif"
    assert f"data: {tmp_path / 'images'}, {told}" in out.splitlines()
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["data"]["examples"] == {"train": 48, "validation": 6, "test": 6}
    assert provenance["data"]["classes"] == ["dark", "light"]
    assert [sum(counts) for counts in provenance["data"]["class_counts"].values()] == [48, 6, 6]
    assert provenance["data"]["left_out"] == {".tif": 1}
    assert "eval/smallest_class" in _lines(tmp_path / "run")[-1]
    (tmp_path / "images" / "light" / "0.png").unlink()
    code, _, error = command("run", *tiny, "--config.steps=8")
    assert code == 2
    assert "not those that this run was trained on" in error
