"""Runs and sweeps whose files were damaged, swapped or lost: the same command mends them, or says in a line what is wrong."""

import json
import shutil

import numpy as np
import pytest

from experiments import sweep
from experiments.launchers.task import is_done, read_task, task_names
from wgan_jax import runtime
from wgan_jax.records import sealed
from wgan_jax.training.logging import read_rows

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


@pytest.mark.slow
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


@pytest.mark.slow
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


def edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def edited_lines(folder):
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) | {"eval/wasserstein_excess": -1.0} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


ENDS = {
    "a number": (lambda folder: edit(folder / "summary.json", lambda said: said | {"final": said["best"]}), "is damaged"),
    "another run's": (
        lambda folder: edit(
            folder / "summary.json", lambda said: sealed({k: x for k, x in said.items() if k != "seal"} | {"run": "x"})
        ),
        "is of another config",
    ),
    "a line of the log": (edited_lines, "metrics.jsonl is not what it was when summary.json was written"),
    "the machine": (lambda folder: edit(folder / "provenance.json", lambda said: said | {"machine": {}}), "provenance.json is"),
    "a folder": (lambda folder: [(folder / "summary.json").unlink(), (folder / "summary.json").mkdir()], "is a directory"),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ENDS)
def test_what_a_finished_run_says_is_believed_only_as_it_was_written(command, run, trained, damage):
    table = compared(command, run)[1].replace(str(run.parent), "")
    change, said = ENDS[damage]
    change(run)
    code, _, error = compared(command, run)
    assert (code, error.count("\n")) == (2, 1), error
    assert said in error
    code, out, error = command("run", *WORDS, f"--workdir={run}")
    if damage == "a folder":  # which holds somebody's files, perhaps
        assert (code, error) == (2, f"error: {run / 'summary.json'}: is a directory\n")
        return
    assert (code, "already done" in out) == (0, False)
    assert lines_of(run) == lines_of(trained)
    assert "already done" in command("run", *WORDS, f"--workdir={run}")[1]
    assert compared(command, run)[1].replace(str(run.parent), "") == table


def test_a_damaged_provenance_is_left_out_of_a_comparison_of_what_goes_on(command, run):
    without(run, 6)
    (run / "provenance.json").write_text("{")
    code, _, error = compared(command, run)
    assert (code, error) == (0, f"WARNING: {run / 'provenance.json'}: cannot be read; it is left out\n")


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


@pytest.mark.slow
def test_samples_are_of_the_data_that_the_run_was_trained_on_whatever_became_of_it(command, tmp_path):
    """Scaling, labels and their shares are in the checkpoint; what reads the data itself refuses others."""
    path, folder, rng = tmp_path / "x.npz", tmp_path / "run", np.random.default_rng(0)
    words = [word for word in WORDS if not word.startswith(("--config=", "--config.steps="))]
    words += ["--config=configs/wgan_gp.py:array", f"--config.data.path={path}", "--config.conditioning.name=projection"]
    np.savez(path, x=rng.normal(5, 2, (90, 6, 6, 1)).astype(np.float32), y=rng.integers(0, 2, 90))
    assert command("run", *words, "--config.steps=2", f"--workdir={folder}")[::2] == (0, "")

    def sampled():
        assert command("sample", f"--workdir={folder}", f"--out={tmp_path / 's.npz'}", "--num=9")[::2] == (0, "")
        with np.load(tmp_path / "s.npz") as samples:
            return [samples[name].tobytes() for name in ("samples", "labels")]

    before = sampled()
    np.savez(path, x=rng.normal(-900, 40, (90, 6, 6, 1)).astype(np.float32), y=rng.integers(0, 3, 90))
    assert sampled() == before
    place = [f"--workdir={folder}", f"--config.data.path={path}"]
    for name, flags in (
        ("sample", ["--nearest=1", *place]),
        ("evaluate", ["--num=10", "--repeats=1", *place]),
        ("run", [*words, "--config.steps=3", "--config.decay_steps=3", f"--workdir={folder}"]),
    ):
        code, _, error = command(name, *flags)
        *_, said = error.splitlines()  # a run warns first that its rates go on falling
        assert (code, said.startswith("error: config.data: the images, their ")) == (2, True), error
        assert "labels or splits are not those that this run was trained on; name where those are, or choose another" in error
    path.unlink()
    assert sampled() == before


def test_an_evaluation_that_cannot_be_written_is_not_begun(command, run, monkeypatch):
    monkeypatch.setattr("wgan_jax.evaluation.evaluator.Evaluator.of_real", lambda *_: pytest.fail("it is begun"))
    (run / ".evaluation.lock").mkdir()
    code, _, error = command("evaluate", f"--workdir={run}", "--num=30")
    assert (code, error) == (2, f"error: {run / '.evaluation.lock'}: is a directory\n")


@pytest.mark.parametrize("damage", ["{", "", "[" * 100_000, "[1]", '{"steps": [[[', None])
def test_a_run_whose_config_is_lost_goes_on_with_that_of_the_same_command(command, run, trained, damage):
    (run / "config.json").unlink()
    if damage is not None:
        (run / "config.json").write_text(damage)
    for name, words in (("run", [*WORDS, "--config.steps=7"]), ("sample", []), ("compare", [f"--out={run.parent / 'x.png'}"])):
        code, _, error = command(name, *words, f"--workdir={run}")
        assert (code, error.count("\n"), len(error) < 500) == (2, 1, True), error
        assert error.endswith("; to go on here, copy config.json from another --workdir of the same command\n")
    shutil.copy(trained / "config.json", run)
    assert "already done" in command("run", *WORDS, f"--workdir={run}")[1]


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


def swap_rows(folder):
    one, other = sorted(folder.glob("tasks/*/rows.jsonl"))
    texts = one.read_bytes(), other.read_bytes()
    one.write_bytes(texts[1])
    other.write_bytes(texts[0])


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


@pytest.mark.slow
@pytest.mark.parametrize("damage", ROWS)
def test_a_task_whose_files_are_not_what_they_were_is_not_done(copied, damage):
    (name, *_) = task_names(copied)
    task = read_task(copied, name)
    assert is_done(copied, task)
    file, change = ROWS[damage]
    change(copied / "tasks" / name / file)
    assert not is_done(copied, task)


@pytest.mark.parametrize(
    "wrong",
    [
        {"point": ["a"]},
        {"status": None},
        {"split": 3},
        {"wasserstein_excess": "low"},
        {"recall": {}},
        {"seed": True},
        {"seconds": None},
    ],
)
def test_what_is_no_row_of_a_task_that_goes_on_is_left_out_and_said(swept, tmp_path, caplog, wrong):
    (path, *_) = swept.glob("tasks/*/rows.jsonl")
    good = read_rows(path)
    assert len(good) == len(path.read_text().splitlines())
    (tmp_path / "rows.jsonl").write_text(json.dumps(good[0] | wrong) + "\n" + path.read_text())
    assert read_rows(tmp_path / "rows.jsonl") == good
    assert "rows.jsonl: 1 line is no row, and left out" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["rows shortened", "a row's number changed", "no size of the chunks"])
def test_a_sweep_has_all_its_rows_again_after_the_same_command(command, copied, swept, damage, monkeypatch):
    (task, *_) = sorted((copied / "tasks").iterdir())
    if damage in ROWS:
        name, change = ROWS[damage]
        change(task / name)
    else:  # nor is there as much memory as there was
        monkeypatch.setattr("wgan_jax.training.members.members_that_fit", lambda *_: 1)
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


def compared(command, folder):
    return command("compare", f"--workdir={folder}", f"--out={folder.parent / 'x.png'}")


def other_stages(folder):
    path = folder / "stages.json"
    path.write_text(path.read_text().replace('"stages": [', '"stages": [[],'))


def other_base(folder):
    """Tasks under the config of another sweep, of which their ids, hashes of overrides, say nothing."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "batch_size": 16}))


SPOILT = {
    "a row's number changed": (lambda folder: changed(next((folder / "tasks").glob("*/rows.jsonl"))), "rows.jsonl is not what"),
    "rows of another task": (swap_rows, "rows.jsonl is not what it was when summary.json was written"),
    "other stages": (other_stages, "stages.json is damaged, or of an earlier version"),
    "another config": (other_base, "summary.json is of another config, or of an earlier version"),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", SPOILT)
def test_a_comparison_believes_a_sweep_s_files_only_as_they_were_written(command, copied, damage):
    assert compared(command, copied)[0] == 0
    kept = (copied / "config.json").read_text()
    change, said = SPOILT[damage]
    change(copied)
    code, _, error = compared(command, copied)
    assert (code, error.count("\n")) == (2, 1), error
    assert error.startswith(f"error: --workdir: {copied} cannot be read: {said}")
    (copied / "config.json").write_text(kept)
    assert command("sweep", *sweep_words(copied))[0] == 0
    assert compared(command, copied)[::2] == (0, "")


def test_a_sweep_s_table_is_for_its_reader_and_read_by_nothing(command, copied):
    table = compared(command, copied)[1]
    changed(copied / "results.jsonl")
    assert compared(command, copied)[::2] == (0, "")
    assert compared(command, copied)[1] == table
    (copied / "results.jsonl").unlink()
    assert compared(command, copied)[1] == table


def test_a_task_s_folder_of_another_sweep_is_not_done(copied, make_config):
    """Ids are hashes of overrides: those of a sweep of another base config are the same."""
    other_base(copied)
    assert [is_done(copied, read_task(copied, name)) for name in task_names(copied)] == [False, False]
