"""Runs and sweeps whose files were damaged, swapped or lost: the same command mends them, or says in a line what is wrong."""

import json
import shutil

import pytest

from experiments import sweep
from experiments.launchers.task import is_done, read_task, task_names
from wgan_jax import runtime

SMALL = {
    "batch_size": 8,
    "n_critic": 1,
    "model.width": 8,
    "model.depth": 1,
    "steps": 6,
    "log_every": 1,
    "eval_every": 3,
    "sample_every": 6,
    "checkpoint_every": 2,
    "keep": 9,
    "eval.samples": 30,
    "eval.feature_samples": 30,
    "eval.draws": 1,
    "cache_dir": "",
    "devices": 1,
}
WORDS = ["--config=configs/wgan_gp.py:ring8", *(f"--config.{key}={value}" for key, value in SMALL.items())]


@pytest.fixture(scope="module", autouse=True)
def _at_the_root(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "run"
    code, _, error = command("run", *WORDS, f"--workdir={folder}")
    assert (code, error) == (0, "")
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run of six updates with checkpoints of steps 2, 4 and 6, and the best's."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def lines_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def without(folder, *steps):
    """Takes checkpoints and the end of a run away, as if it had been killed before."""
    for step in steps:
        shutil.rmtree(folder / "checkpoints" / f"step_{step:08d}")
    (folder / "summary.json").unlink()


def rotten(path):
    content = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([content[0], b"", b"garb{age", b"\xff\xfe", b"[1]", *content[3:]]))


DAMAGES = {"garbage": rotten, "missing": lambda path: path.unlink()}  # see test_records_vouch.py for more


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_whole_again_after_the_same_command(command, run, trained, damage):
    without(run, 6)
    path = run / "metrics.jsonl"
    DAMAGES[damage](path)
    code, _, error = command("run", *WORDS, f"--workdir={run}")
    assert code == 0
    told = f"WARNING: {path}: is not as it was written; its 4 lines are restored from the checkpoint of step 4\n"
    assert error == told
    assert lines_of(run) == lines_of(trained)


@pytest.mark.parametrize("damage", DAMAGES)
def test_so_is_that_of_a_run_that_had_ended(command, run, trained, damage):
    DAMAGES[damage](run / "metrics.jsonl")
    code, out, error = command("run", *WORDS, f"--workdir={run}")
    assert (code, error.count("\n")) == (0, 1)
    assert lines_of(run) == lines_of(trained)
    assert "already done" not in out
    assert "already done" in command("run", *WORDS, f"--workdir={run}")[1]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (run, trained)]
    assert summaries[0]["final"] == summaries[1]["final"]


def test_swapped_checkpoints_are_no_others(command, run, trained):
    checkpoints = run / "checkpoints"
    (checkpoints / "step_00000002").rename(checkpoints / "aside")
    (checkpoints / "step_00000006").rename(checkpoints / "step_00000002")
    (checkpoints / "aside").rename(checkpoints / "step_00000006")
    for name, words in (("sample", []), ("evaluate", ["--repeats=1", "--num=30"])):
        code, _, error = command(name, f"--workdir={run}", *words)
        assert (code, error.count("\n")) == (2, 1), error
        assert f"error: {checkpoints}/step_00000006: holds step 2, whatever its name says" in error
    code, _, error = command("run", *WORDS, f"--workdir={run}", "--config.steps=7", "--config.decay_steps=6")
    assert code == 0
    assert error.count("falling back to the checkpoint before it\n") == 1
    assert lines_of(run)[:6] == lines_of(trained)


def test_a_config_that_was_changed_is_not_that_of_the_checkpoints(command, run):
    stored = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**stored, "seed": 1}))
    code, _, error = command("sample", f"--workdir={run}")
    assert (code, error.count("\n")) == (2, 1)
    assert (
        "step_00000006: is the checkpoint of another run, or of another config; choose another --step, or move it away" in error
    )


def test_strange_names_beside_the_checkpoints_are_left_out(command, run):
    for name in ("step_old", "step_00000200.bak", "step_5"):
        shutil.copytree(run / "checkpoints" / "step_00000002", run / "checkpoints" / name)
    told = 0
    for name, words in (
        ("sample", [f"--workdir={run}"]),
        ("evaluate", [f"--workdir={run}", "--step=all", "--repeats=1", "--num=30"]),
        ("run", [*WORDS, f"--workdir={run}"]),
        ("run", [*WORDS, f"--workdir={run}", "--config.steps=7", "--config.decay_steps=6"]),
    ):
        code, _, error = command(name, *words)
        assert (code, "Traceback" in error) == (0, False)
        told += error.count("is named like a checkpoint and is none; it is left out")
    assert told == 3  # once each in this process


# Sweeps


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two tasks of two members, and what it wrote."""
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "configure_jax", lambda config: None)  # JAX is set up already
        sweep.sweep(sweep_words(folder))
    return folder


def sweep_words(folder):
    return [*WORDS, "--seeds=4", "--members=2", f"--workdir={folder}"]


@pytest.fixture
def copied(swept, tmp_path):
    shutil.copytree(swept, tmp_path / "sweep")
    return tmp_path / "sweep"


def cut(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))


def changed(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | {"wasserstein_excess": -1.0}) + "\n" for line in lines))


def claimed(path):
    """An extended sweep's summary of which a bit was flipped, or that of another task."""
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "step": 7}))


ROWS = {
    "rows missing": ("rows.jsonl", lambda path: path.unlink()),
    "rows shortened": ("rows.jsonl", cut),
    "rows torn": ("rows.jsonl", lambda path: path.write_bytes(path.read_bytes()[:-40])),
    "a row's number changed": ("rows.jsonl", changed),
    "rows that are not UTF-8": ("rows.jsonl", lambda path: path.write_bytes(b"\xff\xfe\n")),
    "no summary": ("summary.json", lambda path: path.unlink()),
    "half a summary": ("summary.json", lambda path: path.write_text('{"step"')),
    "a summary of something else": ("summary.json", lambda path: path.write_text("[6]")),
    "a summary that claims more": ("summary.json", claimed),
}


@pytest.mark.parametrize("damage", ROWS)
def test_a_task_whose_files_are_not_what_they_were_is_not_done(copied, damage):
    (name, *_) = task_names(copied)
    task = read_task(copied, name)
    assert is_done(copied, task)
    file, change = ROWS[damage]
    change(copied / "tasks" / name / file)
    assert not is_done(copied, task)


@pytest.mark.parametrize("damage", ["rows shortened", "a row's number changed", "no size of the chunks"])
def test_a_sweep_has_all_its_rows_again_after_the_same_command(command, copied, swept, damage):
    (task, *_) = sorted((copied / "tasks").iterdir())
    if damage in ROWS:
        name, change = ROWS[damage]
        change(task / name)
    else:
        (task / "chunk.json").write_text("{")
        (task / "summary.json").unlink()
    code, out, error = command("sweep", *sweep_words(copied))
    assert (code, "Traceback" in error) == (0, False)
    assert "2 tasks, of which 1 are to be trained" in out
    assert (copied / "results.jsonl").read_bytes() == (swept / "results.jsonl").read_bytes()
    assert (task / "rows.jsonl").read_bytes() == (swept / "tasks" / task.name / "rows.jsonl").read_bytes()
    assert "of which 0 are" in command("sweep", *sweep_words(copied))[1]


def test_a_task_trains_and_shows_no_other_points_than_its_id_says(command, copied):
    (task, *_) = sorted((copied / "tasks").iterdir())
    points = json.loads((task / "task.json").read_text())
    for text in (json.dumps([{**point, "seed": point["seed"] + 10} for point in points]), "{", "[1]", "[]"):
        (task / "task.json").write_text(text)
        for name, words in (
            ("sweep", sweep_words(copied)),
            ("sample", [f"--workdir={copied}", "--point=0"]),
            ("compare", [f"--workdir={copied}", f"--out={copied.parent / 'x.png'}"]),
        ):
            code, _, error = command(name, *words)
            assert (code, error.count("\n")) == (2, 1), error
            assert f"task {task.name} " in error
            assert f"delete {task / 'task.json'}: the same sweep writes it anew" in error
    (task / "task.json").unlink()
    code, out, _ = command("sweep", *sweep_words(copied))
    assert (code, "of which 0 are to be trained" in out) == (0, True)  # as its rows are there
    assert json.loads((task / "task.json").read_text()) == points


def test_members_swapped_between_tasks_are_of_another_run(command, copied):
    one, other = sorted((copied / "tasks").iterdir())
    (one / "checkpoints").rename(copied / "aside")
    (other / "checkpoints").rename(one / "checkpoints")
    (copied / "aside").rename(other / "checkpoints")
    row = json.loads((copied / "results.jsonl").read_text().splitlines()[0])
    code, _, error = command("sample", f"--workdir={copied}", f"--point={row['point']}")
    assert (code, error.count("\n")) == (2, 1), error
    assert "is the checkpoint of another run, or of another config" in error


def test_strange_folders_beside_the_tasks_are_left_out(command, copied, swept):
    (task, *_) = sorted((copied / "tasks").iterdir())
    for name in ("old", f"{task.name} (copy)", f"{task.name}.bak"):
        shutil.copytree(task, copied / "tasks" / name)
    code, out, error = command("sweep", *sweep_words(copied))
    assert (code, error.count("is no task by its name; it is left out\n")) == (0, 3)
    assert "of which 0 are to be trained" in out
    assert (copied / "results.jsonl").read_bytes() == (swept / "results.jsonl").read_bytes()
    row = json.loads((copied / "results.jsonl").read_text().splitlines()[0])
    assert command("sample", f"--workdir={copied}", f"--point={row['point']}", "--num=4")[0] == 0
    assert command("compare", f"--workdir={copied}", f"--out={copied.parent / 'x.png'}")[0] == 0


def test_a_comparison_says_that_a_sweep_s_table_lacks_rows(command, copied):
    cut(copied / "results.jsonl")
    code, _, error = command("compare", f"--workdir={copied}", f"--out={copied.parent / 'x.png'}")
    assert (code, error.count("\n")) == (0, 1), error
    assert f"{copied / 'results.jsonl'}: lacks rows of 1 point, which the tasks have; the same sweep writes it anew" in error
