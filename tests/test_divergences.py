"""Divergences against hand computations and scipy."""

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats

from wgan_jax.errors import UserError
from wgan_jax.metrics.divergences import histograms, jensen_shannon, kullback_leibler, total_variation

DIVERGENCES = [total_variation, kullback_leibler, jensen_shannon]


def test_divergences_by_hand():
    # p = (1/2, 1/2, 0), q = (1/4, 1/2, 1/4)
    p, q = [0.5, 0.5, 0.0], [0.25, 0.5, 0.25]
    assert total_variation(p, q) == 0.25
    assert kullback_leibler(p, q) == pytest.approx(0.5 * np.log(2), rel=1e-15)  # 0 log 0 = 0
    assert kullback_leibler(q, p) == np.inf
    # m = (3/8, 1/2, 1/8): KL(p | m) = log(4/3) / 2, KL(q | m) = log(2/3) / 4 + log(2) / 4
    assert jensen_shannon(p, q) == pytest.approx((np.log(4 / 3) / 2 + np.log(4 / 3) / 4) / 2, rel=1e-14)


def test_parallel_lines():
    # laws on lines that do not meet: nothing tells how far apart they are
    cells = np.zeros((2, 10, 8))
    cells[0, 2], cells[1, 7] = 1 / 8, 1 / 8
    assert total_variation(*cells) == 1
    assert kullback_leibler(*cells) == np.inf
    assert jensen_shannon(*cells) == pytest.approx(np.log(2), rel=1e-15)
    assert [divergence(cells[0], cells[0]) for divergence in DIVERGENCES] == [0, 0, 0]


def test_divergences_are_scipys():
    p, q = np.random.default_rng(0).dirichlet(np.ones(30), 2)
    np.testing.assert_allclose(total_variation(p, q), scipy.spatial.distance.cityblock(p, q) / 2, rtol=1e-13)
    np.testing.assert_allclose(kullback_leibler(p, q), scipy.stats.entropy(p, q), rtol=1e-13)
    np.testing.assert_allclose(jensen_shannon(p, q), scipy.spatial.distance.jensenshannon(p, q) ** 2, rtol=1e-12)


def test_divergences_of_gaussian_densities_on_a_grid():
    # N(0, 1) and N(1, 4): KL = log 2 + (1 + 1) / 8 - 1/2; by unit Gaussians at distance 1: TV = 2 Phi(1/2) - 1
    x = np.linspace(-30, 30, 6001)
    p, q, moved = (scipy.stats.norm.pdf(x, mean, sigma) for mean, sigma in ((0, 1), (1, 2), (1, 1)))
    assert kullback_leibler(p, q, cell=0.01) == pytest.approx(np.log(2) - 0.25, rel=1e-9)
    assert total_variation(p, moved, cell=0.01) == pytest.approx(2 * scipy.stats.norm.cdf(0.5) - 1, rel=1e-4)
    # the entropy of the mixture less the mean entropy, log(2 pi e) / 2
    mixture = scipy.special.entr((p + moved) / 2).sum() * 0.01
    assert jensen_shannon(p, moved, cell=0.01) == pytest.approx(mixture - np.log(2 * np.pi * np.e) / 2, rel=1e-9)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("q", [[1.0], [0.5, 0.25, 0.25], [1.5, -0.5], [np.nan, 1.0]])
def test_values_that_are_no_laws_on_the_same_cells_are_a_mistake(divergence, q):
    with pytest.raises(UserError, match="of one shape, with numbers of at least 0"):
        divergence([0.5, 0.5], q)


def test_histograms_share_their_cells():
    # four cells over the common range [0, 4]; the last one is closed
    p, q = histograms(np.array([[0.0], [0.5], [1.0], [2.5]]), np.array([[3.5], [4.0]]), bins=4)
    np.testing.assert_array_equal(p, [0.5, 0.25, 0.25, 0])
    np.testing.assert_array_equal(q, [0, 0, 0, 1])


def test_histograms_of_two_axes():
    x, y = np.array([[0.0, 0.0], [1.0, 9.0]]), np.array([[2.0, 10.0]])
    p, q = histograms(x, y, bins=2)
    np.testing.assert_array_equal(p, [[0.5, 0], [0, 0.5]])
    np.testing.assert_array_equal(q, [[0, 0], [0, 1]])
