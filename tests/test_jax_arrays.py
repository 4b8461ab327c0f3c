"""Metric functions take JAX's arrays as NumPy's: float32 numbers on a device give what the same numbers give in float64."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.data.dataset import from_pixels
from wgan_jax.metrics import divergences, fidelity, kernels, modes, transport

RNG = np.random.default_rng(0)
# far from 0, so that a sum in float32 is not that in float64
X, Y = (RNG.normal(1000, 1, (40, 3)).astype(np.float32) for _ in range(2))
P, Q = (RNG.dirichlet(np.ones(6)).astype(np.float32) for _ in range(2))
COV = np.cov(X.T).astype(np.float32)
LABELS = np.arange(40, dtype=np.int32) % 2
IMAGES = (RNG.integers(0, 100, (40, 4, 4, 1)) + 150 * LABELS[:, None, None, None]).astype(np.uint8)
COST = np.abs(X[:, None, 0] - Y[None, :, 0])

CALLS = {
    transport.empirical_wasserstein: (X, Y),
    transport.optimal_transport: (X, Y, 1, RNG.random(40).astype(np.float32), RNG.random(40).astype(np.float32)),
    transport.c_transform: (Y[:, 0] / 100, COST),
    transport.c_transform_bound: (X[:, 0] / 100, X, Y),
    transport.quantile_wasserstein: (X[:, 0], lambda u: 1000 + 0 * u),
    transport.earth_movers_distance: (P, P[::-1].copy(), np.arange(6, dtype=np.float32)),
    transport.sliced_wasserstein: (X, Y),
    transport.gaussian_wasserstein: (X.mean(0), COV, Y.mean(0), COV),
    transport.rooted_wasserstein: (X.mean(0), COV, Y.mean(0), COV),
    transport.root: (COV,),
    kernels.energy_distance: (X, Y),
    kernels.maximum_mean_discrepancy: (X, Y),
    kernels.median_distance: (X, Y),
    kernels.kernel_distance: (X, Y, 5, 10),
    kernels.centred: (X, Y),
    kernels.squared_distances: (X, Y),
    fidelity.moments: (X,),
    fidelity.frechet_distance: (X, Y),
    fidelity.inception_score: (np.stack([P, Q] * 10),),
    fidelity.precision_recall: (X, Y),
    fidelity.neighbourhoods: (X, Y),
    fidelity.two_sample_accuracy: (X, Y),
    fidelity.nearest_distances: (X, Y),
    fidelity.copying_z: (X[:, 0], Y[:, 0]),
    fidelity.label_correlation: (X[:, 0], Y[:, 0]),
    fidelity.class_shares: (LABELS, 3),
    fidelity.class_balance: (P,),
    divergences.total_variation: (P, Q),
    divergences.kullback_leibler: (P, Q),
    divergences.jensen_shannon: (P, Q),
    divergences.histograms: (X, Y),
    modes.mode_statistics: (X[:, :2], X[:8, :2], 0.2),
}
# no float arrays: of a number or of counts; label_classifier has its own test below
OTHERS = {transport.wasserstein_excess, kernels.row_chunks, fidelity.label_classifier, fidelity.label_agreement}


def on_arrays(function, values):
    return [function(value) if isinstance(value, np.ndarray) else value for value in values]


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_float32_on_a_device_gives_the_float64_result(function):
    def as_float64(array):
        return array.astype(np.float64) if array.dtype == np.float32 else array

    found = function(*on_arrays(jnp.asarray, CALLS[function]))
    wanted = function(*on_arrays(as_float64, CALLS[function]))
    for value, expected in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert not isinstance(value, jax.Array)
        np.testing.assert_array_equal(value, expected, strict=True)


def test_images_on_a_device_are_classified():
    images = jnp.asarray(IMAGES)
    classify = fidelity.label_classifier(images, jnp.asarray(LABELS), from_pixels)
    np.testing.assert_array_equal(classify.predict(IMAGES.reshape(40, -1) / 127.5 - 1), LABELS)
    assert fidelity.nearest_distances(jnp.asarray(IMAGES[:3].reshape(3, -1) / 127.5 - 1), images, from_pixels).max() < 1e-6


def test_no_function_is_left_out():
    public = {
        function
        for module in (divergences, fidelity, kernels, modes, transport)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public == {*CALLS, *OTHERS}
