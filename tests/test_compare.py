"""experiments.compare on small run directories written by hand, whose rows and curves are known."""

import functools
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments.compare import NOTE, compare, read_runs
from experiments.launchers.task import read_task, task_names, write_task
from experiments.sweep import STAGES
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.plan import plan, resolve
from wgan_jax.records import file_digest, read_sealed, sealed
from wgan_jax.report.comparison import draw_comparison, shared_metrics, warnings_of
from wgan_jax.report.settings import gather
from wgan_jax.training.workdir import identity, write_json

SCORES = {50: 0.9, 100: 0.4, 150: 0.5}
loaded = functools.cache(load)
REAL = {"wasserstein_excess": -0.024, "wasserstein_excess_std": 0.006, "precision": 0.929, "precision_std": 0.01, "recall": 0.9}


@pytest.fixture
def write_run(tmp_path, root, monkeypatch):
    """Returns (name, scores by step, ...) -> writes a run directory of digits with them, its test metrics .1 above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def write(name, scores=SCORES, *, method="wgan_gp", preset="digits", status="done", rate=0.1, steps=150, real=REAL, **keys):
        words = [f"--config.{key}={value}" for key, value in {"steps": steps, "eval_every": 50, **keys}.items()]
        config = loaded(f"{root}/configs/{method}.py:{preset}", tuple(words))
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        lines = [{"step": 25, "critic_step": 125, "seconds": 25 * rate, "critic_loss": 1.0}]
        for step, score in scores.items():
            values = {"wasserstein_excess": score, "precision": 1 - score, "recall": score / 2, "raw/wasserstein_excess": 9.0}
            line = {"step": step, "critic_step": 5 * step, "seconds": step * rate}
            lines.append({**line, **{f"eval/{metric}": value for metric, value in values.items()}})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines if scores))
        sizes = {"validation": {"points": 297, "features": 297}, "test": {"points": 500, "features": 500}}
        made = {
            "overrides": words,
            "data": {"fingerprint": "", "examples": {"train": 1000, "validation": 297, "test": 500}},
            "evaluation": {"sizes": sizes, "features": {"name": "pixels", "weights": "", "resize": "none"}},
            "machine": {"devices": 1, "device_kind": "cpu", "processor": "P"},
        }
        (folder / "provenance.json").write_text(json.dumps(made))
        if status != "unfinished":
            summary = {"status": status, "step": max(scores, default=0), "final": {}, "best": None}
            if status == "done":
                best = min(scores, key=scores.get)
                states = [
                    {"wasserstein_excess": scores[at] + 0.1, "wasserstein_excess_std": 0.02} for at in (max(scores), best)
                ]
                states = [{**values, "precision": 0.75, "precision_std": 0.01, "recall": 0.5} for values in states]
                summary |= {
                    "final": states[0],
                    "best": {"step": best, "metric": "x", "value": 0, "test": states[1]},
                    "real": real,
                }
                summary["files"] = {name: file_digest(folder / name) for name in ("metrics.jsonl", "provenance.json")}
            write_json(folder / "summary.json", sealed(summary | {"run": identity(config)}))
        return folder

    return write


@pytest.fixture
def told(capsys, monkeypatch):
    """Returns (*flags) -> what compare prints, its figure left empty: drawing takes a second."""

    def call(*flags, drawn=False):
        if not drawn:
            monkeypatch.setattr("experiments.compare.draw_comparison", lambda *_: Figure(figsize=(1, 1)))
        compare(list(flags))
        return capsys.readouterr().out

    return call


def rewrite(folder, **changes):
    """Writes a run's summary.json with those changes, and its files as they are now."""
    summary = read_sealed(folder / "summary.json") | changes
    files = {name: file_digest(folder / name) for name in summary["files"]}
    write_json(folder / "summary.json", sealed(summary | {"files": files}))


def rows(text):
    """The table's rows, {label and note: {state: cells}}."""
    found, label = {}, ""
    for line in text.partition("\n\n")[0].partition("─\n")[2].splitlines():
        if line.startswith(" "):
            found[label][line[:8].strip()] = re.split(r"  +", line[8:].strip())
        else:
            label = line
            found[label] = {}
    return found


def series(figure, panel, label):
    """The points of a curve in a panel, by its label."""
    (line,) = [line for line in figure.axes[panel].lines if line.get_label() == label]
    return line.get_xydata().tolist()


def test_the_table_and_the_figure_of_two_runs(write_run, told, tmp_path):
    write_run("a"), write_run("b", {50: 0.6, 100: 0.3}, method="wgan", steps=100, rate=0.2)
    text = told("--workdir=a", f"--workdir={tmp_path}/b", drawn=True)
    found = rows(text)
    assert found["wgan_gp, steps 150"] == {
        "last": ["150", "15", "0.600 ± 0.020", "0.750 ± 0.010", "0.500"],
        "best": ["100", "10", "0.500 ± 0.020", "0.750 ± 0.010", "0.500"],
    }
    assert found["wgan, steps 100"]["last"] == ["100", "20", "0.400 ± 0.020", "0.750 ± 0.010", "0.500"]
    assert found["real, n = 297"] == {"": ["-0.024 ± 0.006", "0.929 ± 0.010", "0.900"]}
    assert "not comparable" not in text
    assert f"curves: {tmp_path}/compare.png" in text
    assert np.ptp(np.asarray(Image.open(tmp_path / "compare.png").convert("L"))) > 100


def test_the_curves_stand_against_updates_and_seconds(write_run):
    folders = [write_run("a"), write_run("b", method="wgan", rate=0.2)]
    settings = gather([run for folder in folders for run in read_runs(folder)])
    figure = draw_comparison(settings, shared_metrics(settings, None))
    assert [axes.get_title().splitlines() for axes in figure.axes[:3]] == [
        ["wasserstein excess", "lower is better"],
        ["precision", "higher is better"],
        ["recall", "higher is better"],
    ]
    assert [figure.axes[panel].get_xlabel() for panel in (0, 3)] == ["generator updates", "seconds of training"]
    assert series(figure, 0, "wgan_gp") == [[50, 0.9], [100, 0.4], [150, 0.5]]
    assert series(figure, 3, "wgan") == [[10, 0.9], [20, 0.4], [30, 0.5]]
    np.testing.assert_allclose(series(figure, 1, "wgan"), [[50, 0.1], [100, 0.6], [150, 0.5]])
    assert [y for _, y in series(figure, 0, "real")] == [-0.024, -0.024]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["wgan_gp", "wgan", "real, n = 297, on test"]


def test_real_data_of_several_kinds_is_told_apart(write_run):
    folders = [write_run("a"), write_run("b", method="wgan")]
    runs = [run for folder in folders for run in read_runs(folder)]
    runs[1] = runs[1]._replace(origin=runs[1].origin._replace(real={**runs[1].origin.real, "precision": 0.5}))
    figure = draw_comparison(gather(runs), ["precision"])
    lines = [line for line in figure.axes[0].lines if line.get_label() == "real"]
    assert [(line.get_ydata()[0], line.get_linestyle()) for line in lines] == [(0.929, "--"), (0.5, ":")]
    named = {handle.get_label(): handle.get_linestyle() for handle in figure.legends[0].legend_handles}
    assert named == {
        "wgan_gp": "-",
        "wgan": "-",
        "real, n = 297, on test (wgan_gp)": "--",
        "real, n = 297, on test (wgan)": ":",
    }


def test_runs_that_differ_in_the_seed_alone_are_one_setting(write_run, told):
    scores = [{50: 0.5 + seed / 10, 100: 0.2 + seed / 10} for seed in range(3)]
    folders = [
        write_run(f"s{seed}", scores[seed], seed=seed, steps=100, keep=seed + 1, rate=0.1 + seed / 10) for seed in range(3)
    ]
    folders.append(write_run("wide", {50: 0.4, 100: 0.1}, steps=100, **{"model.width": 7}))
    settings = gather([run for folder in folders for run in read_runs(folder)])
    assert [setting.title for setting in settings] == ["width 256, 3 runs", "width 7"]
    figure = draw_comparison(settings, ["wasserstein_excess"])
    np.testing.assert_allclose(series(figure, 0, "width 256"), [[50, 0.6], [100, 0.3]])
    np.testing.assert_allclose(series(figure, 1, "width 256"), [[10, 0.6], [20, 0.3]])  # of 5, 10 and 15 seconds the median
    (band,) = figure.axes[0].collections
    assert sorted({round(y, 6) for _, y in band.get_paths()[0].vertices}) == [0.2, 0.4, 0.5, 0.7]
    found = rows(told(*(f"--workdir={folder}" for folder in folders)))
    assert found["width 256, 3 runs"]["last"][2] == "0.400 ± 0.100"  # .3, .4 and .5 on test


def test_what_did_not_end_is_told_by_what_is_there(write_run, told):
    write_run("whole")
    write_run("cut", {50: 0.8}, status="unfinished", method="wgan")
    write_run("dead", {50: 0.7}, status="non-finite", method="gan")
    write_run("begun", {}, status="unfinished", method="wgan_lp")
    write_run("extended", {50: 0.8, 100: 0.3}, method="dragan", steps=400)
    found = rows(told(*(f"--workdir={name}" for name in ("whole", "cut", "dead", "begun", "extended"))))
    assert found["wgan, steps 150, unfinished at step 50"] == {"so far": ["50", "5", "0.800", "0.200", "0.400"]}
    assert found["gan, steps 150, non-finite at step 50"]["so far"][2] == "0.700"
    assert found["wgan_lp, steps 150, unfinished at step 0"] == {}
    assert list(found["dragan, steps 400, unfinished at step 100"]) == ["so far"]


def test_a_run_of_several_that_became_non_finite_is_counted_and_left_out(write_run, told):
    for seed in range(2):
        write_run(f"{seed}", seed=seed)
    write_run("2", {50: 0.9}, seed=2, status="non-finite")
    found = rows(told("--workdir=0", "--workdir=1", "--workdir=2"))
    assert found["wgan_gp, digits, 3 runs, 1 non-finite"]["last"][2] == "0.600 ± 0.000"


def test_seconds_of_an_end_between_two_lines_follow_from_the_pace(write_run):
    folder = write_run("a", {50: 0.9, 100: 0.4, 130: 0.5}, steps=130)
    path = folder / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # 130 is no multiple of log_every
    rewrite(folder, updates_per_second=20.0)
    (run,) = read_runs(folder)
    assert {state: (row["step"], row["seconds"]) for state, row in run.test.items()} == {
        "last": (130, 6.5),
        "best": (100, 10.0),
    }


def test_labels_name_what_differs(write_run):
    folders = [
        write_run("a", method="wgan"),
        write_run("b", **{"critic.learning_rate": 0.01}),
        write_run("c", **{"critic.learning_rate": 0.02}),
    ]
    labels = [setting.label for setting in gather([run for folder in folders for run in read_runs(folder)])]
    assert labels == ["wgan, learning_rate 0.0002", "wgan_gp, learning_rate 0.01", "wgan_gp, learning_rate 0.02"]


def test_other_protocols_are_said(write_run, told):
    write_run("a"), write_run("b", **{"eval.samples": 100}), write_run("c", preset="ring8", real={**REAL, "recall": 0.5})
    text = told("--workdir=a", "--workdir=b", "--workdir=c")
    (line,) = [line for line in text.splitlines() if line.startswith("not comparable: ")]
    assert "data.name digits (digits, samples 500, digits, samples 100) and ring8 (ring8, samples 2000)" in line
    assert "eval.samples 500 (digits, samples 500) and 100 (digits, samples 100) and 2000 (ring8, samples 2000)" in line
    assert [name for name in rows(text) if name.startswith("real")] == [
        "real, n = 297 (digits, samples 500)",
        "real, n = 297 (ring8, samples 2000)",
    ]


def test_seconds_of_other_machines_and_a_seed_twice_are_said(write_run):
    folders = [write_run("a"), write_run("b"), write_run("c", method="gan")]
    path = folders[2] / "provenance.json"
    path.write_text(path.read_text().replace('"processor": "P"', '"processor": "Q"'))
    rewrite(folders[2])
    assert warnings_of(gather([run for folder in folders for run in read_runs(folder)])) == [
        "seconds are not comparable: on 1 cpu, P (wgan_gp) and on 1 cpu, Q (gan)",
        "wgan_gp: seed 0 is there more than once; its runs are no new ones",
    ]


def stage(folder, *stages):
    write_json(folder / STAGES, sealed({"stages": stages}))


def write_rows(folder, lines):
    """Gives each line to the task that its point is of."""
    for name in task_names(folder):
        points = {point.id for point in read_task(folder, name).points}
        own = "".join(json.dumps(line) + "\n" for line in lines if line["point"] in points)
        (folder / "tasks" / name / "rows.jsonl").write_text(own)


def write_sweep(folder, root):
    """Of two widths at two seeds, of which one became non-finite, and a stage of one more seed of the better."""
    base = load(f"{root}/configs/wgan_gp.py", ["--config.steps=100", "--config.eval_every=50"])
    dicts = [{"model.width": width, "seed": seed} for width in (8, 16) for seed in (0, 1)]
    points = resolve(base, [*dicts, {"model.width": 8, "seed": 100}])
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(base.to_dict()))
    for task in plan(points, 8):
        write_task(folder, task)
    stage(folder, [point.id for point in points])
    lines = []
    for index, point in enumerate(points):
        told = {"point": point.id, "seed": point.config.seed, "method": "wgan_gp", "status": "ok"}
        dead = index == 3
        for step, score in ((50, 0.5), (100, 0.2 + index / 100)):
            spent = {
                **told,
                "step": step,
                "critic_step": 5 * step,
                "seconds": step / 100,
                "split": "validation",
                "state": "last",
            }
            lines.append(
                {**spent, "wasserstein_excess": score} if step == 50 or not dead else {**spent, "status": "non-finite"}
            )
        if not dead:
            lines += [
                {**lines[-1], "split": "test", "state": state, "wasserstein_excess": score + 0.1} for state in ("last", "best")
            ]
    return lines


def test_a_sweep_and_a_run(write_run, told, tmp_path, root):
    write_run("run", {50: 0.5, 100: 0.4}, steps=100)
    write_rows(tmp_path / "sweep", write_sweep(tmp_path / "sweep", root)[:-4])
    text = told("--workdir=sweep", "--workdir=run", "--metric=wasserstein_excess")
    found = rows(text)
    assert found["width 8, 2 runs"]["last"] == ["100", "1", "0.305 ± 0.007"]
    assert found["width 16, 2 runs, 1 non-finite"]["best"] == ["100", "1", "0.320"]
    assert "seconds are not comparable" in text


def test_of_a_sweep_of_several_stages_the_latest_that_has_begun(write_run, tmp_path, root):
    folder = tmp_path / "sweep"
    lines = write_sweep(folder, root)
    ids = list(dict.fromkeys(line["point"] for line in lines))
    stage(folder, ids[:4], ids[4:])
    write_rows(folder, lines)
    (run,) = read_runs(folder)
    assert (run.config["seed"], run.config["model.width"], run.status, run.stage) == (100, 8, "done", 1)
    write_rows(folder, lines[:-4])
    assert [(run.config["seed"], run.stage) for run in read_runs(folder)] == [(0, 0), (1, 0), (0, 0), (1, 0)]
    stage(folder, ids[2:3])  # of a command that takes fewer points
    assert [run.config["model.width"] for run in read_runs(folder)] == [16]


def test_a_setting_all_of_which_became_non_finite_has_its_last_finite_evaluation(write_run, told, tmp_path, root):
    lines = write_sweep(tmp_path / "sweep", root)
    never = next(line for line in lines if line["seed"] == 100)  # of width 8: non-finite before it had any evaluation
    kept = [{**never, "status": "non-finite", "wasserstein_excess": None}, *lines[12:14]]
    write_rows(tmp_path / "sweep", kept)
    found = rows(told("--workdir=sweep"))
    assert found == {
        "width 8, non-finite at step 50": {},
        "width 16, non-finite at step 100": {"so far": ["50", "0", "0.500"]},
    }


def test_a_swept_number_is_no_metric(write_run, tmp_path, root):
    lines = write_sweep(tmp_path / "sweep", root)
    measured = [{**{k: x for k, x in line.items() if k != "wasserstein_excess"}, "mmd": 0.5, "n_critic": 5} for line in lines]
    write_rows(tmp_path / "sweep", measured)
    assert shared_metrics(gather(read_runs(tmp_path / "sweep")), None) == ["mmd"]


def test_another_metric(write_run, told):
    write_run("a"), write_run("b", method="gan")
    assert rows(told("--workdir=a", "--workdir=b", "--metric=recall"))["gan"]["last"][2:4] == ["0.500", "0.600 ± 0.020"]


def test_the_table_has_as_many_metrics_as_fit(write_run, told, monkeypatch):
    write_run("a", {10_000: 10.0}, steps=10_000, **{"model.generator_activation": "leaky_relu"})
    write_run("b", {10_000: 10.0}, steps=10_000, **{"model.generator_activation": "tanh", "seed": 3})
    for columns, last in ((80, "recall"), (60, "precision"), (20, "excess")):
        monkeypatch.setenv("COLUMNS", str(columns))
        table, _, notes = told("--workdir=a", "--workdir=b").partition("\n\n")
        assert max(map(len, notes.splitlines()[: len(NOTE) // columns])) <= columns
        assert table.partition("\n─")[0].endswith(last)
        assert max(map(len, table.splitlines())) <= max(columns, 50)
        assert table.count("10.100 ± 0.020") == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir=nowhere"], "--workdir: no directory HERE/nowhere"),
        (["--workdir=empty"], "--workdir: HERE/empty holds no run (no config.json)"),
        (["--workdir=a", "--workdir=link"], "--workdir: HERE/link is given twice"),
        (["--workdir=a", "--metric=recal"], "--metric: HERE/a has no recal; did you mean recall?"),
        (["--workdir=a", "--metric=modes"], "--metric: HERE/a has no modes; all have precision, recall, wasserstein_excess"),
        (["--workdir=begun"], "nothing to compare yet"),
        (
            ["--workdir=a", "--workdir=other"],
            "no common metric: HERE/a has precision, recall, wasserstein_excess; HERE/other has modes",
        ),
        (
            ["--workdir=damaged"],
            "--workdir: HERE/damaged cannot be read: summary.json is damaged, or of an earlier version; the command that",
        ),
        (["--workdir=unstaged"], "--workdir: HERE/unstaged cannot be read: it has no stages.json; the command that"),
        (["--workdir=a", "--out=x.pdf"], "--out: HERE/x.pdf does not end in .png"),
        (["--workdir=a", "--out=nowhere/x.png"], "--out: no directory HERE/nowhere"),
        (["--workdir=a", "--out=dir.png"], "--out: HERE/dir.png: name a file, not a folder"),
        (["--workdir=a", "--config.seed=3"], "--config.seed=3: runs are compared as they are"),
        (["--workdir=sweep"], "sweep is a sweep of which nothing was evaluated yet"),
    ],
)
def test_mistakes_are_one_line(write_run, tmp_path, root, flags, message):
    write_run("a"), write_run("begun", {}, status="unfinished")
    for folder in ("empty", "dir.png"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (write_run("damaged") / "summary.json").write_text("{")
    other = write_run("other", method="gan", status="unfinished") / "metrics.jsonl"
    other.write_text('{"step": 50, "seconds": 1.0, "eval/modes": 8.0}\n')
    for name in ("sweep", "unstaged"):
        write_sweep(tmp_path / name, root)
    (tmp_path / "unstaged" / STAGES).unlink()
    with pytest.raises(UserError, match=re.escape(message.replace("HERE", str(tmp_path)))) as error:
        compare(flags)
    assert len(error.value.lines) == 1
    assert not (tmp_path / "compare.png").exists()


def test_no_jax_is_imported(root):
    probe = "import sys, experiments.compare; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], cwd=root, check=False).returncode == 0
