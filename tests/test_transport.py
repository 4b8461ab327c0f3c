"""Distances against hand computations, closed forms and the dual."""

import itertools
import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
from scipy.spatial.distance import cdist

from wgan_jax.errors import UserError
from wgan_jax.metrics.transport import (
    MANY,
    c_transform,
    c_transform_bound,
    earth_movers_distance,
    empirical_wasserstein,
    gaussian_wasserstein,
    optimal_transport,
    quantile_wasserstein,
    sliced_wasserstein,
    wasserstein_excess,
)


def test_empirical_wasserstein_is_the_best_of_all_assignments():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    costs = [np.mean([np.linalg.norm(x[i] - y[p[i]]) for i in range(5)]) for p in itertools.permutations(range(5))]
    np.testing.assert_allclose(empirical_wasserstein(x, y), min(costs), rtol=1e-12)


def test_empirical_wasserstein_of_a_shift_is_its_length():
    x = np.random.default_rng(1).normal(size=(40, 4))
    np.testing.assert_allclose(empirical_wasserstein(x, x[::-1] + np.array([3.0, 0, 4.0, 0])), 5.0)


def test_excess_by_hand():
    # G at distance 3 from T, its own two samples at 1, floor 2: (3 - 1/2 - 2/2) / 2; a point mass gains nothing by own = 0
    assert wasserstein_excess(3, 1, 2) == 0.75
    assert wasserstein_excess(2, 2, 2) == 0
    assert wasserstein_excess(2, 0, 2) == 0.5
    assert np.isnan(wasserstein_excess(1, 1, 0))


def test_piles_of_the_essay():
    # piles (3, 2, 1, 4) to (1, 2, 4, 3) at positions 0..3: the cumulative differences are 2, 2, -1, 0, so the work is 5
    piles, other, positions = [3, 2, 1, 4], [1, 2, 4, 3], np.arange(4.0)
    assert earth_movers_distance(piles, other, positions) == pytest.approx(5, rel=1e-12)
    one_each = (np.repeat(positions, masses)[:, None] for masses in (piles, other))
    assert empirical_wasserstein(*one_each) * 10 == pytest.approx(5, rel=1e-12)
    place = positions[:, None]
    assert optimal_transport(place, place, 1, np.array(piles), np.array(other)).distance * 10 == pytest.approx(5, rel=1e-12)


def test_piles_of_unequal_mass_are_a_mistake():
    with pytest.raises(UserError, match="piles of total mass 3 cannot become piles of 4"):
        earth_movers_distance([1, 2], [2, 2], [0, 1])


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


def linear_program(x, y, p, a, b):
    """W_p^p by scipy's general solver: the marginals as equality constraints."""
    n, m = len(x), len(y)
    marginals = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    return scipy.optimize.linprog(cdist(x, y).ravel() ** p, A_eq=marginals, b_eq=np.concatenate([a, b])).fun


@pytest.mark.parametrize("p", [1, 2])
def test_optimal_transport_is_the_linear_program_and_its_dual(p):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(13, 3)), rng.normal(size=(9, 3)) + 0.5
    a, b = rng.random(13), rng.random(9)
    a[3], b[:2] = 0, 0
    distance, plan, f, g = optimal_transport(x, y, p, 7 * a, 3 * b)  # weights of any total
    a, b, cost = a / a.sum(), b / b.sum(), cdist(x, y) ** p
    np.testing.assert_allclose(distance**p, linear_program(x, y, p, a, b), rtol=1e-9)
    np.testing.assert_allclose(np.concatenate([plan.sum(1), plan.sum(0)]), np.concatenate([a, b]), atol=1e-15)
    np.testing.assert_allclose((plan * cost).sum(), distance**p, rtol=1e-12)
    np.testing.assert_allclose(a @ f + b @ g, distance**p, rtol=1e-12)  # strong duality
    assert (f[:, None] + g <= cost + 1e-12).all()
    np.testing.assert_allclose((f[:, None] + g)[plan > 0], cost[plan > 0], atol=1e-12)
    np.testing.assert_allclose(c_transform(g, cost), f, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_any_potential_and_its_c_transform_stay_below_the_distance(p):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(20, 2)) + 1
    cost, distance = cdist(x, y) ** p, optimal_transport(x, y, p).distance
    for _ in range(20):
        g = rng.normal(size=20)
        f = c_transform(g, cost)
        np.testing.assert_array_equal(f, [min(cost[i, j] - g[j] for j in range(20)) for i in range(30)])
        assert f.mean() + g.mean() <= distance**p


@pytest.mark.parametrize("p", [1, 2, 3])
def test_optimal_transport_of_a_translation_is_its_length(p):
    x = np.random.default_rng(6).normal(size=(40, 4))
    assert optimal_transport(x, x[::-1] + np.array([3.0, 0, 4.0, 0]), p).distance == pytest.approx(5, rel=1e-12)


def test_optimal_transport_of_equal_samples_is_the_assignment():
    x, y = np.random.default_rng(7).normal(size=(2, 60, 5))
    np.testing.assert_allclose(optimal_transport(x, y).distance, empirical_wasserstein(x, y), rtol=1e-12)


def test_a_potential_is_lipschitz_exactly_when_its_c_transform_is_its_negative():
    points = np.random.default_rng(8).normal(size=(50, 3))
    distances = cdist(points, points)
    norm, linear = np.linalg.norm(points, axis=1), points @ np.array([0.6, 0.0, 0.8])
    for potential in (norm, linear, -linear, np.minimum(norm, 1.0)):
        np.testing.assert_allclose(c_transform(potential, distances), -potential, atol=1e-12)
    for potential in (1.5 * norm, np.sin(4 * linear)):
        steep = np.abs(potential[:, None] - potential) > distances + 1e-9
        assert steep.any()
        assert (c_transform(potential, distances) < -potential - 1e-9).any()


@pytest.mark.parametrize("weights", [[1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0], [1.0, np.nan, 1.0]])
def test_weights_that_are_no_masses_are_a_mistake(weights):
    x = np.zeros((3, 2))
    with pytest.raises(UserError, match="y_weights: give 3 finite numbers of at least 0"):
        optimal_transport(x, x, y_weights=np.array(weights))


def test_samples_that_are_not_finite_are_a_mistake():
    with pytest.raises(UserError, match="not finite"):
        optimal_transport(np.zeros((3, 2)), np.array([[0.0, np.nan]]))


def test_the_solver_brings_no_second_array_library():
    optimal_transport(np.zeros((2, 1)), np.ones((3, 1)))
    backend = sys.modules["ot.backend"]
    assert (backend.jax, backend.torch, backend.tf) == (False, False, False)


def moments_of(rng, dimension, rank):
    root = rng.normal(size=(dimension, rank))
    return rng.normal(size=dimension), root @ root.T


def test_gaussian_wasserstein_is_the_formula_by_a_matrix_root():
    rng = np.random.default_rng(9)
    (mean_x, cov_x), (mean_y, cov_y) = moments_of(rng, 12, 20), moments_of(rng, 12, 20)
    trace = np.trace(cov_x + cov_y - 2 * scipy.linalg.sqrtm(cov_x @ cov_y).real)
    expected = np.sqrt(np.sum((mean_x - mean_y) ** 2) + trace)
    np.testing.assert_allclose(gaussian_wasserstein(mean_x, cov_x, mean_y, cov_y), expected, rtol=1e-9)


def test_gaussian_wasserstein_by_hand():
    # commuting covariances: |m|^2 + (1 - 3)^2 + (2 - 0)^2 = 9 + 8; parallel segments of one length are a translation apart
    x, y = np.diag([1.0, 4.0]), np.diag([9.0, 0.0])
    assert gaussian_wasserstein(np.zeros(2), x, np.array([0.0, 3.0]), y) == pytest.approx(np.sqrt(17), rel=1e-12)
    assert gaussian_wasserstein(np.zeros(2), y, np.array([0.0, 3.0]), y) == pytest.approx(3, rel=1e-12)
    assert gaussian_wasserstein(np.zeros(2), x, np.zeros(2), x) == pytest.approx(0, abs=1e-7)


def test_gaussian_wasserstein_of_singular_covariances_keeps_its_digits():
    # orthogonal ranges share nothing: the traces alone; rounding's eigenvalues would add their roots, 1e-8 each
    rng = np.random.default_rng(10)
    basis = np.linalg.qr(rng.normal(size=(200, 200)))[0]
    cov_x, cov_y = (part @ np.diag(np.linspace(1, 5, 20)) @ part.T for part in (basis[:, :20], basis[:, 20:40]))
    square = gaussian_wasserstein(np.zeros(200), cov_x, np.zeros(200), cov_y) ** 2
    np.testing.assert_allclose(square, np.trace(cov_x) + np.trace(cov_y), rtol=1e-13)


def test_gaussian_wasserstein_is_the_transport_of_large_samples():
    # in 1-D the sorted samples are matched; the mean of 200,000 strays by sigma / 450
    rng = np.random.default_rng(11)
    x, y = np.sort(rng.normal(0, 1, 200_000)), np.sort(rng.normal(2, 3, 200_000))
    exact = gaussian_wasserstein(np.zeros(1), np.eye(1), np.full(1, 2.0), 9 * np.eye(1))
    assert exact == pytest.approx(np.sqrt(8), rel=1e-12)
    assert np.sqrt(np.mean((x - y) ** 2)) == pytest.approx(exact, rel=0.01)


def test_optimal_transport_nears_the_gaussian_closed_form():
    rng = np.random.default_rng(12)
    cov_x, cov_y = np.array([[1.0, 0.5], [0.5, 2.0]]), np.array([[3.0, -1.0], [-1.0, 1.0]])
    x, y = rng.multivariate_normal([0, 0], cov_x, 1000), rng.multivariate_normal([3, 1], cov_y, 1000)
    exact = gaussian_wasserstein(np.zeros(2), cov_x, np.array([3.0, 1.0]), cov_y)
    assert optimal_transport(x, y, p=2).distance == pytest.approx(exact, rel=0.04)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("count", [40, 30])
def test_sliced_wasserstein_is_the_mean_over_lines(p, count):
    rng = np.random.default_rng(13)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(count, 3)) * 2 + 1
    directions = np.random.default_rng(5).normal(size=(7, 3))
    directions /= np.sqrt((directions**2).sum(1))[:, None]
    lines = [optimal_transport((x @ d)[:, None], (y @ d)[:, None], p).distance ** p for d in directions]
    np.testing.assert_allclose(sliced_wasserstein(x, y, p, 7, seed=5), np.mean(lines) ** (1 / p), rtol=1e-12)


def test_sliced_wasserstein_of_a_translation():
    # E |<t, u>|^2 = |t|^2 / D over the sphere; 4,000 directions stray by about 2 %
    x = np.random.default_rng(14).normal(size=(50, 5))
    assert sliced_wasserstein(x, x + np.array([3.0, 0, 4.0, 0, 0]), 2, 4000) == pytest.approx(np.sqrt(5), rel=0.03)
    assert sliced_wasserstein(x, np.repeat(x[::-1], 3, axis=0)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "dimension"), [(300, 1), (MANY, 2), (MANY - 1, 2)])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_the_assignment_is_exact_by_every_way_to_it(n, dimension, shift):
    """On the line, of many and of fewer points in the plane: the mean distance under SciPy's optimal assignment."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, dimension)), rng.normal(size=(n, dimension)) * 1.5 + shift
    distances = cdist(x, y)
    assert empirical_wasserstein(x, y) == pytest.approx(
        distances[scipy.optimize.linear_sum_assignment(distances)].mean(), rel=1e-12
    )
