"""Arrays of any shape: their maps by value, every kind of set trained and sampled back in its own units, what is refused."""

import io
import json
import zipfile

import jax
import numpy as np
import pytest

from configs.default import default_config
from wgan_jax.data import array, load_dataset
from wgan_jax.data.dataset import Stored
from wgan_jax.data.scaling import PIXELS, Scaling, fit
from wgan_jax.data.source import make_draw, plan_feeds
from wgan_jax.errors import UserError
from wgan_jax.evaluation.sampling import nearest_images
from wgan_jax.training.program import parts_of

RNG = np.random.default_rng(0)
SETS = {  # one of each shape, over dtypes; the vectors are about 1e6 from 0
    "vectors": (1e6 + RNG.normal(size=(60, 100)) * np.arange(1, 101)).astype(np.float64),
    "series": RNG.normal(3, 2, (60, 9, 2)).astype(np.float32),
    "images": RNG.integers(0, 4000, (60, 6, 10, 5)).astype(np.uint16),
    "volumes": RNG.normal(-1, 0.1, (60, 5, 6, 7, 1)).astype(np.float16),
    "whole numbers": RNG.integers(-(2**40), 2**40, (60, 3)),
    "pixels": RNG.integers(0, 256, (60, 5, 4, 2)).astype(np.uint8),
}


def load(path, **values) -> Stored:
    config = default_config()
    config.data.update({"name": "array", "path": str(path), "cache_dir": f"{path}-cache", **values})
    return load_dataset(config)


def whole(dataset):
    return np.concatenate([split.images for split in dataset.splits.values()])


@pytest.mark.parametrize("scaling", ["auto", "none", "standard", "minmax"])
@pytest.mark.parametrize("name", SETS)
def test_encode_undoes_decode_in_the_users_dtype(name, scaling, tmp_path):
    given = SETS[name]
    np.save(tmp_path / "x.npy", given)
    dataset = load(tmp_path / "x.npy", scaling=scaling)
    x = dataset.train.images
    decoded = dataset.decode(x, np.float64)
    back = dataset.encode(decoded)
    assert (back.dtype, back.shape) == (given.dtype, x.shape)
    if given.dtype.kind in "iu":
        np.testing.assert_array_equal(back, x)
    else:
        np.testing.assert_allclose(back, x, rtol=4 * np.finfo(given.dtype).eps)
    axes = tuple(range(x.ndim - 1))
    if scaling == "standard":
        np.testing.assert_allclose(decoded.mean(axes), 0, atol=1e-9 if given.dtype != np.float16 else 1e-6)
        np.testing.assert_allclose(decoded.std(axes), 1, rtol=1e-9)
    if scaling == "minmax":
        np.testing.assert_allclose([decoded.min(axes), decoded.max(axes)], [[-1] * x.shape[-1], [1] * x.shape[-1]])
        assert dataset.scaling.bounded
    if scaling == "none":
        np.testing.assert_array_equal(decoded, x)
    if name == "pixels" and scaling == "auto":
        assert dataset.scaling == PIXELS


def test_the_scaling_is_fitted_to_the_training_split_part_by_part_and_kept_as_json():
    x = np.array([[1.0, 7.0], [3.0, 7.0], [8.0, 7.0]])  # mean 4, variance (9 + 1 + 16) / 3; the second never changes
    scaling = fit("standard", x.dtype, iter([x[:1], x[1:]]))
    spread = np.sqrt(26 / 3)
    assert scaling.factor == pytest.approx((spread, 1.0))
    assert scaling.shift == pytest.approx((4 / spread, 7.0))
    np.testing.assert_allclose(scaling.decode(x, np.float64)[:, 0], [-3 / spread, -1 / spread, 4 / spread])
    assert Scaling.of_json(json.loads(json.dumps(scaling._asdict()))) == scaling
    np.testing.assert_allclose(scaling.encode(np.zeros((1, 2))), [[4, 7]], rtol=1e-15)


def test_whole_numbers_are_rounded_and_stay_within_their_dtype():
    x = np.array([[-120], [0], [120]], np.int8)
    scaling = fit("none", x.dtype, iter([x]))
    np.testing.assert_array_equal(scaling.encode(np.array([[-900.0], [1.6], [900.0]])), [[-128], [2], [127]])
    wide = fit("none", np.dtype(np.int64), iter([np.array([[0], [1]])]))
    assert wide.encode(np.array([[1e30]]))[0, 0] == 2**63 - 1024  # the largest that a float holds


@pytest.mark.parametrize("resident", [0, 100])
@pytest.mark.parametrize("name", SETS)
def test_batches_are_the_decoded_examples_resident_or_streamed(name, resident, tmp_path):
    np.save(tmp_path / "x.npy", SETS[name])
    dataset = load(tmp_path / "x.npy", resident_mb=resident)
    assert isinstance(dataset.train.images.base, np.memmap) == (resident == 0)
    config = default_config()
    config.update({"batch_size": 4})
    config.data.resident_mb = resident
    feeds = plan_feeds(config, dataset, jax.device_put, jax.device_put)
    x = make_draw(dataset, 4)(feeds.at(0), np.int32(0), jax.random.key(0), 2).x.reshape(8, -1)
    rows = np.random.default_rng((config.seed, 0)).permutation(len(dataset.train.images))[:8]
    np.testing.assert_allclose(x, dataset.decode(dataset.train.images[rows]).reshape(8, -1), rtol=1e-6, atol=1e-6)


def test_splits_are_fixed_share_no_example_and_lose_none(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(50))
    dataset, again = load(tmp_path / "x.npy", holdout=0.2), load(tmp_path / "x.npy", holdout=0.2)
    assert [split.images.shape for split in dataset.splits.values()] == [(30, 1), (10, 1), (10, 1)]
    assert sorted(whole(dataset)[:, 0]) == list(range(50))
    np.testing.assert_array_equal(whole(dataset), whole(again))
    assert dataset.fingerprint == again.fingerprint
    np.save(tmp_path / "x.npy", np.arange(1, 51))
    assert load(tmp_path / "x.npy", holdout=0.2).fingerprint != dataset.fingerprint


def test_a_large_set_is_laid_out_once_and_is_the_same(tmp_path, monkeypatch):
    x, y = SETS["series"], np.arange(60) % 3
    np.savez(tmp_path / "a.npz", x=x, y=y)
    small, large = (load(tmp_path / "a.npz", resident_mb=size) for size in (100, 0))
    monkeypatch.setattr(array, "_laid_out", None)
    for dataset in (large, load(tmp_path / "a.npz", resident_mb=0)):
        assert dataset._replace(train=None, validation=None, test=None) == small._replace(
            train=None, validation=None, test=None
        )
        for ours, theirs in zip(dataset.splits.values(), small.splits.values(), strict=True):
            np.testing.assert_array_equal(ours.images, theirs.images)
            np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_labels_stay_with_their_examples_whatever_they_are_called(tmp_path):
    x = np.arange(40, dtype=np.float32)
    np.savez(tmp_path / "a.npz", rows=x, kind=np.array(["odd", "even"])[1 - x.astype(int) % 2])
    dataset = load(tmp_path / "a.npz", x="rows", y="kind")
    assert dataset.class_names == ("even", "odd")
    for images, labels in dataset.splits.values():
        np.testing.assert_array_equal(images[:, 0] % 2, labels)


def test_a_critics_logits_are_as_many_as_the_classes(tmp_path):
    np.savez(tmp_path / "x.npz", x=SETS["series"], y=np.arange(60) % 3)
    config = default_config()
    config.data.update({"name": "array", "path": str(tmp_path / "x.npz"), "cache_dir": str(tmp_path / "cache")})
    config.model.classes = 3
    assert load_dataset(config).class_names == ("0", "1", "2")
    config.model.classes = 7
    with pytest.raises(UserError, match=r"config\.model\.classes: 7, and the data has 3 classes"):
        load_dataset(config)


@pytest.mark.parametrize(("scaling", "bounded"), [("standard", False), ("minmax", True)])
def test_a_generator_ends_as_the_scaling_of_its_images_does(scaling, bounded, make_config, tmp_path):
    np.save(tmp_path / "x.npy", SETS["images"])
    config = make_config("wgan_gp.py:array", {"model.width": 8, "data.path": str(tmp_path / "x.npy"), "data.scaling": scaling})
    config.data.cache_dir = str(tmp_path / "cache")
    networks, steps = parts_of(config, load_dataset(config))
    state = steps.init_state(jax.random.key(0))
    z = 1e3 * np.ones((2, config.latent.dim), np.float32)
    x, _ = networks.generator(state.generator.params, state.generator.model_state, z, np.zeros(2, np.int32))
    assert (np.abs(x).max() <= 1) == bounded


def test_a_folder_has_an_example_in_each_file(tmp_path):
    for index, example in enumerate(SETS["series"]):
        np.save(tmp_path / f"{index:02d}.npy", example.astype(">f4"))
    np.save(tmp_path.with_name("all.npy"), SETS["series"])
    ours, theirs = load(tmp_path), load(tmp_path.with_name("all.npy"))
    np.testing.assert_array_equal(whole(ours), whole(theirs))
    assert ours.fingerprint == theirs.fingerprint


def test_examples_that_are_not_finite_are_left_out_when_told_so(tmp_path):
    x = np.arange(50.0)
    x[[3, 17]] = np.nan, np.inf
    np.save(tmp_path / "x.npy", x)
    dataset = load(tmp_path / "x.npy", skip_damaged=True)
    assert sorted(whole(dataset)[:, 0]) == sorted(set(range(50)) - {3, 17})
    assert dataset.left_out == {"with NaN or infinity": 2}


# What is refused


def npz(path, **arrays):
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def npy(path, value):
    np.save(path.with_suffix(".npy"), value, allow_pickle=True)
    return path.with_suffix(".npy")


def text(path, content, suffix=".npy"):
    path.with_suffix(suffix).write_bytes(content)
    return path.with_suffix(suffix)


def folder(path, *examples):
    path.mkdir()
    for index, example in enumerate(examples):
        np.save(path / f"{index}.npy", example)
    return path


def huge(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 2)})
    with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(800))
    return path.with_suffix(".npz")


X, NAN = np.ones((40, 3)), np.ones((40, 3))
NAN[[7, 9], 1] = np.nan
Y = np.arange(40) % 2
BAD = {  # what is wrong -> a function of a path that makes it and gives its path, options, words of the line
    "nothing there": (lambda p: p, {}, "no such file or folder; set --config.data.path=FILE"),
    "no path": (lambda p: "", {}, "config.data.path: empty: no such file or folder"),
    "another suffix": (lambda p: text(p, b"1,2", ".csv"), {}, "neither an .npy nor an .npz file, nor a folder of .npy files"),
    "a page for an array": (lambda p: text(p, b"<html>" * 9), {}, "no .npy or .npz file, whatever its name"),
    "a file cut short": (lambda p: text(p, npy(p, X).read_bytes()[:200]), {}, "x.npy: damaged or unreadable"),
    "pickled objects": (lambda p: npy(p, np.array([{}] * 40)), {}, "holds pickled objects, which could run code"),
    "pickled labels": (lambda p: npz(p, x=X, y=np.array([{}] * 40)), {}, "holds pickled objects, which could run code"),
    "larger than the memory": (huge, {}, "too large for the memory, or damaged"),
    "text": (lambda p: npy(p, np.array(["a"] * 40)), {}, "<U1 of shape (40, 1); wanted are integers or floating numbers"),
    "complex numbers": (lambda p: npy(p, X.astype(complex)), {}, "complex128 of shape (40, 3); wanted are integers"),
    "yes and no": (lambda p: npy(p, X > 0), {}, "bool of shape (40, 3); wanted are integers"),
    "records": (lambda p: npy(p, np.zeros(40, [("a", "f4")])), {}, "wanted are integers or floating numbers"),
    "a single number": (lambda p: npy(p, 3.0), {}, "float64 of shape (); wanted are vectors [N, D], series [N, T, C]"),
    "too many axes": (lambda p: npy(p, np.ones((40, 2, 2, 2, 2, 2))), {}, "wanted are vectors [N, D]"),
    "no examples": (lambda p: npy(p, np.ones((0, 3))), {}, "float64 of shape (0, 3); wanted are vectors"),
    "empty examples": (lambda p: npy(p, np.ones((40, 0))), {}, "float64 of shape (40, 0); wanted are vectors"),
    "too few": (lambda p: npy(p, X[:30]), {}, "too few examples: 24 train, 3 validation, 3 test; each split needs 4"),
    "NaN": (lambda p: npy(p, NAN), {}, "2 of 40 examples hold NaN or infinity, the first at index 7; mend them, or leave them"),
    "NaN alone": (lambda p: npy(p, X * np.nan), {"skip_damaged": True}, "too few examples: 0 train"),
    "beyond float32": (lambda p: npy(p, X * 1e300), {"scaling": "none"}, "config.data.scaling: none of values from 1e+300"),
    "no such array": (lambda p: npz(p, a=X), {"x": "b"}, "config.data.x: {path} has no array b; it has a"),
    "which array": (lambda p: npz(p, a=X, b=X), {}, "config.data.x: {path} has no array x; it has a, b"),
    "no arrays": (npz, {}, "config.data.x: {path} has no array x; it has none"),
    "a name in an .npy": (
        lambda p: npy(p, X),
        {"y": "kind"},
        "config.data.y: {path} is an .npy file, whose one array has no name",
    ),
    "no such labels": (lambda p: npz(p, x=X), {"y": "kind"}, "config.data.y: {path} has no array kind; it has x"),
    "labels too few": (
        lambda p: npz(p, x=X, y=Y[1:]),
        {},
        "config.data.y: y in {path} is int64 of shape (39,); wanted are whole",
    ),
    "labels of two rows each": (
        lambda p: npz(p, x=X, y=np.ones((20, 2, 2))),
        {},
        "wanted are whole numbers, text",
    ),
    "labels of one class": (lambda p: npz(p, x=X, y=0 * Y), {}, "has 1 values on 40 examples: no classes"),
    "labels all different": (lambda p: npz(p, x=X, y=np.arange(40)), {}, "has 40 values on 40 examples: no classes"),
    "an empty folder": (folder, {}, "x: no .npy files in this folder"),
    "series of two lengths": (lambda p: folder(p, *[X[:5]] * 20, X[:6]), {}, "20.npy: is float64 (6, 3) and"),
    "a text in a folder": (lambda p: folder(p, *[X[0]] * 20, np.array("a")), {}, "20.npy: is <U1 (1,) and"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line_that_names_the_key(case, tmp_path):
    make, options, words = BAD[case]
    path = make(tmp_path / "x")
    config = default_config()
    config.data.update({"name": "array", "path": str(path), **options})
    with pytest.raises(UserError) as caught:
        load_dataset(config)
    (line,) = caught.value.lines
    assert line.startswith("config.data.")
    assert words.format(path=path) in line
    assert len(line) < 400 + 2 * len(str(path))


# Trained, sampled back, exported

RUNS = {"vectors": "mlp", "series": "dcgan", "images": "dcgan", "volumes": "dcgan"}
FEW = {"steps": 2, "eval_every": 2, "sample_every": 2, "checkpoint_every": 2, "batch_size": 4, "n_critic": 1, "devices": 1}
FEW |= {"eval.draws": 1, "eval.samples": 10, "model.width": 4, "latent.dim": 3, "log_every": 2}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_set_is_trained_sampled_in_its_units_and_exported(name, command, tmp_path):
    given, workdir = SETS[name], tmp_path / "run"
    np.save(tmp_path / "x.npy", given)
    changes = {**FEW, "data.path": tmp_path / "x.npy", "model.name": RUNS[name]}
    words = [f"--config.{key}={value}" for key, value in changes.items()]
    code, out, error = command("run", "--config=configs/wgan_gp.py:array", f"--workdir={workdir}", *words)
    assert (code, error) == (0, "")
    assert f"{name} {given.dtype} {'x'.join(map(str, given.shape[1:]))}" in out
    assert (workdir / "figures" / "samples.png").exists()
    (tmp_path / "x.npy").unlink()  # what samples are needs the run alone
    flags = [f"--workdir={workdir}", f"--export={tmp_path / 'g'}", f"--out={tmp_path / 's.npz'}", "--num=5"]
    code, _, error = command("sample", *flags)
    assert (code, error) == (0, "")
    with np.load(tmp_path / "s.npz") as arrays:
        samples, latents = arrays["samples"], arrays["latents"]
    assert (samples.shape, samples.dtype) == ((5, *given.shape[1:]), given.dtype)
    axes = tuple(range(given.ndim - 1))  # an untrained generator is about 0 in network units: the mean of the data
    off = np.abs(samples.mean(axes, np.float64) - given.mean(axes, np.float64)) / given.std(axes, dtype=np.float64)
    assert off.max() < 3
    said = json.loads((tmp_path / "g.json").read_text())
    assert said["output"] == {"shape": [*given.shape[1:]], "range": None, "to_uint8": None, "dtype": given.dtype.name}
    exported = np.asarray(jax.export.deserialize(bytearray((tmp_path / "g").read_bytes())).call(latents))
    rounding = (0.6 if given.dtype.kind == "u" else 0) + 1e-3 * given.std()
    np.testing.assert_allclose(
        exported, samples.astype(np.float32), rtol=2e-3 if given.dtype == np.float16 else 1e-6, atol=rounding
    )
    assert command("sample", f"--workdir={workdir}", f"--out={tmp_path / 's.png'}")[0] == 0
    code, _, error = command("sample", f"--workdir={workdir}", f"--out={tmp_path / 'folder'}/")
    assert (code, error.count("\n")) == (2, 1)
    assert f"of uint8 images, and this run makes {given.dtype} {name}" in error
    np.save(tmp_path / "x.npy", given)
    pictures = {"i.png": ["--interpolate=3"], "n.png": ["--nearest=2", f"--config.data.path={tmp_path / 'x.npy'}"], "w.gif": []}
    for file, flags in pictures.items():
        code, _, error = command("sample", f"--workdir={workdir}", f"--out={tmp_path / file}", "--num=2", *flags)
        if given.ndim > 3:
            assert (code, error) == (0, "")
            assert (tmp_path / file).is_file()
        else:
            assert (code, error.count("\n")) == (2, 1)
            assert f"of images and volumes, and this run makes {given.dtype} {name}" in error


def test_nearest_examples_are_so_in_network_units():
    """A channel of large numbers does not outweigh the others."""
    train = np.array([[[[0.0, 0.0]]], [[[3.0, 0.0]]], [[[0.0, 2000.0]]]])
    scaling = Scaling("float64", (1.0, 1000.0), (0.0, 0.0))
    indices, distances = nearest_images(np.array([[[[0.5, 2.0]]]]), train, 3, scaling)
    assert indices.tolist() == [[2, 0, 1]]
    np.testing.assert_allclose(distances, [[0.5, np.hypot(0.5, 2), np.hypot(2.5, 2)]])


def test_attributes_are_kept_where_examples_are_laid_out(tmp_path):
    """Of a set that is streamed as of one in memory."""
    y = np.stack([np.arange(60) % 7, -np.arange(60)], 1).astype(np.float64)
    np.savez(tmp_path / "a.npz", x=SETS["series"], y=y, kind=np.arange(60) % 2)
    options = {"y": "y,kind"}
    resident = load(tmp_path / "a.npz", **options)
    for _ in range(2):  # laid out, and found there
        streamed = load(tmp_path / "a.npz", resident_mb=0, **options)
        assert streamed.attributes.columns == resident.attributes.columns
        assert [column.name for column in streamed.attributes.columns] == ["y0", "y1", "kind"]
        np.testing.assert_array_equal(streamed.attributes.rows, resident.attributes.rows)
        np.testing.assert_array_equal(streamed.test.labels, resident.test.labels)
        assert streamed.fingerprint == resident.fingerprint


@pytest.mark.slow
def test_a_conditional_run_of_series(command, tmp_path):
    rng = np.random.default_rng(0)
    phase, kind = rng.uniform(0, 3, 80), rng.integers(0, 2, 80)
    x = np.sin(np.arange(16) / 3 + phase[:, None])[..., None] * (1 + kind[:, None, None])
    np.savez(tmp_path / "a.npz", x=x.astype(np.float32), phase=phase, kind=np.array(["low", "high"])[kind])
    changes = {**FEW, "data.path": tmp_path / "a.npz", "data.y": "phase,kind", "model.name": "dcgan"}
    changes |= {"conditioning.name": "projection", "eval.metrics": "wasserstein,labels,label_numbers"}
    flags = [f"--config.{key}={value}" for key, value in changes.items()]
    code, out, error = command("run", "--config=configs/wgan_gp.py:array", f"--workdir={tmp_path / 'run'}", *flags)
    assert (code, error) == (0, "")
    assert "series float32 16x1, attributes phase (numbers), kind (2 values)" in out
    code, _, error = command(
        "sample", f"--workdir={tmp_path / 'run'}", "--label=phase:1.5,kind:low", f"--out={tmp_path / 's.npz'}", "--num=3"
    )
    assert (code, error) == (0, "")
    with np.load(tmp_path / "s.npz") as found:
        assert found["samples"].shape == (3, 16, 1)
        np.testing.assert_allclose(found["labels.phase"], 1.5, rtol=1e-6)
        assert found["labels.kind"].tolist() == ["low"] * 3
