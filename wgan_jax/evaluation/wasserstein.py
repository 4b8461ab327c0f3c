"""Distances between samples: the empirical Wasserstein-1 distance with its floor and excess, and bounds on it."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


def empirical_wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the Wasserstein-1 distance between two samples [n, D] of equal size, exact for those samples.

    It is the mean Euclidean distance under the optimal assignment, in the units of the data. Between two samples of one law it
    is not 0 but the floor of that law at n.
    """
    distances = cdist(x, y)
    rows, columns = linear_sum_assignment(distances)
    return float(distances[rows, columns].mean())


def quantile_wasserstein(x: np.ndarray, quantile: Callable[[np.ndarray], np.ndarray]) -> float:
    """Returns the Wasserstein-1 distance of a 1-D sample [n] to a law, given by its quantile function.

    W1 = int |F_n^-1(u) - F^-1(u)| du (Bethune & Coiffier 2018, section 2.3), with u at (i + 1/2) / n.
    """
    levels = (np.arange(len(x)) + 0.5) / len(x)
    return float(np.abs(np.sort(x) - quantile(levels)).mean())


def c_transform_bound(potential: np.ndarray, real: np.ndarray, generated: np.ndarray) -> float:
    """Returns mean_y f(y) + mean_x min_y (|x - y| - f(y)), never above the empirical Wasserstein-1 distance.

    The dual of optimal transport with any f, repaired by its c-transform: y are the real examples [n, D] with potential f(y)
    [n], x the generated ones [m, D]. It is tightest for an f of slope one: divide a critic by its Lipschitz constant first.
    """
    transform = (cdist(generated, real) - potential).min(axis=1)
    return float(potential.mean() + transform.mean())
