"""Discrepancies by kernels against their double sums, scipy, scikit-learn and closed forms."""

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from wgan_jax.errors import UserError
from wgan_jax.metrics import kernels
from wgan_jax.metrics.kernels import energy_distance, kernel_distance, maximum_mean_discrepancy, median_distance


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(37, 4)), rng.normal(size=(23, 4)) * 1.4 + 0.7


def unbiased(xx, yy, xy):
    """E k(X, X') + E k(Y, Y') - 2 E k(X, Y) from the matrices of a kernel, without their diagonals."""
    own = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return sum(own) - 2 * xy.mean()


def test_energy_distance_is_its_double_sum(samples):
    x, y = samples
    norm = np.linalg.norm
    own = [
        sum(norm(a - b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (len(s) * (len(s) - 1)) for s in (x, y)
    ]
    between = sum(norm(a - b) for a in x for b in y) / (len(x) * len(y))
    np.testing.assert_allclose(energy_distance(x, y), 2 * between - sum(own), rtol=1e-12)


def test_energy_distance_on_the_line_is_scipys():
    # scipy gives the root of the V-statistic, which has the pairs of an example with itself in its means
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=80), rng.normal(size=50) + 1
    own = pdist(x[:, None]).mean() / 80 + pdist(y[:, None]).mean() / 50
    np.testing.assert_allclose(
        energy_distance(x[:, None], y[:, None]) + own, scipy.stats.energy_distance(x, y) ** 2, rtol=1e-12
    )


@pytest.mark.parametrize("bandwidth", [None, 0.3])
def test_maximum_mean_discrepancy_is_its_double_sum(samples, bandwidth):
    x, y = samples
    width = bandwidth or np.median(pdist(np.concatenate([x, y])))
    k = [rbf_kernel(a, b, gamma=1 / (2 * width**2)) for a, b in ((x, x), (y, y), (x, y))]
    np.testing.assert_allclose(maximum_mean_discrepancy(x, y, bandwidth), unbiased(*k), rtol=1e-10)


def test_maximum_mean_discrepancy_of_gaussians():
    # N(0, 1) and N(2, 1), bandwidth 1: E k = exp(-d^2 / 6) / sqrt(3) at mean difference d; 2,000 quantiles in place of chance
    x = scipy.stats.norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    expected = 2 * (1 - np.exp(-2 / 3)) / np.sqrt(3)
    assert maximum_mean_discrepancy(x, x + 2, 1.0) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("discrepancy", [energy_distance, maximum_mean_discrepancy])
def test_two_samples_of_one_law_give_zero_on_average(discrepancy):
    # 300 draws of 6 and 9 points; a V-statistic would be above 0 by many standard errors
    draws = np.random.default_rng(3).normal(size=(300, 15, 2))
    values = np.array([discrepancy(draw[:6], draw[6:]) for draw in draws])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)


@pytest.mark.parametrize("discrepancy", [energy_distance, maximum_mean_discrepancy])
def test_distances_survive_a_large_offset(samples, discrepancy):
    # features far from 0: rounding of |x|^2 alone would be 1e-3 of the squared distances
    np.testing.assert_allclose(discrepancy(*(sample + 1e6 for sample in samples)), discrepancy(*samples), rtol=1e-7)


def test_the_median_distance_takes_examples_at_equal_steps(samples, monkeypatch):
    x, y = samples
    monkeypatch.setattr(kernels, "BANDWIDTH_EXAMPLES", 20)
    np.testing.assert_allclose(median_distance(x, y), np.median(pdist(np.concatenate([x[::2], y[::2]]))), rtol=1e-12)


@pytest.mark.parametrize("bandwidth", [None, 0.0, -1.0, np.nan])
def test_a_bandwidth_that_is_not_positive_is_a_mistake(bandwidth):
    with pytest.raises(UserError, match=r"bandwidth: .* is not positive"):
        maximum_mean_discrepancy(np.zeros((9, 2)), np.zeros((9, 2)), bandwidth)


def test_kernel_distance_is_torch_fidelitys():
    """Its metric_kid.py: subsets by RandomState.choice, x then y, unbiased sums, population standard deviation."""
    features = np.random.default_rng(4).normal(size=(2, 60, 8)).astype(np.float32)
    x, y = features[0], features[1][:45] * 1.2 + 0.3
    rng, values = np.random.RandomState(7), []
    for _ in range(5):
        a, b = x[rng.choice(60, 20, replace=False)], y[rng.choice(45, 20, replace=False)]
        k = [polynomial_kernel(c.astype(float), d.astype(float), degree=3, coef0=1) for c, d in ((a, a), (b, b), (a, b))]
        values.append(unbiased(*k))
    np.testing.assert_allclose(kernel_distance(x, y, 5, 20, seed=7), (np.mean(values), np.std(values)), rtol=1e-10)
    assert kernel_distance(x, y, size=20) == kernel_distance(x, y, 100, 20, seed=2020)  # torch-fidelity's


def test_kernel_distance_of_the_whole_samples_has_no_spread(samples):
    x, y = (sample[:23] for sample in samples)
    mean, spread = kernel_distance(x, y, 3, 23)
    k = [(a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    np.testing.assert_allclose(mean, unbiased(*k), rtol=1e-10)
    assert spread == pytest.approx(0, abs=1e-12)


def test_subsets_larger_than_a_sample_are_a_mistake(samples):
    with pytest.raises(UserError, match="subsets of 30 need as many examples; there are 37 and 23"):
        kernel_distance(*samples, size=30)


def test_chunks_do_not_show(samples, monkeypatch):
    x, y = samples
    whole = energy_distance(x, y), maximum_mean_discrepancy(x, y), kernel_distance(x, y, 2, 20)
    monkeypatch.setattr(kernels, "CHUNK_VALUES", 100)  # four rows and fewer
    chunked = energy_distance(x, y), maximum_mean_discrepancy(x, y), kernel_distance(x, y, 2, 20)
    np.testing.assert_allclose(np.hstack(chunked), np.hstack(whole), rtol=1e-11)


def test_squared_distances_are_never_negative():
    x = np.random.default_rng(5).normal(size=(50, 300))
    squares = kernels.squared_distances(x, np.concatenate([x, 2 * x]))
    assert (squares >= 0).all()
    np.testing.assert_allclose(squares, cdist(x, np.concatenate([x, 2 * x]), "sqeuclidean"), rtol=1e-12, atol=1e-10)
