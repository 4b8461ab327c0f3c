"""The laws of the datasets, the digits' split, the map of pixels, and the one way to a batch."""

import functools
import itertools
import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image
from sklearn.datasets import load_digits, make_swiss_roll

from configs.default import default_config
from wgan_jax.data import DATASETS, Loader, introduce, load_dataset
from wgan_jax.data.dataset import Law, Split, Stored, describe, from_pixels, in_one_line, to_pixels
from wgan_jax.data.source import (
    ROWS_PER_FEED,
    STREAMED_BYTES,
    Feed,
    make_draw,
    make_feed,
    plan_feeds,
    positions_per_feed,
    stream_indices,
)
from wgan_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("strict_dtypes")


SHIPPED = set(DATASETS) - {"tfds", "folder", "array", "table"}  # test_images.py, test_array.py and test_table.py have these


def load(name, **values):
    config = default_config()
    config.data.update({"name": name, **values})
    return load_dataset(config)


def sample(dataset, count, seed=0):
    """Examples [count, D] in float64, for SciPy."""
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(dataset.sample))(keys), np.float64)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_dataset_is_stored_or_sampled(name):
    dataset = load(name)
    if isinstance(dataset, Stored):
        assert dataset.train.images.shape[1:] == dataset.shape
    else:
        example = jax.eval_shape(dataset.sample, jax.random.key(0))
        assert (example.shape, example.dtype) == (dataset.shape, jnp.float32)


@pytest.mark.parametrize("name", sorted(name for name in SHIPPED if isinstance(load(name), Law)))
def test_examples_are_independent(name):
    x = sample(load(name), 500)
    assert len(np.unique(x, axis=0)) == 500
    moving = x.std(axis=0) > 0
    assert abs(np.corrcoef(x[:-1, moving][:, -1], x[1:, moving][:, -1])[0, 1]) < 0.2  # of order 1/sqrt(500) = .045


# Loaders of one's own


def tiny(images=(8, 4, 4, 1), labels=8, classes=("a", "b"), **changes):
    """A dataset as a loader gives it; images and labels are arrays, or the shape of zeros."""

    def array(value, dtype):
        return np.zeros(value, dtype) if isinstance(value, int | tuple) else value

    split = Split(array(images, np.uint8), array(labels, np.int32))
    return Stored((4, 4, 1), split, split, split, classes)._replace(**changes)


def load_own(monkeypatch, dataset, **traits):
    monkeypatch.setitem(DATASETS, "own", Loader(lambda _: dataset, **{"images": True, **traits}))
    return load("own", flip=True)


def test_a_loader_of_ones_own_is_augmented_and_gets_int32_labels(monkeypatch):
    given = np.arange(8, dtype=np.uint16) % 2
    dataset = load_own(monkeypatch, tiny(labels=given))
    assert dataset.flip
    assert dataset.test.labels.dtype == np.int32
    np.testing.assert_array_equal(dataset.test.labels, given)
    assert load_own(monkeypatch, tiny(classes=())).class_names == ()


FLOATS = np.full((8, 4, 4, 1), 0.5, np.float32)  # in [0, 1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"images": FLOATS},
            r"own gives train images of float32 \(8, 4, 4, 1\); wanted are uint8 \[N, H, W, C\].* 255 for white",
        ),
        ({"images": (8, 4, 4)}, r"train images of uint8 \(8, 4, 4\); wanted are"),
        ({"images": (8, 1, 4, 4)}, r"images of \(1, 4, 4\), and the dataset's shape is \(4, 4, 1\)"),  # as PyTorch has them
        ({"images": (0, 4, 4, 1), "labels": 0}, r"uint8 \(0, 4, 4, 1\); wanted are"),
        ({"images": (3, 4, 4, 1), "labels": 3}, "own gives 3 train images; each split needs 4"),
        ({"images": (8, 5, 4, 1)}, r"train images of \(5, 4, 1\), and the dataset's shape is \(4, 4, 1\)"),
        ({"images": [[1]]}, r"train images of list .*; wanted are uint8"),
        ({"test": Split(np.zeros((8, 6, 6, 1), np.uint8), np.zeros(8, int))}, r"test images of \(6, 6, 1\), and the dataset's"),
        ({"validation": None}, r"no split validation; give all three"),
        ({"labels": 7}, r"labels of int32 \(7,\); wanted are whole numbers \[8\] from 0 to 1, as class_names has 2 names"),
        ({"labels": np.arange(8)}, r"labels of int64 from 0 to 7; wanted are whole numbers \[8\] from 0 to 1"),
        ({"labels": np.full(8, -1)}, r"labels of int64 from -1 to -1; wanted"),
        ({"labels": np.zeros(8)}, r"labels of float64 \(8,\); wanted"),
        (
            {"labels": np.arange(8) % 2, "classes": ()},
            r"from 0 to 1; wanted are whole numbers \[8\] from 0 to 0, as class_names has 0",
        ),
    ],
)
def test_a_loader_that_gives_something_else_is_named(monkeypatch, given, words):
    fields = {name: given.pop(name) for name in ("test", "validation") if name in given}
    with pytest.raises(UserError, match=f"^config.data.name: the loader of .*{words}"):
        load_own(monkeypatch, tiny(**given, **fields))


def test_a_loader_is_what_its_line_says(monkeypatch):
    with pytest.raises(UserError, match=r"of own gives no law; where it has images, write images=True in DATASETS"):
        load_own(monkeypatch, tiny(), images=False)
    with pytest.raises(UserError, match="of own gives no split train"):
        load_own(monkeypatch, load("ring8"))


# What a run says of its data


def test_digits_in_one_line():
    line = "data: digits, 1,000 train / 297 validation / 500 test images 8x8x1, 10 classes (fewest 8: 174, most 3: 183)"
    assert in_one_line("digits", load("digits")) == line


def test_few_classes_are_all_counted_and_what_was_left_out_is_said():
    first = Split(np.zeros((3, 4, 4, 3), np.uint8), np.array([0, 1, 1], np.int32))
    dataset = Stored((4, 4, 3), first, first, first, ("cat", "dog"), "f", {".tif": 40, "hidden": 2})
    line = "data: pets, 3 train / 3 validation / 3 test images 4x4x3, 2 classes (cat: 3, dog: 6); left out: 40 .tif, 2 hidden"
    assert in_one_line("pets", dataset) == line
    assert in_one_line("pets", dataset._replace(class_names=())).endswith(
        "images 4x4x3, no labels; left out: 40 .tif, 2 hidden"
    )
    even = dataset._replace(class_names=tuple("abcdefghijkl"), train=first._replace(labels=np.arange(12)))
    even = even._replace(validation=even.train, test=even.train)
    assert "12 classes of 3 each;" in in_one_line("even", even)
    assert describe(dataset) == {
        "fingerprint": "f",
        "shape": [4, 4, 3],
        "scaling": {"dtype": "uint8", "factor": (127.5,), "shift": (1.0,), "bounded": True},
        "examples": {"train": 3, "validation": 3, "test": 3},
        "classes": ["cat", "dog"],
        "class_counts": {"train": [1, 2], "validation": [1, 2], "test": [1, 2]},
        "left_out": {".tif": 40, "hidden": 2},
    }


def test_laws_in_one_line():
    assert in_one_line("ring8", load("ring8")) == "data: ring8, points of 2 numbers drawn from a law without end, 8 modes"
    assert in_one_line("gaussian", load("gaussian")) == "data: gaussian, points of 1 number drawn from a law without end"
    assert describe(load("ring8"))["examples"] == {}


def test_the_line_names_the_place_or_the_builder():
    config = default_config()
    config.data.update({"name": "tfds", "builder": "mnist"})
    assert introduce(config, tiny()).startswith("data: mnist, 8 train")
    config.data.update({"name": "folder", "path": os.fsdecode(b"/x/caf\xe9")})
    assert introduce(config, tiny()).startswith("data: /x/caf\\udce9, 8 train")


# Mixtures


def test_ring8_has_eight_modes_at_equal_angles():
    modes = load("ring8").modes
    assert modes.centres.shape == (8, 2)
    np.testing.assert_allclose(np.hypot(*modes.centres.T), 2 / 1.414)
    angles = np.mod(np.arctan2(modes.centres[:, 1], modes.centres[:, 0]), 2 * np.pi)
    np.testing.assert_allclose(angles, 2 * np.pi * np.arange(8) / 8, atol=1e-12)  # a linspace with both ends gives seven
    assert modes.sigma == 0.02 / 1.414


def test_grid25_is_the_square_of_five():
    modes = load("grid25").modes
    wanted = {(2 * i, 2 * j) for i in range(-2, 3) for j in range(-2, 3)}
    assert {tuple(centre) for centre in np.round(modes.centres * 2.828, 9)} == wanted
    assert len(modes.centres) == 25
    assert modes.sigma == 0.05 / 2.828


@pytest.mark.parametrize("name", ["ring8", "grid25"])
def test_a_mixture_is_gaussian_around_equally_likely_centres(name):
    dataset = load(name)
    x, (centres, sigma) = sample(dataset, 20_000), dataset.modes
    difference = x[:, None] - centres
    nearest = np.linalg.norm(difference, axis=-1).argmin(axis=1)
    assert scipy.stats.chisquare(np.bincount(nearest, minlength=len(centres))).pvalue > 0.01
    noise = difference[np.arange(len(x)), nearest] / sigma
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.03


@pytest.mark.parametrize("name", ["ring8", "grid25"])
def test_a_stratified_sample_has_equal_shares(name):
    dataset = load(name)
    x, (centres, sigma) = dataset.stratified(jax.random.key(1), 500), dataset.modes
    distance = np.linalg.norm(np.asarray(x)[:, None] - centres, axis=-1)
    counts = np.bincount(distance.argmin(axis=1), minlength=len(centres))
    assert counts.max() - counts.min() <= 1
    np.testing.assert_allclose(np.sqrt(np.mean(distance.min(axis=1) ** 2) / 2), sigma, rtol=0.1)


# Laws


def test_the_swiss_roll_is_sklearns():
    ours = sample(load("swiss_roll"), 20_000)
    theirs = make_swiss_roll(20_000, noise=0.25, random_state=0)[0][:, [0, 2]] / 7.5

    def off_the_spiral(x):
        """r - t where the spiral r = t crosses the point's angle: the noise across the roll."""
        gap = np.hypot(*x.T) * 7.5 - np.arctan2(x[:, 1], x[:, 0])
        return np.mod(gap + np.pi, 2 * np.pi) - np.pi

    for feature in (lambda x: x[:, 0], lambda x: x[:, 1], lambda x: x.sum(axis=1), lambda x: np.hypot(*x.T), off_the_spiral):
        assert scipy.stats.ks_2samp(feature(ours), feature(theirs)).pvalue > 0.01


@pytest.mark.parametrize("dim", [1, 3])
def test_the_gaussian_is_n_2_1(dim):
    dataset = load("gaussian", dim=dim)
    assert dataset.shape == (dim,)
    x = sample(dataset, 10_000)
    for coordinate in x.T:
        assert scipy.stats.kstest(coordinate - 2, "norm").pvalue > 0.01
    np.testing.assert_allclose(np.cov(x.T).reshape(dim, dim), np.eye(dim), atol=0.06)
    assert (dataset.quantile is None) == (dim > 1)


def test_the_gaussians_quantile():
    probability = np.array([0.001, 0.1, 0.5, 0.975])
    wanted = scipy.stats.norm(2, 1).ppf(probability)
    np.testing.assert_allclose(load("gaussian").quantile(probability), wanted, rtol=1e-12)


def test_parallel_lines_is_a_segment_at_theta():
    x = sample(load("parallel_lines", theta=-0.75), 5_000)
    assert set(x[:, 0]) == {-0.75}
    assert 0 <= x[:, 1].min() < x[:, 1].max() < 1
    assert scipy.stats.kstest(x[:, 1], "uniform").pvalue > 0.01


# Digits and pixels


def test_the_digits_split_is_the_public_one():
    dataset = load("digits")
    source, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(1797)
    splits = [dataset.train, dataset.validation, dataset.test]
    assert [len(split.images) for split in splits] == [1000, 297, 500]
    levels = np.array([0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255])  # k * 255 / 16, rounded
    images = np.concatenate([split.images for split in splits])
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, levels[source[order].astype(int)].reshape(-1, 8, 8, 1))
    found = np.concatenate([split.labels for split in splits])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, labels[order])
    assert (dataset.shape, len(dataset.class_names)) == ((8, 8, 1), 10)


def test_encode_is_the_exact_inverse_of_decode():
    levels = np.arange(256, dtype=np.uint8)
    for x in (from_pixels(levels), jax.jit(from_pixels)(levels)):
        assert x.dtype == jnp.float32
        np.testing.assert_array_equal(to_pixels(x), levels)
        np.testing.assert_allclose(x, np.linspace(-1, 1, 256), atol=1e-7)
    assert (from_pixels(levels)[0], from_pixels(levels)[255]) == (-1, 1)


def test_decode_in_float64():
    with jax.enable_x64(True):
        x = from_pixels(np.arange(256, dtype=np.uint8), jnp.float64)
        assert x.dtype == jnp.float64
        np.testing.assert_allclose(x, np.linspace(-1, 1, 256), rtol=1e-15, atol=1e-15)


def test_encode_rounds_to_the_nearest_level_and_clips():
    half = 1 / 127.5 / 2
    x = np.array([-2.0, -1.0, -1 + 0.9 * half, -1 + 1.1 * half, 1 - 1.1 * half, 1 - 0.9 * half, 1.0, 2.0], np.float32)
    np.testing.assert_array_equal(to_pixels(x), [0, 0, 0, 1, 254, 255, 255, 255])
    assert to_pixels(x).dtype == np.uint8


# The stream


SIZES = [(10, 3), (12, 4), (7, 7), (5, 12), (1000, 64)]  # (examples, batch size)


@pytest.mark.parametrize(("examples", "size"), SIZES)
def test_every_epoch_is_a_permutation_and_flows_into_the_next(examples, size):
    positions = 3 * examples  # size epochs of the stream, three times
    rows = stream_indices(0, 0, positions, size, examples)
    assert (rows.shape, rows.dtype) == ((positions, size), np.int32)
    epochs = rows.ravel().reshape(-1, examples)[:6]
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(examples), (len(epochs), 1)))
    assert len(np.unique(epochs, axis=0)) == len(epochs)


@pytest.mark.parametrize("name", sorted(SHIPPED | {"folder"}))
def test_a_loader_reads_what_its_line_says(name, tmp_path):
    """The keys that it does not read are refused by wgan_jax.config."""
    read = set()

    class Recorder:
        def __getattr__(self, key):
            read.add(key)
            return values[key]

    values = default_config().data
    for index in range(40):
        Image.new("L", (4, 4)).save(tmp_path / f"{index}.png")
    values.update({"path": str(tmp_path), "cache_dir": str(tmp_path / "cache")})
    dataset = DATASETS[name].load(Recorder())
    if isinstance(dataset, Law):
        jax.eval_shape(dataset.sample, jax.random.key(0))
    assert read - {"cache_dir"} == set(DATASETS[name].reads)


def test_a_batch_larger_than_the_data_takes_every_example_as_often_as_it_can():
    dataset = stored()  # 11 examples
    size = 30
    rows, resident, streamed = feeds(dataset, 0, 11, size)
    for feed in (resident, streamed):
        batch = make_draw(dataset, size)(feed, jnp.int32(0), jax.random.key(0), 11)
        np.testing.assert_array_equal(batch.label, rows)
        np.testing.assert_array_equal(to_pixels(batch.x), dataset.train.images[rows])
    for row in rows:
        counts = np.bincount(row, minlength=11)
        assert 1 <= counts.min() <= counts.max() <= 4  # of 30 = two or more whole epochs and parts of at most two others
    assert np.bincount(rows.ravel()).tolist() == [size] * 11


@pytest.mark.parametrize(("examples", "size"), SIZES)
def test_the_stream_does_not_depend_on_where_it_is_cut(examples, size):
    whole = stream_indices(3, 0, 40, size, examples)
    for cuts in ([0, 1, 2, 5, 40], [0, 39, 40], [0, 13, 26, 40]):
        parts = [stream_indices(3, a, b - a, size, examples) for a, b in itertools.pairwise(cuts)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_stream_depends_on_the_seed():
    assert (stream_indices(0, 0, 10, 10, 100) != stream_indices(1, 0, 10, 10, 100)).mean() > 0.9


def test_the_stream_far_out():
    """Row 2^31 / 8 of batches of 64 lies beyond the reach of int32 example numbers."""
    rows = stream_indices(0, 2**28, 20, 64, 640)
    np.testing.assert_array_equal(np.sort(rows[: (-(2**28)) % 10 + 10][-10:].ravel()), np.arange(640))


def test_a_feed_has_one_size_for_a_config():
    dataset, size = load("digits"), ROWS_PER_FEED // 16
    assert positions_per_feed(dataset, size, 6, streamed=False) == 16
    assert positions_per_feed(dataset, 2 * ROWS_PER_FEED, 6, streamed=False) == 6  # an update's
    assert positions_per_feed(dataset, 64, 6, streamed=True) == STREAMED_BYTES // 64 // 64
    first, later = (make_feed(dataset, dataset.train, 0, position, 16, size) for position in (0, 5))
    assert first.rows.shape == later.rows.shape == (16, size)
    np.testing.assert_array_equal(first.rows[5:], later.rows[:-5])
    assert (first.first, later.first) == (0, 5)


def test_synthetic_data_needs_no_feed():
    feeds = plan_feeds(default_config(), load("ring8"), place=None, shard=lambda feed: feed)
    assert (feeds.at(7), feeds.capacity) == (Feed(None, None, None), math.inf)


# Batches


def stored():
    """11 images [2, 2, 1] whose pixels tell which they are, labelled 0..10."""
    index = np.arange(11)
    images = (20 * index[:, None] + np.arange(4)).astype(np.uint8).reshape(11, 2, 2, 1)
    split = Split(images, index.astype(np.int32))
    return Stored((2, 2, 1), split, split, split, tuple("abcdefghijk"))


def feeds(dataset, first, positions, size):
    """The same positions as indices into resident data and as streamed pixels."""
    rows = stream_indices(7, first, positions, size, len(dataset.train.images))
    resident = Feed(jax.tree.map(jnp.asarray, dataset.train), np.int32(first), jnp.asarray(rows))
    return rows, resident, make_feed(dataset, None, 7, first, positions, size)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("position", [20, 23, 26])
def test_stored_batches_are_the_streams_whichever_way(compiled, position):
    dataset, count, size = stored(), 4, 5
    rows, resident, streamed = feeds(dataset, 20, 10, size)
    here = rows[position - 20 : position - 20 + count]

    def take(feed, position):
        return make_draw(dataset, size)(feed, position, jax.random.key(0), count)

    take = jax.jit(take) if compiled else take
    for feed in (resident, streamed):
        batch = take(feed, jnp.int32(position))
        assert (batch.x.shape, batch.x.dtype) == ((count, size, 2, 2, 1), jnp.float32)
        assert (batch.label.shape, batch.label.dtype) == ((count, size), jnp.int32)
        np.testing.assert_array_equal(batch.label, here)
        np.testing.assert_array_equal(to_pixels(batch.x), dataset.train.images[here])


def test_batches_are_in_network_units_whatever_is_stored(negated):
    dataset = negated(stored())
    rows, resident, streamed = feeds(dataset, 0, 4, 5)
    assert streamed.rows.images.dtype == np.int16
    for feed in (resident, streamed):
        x = make_draw(dataset, 5)(feed, jnp.int32(0), jax.random.key(0), 4).x
        np.testing.assert_array_equal(to_pixels(x), stored().train.images[rows])
    assert positions_per_feed(dataset, 64, 6, streamed=True) == STREAMED_BYTES // (2 * 4) // 64


def test_stored_batches_do_not_depend_on_the_key_or_the_feeds_cut():
    dataset = stored()
    _, early, _ = feeds(dataset, 0, 12, 5)
    _, late, _ = feeds(dataset, 6, 12, 5)
    a = make_draw(dataset, 5)(early, jnp.int32(7), jax.random.key(0), 3)
    b = make_draw(dataset, 5)(late, jnp.int32(7), jax.random.key(1), 3)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_flips_mirror_about_half_of_the_images_and_nothing_else():
    dataset = stored()
    rows, resident, streamed = feeds(dataset, 0, 40, 5)
    plain = dataset.train.images[rows]
    for feed in (resident, streamed):
        x = to_pixels(make_draw(dataset._replace(flip=True), 5)(feed, jnp.int32(0), jax.random.key(3), 40).x)
        flipped = (x == plain[:, :, :, ::-1]).all((2, 3, 4))
        np.testing.assert_array_equal(flipped | (x == plain).all((2, 3, 4)), np.ones((40, 5), bool))
        assert 70 < flipped.sum() < 130  # of 200


def test_a_config_augments_whatever_is_stored():
    dataset = load("digits", flip=True, dequantise=True)
    assert (dataset.flip, dataset.dequantise) == (True, True)
    assert not load("digits").flip
    assert isinstance(load("ring8", flip=True), Law)  # which nothing mirrors


def test_dequantised_pixels_stay_on_their_level():
    dataset = stored()
    rows, resident, _ = feeds(dataset, 0, 40, 5)
    x = make_draw(dataset._replace(dequantise=True), 5)(resident, jnp.int32(0), jax.random.key(3), 40).x
    noise = (np.asarray(x) + 1) * 127.5 - dataset.train.images[rows]
    assert -0.501 < noise.min() < -0.45
    assert 0.45 < noise.max() < 0.501
    assert abs(noise.mean()) < 0.05


def test_synthetic_batches_are_the_same_inside_a_program():
    dataset, key = load("gaussian"), jax.random.key(5)

    def take(key):
        return make_draw(dataset, 4)(Feed(), jnp.int32(0), key, 3)

    outside, inside = take(key), jax.jit(take)(key)
    assert (outside.x.shape, outside.x.dtype) == ((3, 4, *dataset.shape), jnp.float32)
    np.testing.assert_array_equal(outside.label, np.zeros((3, 4), np.int32))
    np.testing.assert_allclose(inside.x, outside.x, rtol=1e-6, atol=1e-7)  # the compiler may fuse a product and a sum
    assert len(np.unique(np.asarray(outside.x).reshape(12, -1), axis=0)) == 12
    assert not np.any(np.isclose(take(jax.random.key(6)).x, outside.x))


def test_synthetic_batches_do_not_depend_on_the_number_of_devices():
    dataset, key = load("gaussian"), jax.random.key(2)
    whole = jax.jit(lambda: make_draw(dataset, 8)(Feed(), jnp.int32(0), key, 2).x)()

    def share(_):
        return make_draw(dataset, 2, "data")(Feed(), jnp.int32(0), key, 2).x

    shares = jax.jit(jax.vmap(share, axis_name="data", out_axes=1))(jnp.arange(4))  # [count, devices, B / devices, D]
    np.testing.assert_allclose(shares.reshape(2, 8, 1), whole, rtol=1e-6, atol=1e-7)


def test_a_batch_has_the_dtype_asked_for():
    with jax.enable_x64(True):
        for dataset, feed in ((load("ring8"), Feed()), (stored(), feeds(stored(), 0, 2, 3)[1])):
            take = functools.partial(make_draw(dataset, 3, dtype=jnp.float64), feed, count=1)
            assert jax.eval_shape(take, jnp.int32(0), jax.random.key(0)).x.dtype == jnp.float64
