"""Numbers and sizes without a bound: refused in one line, at once and before they are made, or answered."""

import contextlib
import time
import zipfile

import numpy as np
import pytest

from wgan_jax import sizes
from wgan_jax.config import load
from wgan_jax.data import array, warn_of_data
from wgan_jax.data.arrays import load_examples
from wgan_jax.data.dataset import Split, Stored
from wgan_jax.data.scaling import fit
from wgan_jax.data.tags import Tags, read_tags
from wgan_jax.distance import standardise
from wgan_jax.errors import UserError
from wgan_jax.keys import KEYS, keys_of
from wgan_jax.training.budget import check_fits
from wgan_jax.training.program import make_parts

MOST, QUICK = 2**31 - 1, 10.0  # seconds of all cores
TAKES_ANY = {"seed", "steps", "penalty.every", "warmup.first", "warmup.every", "decay_steps", "inputs.noise_steps", "keep"}
TAKES_ANY |= {"data.labels", "data.resident_mb", *keys_of("schedule", "watch")} - {"devices"}


@pytest.fixture(autouse=True)
def _quick():
    began = time.process_time()
    yield
    assert time.process_time() - began < QUICK


def refused(spec, *overrides):
    """The line that refuses a config, or a model that it describes; None where it stands."""
    try:
        config = load(f"configs/{spec}", [f"--config.{word}" for word in overrides])
        sizes.check_batches(config)
        shape = {"ring8": (2,), "gaussian": (config.data.dim,), "digits": (8, 8, 1)}[config.data.name]
        _, steps = make_parts(config, shape)
        check_fits(config, shape, steps.init_state)
    except UserError as error:
        (line,) = error.lines
        return line
    return None


SIZES = [key for key, row in KEYS.items() if row.rule.type is int and key not in TAKES_ANY and row.rule.accepts(MOST)]


@pytest.mark.parametrize("key", SIZES)
def test_the_largest_number_of_each_key_that_sizes_something_is_one_line(key, monkeypatch):
    monkeypatch.setattr(sizes, "physical_memory", lambda: 2**33)
    spec = {"data.dim": "wgan_gp.py:gaussian", "imle.samples": "imle.py:digits"}.get(key, "wgan_gp.py:ring8")
    line = refused(spec, f"{key}={MOST}")
    assert line is not None, key
    assert len(line) < 300


@pytest.mark.parametrize(
    ("key", "value"), [("model.width", 2**20), ("batch_size", 2**30), ("n_critic", 2**26), ("latent.dim", 2**28)]
)
def test_what_no_memory_holds_is_refused_by_its_size(monkeypatch, key, value):
    monkeypatch.setattr(sizes, "physical_memory", lambda: 2**34)
    line = refused("wgan_gp.py:digits", f"{key}={value}")
    assert f"config.{key}={value}" in line
    assert line.endswith("GiB, and there are 16.0 GiB of memory")


def test_what_fits_is_not_refused(monkeypatch):
    monkeypatch.setattr(sizes, "physical_memory", lambda: 2**27)
    assert refused("wgan_gp.py:digits") is None
    assert refused("wgan_gp.py:digits", "batch_size=4096") is None


COMMANDS = [
    ("sample", ["--num=10000000000"], "--num: 10000000000 is not a whole number from 1 to 1000000"),
    ("sample", ["--interpolate=10000000000"], "--interpolate: 10000000000 is not a whole number from 2 to 10000"),
    ("evaluate", ["--repeats=10000000000"], "--repeats: 10000000000 is not a whole number from 1 to 10000"),
    ("evaluate", ["--num=10000000000"], "--num: 10000000000 is not a whole number from 10 to 1000000"),
    ("references", ["--draws=10000000000"], "--draws: 10000000000 is not a whole number from 1 to 10000"),
    (
        "distance",
        ["--real=configs", "--generated=configs", "--seeds=10000000000"],
        "--seeds: 10000000000 is not a whole number",
    ),
    ("sweep", ["--config=configs/gan.py:ring8", "--seeds=10000000000", "--list"], "--seeds: 10000000000 seeds of 1 points"),
    ("run", ["--config=configs/gan.py", "--distributed", "--heartbeat=10000000000"], "--heartbeat: 10000000000 is not a whole"),
]


@pytest.mark.parametrize(("name", "arguments", "line"), COMMANDS)
def test_ten_thousand_millions_are_refused(command, tmp_path, name, arguments, line):
    workdir = [f"--workdir={tmp_path}"] * (name in ("sample", "evaluate"))
    code, out, err = command(name, *workdir, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1


def test_a_message_of_a_long_value_is_short(command):
    long = "x" * 100_000
    words = (f"eval.fail=a<{'1' * 50_000}x", f"eval.metrics={'a,' * 50_000}", f"{long}=1", f"data.name={long}", f"seed={long}")
    for word in words:
        code, _, err = command("run", "--config=configs/gan.py", f"--config.{word}")
        assert (code, len(err) < 3000) == (2, True)
    assert len(command("sample", "--workdir=configs", f"--num={'9' * 100_000}")[2]) < 3000


@pytest.mark.parametrize("name", ["samples.npz", "x.npz"])
def test_a_file_that_unpacks_to_far_more_than_its_size_is_not_unpacked(tmp_path, name, monkeypatch):
    path = tmp_path / name
    np.savez_compressed(path, samples=np.zeros((2**19, 64)))  # 256 MiB and the header
    assert path.stat().st_size < 2**20
    monkeypatch.setattr(np, "load", lambda *arguments, **keywords: pytest.fail("it is read"))
    with pytest.raises(UserError, match=r"samples\.npy unpacks to 268,435,584 bytes, more than 100 times its size"):
        load_examples(path)
    config = load("configs/wgan_gp.py:array", [f"--config.data.path={path}"])
    with pytest.raises(UserError, match=r"^config\.data\.path: .* unpacks to"):
        array.load(config.data)


def test_what_is_packed_well_is_read(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", samples=np.zeros((100_000, 2)))
    assert load_examples(tmp_path / "x.npz").shape == (100_000, 2)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.infolist()[0].file_size > 100 * archive.infolist()[0].compress_size


@pytest.mark.parametrize(
    "line", ["1," + "x" * 200_000, "1," + "a hair " * 40_000, "1," + "a\t" * 100_000, "1," + "1:" * 100_000 + "x"]
)
def test_a_long_line_of_tags_is_read_in_its_length(line):
    with contextlib.suppress(UserError):
        list(read_tags([line]))


@pytest.mark.parametrize(
    ("rest", "hair", "eyes"),
    [
        ("blue hair red eyes", "blue", "red"),
        ("a hair b hair red eyes", "a hair b", "red"),
        ("blue hair:3\tred eyes:2", "blue", "red"),
        (f"blue hair:{'9' * 5000}\tgreen hair:3\tred eyes:2", "blue", "red"),
        ("x:blue hair:3", "blue", "unknown"),
        ("blue hair:3:4\tgreen hair:5", "green", "unknown"),
        ("", "unknown", "unknown"),
    ],
)
def test_the_meaning_of_tags(rest, hair, eyes):
    assert list(read_tags([f"7,{rest}"])) == [Tags("7", hair, eyes)]


def spread_of(scale):
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(40, 3)) * scale, rng.normal(size=(40, 3)) * scale
    return standardise(real, generated, np.arange(20), np.arange(20))


@pytest.mark.parametrize("scale", [2.0**-600, 2.0**600, 1e-170, 1e160])
def test_points_of_any_size_are_measured_in_their_units(scale):
    real, generated, spread = spread_of(scale)
    expected = spread_of(1.0)
    assert spread == pytest.approx(expected[2] * scale)
    np.testing.assert_allclose(np.concatenate([real, generated]), np.concatenate(expected[:2]), rtol=1e-6)
    if np.frexp(scale)[0] == 0.5:  # a power of two: to the bit
        assert spread == expected[2] * scale
        np.testing.assert_array_equal(real, expected[0])


@pytest.mark.parametrize("scale", [1e-320, 5e307])
def test_points_whose_distances_are_no_numbers_are_refused(scale):
    with pytest.raises(UserError, match=r"^points of up to .*: give them in units in which they are nearer to 1"):
        spread_of(scale)


@pytest.mark.parametrize("name", ["none", "standard", "minmax"])
@pytest.mark.parametrize("scale", [1e-170, 1e-60, 1e60, 1e160, 1e308])
def test_no_scaling_makes_nothing_of_numbers(name, scale):
    x = np.random.default_rng(0).uniform(-1, 1, size=(40, 3)) * scale
    with np.errstate(over="ignore"):
        try:
            scaling = fit(name, x.dtype, iter([x]))
        except UserError:
            return
    decoded = scaling.decode(x)
    assert np.isfinite(decoded).all()
    assert (decoded.std(axis=0) > 0).all()


def stored(images):
    split = Split(images, np.zeros(len(images), np.int32))
    return Stored(images.shape[1:], split, split, split)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2500, 2, 2, 1), np.uint8), ["config.data: the 2500 training examples are all equal"]),
        (
            np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1),
            ["config.batch_size: 64 of 6 training examples: a batch has some of them twice"],
        ),
        (np.arange(2500 * 4).reshape(-1, 2, 2, 1).astype(np.uint8), []),
    ],
)
def test_data_that_is_seldom_meant_is_named(make_config, caplog, images, said):
    warn_of_data(make_config("wgan_gp.py:digits"), stored(images))
    assert [record.getMessage() for record in caplog.records] == said
