"""Statistics of many runs against enumeration, hand computation and simulated coverage."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom

from wgan_jax.errors import UserError
from wgan_jax.report.statistics import (
    Condition,
    equal_budget,
    expected_best,
    failed,
    mean_interval,
    median,
    median_interval,
    parse_conditions,
    probability_of_superiority,
    wilson_interval,
)

INF, NAN = math.inf, math.nan


def test_conditions_are_read():
    assert parse_conditions("") == []
    assert parse_conditions("modes<8") == [Condition("modes", "<", 8.0)]
    assert parse_conditions(" wasserstein_excess > 0.25, smallest_class<=2e-2,lipschitz_q99>=3,") == [
        Condition("wasserstein_excess", ">", 0.25),
        Condition("smallest_class", "<=", 0.02),
        Condition("lipschitz_q99", ">=", 3.0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modes", "'modes' is not METRIC<NUMBER"),
        ("modes=8", "'modes=8' is not METRIC<NUMBER"),
        ("modes<8 or recall<1", "'modes<8 or recall<1' is not"),
        ("recall<0.1,modes<e", "'modes<e' is not"),
        ("modes<1e999", "'modes<1e999' is not"),
        ("mods<8", "no metric mods; did you mean modes?"),
        ("loss<8", "no metric loss$"),
    ],
)
def test_a_wrong_condition_is_named(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_conditions(text)
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith("config.eval.fail: ")


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("", {}, False),
        ("modes<8", {"modes": 8}, False),
        ("modes<8", {"modes": 7}, True),
        ("modes<=8", {"modes": 8}, True),
        ("recall>0.5", {"recall": 0.5}, False),
        ("recall>=0.5", {"recall": 0.5}, True),
        ("modes<8,recall<0.5", {"modes": 8, "recall": 0.4}, True),
        ("modes<8,recall<0.5", {"modes": 8, "recall": 0.6}, False),
        ("modes<8", {"modes": NAN}, True),
        ("modes>8", {"modes": None}, True),
        ("modes<8", {"recall": 0.1}, False),
    ],
)
def test_failures(text, row, expected):
    assert failed({"status": "ok", **row}, parse_conditions(text)) is expected
    assert failed({"status": "non-finite", **row}, parse_conditions(text)) is True


def test_wilson_interval_by_hand():
    z, n, p = 1.959963984540054, 30, 0.1
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = (0.1, (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert wilson_interval(3, 30) == pytest.approx(expected, rel=1e-12)
    assert wilson_interval(0, 5) == pytest.approx((0, 0, z**2 / (5 + z**2)), abs=1e-12)


def test_median_interval_by_hand():
    # P(Bin(6, 1/2) < 1) = 1 / 64, P(Bin(10, 1/2) < 2) = 11 / 1024 and < 3 = 56 / 1024 > 2.5 %
    assert median_interval(np.array([5.0, 1, 2, 4, 3])) == (3, None, None)
    assert median_interval(np.array([6.0, 1, 2, 4, 3, 5])) == (3.5, 1, 6)
    assert median_interval(np.arange(10.0)[::-1]) == (4.5, 1, 8)
    assert median_interval(np.array([1.0, 2, 3, 4, 5, INF])) == (3.5, 1, INF)
    assert median_interval(np.array([1.0, INF, INF, INF])) == (INF, None, None)


def test_a_run_without_a_value_ranks_behind_one_that_became_non_finite():
    np.testing.assert_array_equal(median([[3.0, NAN, 1], [NAN, INF, 1], [NAN, NAN, 1]]), [3, INF, NAN])
    np.testing.assert_array_equal(median([NAN, 4.0, 2, 1]), 3)
    np.testing.assert_array_equal(median_interval(np.array([1.0, NAN, 2, 3, 4, INF])), (3.5, 1, NAN))
    # where high values are better the order is 8, 7, 7, 6, 0, NaN, and the interval again from low to high
    np.testing.assert_array_equal(median_interval(np.array([6.0, NAN, 8, 7, 0, 7]), higher=True), (6.5, NAN, 8))
    assert math.copysign(1, median_interval(np.zeros(1), higher=True).value) == 1  # "-0" would be printed


@pytest.mark.parametrize("n", [6, 10, 17, 30])
def test_median_interval_covers(n):
    # the law has an atom at inf, as collapsing runs have; its median is that of exp(N(0, 1)) at the 1/2 / .85 quantile
    rng = np.random.default_rng(n)
    draws = np.exp(rng.normal(size=(1500, n)))
    draws[rng.random((1500, n)) < 0.15] = INF
    median = math.exp(0.22301)  # Phi(.22301) = .58824
    intervals = [median_interval(row)[1:] for row in draws]
    covered = np.mean([low <= median <= high for low, high in intervals])
    assert covered > 0.95 - 2 * math.sqrt(0.05 * 0.95 / 1500)
    _, low, _ = median_interval(np.arange(n, dtype=float))
    assert 1 - 2 * binom.cdf(low, n, 0.5) >= 0.95 > 1 - 2 * binom.cdf(low + 1, n, 0.5)  # the shortest of its kind


def test_a_mean_has_an_interval_from_thirty_runs():
    values = np.random.default_rng(0).normal(size=200) + 3
    assert mean_interval(values[:29]) == (values[:29].mean(), None, None)
    mean, low, high = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(200)
    assert (mean, low, high) == pytest.approx((values.mean(), mean - half, mean + half), abs=0.1 * half)
    assert mean_interval(np.full(30, 2.0)) == (2, 2, 2)


def test_a_mean_interval_covers_where_runs_collapse():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        runs = np.where(rng.random(30) < 0.15, 0.9 + 0.3 * rng.normal(size=30), 0.07 + 0.01 * rng.normal(size=30))
        _, low, high = mean_interval(runs)
        covered.append(low <= 0.15 * 0.9 + 0.85 * 0.07 <= high)
    assert np.mean(covered) > 0.92  # a percentile bootstrap: 91 %


def test_superiority_by_hand():
    a, b = np.array([1.0, 2, INF]), np.array([2.0, 3])
    # 1 < 2, 1 < 3, 2 = 2, 2 < 3, inf loses twice: 3.5 of 6
    assert probability_of_superiority(a, b) == pytest.approx(3.5 / 6)
    assert probability_of_superiority(b, a) == pytest.approx(2.5 / 6)
    assert probability_of_superiority(np.array([INF]), np.array([INF, NAN])) == 0.5
    assert probability_of_superiority(np.array([NAN]), np.array([NAN, 1])) == 0.25


def enumerated(selection, report, k):
    """The mean report of the choice over all subsets of k."""
    chosen = [report[min(subset, key=lambda i: selection[i])] for subset in itertools.combinations(range(len(selection)), k)]
    finite = [value for value in chosen if math.isfinite(value)]
    return np.mean(finite) if finite else NAN


@pytest.mark.parametrize("k", range(1, 9))
def test_expected_best_is_the_mean_over_all_subsets(k):
    rng = np.random.default_rng(2)
    selection, report = rng.normal(size=8), rng.normal(size=8)
    assert expected_best(selection, report, k) == pytest.approx(enumerated(selection, report, k), rel=1e-12)
    assert expected_best(selection, selection, k) == pytest.approx(enumerated(selection, selection, k), rel=1e-12)
    selection[[1, 4, 6]] = report[[1, 4, 6]] = INF
    assert expected_best(selection, report, k) == pytest.approx(enumerated(selection, report, k), rel=1e-12)
    kind = np.isinf(report).astype(float)
    assert expected_best(selection, kind, k) == pytest.approx(enumerated(selection, kind, k), abs=1e-12)
    assert expected_best(selection, kind, k) == pytest.approx(math.comb(3, k) / math.comb(8, k), abs=1e-12)


def test_expected_best_by_hand_and_where_nothing_is_finite():
    # of 1, 2, 4 two are drawn: {1, 2}, {1, 4}, {2, 4}
    assert expected_best(np.array([4.0, 1, 2]), np.array([4.0, 1, 2]), 2) == pytest.approx(4 / 3)
    assert expected_best(np.array([NAN, 1, INF]), np.array([5.0, 7, 6]), 3) == 7
    assert math.isnan(expected_best(np.full(4, INF), np.full(4, INF), 2))
    large = np.arange(3000.0)
    assert expected_best(large, large + 1, 1000) == pytest.approx(3001 / 1001, rel=1e-9)  # (N + 1) / (k + 1)


def test_the_last_validation_row_within_a_budget():
    rows = [
        {"split": "validation", "step": step, "critic_step": 5 * step, "seconds": step / 10, "state": "last"}
        for step in (300, 100, 200)
    ]
    rows.append({"split": "test", "step": 240, "critic_step": 1400, "seconds": 11.0, "state": "last"})
    assert equal_budget(rows, "step", 250) is rows[2]
    assert equal_budget(rows, "critic_step", 1500) is rows[0]
    assert equal_budget(rows, "seconds", 19.9) is rows[1]
    assert equal_budget(rows, "step", 99) is None
