"""Discrepancies of two samples by kernels: energy distance, maximum mean discrepancy, kernel (inception) distance.

All three are E k(X, X') + E k(Y, Y') - 2 E k(X, Y) for some kernel k, estimated without bias: pairs of an example with itself
are left out (a U-statistic). So two samples of one law give 0 on average whatever their sizes, by chance a little less at
times. With those pairs (a V-statistic) a value is never below 0, but it shrinks with n: those of unlike n do not compare.

Arrays may be NumPy's or JAX's, of any real dtype; all is computed in float64.
"""

from collections.abc import Callable, Iterator

import numpy as np

from wgan_jax.errors import UserError

CHUNK_VALUES = 2**22  # of a matrix of pairs held at once: 32 MiB
BANDWIDTH_EXAMPLES = 1000  # of each sample that the median heuristic compares

type Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]  # [n, D], [m, D] -> [n, m]


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of samples [n, D] and [m, D], in the data's units.

    Szekely & Rizzo 2013, section 2; the kernel is -|x - y| (Sejdinovic 2013). On the line it is twice the integral of the
    squared difference of the distribution functions; scipy.stats.energy_distance is the square root of its V-statistic.
    """
    return _discrepancy(lambda a, b: -np.sqrt(squared_distances(a, b)), *centred(x, y))


def maximum_mean_discrepancy(x: np.ndarray, y: np.ndarray, bandwidth: float | None = None) -> float:
    """Returns the squared MMD (Gretton 2012, equation 3) of samples [n, D] and [m, D] for a Gaussian kernel.

    k = exp(-|x - y|^2 / (2 bandwidth^2)); the bandwidth is in the data's units, by default the samples' `median_distance`.

    Raises:
      UserError: a bandwidth that is not positive.
    """
    x, y = centred(x, y)
    width = median_distance(x, y) if bandwidth is None else bandwidth
    if not width > 0:
        raise UserError(f"bandwidth: {width:g} is not positive; more than half of all pairs coincide where it is the median")
    return _discrepancy(lambda a, b: np.exp(squared_distances(a, b) / (-2 * width**2)), x, y)


def median_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the median distance between the examples of both samples together (Gretton 2012, section 8).

    Of a sample of more than 1,000 examples, 1,000 or fewer at equal steps count.
    """
    some = (np.asarray(sample)[:: -(-len(sample) // BANDWIDTH_EXAMPLES)] for sample in (x, y))
    pooled = np.concatenate(centred(*some))
    return float(np.median(np.sqrt(squared_distances(pooled, pooled)[np.triu_indices(len(pooled), 1)])))


def kernel_distance(
    x: np.ndarray, y: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 2020
) -> tuple[float, float]:
    """Returns mean and standard deviation over subsets of the kernel distance of features [n, F] and [m, F].

    The squared MMD for k = (<x, y> / F + 1)^3 (Binkowski 2018, section 4), on Inception features the KID. Subsets of `size`
    examples of each side are drawn without replacement, the same as torch-fidelity draws from the seed.

    Raises:
      UserError: subsets larger than a sample.
    """
    if size > min(len(x), len(y)):
        raise UserError(f"kernel_distance: subsets of {size} need as many examples; there are {len(x)} and {len(y)}")

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        base = a @ b.T / a.shape[1] + 1
        return base * base * base  # NumPy's power takes seven times as long

    rng, values, samples = np.random.RandomState(seed), [], (np.asarray(x, np.float64), np.asarray(y, np.float64))
    for _ in range(subsets):
        chosen = [sample[rng.choice(len(sample), size, replace=False)] for sample in samples]
        values.append(_discrepancy(kernel, *chosen))
    return float(np.mean(values)), float(np.std(values))


def _discrepancy(kernel: Kernel, x: np.ndarray, y: np.ndarray) -> float:
    return _mean(kernel, x, x) + _mean(kernel, y, y) - 2 * _mean(kernel, x, y)


def _mean(kernel: Kernel, x: np.ndarray, y: np.ndarray) -> float:
    """Returns the mean of a kernel over all pairs, in chunks; without those of an example with itself where y is x."""
    total = 0.0
    for rows in row_chunks(len(x), len(y)):
        values = kernel(x[rows], y)
        if y is x:
            np.fill_diagonal(values[:, rows.start :], 0)
        total += values.sum()
    return float(total / (len(x) * (len(y) - (y is x))))


def centred(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both samples in float64, moved alike so that x has mean 0: distances by `squared_distances` lose fewer digits."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean = x.mean(axis=0)
    return x - mean, y - mean


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns |x_i - y_j|^2 [n, m] as |x|^2 + |y|^2 - 2 <x, y>, at least 0: rounding is relative to |x|^2 + |y|^2."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squares = x @ y.T
    squares *= -2
    squares += np.einsum("ij,ij->i", x, x)[:, None]
    squares += np.einsum("ij,ij->i", y, y)
    return np.maximum(squares, 0, out=squares)


def row_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Yields slices over the rows of a matrix of pairs, so many at a time that a chunk has CHUNK_VALUES values."""
    step = max(1, CHUNK_VALUES // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
