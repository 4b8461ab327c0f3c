"""Coverage of the components of a Gaussian mixture."""

import numpy as np
import scipy


def mode_statistics(samples: np.ndarray, centres: np.ndarray, sigma: float) -> dict[str, float]:
    """Returns what a sample [n, D] covers of a mixture of K equal Gaussians with centres [K, D].

    good_share: share within three sigma of their nearest centre (real data in 2-D: 98.9 %). modes: components with at least
    1 / (4K) of all samples as good ones. mode_tv: total variation between the good samples' shares of the modes and 1 / K, 1
    without good samples. mode_sigma: root mean square deviation of good samples from their mode's mean, per coordinate, over
    the same for real data (a Gaussian cut at three sigma); nan where no mode has two good samples.
    """
    samples, centres = np.asarray(samples, np.float64), np.asarray(centres, np.float64)  # JAX's too
    distances, nearest = scipy.spatial.cKDTree(centres).query(samples)
    good = distances <= 3 * sigma
    count, dimension = len(centres), centres.shape[1]
    hits = np.bincount(nearest[good], minlength=count)
    total = int(hits.sum())
    shares = hits / max(1, total)
    squares, degrees = 0.0, 0
    for mode in np.flatnonzero(hits > 1):
        points = samples[good & (nearest == mode)]
        squares += float(np.square(points - points.mean(axis=0)).sum())
        degrees += (len(points) - 1) * dimension
    spread = np.sqrt(squares / degrees) / (sigma * _cut_at_three_sigma(dimension)) if degrees else np.nan
    return {
        "modes": float((hits >= len(samples) / (4 * count)).sum()),
        "good_share": float(good.mean()),
        "mode_tv": float(np.abs(shares - 1 / count).sum() / 2) if total else 1.0,
        "mode_sigma": float(spread),
    }


def _cut_at_three_sigma(dimension: int) -> float:
    """Returns the standard deviation per coordinate of a unit Gaussian given that its norm is at most 3."""
    return float(np.sqrt(scipy.stats.chi2.cdf(9, dimension + 2) / scipy.stats.chi2.cdf(9, dimension)))
