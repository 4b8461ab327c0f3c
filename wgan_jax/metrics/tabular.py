"""How near generated rows of a table are to real ones: column by column, in pairs of columns, and to a learner.

Rows [n, C] are float64, NaN where a value is missing; a column is of numbers, or `discrete` [C]: of categories, numbered.
"""

from typing import Any

import numpy as np
import scipy

FOLDS = 3  # of the classifier that tells real from generated: each row is judged by one that did not see it
FINEST = 255  # categories that scikit-learn's trees tell apart; of more they take the numbers as such
ITERATIONS = 100  # trees of a learner


def column_distances(real: np.ndarray, generated: np.ndarray, discrete: np.ndarray) -> np.ndarray:
    """Returns the distance of each column [C]: of categories the total variation, missing ones as one of them.

    Of numbers it is Wasserstein-1 over the real standard deviation, and the difference of the shares that are missing; infinite
    where one side has no number at all.
    """
    return np.array([_distance(*pair) for pair in zip(real.T, generated.T, discrete, strict=True)])


def _distance(real: np.ndarray, generated: np.ndarray, discrete: bool) -> float:
    if discrete:
        values = np.union1d(real, generated)  # one NaN among them, if there is any
        shares = [np.searchsorted(values, side) for side in (real, generated)]
        p, q = (np.bincount(own, minlength=len(values)) / len(own) for own in shares)
        return float(np.abs(p - q).sum() / 2)
    x, y = (side[~np.isnan(side)] for side in (real, generated))
    absent = abs(len(x) / len(real) - len(y) / len(generated))
    if not len(x) or not len(y):
        return absent if len(x) == len(y) else np.inf
    return float(scipy.stats.wasserstein_distance(x, y) / (x.std() or 1.0)) + absent


def associations(rows: np.ndarray, discrete: np.ndarray) -> np.ndarray:
    """Returns how much each two columns go together [C, C], 0 to 1 but for numbers, whose correlation (Pearson) has a sign.

    Of categories it is Cramer's V, of categories and a number the correlation ratio; 0 where a column is constant. Rows that
    lack a number are left out of its pairs.
    """
    count = rows.shape[1]
    found = np.eye(count)
    for i in range(count):
        for j in range(i):
            x, y = rows[:, i], rows[:, j]
            if discrete[i] and discrete[j]:
                value = _cramer(x, y)
            elif discrete[i] or discrete[j]:
                value = _correlation_ratio(*((x, y) if discrete[i] else (y, x)))
            else:
                value = _pearson(x, y)
            found[i, j] = found[j, i] = value
    return found


def _codes(x: np.ndarray) -> np.ndarray:
    return np.unique(x, return_inverse=True)[1]


def _cramer(x: np.ndarray, y: np.ndarray) -> float:
    a, b = _codes(x), _codes(y)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    least = min(table.shape) - 1
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / len(x)
    return float(np.sqrt((np.square(table - expected) / expected).sum() / len(x) / least)) if least else 0.0


def _correlation_ratio(categories: np.ndarray, numbers: np.ndarray) -> float:
    there = ~np.isnan(numbers)
    if not there.any():
        return 0.0
    codes, x = _codes(categories[there]), numbers[there]
    counts = np.bincount(codes)
    means = np.bincount(codes, x) / counts
    total = np.square(x - x.mean()).sum()
    return float(np.sqrt((counts * np.square(means - x.mean())).sum() / total)) if total > 0 else 0.0


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    there = ~(np.isnan(x) | np.isnan(y))
    x, y = x[there], y[there]
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def association_difference(real: np.ndarray, generated: np.ndarray, discrete: np.ndarray) -> float:
    """Returns the mean absolute difference of the associations of each two columns; NaN of a single column."""
    pairs = np.triu_indices(real.shape[1], 1)
    difference = np.abs(associations(real, discrete) - associations(generated, discrete))[pairs]
    return float(difference.mean()) if len(difference) else np.nan


def detection_auc(real: np.ndarray, generated: np.ndarray, discrete: np.ndarray) -> float:
    """Returns the area under the ROC curve of gradient-boosted trees that tell generated rows from real ones: .5 for one law.

    Of equally many rows, each judged by trees that saw neither it nor the others of its fold.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    count = min(len(real), len(generated))
    rows, label = np.concatenate([real[:count], generated[:count]]), np.repeat([0, 1], count)
    trees = HistGradientBoostingClassifier(
        max_iter=ITERATIONS, categorical_features=_as_categories(rows, discrete), early_stopping=False, random_state=0
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with threadpool_limits(1, "openmp"):  # on thousands of rows threads only wait for each other, on a busy machine for minutes
        shares = cross_val_predict(trees, rows, label, cv=folds, method="predict_proba")
    return float(roc_auc_score(label, shares[:, 1]))


def utility(train: np.ndarray, test: np.ndarray, target: int, discrete: np.ndarray) -> float:
    """Returns how well gradient-boosted trees that learned of some rows predict a column of others from the rest.

    Of a number R squared, of categories the F1 score, mean over those among the test rows. Rows that lack the number are left
    out; NaN where fewer than two are left, or the test rows are all alike.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import f1_score, r2_score
    from threadpoolctl import threadpool_limits

    others = np.arange(train.shape[1]) != target
    wanted = [np.nan_to_num(rows[:, target], nan=-1) if discrete[target] else rows[:, target] for rows in (train, test)]
    (x, y), (x_test, y_test) = (
        (rows[~np.isnan(own)][:, others], own[~np.isnan(own)]) for rows, own in zip((train, test), wanted, strict=True)
    )
    if len(y) < 2 or len(y_test) < 2 or not np.ptp(y_test):
        return np.nan
    told: dict[str, Any] = {"max_iter": ITERATIONS, "early_stopping": False, "random_state": 0}
    told["categorical_features"] = _as_categories(np.concatenate([x, x_test]), discrete[others])
    trees = (HistGradientBoostingClassifier if discrete[target] else HistGradientBoostingRegressor)(**told)
    if discrete[target] and len(np.unique(y)) < 2:
        predicted = np.full(len(y_test), y[0])
    else:
        with threadpool_limits(1, "openmp"):
            predicted = trees.fit(x, y).predict(x_test)
    if not discrete[target]:
        return float(r2_score(y_test, predicted))
    return float(f1_score(y_test, predicted, labels=np.unique(y_test), average="macro", zero_division=0))


def _as_categories(rows: np.ndarray, discrete: np.ndarray) -> np.ndarray:
    """Returns which columns [C] trees take as categories."""
    few = np.array([np.nanmax(column, initial=0) < FINEST for column in rows.T])
    return discrete & few
