"""The launcher that evaluates: evaluation.json with its protocol, equal to what training said, and its mistakes."""

import json
import shutil
import time

import numpy as np
import pytest

from experiments.evaluate import evaluate
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.training import loop
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.loop import train
from wgan_jax.training.workdir import open_workdir

SIZES = ("--config.model.width=16", "--config.batch_size=16", "--config.n_critic=2", "--config.eval.draws=2")
EVERY = [f"--config.{name}_every=10" for name in ("log", "eval", "checkpoint")]


def trained(folder, *overrides):
    """A run on digits."""
    fixed = [*SIZES, *EVERY, "--config.keep=9", "--config.devices=1", "--config.cache_dir="]
    sizes = ["--config.eval.samples=100", "--config.eval.feature_samples=80"]
    config = load("configs/wgan_gp.py", [*fixed, *sizes, *overrides])
    with open_workdir(folder, config):
        train(config, folder, time.perf_counter())
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of five checkpoints on digits."""
    return trained(tmp_path_factory.mktemp("run"), "--config.steps=50")


def stored(workdir):
    return json.loads((workdir / "evaluation.json").read_text())["evaluations"]


@pytest.fixture(autouse=True)
def fresh(workdir):
    (workdir / "evaluation.json").unlink(missing_ok=True)


@pytest.mark.slow
def test_it_says_what_training_said(workdir, capsys):
    evaluate([f"--workdir={workdir}", "--num=80", "--repeats=2"])
    (entry,) = stored(workdir)
    final = json.loads((workdir / "summary.json").read_text())["final"]
    assert {f"{name}{end}" for name in entry["values"] for end in ("", "_std")} == set(final)
    for name, value in entry["values"].items():
        assert (value["mean"], value["std"]) == pytest.approx((final[name], final[f"{name}_std"]), rel=1e-5), name
    assert (entry["step"], entry["critic_step"], entry["generator"], entry["split"]) == (50, 100, "ema", "test")
    first, title, *table = capsys.readouterr().out.splitlines()
    assert first == "evaluating step 50 and real data, 2 draws of each"
    assert title == "step 50, averaged generator, test split, mean ± deviation of 2 draws"
    assert any("wasserstein excess" in line for line in table)


def test_values_carry_their_protocol_and_real_data(workdir):
    evaluate([f"--workdir={workdir}", "--metrics=frechet,wasserstein", "--repeats=1", "--split=validation"])
    (entry,) = stored(workdir)
    value = entry["values"]["frechet_distance"]
    expected = {"n_real": 297, "n_fake": 297, "split": "validation", "features": "pixels", "weights": "", "resize": "none"}
    assert {name: value[name] for name in expected} == expected
    assert 0 < value["real"]["mean"] < value["mean"]
    assert entry["values"]["wasserstein_empirical"]["n_real"] == 100
    assert "precision" not in entry["values"]


def test_the_same_protocol_is_stored_once_and_others_beside_it(workdir):
    arguments = [f"--workdir={workdir}", "--metrics=wasserstein", "--repeats=1"]
    evaluate(arguments)
    first = stored(workdir)
    evaluate(arguments)
    assert [entry["values"] for entry in stored(workdir)] == [first[0]["values"]]  # and repeated to the last bit
    evaluate([*arguments, "--raw"])
    evaluate([*arguments, "--step=20"])
    evaluate([*arguments, "--config.eval.samples=60"])
    assert [(entry["step"], entry["generator"]) for entry in stored(workdir)] == [
        (20, "ema"),
        (50, "ema"),
        (50, "raw"),
        (50, "ema"),
    ]


def test_all_checkpoints_are_drawn_and_ranked(workdir, capsys):
    evaluate([f"--workdir={workdir}", "--metrics=wasserstein", "--repeats=1", "--step=all"])
    assert [entry["step"] for entry in stored(workdir)] == [10, 20, 30, 40, 50]
    assert (workdir / "figures" / "evaluation.png").stat().st_size > 10_000
    assert "Spearman" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats=0"], "--repeats: 0 is not a whole number from 1 to 10000"),
        (["--num=2"], "--num: 2 is not a whole number from 10"),
        (["--metrics=fid"], "--metrics: 'fid' is not all, or some of wasserstein,"),
        (["--metrics=fid"], "; did you mean frechet?"),
        (["--metrics=modes"], "--metrics: modes is only of mixtures of Gaussians (ring8, grid25)"),
        (["--step=7"], "--step: no checkpoint '7'"),
        (["--split=train"], "--split: invalid choice: 'train'"),
        (["--config.eval.features=vgg"], "config.eval.features: 'vgg' is not one of pixels, classifier, inception"),
        (["--config.eval.features=inception"], "config.eval.weights"),
        (["--config.model.width=8"], "config.model.width: is the run's own"),
    ],
)
def test_mistakes_are_one_line(workdir, arguments, message):
    with pytest.raises(UserError) as error:
        evaluate([f"--workdir={workdir}", *arguments])
    assert len(error.value.lines) == 1
    assert message in error.value.lines[0]
    assert not (workdir / "evaluation.json").exists()


def test_another_file_of_that_name_is_not_overwritten(workdir):
    (workdir / "evaluation.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"no evaluation\.json of this program"):
        evaluate([f"--workdir={workdir}", "--metrics=wasserstein", "--repeats=1"])
    assert (workdir / "evaluation.json").read_text() == "[1, 2]"


def test_metrics_that_do_not_fit_are_left_out_and_said(workdir, capsys):
    evaluate([f"--workdir={workdir}", "--metrics=modes,sliced", "--repeats=1"])
    out = capsys.readouterr().out
    assert out.startswith("left out: modes is only of mixtures of Gaussians (ring8, grid25)\n")
    assert {"modes", "sliced_wasserstein"} & set(stored(workdir)[0]["values"]) == {"sliced_wasserstein"}


def test_one_draw_has_no_deviation(workdir, capsys):
    evaluate([f"--workdir={workdir}", "--metrics=sliced", "--repeats=1"])
    assert "±" not in capsys.readouterr().out
    text = (workdir / "evaluation.json").read_text()
    value = json.loads(text, parse_constant=pytest.fail)["evaluations"][0]["values"]["sliced_wasserstein"]
    assert (value["std"], value["real"]["std"]) == (None, None)
    evaluate([f"--workdir={workdir}", "--metrics=sliced", "--repeats=2"])
    assert "±" in capsys.readouterr().out


@pytest.fixture
def copy(workdir, tmp_path):
    """The run, of which checkpoints may be deleted."""
    return shutil.copytree(workdir, tmp_path / "run")


def test_the_next_checkpoint_is_taken_where_a_run_deletes_the_newest(copy, monkeypatch, capsys):
    restore = Checkpoints.restore

    def late(self, step, target):
        if step == 50:
            shutil.rmtree(self.folder / "step_00000050")
        return restore(self, step, target)

    monkeypatch.setattr(Checkpoints, "restore", late)
    evaluate([f"--workdir={copy}", "--metrics=sliced", "--repeats=1"])
    assert [entry["step"] for entry in stored(copy)] == [40]
    with pytest.raises(UserError, match=r"no checkpoint '50' .*; there are: latest, best, \[10, 20, 30, 40\]$"):
        evaluate([f"--workdir={copy}", "--metrics=sliced", "--repeats=1", "--step=50"])


def test_all_checkpoints_are_those_that_are_left(copy, monkeypatch, capsys):
    restore = Checkpoints.restore

    def late(self, step, target):
        for gone in (20, 30) if step == 10 else ():
            shutil.rmtree(self.folder / f"step_{gone:08d}")
        return restore(self, step, target)

    monkeypatch.setattr(Checkpoints, "restore", late)
    evaluate([f"--workdir={copy}", "--metrics=sliced", "--repeats=1", "--step=all"])
    assert [entry["step"] for entry in stored(copy)] == [10, 40, 50]
    assert "left out: step 20, 30, which the run deleted meanwhile" in capsys.readouterr().out


def test_a_run_of_equal_images_has_no_best_and_its_files_are_json(tmp_path, monkeypatch, capsys, caplog):
    # the real-real floor is 0 there, so that no ratio to it exists; a median distance of 0 is no bandwidth
    def alike(config):
        dataset = load_dataset(config)
        splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
        first = dataset.train.images[:1]
        equal = {name: split._replace(images=np.repeat(first, len(split.images), 0)) for name, split in splits.items()}
        return dataset._replace(**equal)

    load_dataset = loop.load_dataset
    monkeypatch.setattr(loop, "load_dataset", alike)
    trained(tmp_path, "--config.steps=20", "--config.eval.metrics=wasserstein,mmd,precision_recall")
    texts = {path.name: path.read_text() for path in (*tmp_path.rglob("*.json"), *tmp_path.rglob("metrics.jsonl"))}
    values = [json.loads(line, parse_constant=pytest.fail) for line in texts.pop("metrics.jsonl").splitlines()]
    files = {name: json.loads(text, parse_constant=pytest.fail) for name, text in texts.items()}
    assert (files["manifest.json"]["info"]["score"], values[-1]["eval/wasserstein_excess"]) == (None, None)
    summary = files["summary.json"]
    assert (summary["status"], summary["best"]) == ("done", None)
    assert (summary["final"]["wasserstein_floor"], summary["final"]["wasserstein_excess"]) == (0, None)
    assert summary["final"]["wasserstein_empirical"] > 1
    assert (summary["real"]["mmd"], summary["real"]["precision"]) == (None, 1)
    out = capsys.readouterr().out
    assert "best, step" not in out
    assert "no best state: wasserstein_excess on validation does not exist for any checkpoint" in out
    assert "mmd is missing: bandwidth: 0 is not positive" in caplog.text
    with pytest.raises(UserError, match=r"no checkpoint 'best' .*; there are: latest, \[10, 20\]$"):
        evaluate([f"--workdir={tmp_path}", "--step=best"])
