"""What many runs say together: failures, medians, comparisons and best-of-k, as pure functions of arrays and of a sweep's rows.

Runs collapse, so their scores are no bell curve: with 15 % of collapsing runs a 95 % percentile bootstrap of the mean covers it
in 53 % of experiments of 5 runs, 78 % of 10 and 91 % of 30. Medians, failure rates and ranks are exact at any number of runs.
"""

import difflib
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, binomtest, bootstrap

from wgan_jax.errors import UserError
from wgan_jax.hints import did_you_mean
from wgan_jax.plan import Row
from wgan_jax.report.names import DIRECTIONS

BOOTSTRAP_RUNS = 30  # at least; at 15 % of collapsing ones BCa covers 95 % there (percentile 91 %), and 51 % at 5
BOOTSTRAP_RESAMPLES = 10_000

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}

type Unit = Literal["step", "critic_step", "seconds"]


class Condition(NamedTuple):
    """A run fails where its metric compares so with the bound."""

    metric: str
    comparison: str  # of COMPARISONS
    bound: float


class Interval(NamedTuple):
    """A value and the ends of its 95 % interval; None where there are too few runs for one."""

    value: float
    low: float | None = None
    high: float | None = None


def parse_conditions(text: str) -> list[Condition]:
    """Returns the conditions of `eval.fail`, such as "modes<8" or "wasserstein_excess>0.25,smallest_class<0.02"; a comma is or.

    Raises:
      UserError: what is no METRIC<NUMBER (or <=, >, >=), or of no metric that there is.
    """
    conditions = []
    for part in filter(None, map(str.strip, text.split(","))):
        found = re.fullmatch(rf"(\w+)\s*({'|'.join(COMPARISONS)})\s*([-+.\deE]+)", part)
        try:
            metric, comparison, bound = found.groups() if found else ("", "", "nan")
            limit = float(bound)
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise UserError(f"config.eval.fail: {part!r} is not METRIC<NUMBER or METRIC>NUMBER, such as modes<8,recall<0.1")
        if metric not in DIRECTIONS:
            close = difflib.get_close_matches(metric, DIRECTIONS, 1)
            raise UserError(f"config.eval.fail: no metric {metric}{did_you_mean(close)}")
        conditions.append(Condition(metric, comparison, limit))
    return conditions


def failed(row: Row, conditions: Sequence[Condition]) -> bool:
    """Returns whether a point's last row, on test, is that of a failure: non-finite, or any of the conditions holds.

    A metric that is NaN, or null as JSON has it, fails. One that the row does not have is not judged.
    """
    if row["status"] == "non-finite":
        return True
    return any(_holds(row[condition.metric], condition) for condition in conditions if condition.metric in row)


def _holds(value: float | None, condition: Condition) -> bool:
    return value is None or math.isnan(value) or COMPARISONS[condition.comparison](value, condition.bound)


def wilson_interval(failures: int, n: int) -> Interval:
    """Returns the share of failures among n >= 1 runs, with its 95 % Wilson interval (Wilson 1927)."""
    ends = binomtest(failures, n).proportion_ci(method="wilson")
    return Interval(failures / n, float(ends.low), float(ends.high))


def median(values: ArrayLike) -> np.ndarray:
    """Returns the median over the last axis; NaN, of a run without a value, ranks last, behind inf."""
    ordered = np.sort(values)
    n = ordered.shape[-1]
    return (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2


def median_interval(values: np.ndarray, *, higher: bool = False) -> Interval:
    """Returns the median of values [n] and its interval between order statistics, of at least 95 % for every law; from n = 6.

    The k-th least and k-th largest value, for the largest k with P(Bin(n, 1/2) < k) <= 2.5 %. A run that became non-finite
    enters as inf, or whatever is worst; NaN, of a run without a value, is worse still. higher: whether high values are better.
    """
    n, sign = len(values), -1 if higher else 1
    best_first = np.sort(sign * values)
    k = int((binom.cdf(np.arange(n), n, 0.5) <= 0.025).sum())
    found = [median(best_first), *([best_first[k - 1], best_first[n - k]] if k else [])]
    middle, *ends = (float(sign * value) for value in found)
    return Interval(middle, *ends[::sign])


def mean_interval(values: np.ndarray) -> Interval:
    """Returns the mean of finite values [n] and, from n = 30, its 95 % bootstrap interval (BCa, Efron 1987)."""
    mean = float(np.mean(values))
    if len(values) < BOOTSTRAP_RUNS:
        return Interval(mean)
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(0)
    ends = bootstrap((values,), np.mean, method="BCa", n_resamples=BOOTSTRAP_RESAMPLES, rng=rng).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high))


def probability_of_superiority(a: np.ndarray, b: np.ndarray) -> float:
    """Returns P(A beats B) + P(A ties B) / 2 for runs with values [n] and [m]: the Mann-Whitney U over n m.

    The lower value beats. A run without a finite value is as one of infinity: two such tie.
    """
    a, b = (np.where(np.isnan(values), np.inf, values) for values in (a, b))
    return float((a < b[:, None]).mean() + (a == b[:, None]).mean() / 2)


def expected_best(selection: np.ndarray, report: np.ndarray, k: int) -> float:
    """Returns the expected report of the run with the least selection among k of N drawn without replacement, 1 <= k <= N.

    selection [N], such as scores on validation; report [N], such as scores on test; with report = selection it is the expected
    minimum. Exact: the i-th of the order is chosen with probability C(N-i, k-1) / C(N, k); Dodge 2019 draws with replacement.
    Equal selections keep their order, and inf or NaN ranks last. Choices whose report is not finite are left out of the mean,
    which is NaN where there is no other. With 0 and 1 for a report it is the probability of a choice of a kind, as a failure.
    """
    n = len(selection)
    reports = report[np.argsort(selection, kind="stable")]
    behind = np.arange(n - 1, 0, -1)  # N - i: a chance is the one before it times (N-i-k+1) / (N-i)
    chosen = k / n * np.cumprod(np.append(1, np.maximum(behind - k + 1, 0) / behind))
    counted = np.isfinite(reports) & (chosen > 0)
    if not counted.any():
        return math.nan
    return float(np.average(reports[counted], weights=chosen[counted]))


def equal_budget(rows: Sequence[Row], unit: Unit, budget: float) -> Row | None:
    """Returns the last of one point's validation rows within a budget of a unit, or None where it had none by then."""
    within = [row for row in rows if row["split"] == "validation" and row[unit] <= budget]
    return max(within, key=lambda row: row["step"], default=None)
