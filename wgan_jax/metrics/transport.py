"""Optimal transport between samples: exact plans and potentials, closed forms, projections to the line, and dual bounds.

Arrays may be NumPy's or JAX's, of any real dtype; all is computed in float64.
"""

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy  # whose modules load when they are first used: scipy.stats alone takes .5 s

from wgan_jax.errors import UserError

# Points of the plane from which on the network simplex is faster than SciPy. 2,000 of ring8, seconds: .4 and .8 for a
# trained generator, .7 and 9.6 for a collapsed one; in 64 dimensions and more it is the slower.
MANY = 1000
UNBOUNDED = 2**62  # pivots of the network simplex: it ends at the optimum


class Transport(NamedTuple):
    """An optimal plan between weighted samples and its proof: the potentials' dual value is the plan's cost."""

    distance: float  # W_p, in the units of the data
    plan: np.ndarray  # [n, m], mass moved from x_i to y_j; its sum is 1
    f: np.ndarray  # [n], of x; f_i + g_j <= |x_i - y_j|^p, with equality wherever the plan moves mass
    g: np.ndarray  # [m], of y; each of f and g is the c-transform of the other


def empirical_wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the Wasserstein-1 distance between two samples [n, D] of equal size, exact for those samples.

    It is the mean Euclidean distance under the optimal assignment, in the units of the data. Between two samples of one law it
    is not 0 but the floor of that law at n.

    Raises:
      UserError: samples of unequal size.
    """
    if len(x) != len(y):
        raise UserError(f"empirical_wasserstein: {len(x)} and {len(y)} examples; optimal_transport compares unequal samples")
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape[1] == 1:
        return float(np.abs(np.sort(x[:, 0]) - np.sort(y[:, 0])).mean())
    distances = scipy.spatial.distance.cdist(x, y)
    if x.shape[1] == 2 and len(x) >= MANY:
        equal = np.full(len(x), 1 / len(x))
        rows, columns = np.arange(len(x)), _solver()(equal, equal, distances, numItermax=UNBOUNDED).argmax(axis=1)
    else:
        rows, columns = scipy.optimize.linear_sum_assignment(distances)
    return float(distances[rows, columns].mean())


def wasserstein_excess(distance: float, own: float, floor: float) -> float:
    """Returns (W(G,T) - W(G,G')/2 - W(T,T')/2) / W(T,T'), which copies and averages do not lower.

    Of independent samples of equal laws it is 0 on average. The minibatch energy distance (Salimans 2018, equation 4, of W1)
    over the real-real floor; NaN at floor 0.
    """
    return (distance - own / 2 - floor / 2) / floor if floor else math.nan


def optimal_transport(
    x: np.ndarray, y: np.ndarray, p: float = 1, x_weights: np.ndarray | None = None, y_weights: np.ndarray | None = None
) -> Transport:
    """Returns the optimal transport between samples [n, D] and [m, D] for the cost |x - y|^p: W_p, plan and potentials.

    W_p^p = min sum_ij plan_ij |x_i - y_j|^p = max <a, f> + <b, g> (Peyre & Cuturi 2019, equations 2.11 and 2.20), by the
    network simplex (Bonneel 2011). Weights a [n] and b [m] are at least 0 and are divided by their sums, by default equal.

    Raises:
      UserError: samples that are not finite, weights that do not fit them, are negative or have no mass.
    """
    a, b = _masses(x_weights, len(x), "x_weights"), _masses(y_weights, len(y), "y_weights")
    cost = scipy.spatial.distance.cdist(x, y) ** p
    if not np.isfinite(cost).all():
        raise UserError("optimal_transport: the samples hold values that are not finite; leave those examples out")
    plan, result = _solver()(a, b, cost, numItermax=UNBOUNDED, log=True)
    f = c_transform(result["v"], cost)  # the solver's own is not one: it is free where x has no mass
    return Transport(float(result["cost"] ** (1 / p)), plan, f, c_transform(f, cost.T))


def _masses(weights: np.ndarray | None, count: int, name: str) -> np.ndarray:
    masses = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if masses.shape != (count,) or not (masses >= 0).all() or not 0 < masses.sum() < np.inf:
        raise UserError(f"{name}: give {count} finite numbers of at least 0, one per example, not all of them 0")
    return masses / masses.sum()


def _solver() -> Callable[..., Any]:
    """Returns POT's network simplex, without the array libraries that POT would import and start beside NumPy."""
    for library in ("JAX", "PYTORCH", "TENSORFLOW", "CUPY"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{library}", "1")
    from ot.lp import emd  # type: ignore[import-untyped]

    return emd


def c_transform(potential: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Returns min_j (cost_ij - potential_j), [n], of a potential [m] and costs [n, m] (Villani 2009, definition 5.2).

    It is the largest f with f_i + potential_j <= cost_ij. Where the cost is the distance within one set of points, a potential
    is 1-Lipschitz on them exactly when its c-transform is its negative.
    """
    return np.min(np.asarray(cost, np.float64) - np.asarray(potential, np.float64), axis=1)


def c_transform_bound(potential: np.ndarray, real: np.ndarray, generated: np.ndarray) -> float:
    """Returns mean_y f(y) + mean_x min_y (|x - y| - f(y)), never above the empirical Wasserstein-1 distance.

    The dual of optimal transport with any f, repaired by its c-transform: y are the real examples [n, D] with potential f(y)
    [n], x the generated ones [m, D]. It is tightest for an f of slope one: divide a critic by its Lipschitz constant first.
    """
    potential = np.asarray(potential, np.float64)
    return float(potential.mean() + c_transform(potential, scipy.spatial.distance.cdist(generated, real)).mean())


def quantile_wasserstein(x: np.ndarray, quantile: Callable[[np.ndarray], np.ndarray]) -> float:
    """Returns the Wasserstein-1 distance of a 1-D sample [n] to a law, given by its quantile function.

    W1 = int |F_n^-1(u) - F^-1(u)| du (Bethune & Coiffier 2018, section 2.3), with u at (i + 1/2) / n.
    """
    levels = (np.arange(len(x)) + 0.5) / len(x)
    return float(np.abs(np.sort(np.asarray(x, np.float64)) - quantile(levels)).mean())


def earth_movers_distance(piles: np.ndarray, other: np.ndarray, positions: np.ndarray) -> float:
    """Returns the work, mass times distance, that turns piles [n] at positions [n] on a line into other piles [n] there.

    It is the total mass times the Wasserstein-1 distance of the piles as shares.

    Raises:
      UserError: piles of unequal total mass.
    """
    piles, other, positions = (np.asarray(values, np.float64) for values in (piles, other, positions))
    mass = float(np.sum(piles))
    if not np.isclose(mass, np.sum(other), rtol=1e-9, atol=0):
        raise UserError(f"earth_movers_distance: piles of total mass {mass:g} cannot become piles of {np.sum(other):g}")
    return mass * float(scipy.stats.wasserstein_distance(positions, positions, piles, other))


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, p: float = 2, projections: int = 500, seed: int = 0) -> float:
    """Returns the sliced Wasserstein-p distance of samples [n, D] and [m, D] over random directions, in the data's units.

    The p-th root of the mean of W_p^p of the projections to a line (Rabin 2011; Bonneel 2015), each exact by its quantile
    functions: W_p^p = int |F_n^-1(u) - G_m^-1(u)|^p du, whose integrand is constant between the levels i / n and j / m.
    Directions are uniform on the sphere, drawn from the seed.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    directions = np.random.default_rng(seed).normal(size=(projections, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    n, m = len(x), len(y)
    levels = np.union1d(np.arange(1, n + 1) / n, np.arange(1, m + 1) / m)
    widths = np.diff(levels, prepend=0.0)
    middles = levels - widths / 2
    on_x, on_y = (np.sort(directions @ sample.T, axis=1) for sample in (x, y))
    gaps = np.abs(on_x[:, (middles * n).astype(int)] - on_y[:, (middles * m).astype(int)])
    return float((gaps**p @ widths).mean() ** (1 / p))


def gaussian_wasserstein(mean_x: np.ndarray, cov_x: np.ndarray, mean_y: np.ndarray, cov_y: np.ndarray) -> float:
    """Returns the Wasserstein-2 distance of Gaussians with means [D] and covariances [D, D], which may be singular.

    W2^2 = |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x^1/2 S_y S_x^1/2)^1/2) (Gelbrich 1990; Dowson & Landau 1982, equation 4), in
    float64; see `rooted_wasserstein`.
    """
    return rooted_wasserstein(mean_x, root(cov_x), mean_y, root(cov_y))


def rooted_wasserstein(mean_x: np.ndarray, root_x: np.ndarray, mean_y: np.ndarray, root_y: np.ndarray) -> float:
    """Returns the Wasserstein-2 distance of Gaussians with means [D] and covariances A A^T and B B^T, of roots A, B [D, rank].

    For any roots the trace of (S_x^1/2 S_y S_x^1/2)^1/2 is the sum of the singular values of A^T B: it cannot turn complex, and
    singular covariances lose no digits.
    """
    mean_x, root_x, mean_y, root_y = (np.asarray(part, np.float64) for part in (mean_x, root_x, mean_y, root_y))
    fidelity = np.linalg.svd(root_x.T @ root_y, compute_uv=False).sum()
    square = sum(float(np.square(part).sum()) for part in (mean_x - mean_y, root_x, root_y))
    return float(np.sqrt(max(square - 2 * fidelity, 0.0)))


def root(covariance: np.ndarray) -> np.ndarray:
    """Returns A [D, rank] with A A^T = covariance, less the eigenvalues within rounding of 0, whose roots are not small."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])
