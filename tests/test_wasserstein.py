"""Distances against hand computations, closed forms and the dual."""

import itertools

import numpy as np
import pytest

from wgan_jax.evaluation.wasserstein import c_transform_bound, empirical_wasserstein, quantile_wasserstein


def test_empirical_wasserstein_is_the_best_of_all_assignments():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    costs = [np.mean([np.linalg.norm(x[i] - y[p[i]]) for i in range(5)]) for p in itertools.permutations(range(5))]
    np.testing.assert_allclose(empirical_wasserstein(x, y), min(costs), rtol=1e-12)


def test_empirical_wasserstein_of_a_shift_is_its_length():
    x = np.random.default_rng(1).normal(size=(40, 4))
    np.testing.assert_allclose(empirical_wasserstein(x, x[::-1] + np.array([3.0, 0, 4.0, 0])), 5.0)


def test_piles_of_the_essay():
    # piles (3, 2, 1, 4) to (1, 2, 4, 3) at positions 0..3: the cumulative differences are 2, 2, -1, 0, so the work is 5
    place = lambda piles: np.repeat(np.arange(4.0), piles)[:, None]  # noqa: E731
    assert empirical_wasserstein(place([3, 2, 1, 4]), place([1, 2, 4, 3])) * 10 == pytest.approx(5)


def test_quantile_wasserstein_of_a_shifted_uniform_sample():
    # the quantiles of U[0, 1] at (i + 1/2) / n, moved by 0.3
    x = (np.arange(1000) + 0.5) / 1000 + 0.3
    assert quantile_wasserstein(x[np.random.default_rng(0).permutation(1000)], lambda u: u) == pytest.approx(0.3)


@pytest.mark.parametrize("slope", [0.2, 1.0, 5.0])
def test_c_transform_bound_is_never_above_the_empirical_distance(slope):
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) * 1.5 + 1
    direction = rng.normal(size=3)
    for potential in (slope * real @ direction, slope * np.sin(4 * real[:, 0]), rng.normal(size=60)):
        assert c_transform_bound(potential, real, generated) <= empirical_wasserstein(real, generated) + 1e-12


def test_c_transform_bound_is_tight_for_an_optimal_potential():
    # real is generated moved by 2 along the first axis; f(x) = x_1 has slope one and attains the distance
    generated = np.random.default_rng(3).normal(size=(50, 2))
    real = generated + np.array([2.0, 0.0])
    np.testing.assert_allclose(c_transform_bound(real[:, 0], real, generated), 2.0)
