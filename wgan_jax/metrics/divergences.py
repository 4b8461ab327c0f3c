"""Divergences of two laws given by their values on shared cells, and the shared histograms of two samples.

`p` and `q` are arrays of one shape, of probabilities, or of densities with the volume of a cell. Natural logarithms.
Arrays may be NumPy's or JAX's, of any real dtype; all is computed in float64.
"""

import numpy as np
import scipy

from wgan_jax.errors import UserError


def total_variation(p: np.ndarray, q: np.ndarray, cell: float = 1.0) -> float:
    """Returns the total variation, half the integral of |p - q|: in [0, 1], 1 for laws that share no cell."""
    p, q = _checked(p, q)
    return float(np.abs(p - q).sum() * cell / 2)


def kullback_leibler(p: np.ndarray, q: np.ndarray, cell: float = 1.0) -> float:
    """Returns KL(p | q), the integral of p log(p / q): infinite where p has mass and q has none, and 0 log 0 is 0."""
    p, q = _checked(p, q)
    return float(scipy.special.rel_entr(p, q).sum() * cell)


def jensen_shannon(p: np.ndarray, q: np.ndarray, cell: float = 1.0) -> float:
    """Returns the Jensen-Shannon divergence KL(p | m) / 2 + KL(q | m) / 2 with m = (p + q) / 2: in [0, log 2].

    With the halves, as Goodfellow 2014 has it; log 2 for laws that share no cell.
    """
    p, q = _checked(p, q)
    middle = (p + q) / 2
    return (kullback_leibler(p, middle, cell) + kullback_leibler(q, middle, cell)) / 2


def histograms(x: np.ndarray, y: np.ndarray, bins: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shares of two samples [n, D] and [m, D] in the same cells: `bins` along each axis over their common range.

    Of D axes there are bins^D cells, so it is of use for D of 1 and 2.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    pooled = np.concatenate([x, y])
    _, edges = np.histogramdd(pooled, bins)
    p, q = (np.histogramdd(sample, edges)[0] / len(sample) for sample in (x, y))
    return p, q


def _checked(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if p.shape != q.shape or not (p >= 0).all() or not (q >= 0).all():
        raise UserError(f"divergence: p {p.shape} and q {q.shape} are of one shape, with numbers of at least 0")
    return p, q
