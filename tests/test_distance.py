"""The critic as a measure: closed forms, what it may see, units, arrays of any origin, and the launcher."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_1samp

from experiments.distance import CAVEAT, MEANING, critic_config, distance
from wgan_jax.data.arrays import load_examples
from wgan_jax.distance import (
    UNITLESS,
    Halves,
    _halves,
    empirical_values,
    make_fit,
    measure,
    shared_rows,
    standardise,
    t_interval,
)
from wgan_jax.errors import NonFiniteError, UserError

NONE = np.empty((2, 0), np.int64)
SHORT = ("--config.steps=120", "--config.model.width=32")
TINY = ("--config.steps=3", "--config.n_critic=2", "--config.model.width=8", "--config.model.depth=1")


def clusters(dimension, gap, count=200):
    """Narrow clusters `gap` apart along the first axis: their W1 is the gap, and their spread is half of it."""
    real, generated = np.random.default_rng(0).normal(scale=0.02, size=(2, count, dimension))
    return real + gap * np.eye(dimension)[0], generated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dimension", "penalty", "weight", "slope"),
    [
        # the gap is 2 in units of the spread: per unit of length s - lambda (s - 1)^2 / 2 is largest at s = 1 + 1 / lambda
        (1, "one_sided", 2, 1.5),
        (2, "two_sided", 2, 1.5),
        (2, "two_sided", 10, 1.1),
        # s - lambda s^2 / 2 at s = 1 / lambda
        (1, "zero_centred", 0.5, 2.0),
    ],
)
def test_a_soft_penalty_estimates_its_own_multiple_of_the_distance(dimension, penalty, weight, slope):
    real, generated = clusters(dimension, 6.0)
    chosen = [f"--config.penalty.name={penalty}", f"--config.penalty.weight={weight}"]
    (values,) = measure(critic_config("gp", (dimension,), [*SHORT, *chosen]), real, generated, 1)
    assert values["estimate_heldout"] == pytest.approx(6 * slope, rel=0.03)
    assert values["estimate_fitted"] == pytest.approx(values["estimate_heldout"], rel=0.01)
    assert values["lipschitz_q99"] > 0.97 * slope  # the slope on the way from one cluster to the other
    assert values["estimate_normalised"] == pytest.approx(values["estimate_heldout"] / values["lipschitz_q99"])
    assert values["wasserstein_empirical"] == pytest.approx(6, rel=0.01)
    assert values["c_transform_bound"] <= values["wasserstein_empirical"] + 1e-6


@pytest.mark.slow
def test_seeds_differ_and_repeat():
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(151, 2)), rng.normal(size=(80, 2)) * 1.5 + 1  # halves of 75 and 40
    config = critic_config("clip", (2,), [*TINY])
    before = config.to_dict()
    rows = measure(config, real, generated, 3)
    assert config.to_dict() == before
    assert {*rows[0]} == {*MEANING}
    for name in MEANING:
        assert len({values[name] for values in rows}) == 3
    assert all(values["c_transform_bound"] <= values["wasserstein_empirical"] for values in rows)
    assert measure(config, real, generated, 2) == rows[:2]
    config.seed = 1
    assert measure(config, real, generated, 1)[0]["estimate_heldout"] not in {values["estimate_heldout"] for values in rows}


def test_a_fit_sees_its_rows_and_nothing_else():
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(2, 40, 2)).astype(np.float32)
    rows = np.stack([np.arange(0, 40, 2), np.arange(1, 40, 2)])
    _, fit = make_fit(critic_config("gp", (2,), [*TINY]), (2,))
    keys = jax.random.split(jax.random.key(0), 1)
    whole = fit(keys, real, generated, rows[:1], rows[1:])
    blind = [x.copy() for x in (real, generated)]
    blind[0][rows[1]], blind[1][rows[0]] = np.nan, np.nan
    jax.tree.map(np.testing.assert_array_equal, fit(keys, *blind, rows[:1], rows[1:]), whole)
    longer = [np.concatenate([x, np.full((9, 2), np.nan, np.float32)]) for x in (real, generated)]
    jax.tree.map(np.testing.assert_array_equal, fit(keys, *longer, rows[:1], rows[1:]), whole)
    for side, row in ((0, rows[0, -1]), (1, rows[1, -1])):
        sides = [real.copy(), generated.copy()]
        sides[side][row] *= 2
        changed = fit(keys, *sides, rows[:1], rows[1:])
        assert not np.array_equal(changed["params"]["Dense_0"]["kernel"], whole["params"]["Dense_0"]["kernel"])
    with pytest.raises(NonFiniteError, match="learning_rate"):
        fit(keys, *blind, rows[1:], rows[:1])


def test_halves_share_no_row_and_differ_between_seeds_and_sides():
    splits = [_halves((0, seed), (11, 11), NONE) for seed in range(4)]
    sides = [rows for split in splits for rows in split]
    for rows in sides:
        assert rows.shape == (2, 5)
        assert len(set(rows.ravel())) == 10
    assert len({tuple(rows.ravel()) for rows in sides}) == 8


def test_shared_rows_by_hand():
    real = np.array([[1.0, 2], [3, 4], [1, 2], [5, 6], [1, 2]])
    generated = np.array([[5.0, 6], [1, 2], [2, 1], [1, 2]])
    rows, generated_rows = shared_rows(real, generated)
    np.testing.assert_array_equal(real[rows], generated[generated_rows])
    assert sorted(generated_rows) == [0, 1, 3]
    assert len(set(rows)) == 3
    np.testing.assert_array_equal(shared_rows(real.astype(np.float32), generated), [rows, generated_rows])
    assert shared_rows(real, generated + 0.5).shape == (2, 0)


@pytest.mark.parametrize("counts", [(40, 40), (41, 31), (31, 40)])
def test_what_is_in_both_sets_is_in_the_same_half_of_both(counts):
    shared = np.stack([np.random.default_rng(side).permutation(count)[:29] for side, count in enumerate(counts)])
    first = set()
    for seed in range(60):
        half, half_generated = (
            {row: place for place in (0, 1) for row in side[place]} for side in _halves((0, seed), counts, shared)
        )
        assert [len(half), len(half_generated)] == [count // 2 * 2 for count in counts]
        held_out = [half[row] for row in shared[0]]
        assert held_out == [half_generated[row] for row in shared[1]]
        assert 14 <= sum(held_out) <= 15
        first.add(next(row for row in half if half[row] == 1) in shared[0])
    assert first == {True, False}  # what is judged first is not always of both sets


@pytest.mark.slow
def test_the_same_set_twice_is_like_two_samples_of_one_law():
    x, other = np.random.default_rng(0).normal(size=(2, 400, 8))
    config = critic_config("lp", (8,), [*SHORT])
    (same,), (equal_law,) = measure(config, x, x, 1), measure(config, x, other, 1)
    # fitted to nothing but differences, of which there are none
    assert same["estimate_fitted"] == pytest.approx(0, abs=1e-4)
    assert same["estimate_heldout"] == pytest.approx(0, abs=1e-4)
    assert same["wasserstein_excess"] == pytest.approx(0, abs=1e-9)
    assert abs(equal_law["wasserstein_excess"]) < 0.05
    assert equal_law["estimate_fitted"] > 0.5  # overfitted, so that a leak would show
    half = np.concatenate([x[:200], other[:200]])
    (copies,) = measure(config, x, half, 1)
    assert copies["estimate_heldout"] > -0.1
    assert abs(copies["wasserstein_excess"]) < 0.05


def test_judged_are_the_held_out_examples():
    # held-out real ones lie 1 above all fitted ones, held-out generated ones 1 below
    (_, held), (_, generated_held) = _halves((0, 0), (40, 40), NONE)
    real, generated = np.random.default_rng(5).normal(scale=1e-9, size=(2, 40, 1))
    real[held] += 1
    generated[generated_held] -= 1
    config = critic_config("gp", (1,), [*TINY])
    config.penalty.weight = 0.0
    (values,) = measure(config, real, generated, 1)
    assert values["wasserstein_empirical"] == pytest.approx(2)
    assert values["wasserstein_floor"] == pytest.approx(1)
    assert abs(values["estimate_heldout"]) > 1e-3


def test_empirical_values_by_hand():
    real, generated = Halves(np.zeros((3, 1)), np.ones((3, 1))), Halves(np.full((3, 1), 5.0), np.full((3, 1), 3.0))
    values = empirical_values(real, generated)
    # the excess is of 3 to the fitted 0, less half of 3 to 5 and half of 1 to 0, over the latter
    assert values == {"wasserstein_empirical": 2, "wasserstein_floor": 1, "wasserstein_excess": 3 - 2 / 2 - 1 / 2}


@pytest.mark.parametrize("shape", [(3, 3, 1), (2,)])
def test_held_out_examples_are_not_trained_on(shape):
    real, generated = np.random.default_rng(4).integers(0, 256, (2, 40, *shape)).astype(np.uint8 if len(shape) == 3 else float)
    generated[:, 0] += generated[:, 0] == real[:, 0]  # no example is in both
    config = critic_config("gp", shape, [*TINY])
    (values,) = measure(config, real, generated, 1)
    for x, (_, held) in zip((real, generated), _halves((0, 0), (40, 40), NONE), strict=True):
        x[held] = 255 - x[held]
    (changed,) = measure(config, real, generated, 1)
    assert changed["estimate_fitted"] == values["estimate_fitted"]
    assert changed["estimate_heldout"] != values["estimate_heldout"]


def test_points_are_measured_in_their_own_units():
    real, generated = np.random.default_rng(3).normal(size=(2, 60, 2))
    config = critic_config("lp", (2,), [*TINY])
    (small,), (large,) = (measure(config, scale * real, scale * generated, 1) for scale in (1, 1024))
    assert large == pytest.approx({name: x * (1 if name in UNITLESS else 1024) for name, x in small.items()}, rel=1e-6)


def test_standardise_by_hand():
    chosen = np.array([1, 2]), np.array([0, 1])
    real, generated, spread = standardise(np.array([[9.0, 9], [1, 2], [1, 4]]), np.array([[7.0, 2], [7, 4]]), *chosen)
    assert spread == pytest.approx(np.sqrt(10))  # the mean is (4, 3), every chosen point 3 and 1 from it
    np.testing.assert_allclose(real, np.array([[5, 6], [-3, -1], [-3, 1]]) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_allclose(generated, np.array([[3, -1], [3, 1]]) / np.sqrt(10), rtol=1e-6)


def test_images_are_measured_from_minus_one_to_one():
    real, generated = np.full((40, 4, 4, 1), 255, np.uint8), np.zeros((40, 4, 4, 1), np.uint8)
    config = critic_config("lp", (4, 4, 1), [*SHORT])
    (values,) = measure(config, real, generated, 1)
    assert values["wasserstein_empirical"] == pytest.approx(8)  # 16 pixels, 2 apart
    assert values["wasserstein_floor"] == 0
    assert np.isnan(values["wasserstein_excess"])
    # an ideal critic has slope 1 + 8 / (2 lambda) = 1.4
    assert values["estimate_heldout"] == pytest.approx(8 * 1.4, rel=0.03)


def test_t_interval_is_that_of_scipy():
    values = [1.0, 4.0, 2.5, 2.0]
    mean, half = t_interval(values)
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert t_interval([3.0])[0] == 3
    assert np.isnan(t_interval([3.0])[1])


def save_folder(folder, count, size, mode="RGB", value=0):
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(value).integers(0, 128, (count, *size, 3)).astype(np.uint8) + np.uint8(value)
    for index, image in enumerate(pixels):
        Image.fromarray(image).convert(mode).save(folder / f"{index:03d}.png")
    return pixels


def test_arrays_of_every_origin(tmp_path):
    points = np.arange(6.0).reshape(3, 2)
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    np.save(tmp_path / "points.npy", points)
    np.save(tmp_path / "line.npy", np.arange(3))
    np.save(tmp_path / "grey.npy", images[..., 0])
    np.savez(tmp_path / "samples.npz", latents=points, samples=images)
    np.savez(tmp_path / "one.npz", whatever=points)
    pixels = save_folder(tmp_path / "folder" / "deeper", 3, (5, 5))
    for name, expected in {
        "points.npy": points,
        "line.npy": np.array([[0.0], [1], [2]]),
        "grey.npy": images,
        "samples.npz": images,
        "one.npz": points,
        "folder": pixels,
    }.items():
        loaded = load_examples(tmp_path / name)
        np.testing.assert_array_equal(loaded, expected)
        assert loaded.dtype == (np.uint8 if expected.ndim == 4 else np.float64)
    assert load_examples(tmp_path / "folder", 4).shape == (3, 4, 4, 3)
    assert load_examples(tmp_path / "folder", 4, channels=1).shape == (3, 4, 4, 1)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder of sets, good and bad, that is not the repository's root only in what --real and --generated name."""
    rng = np.random.default_rng(0)
    good = rng.normal(size=(30, 2))
    bad = good.copy()
    bad[[3, 5], 1] = np.nan, np.inf
    np.save(tmp_path / "good.npy", good)
    np.save(tmp_path / "nan.npy", bad)
    np.save(tmp_path / "wide.npy", rng.normal(size=(30, 3)))
    np.save(tmp_path / "few.npy", good[:19])
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    np.save(tmp_path / "pixels.npy", np.zeros((30, 8, 8, 2), np.uint8))
    np.save(tmp_path / "images.npy", np.zeros((30, 8, 8, 3), np.uint8))
    np.savez(tmp_path / "two.npz", a=good, b=good)
    np.savez(tmp_path / "objects.npz", samples=np.array([None]), allow_pickle=True)
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:200])
    (tmp_path / "damaged.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:150])
    (tmp_path / "set.csv").write_text("1,2")
    (tmp_path / "empty").mkdir()
    save_folder(tmp_path / "sizes", 1, (8, 8))
    Image.new("RGB", (9, 8)).save(tmp_path / "sizes" / "other.png")
    save_folder(tmp_path / "modes", 1, (8, 8))
    Image.new("L", (8, 8)).save(tmp_path / "modes" / "other.png")
    save_folder(tmp_path / "broken", 1, (8, 8))
    (tmp_path / "broken" / "other.png").write_bytes(b"no image")
    return tmp_path


@pytest.mark.parametrize(
    ("real", "line"),
    [
        ("missing.npy", r"--real: .*missing.npy: no such file or folder"),
        ("set.csv", r"--real: .*set.csv: neither an .npy or .npz file nor a folder"),
        ("pickled.npy", r"--real: .*pickled.npy: holds pickled objects"),
        ("objects.npz", r"--real: .*objects.npz: holds pickled objects"),
        ("two.npz", r"--real: .*two.npz: which array\? It has a, b; name one of them samples"),
        ("damaged.npz", r"--real: .*damaged.npz: damaged"),
        ("damaged.npy", r"--real: .*damaged.npy: damaged"),
        ("text.npy", r"--real: .*text.npy: <U1 of shape \(2,\); wanted are"),
        ("pixels.npy", r"--real: .*pixels.npy: \(30, 8, 8, 2\) uint8 are no images"),
        ("nan.npy", r"--real: .*nan.npy: 2 of 30 points hold NaN or infinity"),
        ("few.npy", r"--real: 19 examples in .*few.npy; at least 20 are needed"),
        ("wide.npy", r"--real and --generated: examples of shape \(3,\) and \(2,\)$"),
        ("images.npy", r"--real and --generated: examples of shape \(8, 8, 3\) and \(2,\)$"),
        ("empty", r"--real: .*empty: no images in this folder"),
        ("sizes", r"--real: .*other.png: is \(8, 9, 3\) and .*000.png is \(8, 8, 3\); set --image-size"),
        ("modes", r"--real: .*other.png: is \(8, 8, 1\) .*; make all of them grey or all RGB"),
        ("broken", r"--real: .*other.png: no image; mend or remove it"),
    ],
)
def test_a_wrong_set_is_one_line(files, real, line):
    with pytest.raises(UserError, match=line) as caught:
        distance([f"--real={files / real}", f"--generated={files / 'good.npy'}"])
    assert len(caught.value.lines) == 1


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--method=gpp", r"--method: no 'gpp'; one of: gp, lp, clip, sn, groupsort, "),
        ("--method=../default", r"--method: no "),
        ("--method=gan", r"config.loss: non_saturating, of gan, estimates no distance"),
        ("--seeds=0", r"--seeds: 0 is not"),
        ("--image-size=-1", r"--image-size: -1 is not"),
        ("--channels=2", r"--channels: 2 is neither 1 nor 3"),
        ("--out=no/such/file.json", r"--out: no directory HERE/no/such"),
        ("--out=configs", r"--out: HERE/configs: name a file, not a folder"),
        ("--out=", r"--out: is empty; name a path"),
        ("--config.model.generator_activation=tanh", r"config.model.generator_activation: nothing here reads it"),
        ("--config.generator.beta1=0", r"config.generator.beta1: nothing here reads it"),
        ("--config.eval.draws=2", r"config.eval.draws: nothing here reads it"),
        ("--config.penalty.wieght=1", r"config.penalty.wieght: no such key; did you mean"),
    ],
)
def test_a_wrong_flag_is_one_line(files, flag, line):
    with pytest.raises(UserError, match=line.replace("HERE", str(Path.cwd()))) as caught:
        distance([f"--real={files / 'good.npy'}", f"--generated={files / 'good.npy'}", flag])
    assert len(caught.value.lines) == 1


@pytest.mark.parametrize(
    ("other", "flags"),
    [((8, 8, 1), "--channels"), ((9, 9, 3), "--image-size"), ((9, 9, 1), "--image-size and --channels")],
)
def test_images_of_several_shapes_are_told_which_flag_makes_them_alike(files, other, flags):
    np.save(files / "other.npy", np.zeros((30, *other), np.uint8))
    with pytest.raises(UserError) as caught:
        distance([f"--real={files / 'images.npy'}", f"--generated={files / 'other.npy'}"])
    line = f"--real and --generated: examples of shape (8, 8, 3) and {other}; {flags} makes those of folders alike"
    assert caught.value.lines == (line,)


def test_the_learning_rate_falls_over_all_steps_unless_told_otherwise():
    for steps in ([], ["--config.steps=7"]):
        config = critic_config("lp", (2,), steps)
        assert config.decay_steps == config.steps == (7 if steps else 400)
    assert critic_config("lp", (2,), ["--config.steps=7", "--config.decay_steps=0"]).decay_steps == 0


def test_every_key_of_the_critic_may_be_set():
    keys = ("name=mlp", "depth=2", "critic_activation=tanh", "critic_normalization=layer", "initializer=orthogonal")
    keys += ("critic_kernel=spectral_kernel",)
    config = critic_config("wgan_lp", (2,), [f"--config.model.{key}" for key in keys])
    assert all(str(config.model[key]) == value for key, value in (word.split("=") for word in keys))


@pytest.mark.parametrize("shape", [(2,), (16, 16, 1)])
def test_the_critics_of_sn_and_groupsort_are_lipschitz_by_their_layers_alone(shape):
    for method, kernel in {"sn": "spectral_operator", "groupsort": "orthogonal"}.items():
        config = critic_config(method, shape, [])
        assert (config.loss, config.model.critic_kernel) == ("wasserstein", kernel)
        assert (config.penalty.name, config.clip, config.model.critic_normalization) == ("none", 0, "none")


@pytest.fixture
def run(command):
    return functools.partial(command, "distance", "--seeds=2", "--config.steps=2", "--config.model.width=4")


@pytest.mark.slow
def test_the_launcher_measures_arrays_and_folders(files, run):
    pair = f"--real={files / 'good.npy'}", f"--generated={files / 'two.npz'}"
    code, said, error = run(*pair)
    assert (code, said) == (2, "")
    assert error.count("\n") == 1
    out = files / "out.json"
    code, said, error = run(
        pair[0], pair[0].replace("--real", "--generated"), "--method=lp", "--config.penalty.weight=3", f"--out={out}"
    )
    assert (code, error) == (0, "")
    for name in MEANING:
        assert name in said
    printed = " ".join(said.split())
    assert CAVEAT in printed
    assert "± over splits" in said
    assert "30 examples are in both sets" in printed
    report = json.loads(out.read_text())
    assert [report[name] for name in ("n_real", "n_generated", "n_shared", "method", "shape")] == [30, 30, 30, "lp", [2]]
    assert (report["config"]["penalty"]["name"], report["config"]["penalty"]["weight"]) == ("one_sided", 3)
    assert [set(values) for values in report["seeds"]] == 2 * [set(MEANING)]
    save_folder(files / "real", 20, (20, 18))
    save_folder(files / "fake", 22, (16, 16), "L", value=100)
    same = ("--image-size=16", "--channels=3")
    (files / "fake" / "notes.txt").write_text("")
    (files / "fake" / "._000.png").write_bytes(b"of a Mac")
    code, said, error = run(f"--real={files / 'real'}", f"--generated={files / 'fake'}", *same, f"--out={out}")
    assert (code, error) == (0, "")
    assert "in both sets" not in said
    assert said.splitlines()[:2] == [
        f"real: {files / 'real'}, 20 examples 16x16x3",
        f"generated: {files / 'fake'}, 22 examples 16x16x3; left out: 1 hidden, 1 .txt",
    ]
    report = json.loads(out.read_text())
    counts = [report[name] for name in ("n_real", "n_generated", "n_heldout", "shape")]
    assert counts == [20, 22, 10, [16, 16, 3]]
    assert report["left_out"] == {"real": {}, "generated": {"hidden": 1, ".txt": 1}}
    assert report["config"]["model"]["name"] == "dcgan"
    assert all(values["wasserstein_excess"] > 0.5 for values in report["seeds"])  # one set is darker than the other
