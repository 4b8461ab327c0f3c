"""How numbers of a table become an entry of network units and back: by METHODS, each fitted to the training split."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.scipy.special
import numpy as np
import scipy

KNOTS = 1000  # of a distribution function; with no more values than that a column has each of them exactly
# Entries of a distribution function lie in [-EDGE, EDGE]; what a generator puts beyond it is thrown back, since mass that leaks
# over the edge would else become the extreme values of the table.
EDGE = 0.9
TAIL = 1e-4  # of probability on either side, in which a normal score stays where it is
MODES = 10  # of a mixture, at most (CTGAN)
SEEN_MODE = 0.005  # the smallest weight of one that is kept (CTGAN)
FITTED_ROWS = 10_000  # to which a mixture is fitted
WIDTH = 4  # standard deviations of a mode that its entry of [-1, 1] spans on each side (CTGAN)

type Fitted = tuple[tuple[float, ...], ...]


def _interpolated(x: np.ndarray, knots: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distribution function below and at each x [n], of which some values may be many rows' own."""
    low = np.searchsorted(knots, x, "left").clip(max=len(knots) - 1)
    high = (np.searchsorted(knots, x, "right") - 1).clip(0)
    between, met = np.interp(x, knots, levels), knots[low] == x
    return np.where(met, levels[low], between), np.where(met, levels[high], between)


def _fit_quantile(x: np.ndarray) -> Fitted:
    """Returns the knots and levels of the distribution function of x [n], its steps where it has few values."""
    values, counts = np.unique(x, return_counts=True)
    if len(values) <= KNOTS:
        ends = np.cumsum(counts) / len(x)
        return tuple(np.repeat(values, 2).tolist()), tuple(np.stack([np.append(0, ends[:-1]), ends], axis=1).ravel().tolist())
    levels = np.linspace(0, 1, KNOTS + 1)
    return tuple(np.quantile(x, levels, method="inverted_cdf").tolist()), tuple(levels.tolist())


def _level(x: np.ndarray, fitted: Fitted, share: Any) -> np.ndarray:
    """The distributional transform (Rueschendorf 2009): between what lies below x and at x the `share`-th part."""
    low, high = _interpolated(x, *map(np.asarray, fitted))
    there = ~np.isnan(x)
    low, high = np.where(there, low, 0), np.where(there, high, 1)
    return low + share * (high - low)


def _at_level(level: Any, fitted: Fitted, xp: Any) -> Any:
    knots, levels = (xp.asarray(part, level.dtype) for part in fitted)
    return xp.interp(level, levels, knots)


def _of_quantile(entry: Any, mode: Any, fitted: Fitted, xp: Any) -> Any:
    del mode
    inside = entry.clip(-1, 1) / EDGE
    inside = xp.where(xp.abs(inside) > 1, xp.sign(inside) * 2 - inside, inside)
    return _at_level((inside + 1) / 2, fitted, xp)


def _normal(x: np.ndarray, fitted: Fitted, share: Any) -> tuple[np.ndarray, None]:
    return scipy.special.ndtri(_level(x, fitted, share).clip(TAIL, 1 - TAIL)), None


def _of_normal(entry: Any, mode: Any, fitted: Fitted, xp: Any) -> Any:
    del mode
    return _at_level((scipy if xp is np else jax.scipy).special.ndtr(entry), fitted, xp)


def _fit_standard(x: np.ndarray) -> Fitted:
    return ((float(x.mean()), float(x.std()) or 1.0),)


def _standard(x: np.ndarray, fitted: Fitted, share: Any) -> tuple[np.ndarray, None]:
    del share
    mean, spread = fitted[0]
    return np.where(np.isnan(x), 0, (x - mean) / spread), None


def _of_standard(entry: Any, mode: Any, fitted: Fitted, xp: Any) -> Any:
    del mode, xp
    mean, spread = fitted[0]
    return entry * spread + mean


def _fit_modes(x: np.ndarray) -> Fitted:
    """Returns the weights, means and deviations of a variational Gaussian mixture (Xu 2019, section 4.2)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    rows = np.random.default_rng(0).permutation(x)[:FITTED_ROWS, None]
    components = min(MODES, len(np.unique(rows)))
    prior = {"weight_concentration_prior_type": "dirichlet_process", "weight_concentration_prior": 0.001}
    mixture = BayesianGaussianMixture(n_components=components, **prior, n_init=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(rows)
    kept = mixture.weights_ > SEEN_MODE
    spreads = np.sqrt(mixture.covariances_[kept, 0, 0])
    return tuple(tuple(part.tolist()) for part in (mixture.weights_[kept], mixture.means_[kept, 0], spreads))


def _modes(x: np.ndarray, fitted: Fitted, share: Any) -> tuple[np.ndarray, np.ndarray]:
    """The most likely mode, and the place in it; of a missing value the middle of the largest mode."""
    del share
    weights, means, spreads = map(np.asarray, fitted)
    filled = np.where(np.isnan(x), means[weights.argmax()], x)[:, None]
    mode = (np.log(weights / spreads) - ((filled - means) / spreads) ** 2 / 2).argmax(axis=1)
    return ((filled[:, 0] - means[mode]) / (WIDTH * spreads[mode])).clip(-1, 1), mode


def _of_modes(entry: Any, mode: Any, fitted: Fitted, xp: Any) -> Any:
    _, means, spreads = (xp.asarray(part, entry.dtype) for part in fitted)
    return means[mode] + WIDTH * spreads[mode] * entry.clip(-1, 1)


class Method(NamedTuple):
    """A way of numbers [n] to an entry of network units, and for some to one of several modes."""

    fit: Callable[[np.ndarray], Fitted]  # of the training split, none missing
    # values, NaN where missing, what `fit` gave, and where between what is below a value and at it an entry lies: .5, or [n]
    units: Callable[[np.ndarray, Fitted, Any], tuple[np.ndarray, np.ndarray | None]]
    values: Callable[[Any, Any, Fitted, Any], Any]  # entry, mode, what `fit` gave, numpy or jax.numpy
    bounded: bool = False  # whether entries are of [-1, 1]


METHODS: dict[str, Method] = {
    "quantile": Method(
        _fit_quantile,
        lambda x, fitted, share: (EDGE * (2 * _level(x, fitted, share) - 1), None),
        _of_quantile,
        bounded=True,
    ),
    "normal": Method(_fit_quantile, _normal, _of_normal),
    "modes": Method(_fit_modes, _modes, _of_modes, bounded=True),
    "standard": Method(_fit_standard, _standard, _of_standard),
    "log": Method(
        lambda x: _fit_standard(np.log(x)),
        lambda x, fitted, share: _standard(np.log(np.maximum(x, np.finfo(float).tiny)), fitted, share),
        lambda entry, mode, fitted, xp: xp.exp(_of_standard(entry, mode, fitted, xp)),
    ),
}
