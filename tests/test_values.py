"""What a run and a sweep write, against values from outside of them: networks in NumPy, distances by SciPy, one long feed.

The learning rate makes the generator worse at every update, so that the best state is the first that is evaluated.
"""

import functools
import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from experiments import evaluate, restore, run, sample, sweep
from wgan_jax import runtime
from wgan_jax.batching import batches_per_update
from wgan_jax.config import load
from wgan_jax.data import load_dataset, source
from wgan_jax.data.source import Feed
from wgan_jax.evaluation import figures
from wgan_jax.evaluation.figures import Artist
from wgan_jax.evaluation.reference import make_reference
from wgan_jax.training.calls import updates_in_feed
from wgan_jax.training.program import make_program
from wgan_jax.training.update import make_hyperparameters

N, STEPS, SEEDS, BATCH, DRAWS = 40, 6, (3, 4), 8, 2
ROOM = 8  # batches in a feed, of which an update takes three
CONFIG = f"""
from configs import wgan

TINY = {{"batch_size": {BATCH}, "n_critic": 2, "model.width": 8, "model.depth": 1, "latent.dim": 4, "steps": {STEPS}}}
TINY |= {{"devices": 1, "generator.learning_rate": 0.03, "decay_steps": 0, "cache_dir": "", "keep": 9, "sample_every": 100}}
TINY |= {{"log_every": 2, "eval_every": 2, "checkpoint_every": 2, "warmup.critic_steps": 0}}
TINY |= {{"eval.metrics": "wasserstein", "eval.samples": {N}, "eval.draws": {DRAWS}, "eval.raw": True}}

def get_config(preset="digits"):
    config = wgan.get_config(preset)
    config.update_from_flattened_dict(TINY)
    return config

def get_sweep(preset="digits"):
    return [{{"seed": seed}} for seed in {SEEDS}]
"""
PLAYERS = {"": "ema", "raw/": "generator"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run of the first seed and of a sweep over both, on digits, and where the feeds of each began."""
    folder, feeds, begun = tmp_path_factory.mktemp("values"), {"run": [], "sweep": []}, []
    (folder / "tiny.py").write_text(CONFIG)

    def make_feed(dataset, resident, seed, first, positions, size):
        begun.append((seed, first))
        assert positions == ROOM
        return source_make_feed(dataset, resident, seed, first, positions, size)

    source_make_feed = source.make_feed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "configure_jax", lambda config: None)  # the tests' own settings stay
        patch.setattr(source, "ROWS_PER_FEED", ROOM * BATCH)
        patch.setattr(source, "make_feed", make_feed)
        patch.setattr(figures, "make_artist", lambda *_: Artist(*[lambda *_: None] * 3))  # pictures take seconds
        patch.setattr(sweep, "report", lambda *_: None)
        run.run([f"--config={folder / 'tiny.py'}", f"--workdir={folder / 'run'}", f"--config.seed={SEEDS[0]}"])
        feeds["run"], begun[:] = list(begun), []
        sweep.sweep([f"--config={folder / 'tiny.py'}", f"--workdir={folder / 'sweep'}"])
        feeds["sweep"] = list(begun)
    return folder, feeds


@pytest.fixture(scope="module")
def folder(made):
    return made[0]


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    monkeypatch.setattr(runtime, "configure_jax", lambda config: None)


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(load("configs/wgan_gp.py:digits"))


@pytest.fixture(scope="module")
def replayed(folder, dataset):
    """The state of each seed after all updates, one a call, each from a feed of its own; the rows are NumPy's permutation."""
    config, states = load(str(folder / "tiny.py")), []
    program = make_program(config, dataset)
    hyper, one, resident = program.place((make_hyperparameters(config), np.int32(1), dataset.train))
    for seed in SEEDS:
        init_key, run_key = program.place(jax.random.split(jax.random.key(seed)))
        rows = np.random.default_rng((seed, 0)).permutation(1000)[: 8 * BATCH * STEPS].reshape(-1, BATCH).astype(np.int32)
        state = program.init_state(init_key)
        for position in range(0, 3 * STEPS, 3):
            feed = Feed(resident, np.int32(position), rows[position : position + ROOM])
            state = program.run_updates(state, one, hyper, run_key, program.shard(feed))[0]
        states.append(jax.device_get(state))
    return states


def in_numpy(player):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), player["params"])


def images_of(params, latents):
    """The generator by hand: one layer of ReLU, tanh, and the 256 levels of a pixel, [n, 64]."""
    hidden, last = params["Hidden_0"]["Dense_0"], params["Dense_0"]
    h = np.maximum(latents @ hidden["kernel"] + hidden["bias"], 0)
    return np.round((np.tanh(h @ last["kernel"] + last["bias"]) + 1) * 127.5) / 127.5 - 1


def latents_of(key, count):
    """Latents that are functions of the key and their number alone."""
    draw = jax.vmap(lambda index: jax.random.normal(jax.random.fold_in(key, index), (4,)))
    return np.asarray(draw(np.arange(count)), np.float64)


def distance(x, y):
    costs = cdist(x, y)
    return costs[linear_sum_assignment(costs)].mean()


def excess_of(dataset, first, second, split, draw):
    reference = make_reference(dataset, split, N, draw)
    floor = distance(reference.real, reference.again)
    return (distance(first, reference.real) - distance(first, second) / 2 - floor / 2) / floor


def score(dataset, player, split, draw=0):
    """The excess of a generator's variables, by hand."""
    key = jax.random.fold_in(jax.random.key(30_000 + draw), split == "test")
    return excess_of(dataset, *np.split(images_of(in_numpy(player), latents_of(key, 2 * N)), 2), split, draw)


def on_test(dataset, player):
    return np.mean([score(dataset, player, "test", draw) for draw in range(DRAWS)])


def close(value):
    return pytest.approx(value, rel=1e-3)  # a pixel may round to the next level


@pytest.fixture(scope="module")
def states(folder):
    """The run's states by step, read by Orbax alone."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return {step: reader.restore(folder / f"run/checkpoints/step_{step:08d}/state") for step in (2, 4, 6)}


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder / "run" / "summary.json").read_text())


# The run


@pytest.mark.slow
def test_every_evaluation_is_of_its_generator_on_validation(folder, states, dataset):
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    seen = set()
    for line in lines:
        for prefix, player in PLAYERS.items():
            value = line[f"eval/{prefix}wasserstein_excess"]
            assert value == close(score(dataset, states[line["step"]][player], "validation"))
            assert value != close(score(dataset, states[line["step"]][player], "test"))
            seen.add(round(value, 2))
    assert len(seen) == 6  # so that none stands in for another


@pytest.mark.parametrize(
    ("words", "split", "player", "step"),
    [
        (["--step=4", "--split=validation"], "validation", "ema", 4),
        (["--step=4", "--split=validation", "--raw"], "validation", "generator", 4),
        (["--step=best", "--raw"], "test", "generator", 2),
    ],
)
def test_an_evaluation_of_a_checkpoint(folder, states, dataset, words, split, player, step):
    (folder / "run" / "evaluation.json").unlink(missing_ok=True)
    evaluate.evaluate([f"--workdir={folder / 'run'}", "--repeats=1", *words])
    (entry,) = json.loads((folder / "run" / "evaluation.json").read_text())["evaluations"]
    assert entry["step"] == step
    assert entry["values"]["wasserstein_excess"]["mean"] == close(score(dataset, states[step][player], split))


def test_the_best_state_is_the_lowest_on_validation_and_told_on_test(summary, states, dataset):
    scores = {step: score(dataset, state["ema"], "validation") for step, state in states.items()}
    assert min(scores, key=scores.get) == summary["best"]["step"] == 2
    assert summary["best"]["value"] == close(scores[2])
    assert summary["best"]["test"]["wasserstein_excess"] == close(on_test(dataset, states[2]["ema"]))
    assert summary["final"]["wasserstein_excess"] == close(on_test(dataset, states[6]["ema"]))


def test_the_real_row_is_of_the_test_split(summary, dataset):
    """Validation examples in the generator's place, training examples as its second sample."""
    references = [make_reference(dataset, "test", N, draw) for draw in range(DRAWS)]
    test = {bytes(image) for image in dataset.test.images}
    rows = [np.round((found.real + 1) * 127.5).astype(np.uint8) for found in references]
    assert all(bytes(row) in test for row in np.concatenate(rows))
    values = [excess_of(dataset, found.spare, found.again, "test", draw) for draw, found in enumerate(references)]
    assert summary["real"]["wasserstein_excess"] == pytest.approx(np.mean(values), rel=1e-6)
    floors = [distance(found.real, found.again) for found in references]
    assert summary["real"]["wasserstein_floor"] == pytest.approx(np.mean(floors), rel=1e-6)


def as_replayed(players, state):
    """Compares parameters with those of the replay to 1e-4 of the largest; an update moves the generator's by .03."""
    for name in ("critic", "generator"):
        own, other = in_numpy(players[name]), in_numpy({"params": getattr(state, name).params})
        for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


def test_a_run_is_that_of_its_seed_from_feed_to_feed(states, replayed):
    as_replayed(states[STEPS], replayed[0])
    with pytest.raises(AssertionError):
        as_replayed(states[STEPS], replayed[1])


def test_a_feed_ends_before_the_update_that_it_cannot_hold(made):
    """Of 8 batches two updates take three each, and the third would read past the end: silently the wrong rows."""
    begun = (0, 6, 12, 18)
    assert made[1]["run"] == [(SEEDS[0], first) for first in begun]
    assert made[1]["sweep"] == [(seed, first) for first in begun for seed in SEEDS]


def test_the_updates_that_a_feed_holds(make_config):
    """By hand: three batches each, seven in the warm-up's first step; the feed ends before batch `end`."""

    def fits(warmup, step, position, ends):
        config = make_config("wgan.py:digits", {"n_critic": 2, **warmup})
        needed = functools.partial(batches_per_update, config)
        return [updates_in_feed(needed, step, 4, position, end) for end in ends]

    steady = fits({"warmup.critic_steps": 0}, 5, 10, (12, 13, 15, 16, 99))
    assert steady == [(0, 10), (1, 13), (1, 13), (2, 16), (4, 22)]
    warm = fits({"warmup.critic_steps": 6, "warmup.first": 1}, 0, 0, (6, 7, 9, 10))
    assert warm == [(0, 0), (1, 7), (1, 7), (2, 10)]


@pytest.mark.parametrize(("words", "player"), [([], "ema"), (["--raw"], "generator")])
def test_samples_are_of_the_generator_asked_for(folder, states, words, player):
    out = folder / "samples.npz"
    sample.sample([f"--workdir={folder / 'run'}", f"--out={out}", "--num=70", "--seed=5", *words])
    with np.load(out) as arrays:
        np.testing.assert_allclose(arrays["latents"], latents_of(jax.random.key(5), 70), rtol=1e-5)
        levels = (images_of(in_numpy(states[STEPS][player]), arrays["latents"].astype(np.float64)) + 1) * 127.5
        assert np.abs(arrays["samples"].reshape(70, 64) - levels).max() < 1.01
        assert np.mean(np.abs(arrays["samples"].reshape(70, 64) - levels) > 0.5) < 0.01


# The sweep


@pytest.mark.parametrize("index", range(len(SEEDS)))
def test_a_member_is_the_run_of_its_seed_and_its_rows_are_of_the_states_they_name(folder, dataset, replayed, index):
    (path,) = (folder / "sweep").glob("tasks/*/rows.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    own = [row for row in rows if row["seed"] == SEEDS[index]]
    model = restore.find_model(folder / "sweep", own[0]["point"])
    last, best = (restore.restore_run(model, step).state for step in ("latest", "best"))
    as_replayed({name: {"params": getattr(last, name).params} for name in ("critic", "generator")}, replayed[index])
    told = {(row["split"], row["state"], row["step"]): row["wasserstein_excess"] for row in own}
    expected = {
        ("validation", "last", 2): score(dataset, best.ema, "validation"),
        ("validation", "last", STEPS): score(dataset, last.ema, "validation"),
        ("test", "last", STEPS): on_test(dataset, last.ema),
        ("test", "best", 2): on_test(dataset, best.ema),
    }
    assert set(told) == {*expected, ("validation", "last", 4)}
    assert {row: told[row] for row in expected} == close(expected)
    assert int(best.step) == 2
