"""What is measured of tables, by hand."""

import numpy as np
import pytest

from wgan_jax.metrics.tabular import association_difference, associations, column_distances, detection_auc, utility

RNG = np.random.default_rng(0)
NUMBER, CATEGORY = np.array([False]), np.array([True])


def column(*values):
    return np.array(values, float)[:, None]


def test_the_distance_of_numbers_is_w1_over_the_real_deviation():
    """0, 2 to 1, 3 is 1 apart; the deviation of 0, 2 is 1."""
    assert column_distances(column(0, 2), column(1, 3), NUMBER) == pytest.approx([1.0])
    assert column_distances(column(0, 4), column(1, 5), NUMBER) == pytest.approx([0.5])
    assert column_distances(column(2, 2), column(5, 5), NUMBER) == pytest.approx([3.0])  # without a spread, in its own unit


def test_missing_numbers_count_by_their_share():
    real, generated = column(0, 2, np.nan, np.nan), column(0, 2, 0, 2)
    assert column_distances(real, generated, NUMBER) == pytest.approx([0.5])
    assert column_distances(real, column(np.nan, np.nan), NUMBER) == [np.inf]


def test_the_distance_of_categories_is_total_variation_and_missing_is_one_of_them():
    real, generated = column(0, 0, 1, np.nan), column(0, 1, 1, 1)
    assert column_distances(real, generated, CATEGORY) == pytest.approx([0.5])
    assert column_distances(real, real[::-1], CATEGORY) == [0.0]


def test_associations_by_hand():
    """Columns: a number, its negative, the category of its sign, the same categories by other numbers, an independent one."""
    x = np.array([-1.0, -1, 1, 1])
    rows = np.stack([x, -x, x > 0, 5 * (x < 0), [0, 1, 0, 1]], axis=1)
    found = associations(rows, np.array([False, False, True, True, True]))
    expected = [[1, -1, 1, 1, 0], [-1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    ratio = associations(np.stack([[0, 2, 2, 4], [0, 0, 1, 1]], axis=1).astype(float), np.array([False, True]))[0, 1]
    assert ratio == pytest.approx(np.sqrt(4 / 8))  # means 1 and 3 about 2: 4 of the 8 about it


def test_the_difference_of_associations_is_a_mean_over_pairs():
    x = RNG.normal(size=200)
    together, apart = np.stack([x, x, x], 1), np.stack([x, x, -x], 1)
    assert association_difference(together, together, np.zeros(3, bool)) == 0
    assert association_difference(together, apart, np.zeros(3, bool)) == pytest.approx(4 / 3)
    assert np.isnan(association_difference(together[:, :1], apart[:, :1], NUMBER))


def test_one_law_is_not_told_apart_and_two_are():
    a, b = (np.stack([RNG.normal(size=400), RNG.integers(0, 3, 400)], 1) for _ in range(2))
    discrete = np.array([False, True])
    assert detection_auc(a, b, discrete) == pytest.approx(0.5, abs=0.08)
    assert detection_auc(a, b + np.array([5, 0]), discrete) > 0.99
    other = np.stack([b[:, 0], (b[:, 0] > 0) + 1.0], 1)  # equal marginals of the number, another category
    assert detection_auc(a, other, discrete) > 0.8


def test_what_can_be_learned_of_rows():
    x = RNG.normal(size=600)
    rows = np.stack([x, (x > 0).astype(float), 2 * x], axis=1)
    discrete = np.array([False, True, False])
    assert utility(rows[:300], rows[300:], 2, discrete) > 0.95
    assert utility(rows[:300], rows[300:], 1, discrete) > 0.95
    shuffled = RNG.permuted(rows, axis=0)
    assert utility(shuffled[:300], rows[300:], 2, discrete) < 0.2
    single = np.where([[False, True, False]], 1.0, rows)
    assert utility(single, rows, 1, discrete) == pytest.approx(1 / 3, abs=0.03)  # one class of two: F1 of 2/3 and 0
    assert np.isnan(utility(rows, single, 1, discrete))
