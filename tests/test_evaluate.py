"""The launcher that evaluates: evaluation.json with its protocol, equal to what training said, and its mistakes."""

import json
import time

import pytest

from experiments.evaluate import evaluate
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.training.loop import train
from wgan_jax.training.workdir import open_workdir

SIZES = ("--config.model.width=16", "--config.batch_size=16", "--config.n_critic=2", "--config.eval.draws=2")
EVERY = [f"--config.{name}_every=10" for name in ("log", "eval", "checkpoint")]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of five checkpoints on digits."""
    folder = tmp_path_factory.mktemp("run")
    overrides = [*SIZES, *EVERY, "--config.steps=50", "--config.keep=9", "--config.devices=1", "--config.cache_dir="]
    config = load("configs/wgan_gp.py", [*overrides, "--config.eval.samples=100", "--config.eval.feature_samples=80"])
    with open_workdir(folder, config):
        train(config, folder, time.perf_counter())
    return folder


def stored(workdir):
    return json.loads((workdir / "evaluation.json").read_text())["evaluations"]


@pytest.fixture(autouse=True)
def fresh(workdir):
    (workdir / "evaluation.json").unlink(missing_ok=True)


def test_it_says_what_training_said(workdir, capsys):
    evaluate([f"--workdir={workdir}", "--num=80", "--repeats=2"])
    (entry,) = stored(workdir)
    final = json.loads((workdir / "summary.json").read_text())["final"]
    assert {f"{name}{end}" for name in entry["values"] for end in ("", "_std")} == set(final)
    for name, value in entry["values"].items():
        assert (value["mean"], value["std"]) == pytest.approx((final[name], final[f"{name}_std"]), rel=1e-5), name
    assert (entry["step"], entry["critic_step"], entry["generator"], entry["split"]) == (50, 100, "ema", "test")
    assert "wasserstein_excess" in capsys.readouterr().out


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
        (["--repeats=0"], "--repeats: 0 is not a whole number of at least 1"),
        (["--num=2"], "--num: 2 is not a whole number from 10"),
        (["--metrics=fid"], "--metrics: 'fid' is not all, or some of wasserstein,"),
        (["--step=7"], "--step: no checkpoint '7'"),
        (["--split=train"], "argument --split: invalid choice: 'train'"),
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
