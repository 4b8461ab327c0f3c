"""Fidelity and coverage: Frechet distance, Inception score, neighbours of either sample, copying, shares of the classes.

Arrays may be NumPy's or JAX's, of any real dtype; distances and moments are computed in float64.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy

from wgan_jax.data.dataset import flatten, spread
from wgan_jax.errors import UserError
from wgan_jax.metrics.kernels import centred, row_chunks, squared_distances
from wgan_jax.metrics.transport import root, rooted_wasserstein

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

CHUNK_VALUES = 2**24  # of training examples compared at once
COMPARED_VALUES = 2**26  # of training examples compared in all: 85,000 images 28 x 28, 5,400 of 64 x 64 x 3
CLASSIFIER_EXAMPLES, CLASSIFIER_COMPONENTS = 5000, 64
ROUNDING = 1e-12  # of squared distances relative to the points' squared norms; 2,048 features show 4e-15


class Moments(NamedTuple):
    """Mean [F] and covariance [F, F] of features, in float64."""

    mean: np.ndarray
    covariance: np.ndarray


class Neighbourhoods(NamedTuple):
    """How two samples lie in the balls that reach from each example to its k-th nearest of its own sample."""

    precision: float  # share of generated examples in a real ball
    recall: float  # share of real examples in a generated ball
    density: float  # real balls that a generated example lies in, over k; about 1 for one law, may exceed it
    coverage: float  # share of real balls with a generated example


class TwoSample(NamedTuple):
    """Leave-one-out accuracies of telling real from generated examples by the nearest neighbour."""

    accuracy: float  # on all; .5 for one law and equal sizes, 1 far apart, below .5 where the samples copy each other
    real: float  # on real examples: low where the generated ones crowd around them
    generated: float  # on generated examples: high where they crowd among themselves


class ClassBalance(NamedTuple):
    """How evenly a sample is spread over K >= 2 classes."""

    covered: int  # classes with a share of at least 1 / (4K), the rule by which modes count
    balance: float  # entropy of the shares over log K: 1 for equal shares, 0 for a single class
    smallest: float  # the least share


def moments(x: np.ndarray) -> Moments:
    """Returns mean and unbiased covariance of features [n, F]; n may be less than F.

    Raises:
      UserError: fewer than two examples.
    """
    if len(x) < 2:
        raise UserError(f"moments: a covariance needs at least 2 examples, there are {len(x)}")
    x = np.asarray(x, np.float64)
    mean = x.mean(axis=0)
    deviations = x - mean
    return Moments(mean, deviations.T @ deviations / (len(x) - 1))


def frechet_distance(x: np.ndarray | Moments, y: np.ndarray | Moments) -> float:
    """Returns the Frechet distance of features [n, F] and [m, F], or of their moments; on Inception features the FID.

    The squared Wasserstein-2 distance of Gaussians with the samples' moments (Heusel 2017, equation 6). It is biased upwards,
    the more the fewer the examples: compare values of equal n and m only.
    """
    return rooted_wasserstein(*_mean_and_root(x), *_mean_and_root(y)) ** 2


def _mean_and_root(x: np.ndarray | Moments) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and a root of the covariance; of fewer examples than features their deviations, which need no F^3."""
    if not isinstance(x, Moments) and 2 <= len(x) <= x.shape[1]:
        x = np.asarray(x, np.float64)
        mean = x.mean(axis=0)
        return mean, (x - mean).T / np.sqrt(len(x) - 1)
    mean, covariance = x if isinstance(x, Moments) else moments(x)
    return mean, root(covariance)


def inception_score(probabilities: np.ndarray, splits: int = 10, seed: int | None = 2020) -> tuple[float, float]:
    """Returns mean and standard deviation over splits of exp(mean_x KL(p(y|x) | p(y))), from class probabilities [n, K].

    Salimans 2016, section 4, as torch-fidelity computes it: examples in the order of RandomState(seed).permutation(n), or as
    they are given where the seed is None, cut into runs that start at i n // splits. Of logits give scipy.special.softmax.

    Raises:
      UserError: rows that are no probabilities, or more splits than examples.
    """
    n = len(probabilities)
    if not 1 <= splits <= n:
        raise UserError(f"inception_score: {splits} splits of {n} examples; give 1 to {n}")
    p = np.asarray(probabilities, np.float64)
    if not (p >= 0).all() or not np.allclose(p.sum(axis=1), 1, rtol=0, atol=1e-3):
        raise UserError("inception_score: each row holds the probabilities of the classes; of logits give their softmax")
    if seed is not None:
        p = p[np.random.RandomState(seed).permutation(n)]
    runs = (p[i * n // splits : (i + 1) * n // splits] for i in range(splits))
    scores = [np.exp(scipy.special.rel_entr(run, run.mean(axis=0)).sum(axis=1).mean()) for run in runs]
    return float(np.mean(scores)), float(np.std(scores))


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Returns improved precision and recall in [0, 1] (Kynkaanniemi 2019, equation 2) of samples [n, D] and [m, D].

    Precision is the share of generated points that lie nearer to some real point than its k-th nearest other real point does;
    recall is the same with the roles exchanged.
    """
    return neighbourhoods(real, generated, k)[:2]


def neighbourhoods(real: np.ndarray, generated: np.ndarray, k: int = 5) -> Neighbourhoods:
    """Returns precision and recall (Kynkaanniemi 2019), density and coverage (Naeem 2020) of samples [n, D] and [m, D].

    The first pair is published for k = 3, the second for k = 5. Balls are closed, and a point at a ball's radius up to rounding
    lies in it: an exact copy of the k-th neighbour, or of a centre whose ball has radius 0.

    Raises:
      UserError: a sample of no more than k examples.
    """
    real, generated = centred(real, generated)
    real_radii, generated_radii = _radii(real, k), _radii(generated, k)
    balls, recalled, covered = np.zeros(len(generated)), np.empty(len(real), bool), np.empty(len(real), bool)
    for rows in row_chunks(len(real), len(generated)):
        squares = squared_distances(real[rows], generated)
        inside = squares <= real_radii[rows, None]
        balls += inside.sum(axis=0)
        covered[rows] = inside.any(axis=1)
        recalled[rows] = (squares <= generated_radii).any(axis=1)
    return Neighbourhoods(*(float(share) for share in ((balls > 0).mean(), recalled.mean(), balls.mean() / k, covered.mean())))


def two_sample_accuracy(real: np.ndarray, generated: np.ndarray) -> TwoSample:
    """Returns the accuracies of a leave-one-out nearest-neighbour classifier on samples [n, D] and [m, D] (Xu 2018, section 2).

    An example as near to the other sample as to its own, up to rounding, counts half. Give samples of equal size: the
    larger one is otherwise the nearer by chance (Lopez-Paz & Oquab 2017).

    Raises:
      UserError: a sample of a single example.
    """
    real, generated = centred(real, generated)
    to_generated, to_real = np.empty(len(real)), np.full(len(generated), np.inf)
    for rows in row_chunks(len(real), len(generated)):
        squares = squared_distances(real[rows], generated)
        to_generated[rows] = squares.min(axis=1)
        np.minimum(to_real, squares.min(axis=0), out=to_real)
    correct = []
    for sample, to_other in ((real, to_generated), (generated, to_real)):
        to_own = _nearest_squares(sample, 1)
        margin = to_other - to_own
        margin[np.abs(margin) <= _rounding(sample, to_own)] = 0
        correct.append((1 + np.sign(margin)) / 2)
    return TwoSample(float(np.concatenate(correct).mean()), *(float(side.mean()) for side in correct))


def _nearest_squares(x: np.ndarray, k: int) -> np.ndarray:
    """Returns the squared distance [n] of each example to its k-th nearest other one."""
    if len(x) <= k:
        raise UserError(f"k: a {k}-th nearest other example needs more than {k} examples in each sample, one has {len(x)}")
    nearest = np.empty(len(x))
    for rows in row_chunks(len(x), len(x)):
        squares = squared_distances(x[rows], x)
        np.fill_diagonal(squares[:, rows.start :], np.inf)
        squares.partition(k - 1, axis=1)
        nearest[rows] = squares[:, k - 1]
    return nearest


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    squares = _nearest_squares(x, k)
    return squares + _rounding(x, squares)


def _rounding(x: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Returns the error [n] that `squared_distances` may have from each example to points at squared distance `squares`."""
    return ROUNDING * (np.einsum("ij,ij->i", x, x) + squares)


def nearest_distances(
    points: np.ndarray, train: np.ndarray, decode: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> np.ndarray:
    """Returns each point's distance [n] to the nearest training example; points [n, D], train [M, ...] of D entries each.

    decode: takes training examples, as they are stored, to the units of the points. Of a training set with more than
    COMPARED_VALUES values so many count, evenly spread over it.
    """
    from sklearn.metrics import pairwise_distances_argmin_min  # takes 1 s: the first evaluation's

    points, size = np.asarray(points, np.float64), points.shape[1]
    step, compared = max(1, CHUNK_VALUES // size), min(len(train), max(1, COMPARED_VALUES // size))
    rows = spread(len(train), compared)
    chunks = (flatten(decode(np.asarray(train[rows[start : start + step]]))) for start in range(0, compared, step))
    return np.min([pairwise_distances_argmin_min(points, chunk)[1] for chunk in chunks], axis=0)


def copying_z(test_distances: np.ndarray, generated_distances: np.ndarray) -> float:
    """Returns the Mann-Whitney z of generated points' distances to the training set [n] against those of test points [m].

    Positive where generated points lie farther from the training set than fresh real ones do, below about -3 where they are
    copies (Meehan 2020, data-copying test, over the whole space as one cell). Distances are `nearest_distances`.
    """
    test_distances, generated_distances = np.asarray(test_distances), np.asarray(generated_distances)
    n, m = len(generated_distances), len(test_distances)
    u = scipy.stats.rankdata(np.concatenate([generated_distances, test_distances]))[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def label_classifier(
    examples: np.ndarray,
    labels: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray] = np.asarray,
    *,
    numbers: bool = False,
) -> "Pipeline":
    """Returns a support vector machine (RBF, C = 10) of points [n, D], fitted to labelled examples [N, ...] of D entries each.

    numbers: whether labels are numbers, and the machine a regression. At most 5,000 of them are used, and their first 64
    principal components where they have more values than that. decode: takes the examples, as they are stored, to the units of
    the points.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC, SVR

    examples, labels = np.asarray(examples), np.asarray(labels)
    chosen = np.random.default_rng(0).permutation(len(examples))[:CLASSIFIER_EXAMPLES]
    x = flatten(decode(examples[chosen]))
    project = [PCA(CLASSIFIER_COMPONENTS, random_state=0)] if min(x.shape) > CLASSIFIER_COMPONENTS else []
    return make_pipeline(*project, (SVR if numbers else SVC)(gamma="scale", C=10.0)).fit(x, labels[chosen])


def class_shares(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the share of each class, [classes], among labels [n] from 0 to classes - 1."""
    return np.bincount(np.asarray(labels), minlength=classes) / len(labels)


def label_agreement(asked: np.ndarray, told: np.ndarray) -> tuple[float, float]:
    """Returns the share of examples [N] of which a classifier tells the class that was asked for, and its least over classes.

    Over the classes that were asked for; NaN where none was, asked [0].
    """
    if not len(asked):
        return math.nan, math.nan
    agrees = asked == told
    return float(agrees.mean()), min(float(agrees[asked == label].mean()) for label in np.unique(asked))


def label_correlation(asked: np.ndarray, told: np.ndarray) -> float:
    """Returns Pearson's r of asked and told numbers [N]; NaN where either are all the same."""
    asked, told = np.asarray(asked, np.float64), np.asarray(told, np.float64)
    if len(asked) < 2 or np.ptp(asked) == 0 or np.ptp(told) == 0:
        return math.nan
    return float(np.corrcoef(asked, told)[0, 1])


def class_balance(shares: np.ndarray) -> ClassBalance:
    """Returns how a sample covers its K >= 2 classes, from their shares [K] as `class_shares` gives them."""
    shares = np.asarray(shares, np.float64)
    covered = int((shares >= 1 / (4 * len(shares))).sum())
    return ClassBalance(covered, float(scipy.stats.entropy(shares, base=len(shares))), float(shares.min()))
