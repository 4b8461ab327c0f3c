"""Members of a task: equal to runs of their own, resumed exactly, stopped alone, split into chunks, told in rows."""

import functools
import json
import signal

import jax
import numpy as np
import pytest

from wgan_jax.config import check
from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import Stored
from wgan_jax.data.source import Feed, make_feed
from wgan_jax.errors import Interrupted, UserError
from wgan_jax.plan import resolve
from wgan_jax.training import members as members_module
from wgan_jax.training import progress
from wgan_jax.training.budget import members_that_fit
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.members import train_task
from wgan_jax.training.program import make_members, make_program
from wgan_jax.training.update import make_hyperparameters

TINY = {
    "dtype": "float64",
    "batch_size": 16,
    "n_critic": 2,
    "model.width": 8,
    "model.depth": 2,
    "steps": 12,
    "decay_steps": 20,
    "eval_every": 5,
    "checkpoint_every": 4,
    "eval.samples": 40,
    "eval.feature_samples": 40,
    "eval.draws": 2,
    "cache_dir": "",
}
SETTINGS = [
    {"seed": 0, "penalty.weight": 0.1},
    {"seed": 1, "penalty.weight": 10.0},
    {"seed": 2, "penalty.weight": 1.0, "critic.learning_rate": 1e-3, "critic.beta1": 0.0, "decay_steps": 0},
]


@pytest.fixture(autouse=True)
def _float64():
    jax.config.update("jax_enable_x64", True)  # for all threads: the compiler and evaluations run in others
    yield
    jax.config.update("jax_enable_x64", False)


def points_of(make_config, preset="ring8", settings=SETTINGS, **changes):
    base = make_config(f"wgan_gp.py:{preset}", {**TINY, "devices": 2, **changes})
    return resolve(base, settings)


def alone(config, n):
    """The state of a run of its own after n updates, as experiments.run trains it on one device."""
    config = config.copy_and_resolve_references()
    config.devices = 1
    dataset = load_dataset(check(config))
    program = make_program(config, dataset)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    feed = Feed()
    if isinstance(dataset, Stored):
        feed = make_feed(dataset, program.place(dataset.train), config.seed, 0, 3 * n, config.batch_size)
    arguments = (program.init_state(init_key), np.int32(n), make_hyperparameters(config), run_key, program.shard(feed))
    state, _, done, finite = program.run_updates(*arguments)
    assert (done, finite) == (n, True)
    return jax.device_get(state)


def close(tree, other, tolerance=1e-9):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b))


def result(folder, points, start=0):
    """The newest checkpoint of a chunk: its step, its arrays, and its rows."""
    config, count = points[0].config, len(points)
    members = make_members(config, load_dataset(config), count)
    keys = jax.vmap(jax.random.key)(np.zeros(-(-count // members.devices) * members.devices, int))
    fresh = progress.on_host(members.init_state(keys), count)
    checkpoints = Checkpoints(folder / "checkpoints" / f"from_{start:05d}")
    step = checkpoints.steps()[-1]
    tree = checkpoints.restore(step, {"states": fresh, "best": progress.evaluated(fresh)})
    return step, tree, checkpoints.info(step)["rows"]


def rows_of(folder, *, timed=False):
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return rows if timed else [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(make_config, tmp_path_factory):
    """A task of three members: its points and the folder of its run."""
    jax.config.update("jax_enable_x64", True)
    folder, points = tmp_path_factory.mktemp("task"), points_of(make_config)
    train_task(points, folder, "task", 0.0)
    return points, folder


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "vectorised"), [("digits", True), ("digits", False)])
def test_members_equal_runs_of_their_own(make_config, tmp_path, monkeypatch, preset, vectorised):
    monkeypatch.setattr(members_module, "make_members", functools.partial(make_members, vectorised=vectorised))
    points = points_of(make_config, preset)
    train_task(points, tmp_path, "task", 0.0)
    step, tree, _ = result(tmp_path, points)
    assert step == 12
    for i, point in enumerate(points):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], tree["states"]), alone(point.config, 12))


@pytest.mark.slow
def test_rows_tell_every_evaluation(undisturbed):
    points, folder = undisturbed
    rows = rows_of(folder, timed=True)
    assert [(row["point"], row["split"], row["state"], row["step"]) for row in rows[:9]] == [
        (point.id, "validation", "last", step) for step in (5, 10, 12) for point in points
    ]
    assert [(row["point"], row["split"], row["state"]) for row in rows[9:]] == [
        (point.id, "test", state) for point in points for state in ("last", "best")
    ]
    for row in rows:
        point = next(point for point in points if point.id == row["point"])
        assert (row["seed"], row["method"], row["status"]) == (point.config.seed, "wgan_gp", "ok")
        assert row["critic_step"] == 2 * row["step"]
    assert [rows[i]["seconds"] for i in (0, 3, 6)] == sorted(rows[i]["seconds"] for i in (0, 3, 6))


@pytest.mark.slow
def test_the_best_state_has_the_lowest_excess_on_validation(undisturbed):
    points, folder = undisturbed
    rows = rows_of(folder)
    _, tree, _ = result(folder, points)
    for i, point in enumerate(points):
        own = [row for row in rows if row["point"] == point.id]
        lowest = min((row for row in own if row["split"] == "validation"), key=lambda row: row["wasserstein_excess"])
        best = next(row for row in own if row["state"] == "best")
        assert best["step"] == lowest["step"]
        kept = jax.tree.map(lambda leaf, i=i: leaf[i], tree["best"])
        close(kept["ema"], alone(point.config, best["step"]).ema)


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 2, 4])
def test_an_interrupted_task_resumes_exactly(undisturbed, tmp_path, monkeypatch, call):
    """After any call: before the first checkpoint was due, at an evaluation, between two."""
    points, folder = undisturbed

    class Interrupting(members_module.Display):
        calls = 0

        def show(self, *arguments):
            self.calls += 1
            if self.calls == call:
                signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(members_module, "Display", Interrupting)
        with pytest.raises(Interrupted):
            train_task(points, tmp_path, "task", 0.0)
    assert 0 < result(tmp_path, points)[0] < 12
    assert not (tmp_path / "summary.json").exists()
    train_task(points, tmp_path, "task", 0.0)
    jax.tree.map(np.testing.assert_array_equal, result(tmp_path, points)[1], result(folder, points)[1])
    assert rows_of(tmp_path) == rows_of(folder)


def test_a_task_goes_on_to_more_steps_and_says_where_its_machine_is_another(
    undisturbed, make_config, tmp_path, monkeypatch, caplog
):
    """As under another launcher, which gives it another number of cores."""
    points, folder = undisturbed
    own = members_module.machine(2)
    with monkeypatch.context() as patch:
        patch.setattr(members_module, "machine", lambda _: own | {"cores": 77})
        train_task(points_of(make_config, steps=7), tmp_path, "task", 0.0)
        train_task(points_of(make_config, steps=7), tmp_path, "task", 0.0)
    assert rows_of(tmp_path)[-1]["step"] <= 7
    assert "another machine" not in caplog.text
    monkeypatch.setattr(members_module, "machine", lambda _: own)
    train_task(points, tmp_path, "task", 0.0)
    assert caplog.text.count(f"resuming on another machine (cores 77 -> {own['cores']}): exact up to rounding only") == 1
    jax.tree.map(np.testing.assert_array_equal, result(tmp_path, points)[1]["states"], result(folder, points)[1]["states"])
    ends = [[row for row in rows_of(where) if (row["split"], row["state"]) == ("test", "last")] for where in (folder, tmp_path)]
    assert ends[0] == ends[1]


def test_a_member_that_becomes_non_finite_stops_alone(undisturbed, make_config, tmp_path):
    bad = {"seed": 3, "critic.learning_rate": 1e38}
    points = points_of(make_config, settings=[SETTINGS[0], bad, *SETTINGS[1:]])
    train_task(points, tmp_path, "task", 0.0)
    rows = rows_of(tmp_path)
    ended = [row for row in rows if row["point"] == points[1].id]
    assert [(row["status"], row["split"], "wasserstein_excess" in row) for row in ended] == [
        ("non-finite", "validation", False)
    ]
    assert 1 <= ended[0]["step"] < 5
    assert result(tmp_path, points)[1]["states"].step.tolist() == [12, ended[0]["step"], 12, 12]
    others = [row for row in rows if row["point"] != points[1].id]
    assert others == rows_of(undisturbed[1])
    train_task(points, tmp_path, "task", 0.0)
    assert rows_of(tmp_path) == rows


def test_a_member_whose_samples_are_not_finite_stops_alone(undisturbed, tmp_path, monkeypatch):
    """Its losses may still be finite then."""
    points, folder = undisturbed

    def make_evaluator(*arguments):
        evaluator = members_module_evaluator(*arguments)

        def of_generator(variables, critic, split, draw):
            if split == "validation" and of_generator.calls == 1:
                variables = jax.tree.map(lambda leaf: leaf * np.inf, variables)
            of_generator.calls += 1
            return evaluator.of_generator(variables, critic, split, draw)

        of_generator.calls = 0
        return evaluator._replace(of_generator=of_generator)

    members_module_evaluator = members_module.make_evaluator
    monkeypatch.setattr(members_module, "make_evaluator", make_evaluator)
    monkeypatch.setattr(progress, "EVALUATED_AT_ONCE", 1)
    train_task(points, tmp_path, "task", 0.0)
    rows = rows_of(tmp_path)
    ended = [row for row in rows if row["point"] == points[1].id]
    assert [(row["status"], row["step"]) for row in ended] == [("non-finite", 5)]
    others = [row for row in rows_of(folder) if row["point"] != points[1].id]
    assert [row for row in rows if row["point"] != points[1].id] == others


def test_a_signal_during_an_evaluation_loses_no_update(undisturbed, tmp_path, monkeypatch):
    points, folder = undisturbed

    def make_evaluator(*arguments):
        evaluator = original(*arguments)

        def of_generator(*arguments):
            signal.raise_signal(signal.SIGTERM)
            return evaluator.of_generator(*arguments)

        return evaluator._replace(of_generator=of_generator)

    original = members_module.make_evaluator
    with monkeypatch.context() as patch:
        patch.setattr(members_module, "make_evaluator", make_evaluator)
        with pytest.raises(Interrupted):
            train_task(points, tmp_path, "task", 0.0)
    step, _, rows = result(tmp_path, points)
    assert (step, rows) == (5, [])
    train_task(points, tmp_path, "task", 0.0)
    assert rows_of(tmp_path) == rows_of(folder)


def test_fewer_steps_than_were_trained(undisturbed, make_config, tmp_path, monkeypatch):
    """What is there is evaluated where it stands."""
    points, _ = undisturbed

    class Interrupting(members_module.Display):
        def show(self, step, *arguments):
            if step == 8:
                signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(members_module, "Display", Interrupting)
        with pytest.raises(Interrupted):
            train_task(points, tmp_path, "task", 0.0)
    train_task(points_of(make_config, steps=6), tmp_path, "task", 0.0)
    ends = [row["step"] for row in rows_of(tmp_path) if (row["split"], row["state"]) == ("test", "last")]
    assert ends == [8, 8, 8]


def test_a_task_of_non_finite_members_ends(make_config, tmp_path):
    points = points_of(make_config, settings=[{"seed": seed, "critic.learning_rate": 1e38} for seed in (0, 1)])
    train_task(points, tmp_path, "task", 0.0)
    assert [row["status"] for row in rows_of(tmp_path)] == ["non-finite"] * 2
    assert json.loads((tmp_path / "summary.json").read_text())["step"] == 12


@pytest.mark.slow
def test_what_does_not_fit_together_is_trained_in_chunks(undisturbed, tmp_path, monkeypatch):
    points, folder = undisturbed
    monkeypatch.setattr(members_module, "members_that_fit", lambda *_: 2)
    train_task(points, tmp_path, "task", 0.0)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["from_00000", "from_00002"]
    by_point = [
        sorted(rows_of(where), key=lambda row: (row["point"], row["split"], row["step"])) for where in (folder, tmp_path)
    ]
    assert by_point[0] == by_point[1]
    monkeypatch.setattr(members_module, "members_that_fit", lambda *_: 3)  # more memory now: the chunks stay as they are
    (tmp_path / "summary.json").unlink()
    train_task(points, tmp_path, "task", 0.0)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["from_00000", "from_00002"]


def test_other_data_is_refused(make_config, tmp_path, monkeypatch):
    points = points_of(make_config, "digits", steps=2)
    train_task(points, tmp_path, "task", 0.0)
    dataset = load_dataset(points[0].config)
    monkeypatch.setattr(members_module, "load_dataset", lambda _: dataset._replace(fingerprint="other"))
    with pytest.raises(UserError, match="are not those that this sweep was trained on"):
        train_task(points, tmp_path, "task", 0.0)


def test_how_many_members_fit(make_config):
    config = points_of(make_config)[0].config
    dataset = load_dataset(config)
    state = alone(config, 1)
    size = 3 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert members_that_fit(config, dataset, memory=10 * size) == 6
    assert members_that_fit(config, dataset, memory=1) == 1
    together = members_that_fit(config, dataset, memory=1000 * size, vectorised=True)
    assert 1 <= together < 600


def test_more_devices_than_there_are(make_config):
    config = points_of(make_config)[0].config
    config.devices = 9
    with pytest.raises(UserError, match="9 asked for"):
        make_members(config, load_dataset(config), 3)


def test_a_member_without_a_score_has_no_best_state(undisturbed, tmp_path, monkeypatch):
    """The second one's score does not exist at first; the first one's never does."""
    points, folder = undisturbed

    def make_evaluator(*arguments):
        evaluator, calls = original(*arguments), iter(range(100))

        def of_generator(variables, critic, split, draw):
            values = evaluator.of_generator(variables, critic, split, draw)
            call = next(calls)  # on validation a call for each member in turn
            splits.append(split)
            return values | {"wasserstein_excess": np.nan} if split == "test" or call % 3 == 0 or call == 1 else values

        return evaluator._replace(of_generator=of_generator)

    splits = []
    original = members_module.make_evaluator
    monkeypatch.setattr(members_module, "make_evaluator", make_evaluator)
    monkeypatch.setattr(progress, "EVALUATED_AT_ONCE", 1)
    train_task(points, tmp_path, "task", 0.0)
    rows = rows_of(tmp_path)
    others = [row for row in rows if row["state"] == "best" and row["step"] < 12]
    assert splits.count("test") == 2 * (len(points) + len(others))  # draws of every state that there is
    tested = [[row["state"] for row in rows if (row["point"], row["split"]) == (point.id, "test")] for point in points]
    assert tested == [["last"], ["last", "best"], ["last", "best"]]
    (best,) = [row for row in rows if (row["point"], row["state"]) == (points[1].id, "best")]
    scores = {
        row["step"]: row["wasserstein_excess"]
        for row in rows_of(folder)
        if (row["point"], row["split"]) == (points[1].id, "validation") and row["step"] > 5
    }
    assert best["step"] == min(scores, key=lambda step: scores[step])
    assert {row["wasserstein_excess"] for row in rows if row["point"] == points[0].id} == {None}
    for path in (*tmp_path.rglob("manifest.json"), *tmp_path.rglob("*.jsonl")):
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(text, parse_constant=pytest.fail)
    train_task(points, tmp_path, "task", 0.0)  # from the last checkpoint, whose first score is null
    assert rows_of(tmp_path) == rows
