"""The laws of the datasets, the digits' split, the map of pixels, and the one way to a batch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.datasets import load_digits, make_swiss_roll

from configs.default import default_config
from wgan_jax.data import DATASETS, load_dataset
from wgan_jax.data.dataset import Dataset, Split, decode, encode
from wgan_jax.data.source import ROWS_PER_FEED, STREAMED_BYTES, Feed, draw, make_feed, positions_per_feed, stream_indices

pytestmark = pytest.mark.usefixtures("strict_dtypes")


SHIPPED = set(DATASETS) - {"tfds", "folder"}  # test_images.py has these


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
    if dataset.sample is None:
        assert dataset.train.images.shape[1:] == dataset.shape
    else:
        assert (dataset.train, dataset.validation, dataset.test) == (None, None, None)
        example = jax.eval_shape(dataset.sample, jax.random.key(0))
        assert (example.shape, example.dtype) == (dataset.shape, jnp.float32)


@pytest.mark.parametrize("name", sorted(name for name in SHIPPED if load(name).sample))
def test_examples_are_independent(name):
    x = sample(load(name), 500)
    assert len(np.unique(x, axis=0)) == 500
    moving = x.std(axis=0) > 0
    assert abs(np.corrcoef(x[:-1, moving][:, -1], x[1:, moving][:, -1])[0, 1]) < 0.2  # of order 1/sqrt(500) = .045


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
    for x in (decode(levels), jax.jit(decode)(levels)):
        assert x.dtype == jnp.float32
        np.testing.assert_array_equal(encode(x), levels)
        np.testing.assert_allclose(x, np.linspace(-1, 1, 256), atol=1e-7)
    assert (decode(levels)[0], decode(levels)[255]) == (-1, 1)


def test_decode_in_float64():
    with jax.enable_x64(True):
        x = decode(np.arange(256, dtype=np.uint8), jnp.float64)
        assert x.dtype == jnp.float64
        np.testing.assert_allclose(x, np.linspace(-1, 1, 256), rtol=1e-15, atol=1e-15)


def test_encode_rounds_to_the_nearest_level_and_clips():
    half = 1 / 127.5 / 2
    x = np.array([-2.0, -1.0, -1 + 0.9 * half, -1 + 1.1 * half, 1 - 1.1 * half, 1 - 0.9 * half, 1.0, 2.0], np.float32)
    np.testing.assert_array_equal(encode(x), [0, 0, 0, 1, 254, 255, 255, 255])
    assert encode(x).dtype == np.uint8


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
    assert make_feed(load("ring8"), None, 0, 0, 3, 4) == Feed(None, None, None)


# Batches


def stored():
    """11 images [2, 2, 1] whose pixels tell which they are, labelled 0..10."""
    index = np.arange(11)
    images = (20 * index[:, None] + np.arange(4)).astype(np.uint8).reshape(11, 2, 2, 1)
    return Dataset(shape=(2, 2, 1), class_names=tuple("abcdefghijk"), train=Split(images, index.astype(np.int32)))


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
        return draw(dataset, feed, position, jax.random.key(0), count, size)

    take = jax.jit(take) if compiled else take
    for feed in (resident, streamed):
        batch = take(feed, jnp.int32(position))
        assert (batch.x.shape, batch.x.dtype) == ((count, size, 2, 2, 1), jnp.float32)
        assert (batch.label.shape, batch.label.dtype) == ((count, size), jnp.int32)
        np.testing.assert_array_equal(batch.label, here)
        np.testing.assert_array_equal(encode(batch.x), dataset.train.images[here])


def test_stored_batches_do_not_depend_on_the_key_or_the_feeds_cut():
    dataset = stored()
    _, early, _ = feeds(dataset, 0, 12, 5)
    _, late, _ = feeds(dataset, 6, 12, 5)
    a = draw(dataset, early, jnp.int32(7), jax.random.key(0), 3, 5)
    b = draw(dataset, late, jnp.int32(7), jax.random.key(1), 3, 5)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_flips_mirror_about_half_of_the_images_and_nothing_else():
    dataset = stored()
    rows, resident, streamed = feeds(dataset, 0, 40, 5)
    plain = dataset.train.images[rows]
    for feed in (resident, streamed):
        x = encode(draw(dataset._replace(flip=True), feed, jnp.int32(0), jax.random.key(3), 40, 5).x)
        flipped = (x == plain[:, :, :, ::-1]).all((2, 3, 4))
        np.testing.assert_array_equal(flipped | (x == plain).all((2, 3, 4)), np.ones((40, 5), bool))
        assert 70 < flipped.sum() < 130  # of 200


def test_a_config_augments_whatever_is_stored():
    dataset = load("digits", flip=True, dequantise=True)
    assert (dataset.flip, dataset.dequantise) == (True, True)
    assert (load("digits").flip, load("ring8", flip=True).flip) == (False, False)


def test_dequantised_pixels_stay_on_their_level():
    dataset = stored()
    rows, resident, _ = feeds(dataset, 0, 40, 5)
    x = draw(dataset._replace(dequantise=True), resident, jnp.int32(0), jax.random.key(3), 40, 5).x
    noise = (np.asarray(x) + 1) * 127.5 - dataset.train.images[rows]
    assert -0.501 < noise.min() < -0.45
    assert 0.45 < noise.max() < 0.501
    assert abs(noise.mean()) < 0.05


def test_synthetic_batches_are_the_same_inside_a_program():
    dataset, key = load("gaussian"), jax.random.key(5)

    def take(key):
        return draw(dataset, Feed(), jnp.int32(0), key, 3, 4)

    outside, inside = take(key), jax.jit(take)(key)
    assert (outside.x.shape, outside.x.dtype) == ((3, 4, *dataset.shape), jnp.float32)
    np.testing.assert_array_equal(outside.label, np.zeros((3, 4), np.int32))
    np.testing.assert_allclose(inside.x, outside.x, rtol=1e-6, atol=1e-7)  # the compiler may fuse a product and a sum
    assert len(np.unique(np.asarray(outside.x).reshape(12, -1), axis=0)) == 12
    assert not np.any(np.isclose(take(jax.random.key(6)).x, outside.x))


def test_synthetic_batches_do_not_depend_on_the_number_of_devices():
    dataset, key = load("gaussian"), jax.random.key(2)
    whole = jax.jit(lambda: draw(dataset, Feed(), jnp.int32(0), key, 2, 8).x)()

    def share(_):
        return draw(dataset, Feed(), jnp.int32(0), key, 2, 2, "data").x

    shares = jax.jit(jax.vmap(share, axis_name="data", out_axes=1))(jnp.arange(4))  # [count, devices, B / devices, D]
    np.testing.assert_allclose(shares.reshape(2, 8, 1), whole, rtol=1e-6, atol=1e-7)


def test_a_batch_has_the_dtype_asked_for():
    with jax.enable_x64(True):
        for dataset, feed in ((load("ring8"), Feed()), (stored(), feeds(stored(), 0, 2, 3)[1])):
            take = functools.partial(draw, dataset, feed, count=1, size=3, dtype=jnp.float64)
            assert jax.eval_shape(take, jnp.int32(0), jax.random.key(0)).x.dtype == jnp.float64
