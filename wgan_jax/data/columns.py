"""How the columns of a table become network units and back: numbers and text alone, which a run keeps as JSON.

A row has two forms. As the dataset has it, it is a number per column [C] float64: a category's place among its values, the days
or seconds of a date since 1970, NaN where the value is missing. In network units [D] it is an entry per number and a one-hot
block per category, per mode of a number, and per column with missing values (there, missing).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import scipy
from jax.typing import DTypeLike

from wgan_jax.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

KNOTS = 1000  # of a distribution function; with no more values than that a column has each of them exactly
# Entries of a distribution function lie in [-EDGE, EDGE]; what a generator puts beyond it is thrown back, since mass that leaks
# over the edge would else become the extreme values of the table.
EDGE = 0.9
TAIL = 1e-4  # of probability on either side, in which a normal score stays where it is
MODES = 10  # of a mixture, at most (CTGAN)
SEEN_MODE = 0.005  # the smallest weight of one that is kept (CTGAN)
FITTED_ROWS = 10_000  # to which a mixture is fitted
WIDTH = 4  # standard deviations of a mode that its entry of [-1, 1] spans on each side (CTGAN)
MOST_DECIMALS = 10  # to which numbers may have been rounded
TOLD = 12  # columns that the first line of a run names

# What data.columns may say of a column; also a date's format, such as %d.%m.%Y, and the order of categories, such as low<high.
KINDS: dict[str, str] = {
    "drop": "left out",
    "number": "a number, by data.numbers",
    "quantile": "a number, by its place in the distribution, uniform on [-.9, .9]",
    "normal": "a number, by its place in the distribution, standard normal",
    "modes": "a number, by its place in the nearest Gaussian of a mixture (CTGAN)",
    "standard": "a number, with mean 0 and deviation 1",
    "log": "a positive number, whose logarithm has mean 0 and deviation 1",
    "category": "one of several values",
    "ordered": "one of several values in the order of the alphabet, or of numbers",
    "date": "a date or time",
}

type Fitted = tuple[tuple[float, ...], ...]


class Layout(NamedTuple):
    """How a row lies in network units [D]: entries of [-1, 1], then entries without bounds, then one-hot blocks."""

    bounded: int
    linear: int
    blocks: tuple[int, ...]  # sizes
    conditions: tuple[int, ...] = ()  # the entry of each category that a row can be asked to have


class Column(NamedTuple):
    """A column of a table, and once `fitted` how it becomes network units."""

    name: str
    kind: str  # number, integer, date, ordered, category, constant
    dtype: str  # as pandas has it, in what is given back
    method: str = ""  # of METHODS, where it is a number, a date, or ordered
    values: tuple[str | int | float | bool, ...] = ()  # categories; that of a constant, () where all are missing
    missing: bool = False  # whether rows without a value are among them
    decimals: int | None = None  # to which its numbers are rounded; None where they are not
    low: float = 0.0  # of the training split
    high: float = 0.0
    form: str = ""  # of dates that are text, such as %Y-%m-%d
    unit: str = ""  # of dates, what is counted since 1970: D, s, ms or us
    fitted: Fitted = ()

    @classmethod
    def of_json(cls, told: dict[str, Any]) -> Self:
        """Returns the column that `_asdict` gave, read back."""
        return cls(**{**told, "values": tuple(told["values"]), "fitted": tuple(tuple(part) for part in told["fitted"])})

    @property
    def blocks(self) -> tuple[int, ...]:
        """The sizes of its one-hot blocks: its categories, or its modes and then (there, missing)."""
        if self.kind == "constant":
            return ()
        if self.kind == "category":
            return (len(self.values) + self.missing,)
        modes = (len(self.fitted[0]),) if self.method == "modes" else ()
        return (*modes, 2) if self.missing else modes


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


class Place(NamedTuple):
    """Where a column lies in network units: -1 where it has no entry."""

    entry: int
    blocks: tuple[int, ...]  # the first entries of its blocks


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table, in its order; what a `Scaling` is to an array."""

    columns: tuple[Column, ...]
    target: int = -1  # the column that evaluation predicts from the others
    separator: str = ","  # of the file, as it is written
    decimal: str = "."
    absent: str = ""  # what stands there for a missing value

    dtype = "float64"  # of rows
    bounded = False
    wide = True  # the host makes network units of rows

    def _asdict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "columns": [column._asdict() for column in self.columns]}

    @classmethod
    def of_json(cls, told: dict[str, Any]) -> Self:
        """Returns the columns that `_asdict` gave, read back."""
        return cls(**{**told, "columns": tuple(Column.of_json(column) for column in told["columns"])})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def discrete(self) -> np.ndarray:
        """Which columns [C] are of categories without an order."""
        return np.array([column.kind == "category" for column in self.columns])

    @property
    def layout(self) -> Layout:
        """How a row lies in network units."""
        bounded = sum(METHODS[column.method].bounded for column in self.columns if column.method)
        entries = sum(column.method != "" for column in self.columns)
        asked = [
            place.blocks[0] + value
            for column, place in zip(self.columns, self._places(), strict=True)
            if column.kind == "category"
            for value in range(column.blocks[0])
        ]
        blocks = tuple(size for column in self.columns for size in column.blocks)
        return Layout(bounded, entries - bounded, blocks, tuple(asked))

    @property
    def units(self) -> int:
        """The number of entries of network units."""
        layout = self.layout
        return layout.bounded + layout.linear + sum(layout.blocks)

    @property
    def conditions(self) -> tuple[str, ...]:
        """What a row can be asked to have, "cut=Ideal": the categories of each such column, then its lack of one."""
        return tuple(
            f"{column.name}={value}"
            for column in self.columns
            if column.kind == "category"
            for value in [*column.values, *([""] if column.missing else [])]
        )

    def _places(self) -> list[Place]:
        bounded = linear = 0
        total = sum(METHODS[column.method].bounded for column in self.columns if column.method)
        block = sum(column.method != "" for column in self.columns)
        places = []
        for column in self.columns:
            entry = -1
            if column.method and METHODS[column.method].bounded:
                entry, bounded = bounded, bounded + 1
            elif column.method:
                entry, linear = total + linear, linear + 1
            starts = np.cumsum([block, *column.blocks]).tolist()
            block = starts[-1]
            places.append(Place(entry, tuple(starts[:-1])))
        return places

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Returns the number among `conditions` of what rows [n, C] have in each column of categories, [n, M] int32."""
        found, first = [], 0
        for column, values in zip(self.columns, rows.T, strict=True):
            if column.kind == "category":
                found.append(first + np.where(np.isnan(values), len(column.values), values))
                first += column.blocks[0]
        return np.stack(found, axis=1).astype(np.int32) if found else np.zeros((len(rows), 0), np.int32)

    def decode[A: (np.ndarray, jax.Array)](self, examples: A, /, dtype: DTypeLike = np.float32) -> A:
        """Returns rows [..., C], NumPy's, in network units [..., D]; those with one value in the middle of where it may lie."""
        assert isinstance(examples, np.ndarray), "a device does not decode rows"
        return self._in_units(examples, lambda count: 0.5).astype(dtype)

    def for_device(self, examples: np.ndarray, seed: int) -> np.ndarray:
        """Returns rows [..., C] in network units [..., D] float32; those with one value lie anywhere where it has them lie.

        So a whole number's entry is uniform on [-.9, .9] too, and no critic tells examples by the steps between them.
        """
        rng = np.random.default_rng(seed)
        return self._in_units(examples, rng.random).astype(np.float32)

    def _in_units(self, examples: np.ndarray, shares: Callable[[int], Any]) -> np.ndarray:
        rows = examples.reshape(-1, len(self.columns)).astype(np.float64)
        x = np.zeros((len(rows), self.units))
        every = np.arange(len(rows))
        for column, place, values in zip(self.columns, self._places(), rows.T, strict=True):
            missing = np.isnan(values)
            starts = list(place.blocks)
            if column.kind == "category":
                x[every, starts[0] + np.where(missing, len(column.values), values).astype(int)] = 1
            elif column.method:
                entry, mode = METHODS[column.method].units(values, column.fitted, shares(len(rows)))
                x[:, place.entry] = entry
                if mode is not None:
                    x[every, starts.pop(0) + mode] = 1
                if column.missing:
                    x[every, starts[0] + missing] = 1
        return x.reshape(*examples.shape[:-1], self.units)

    def encode(self, x: jax.Array | np.ndarray) -> np.ndarray:
        """Returns network units [n, D] as rows [n, C], the inverse of `decode`: of each block the largest entry counts.

        What is not finite becomes infinite, as NaN stands for a missing value.
        """
        x = np.asarray(x, np.float64)
        return np.where(np.isfinite(x).all(axis=1, keepdims=True), self._rows(x, np), np.inf)

    def is_broken(self, rows: np.ndarray) -> bool:
        """Says whether rows are of network units that are not finite."""
        return bool(np.isinf(rows).any())

    def restore[A: (np.ndarray, jax.Array)](self, x: A) -> A:
        """Returns network units as rows, floating as they are; JAX's arrays may be traced."""
        return self._rows(x, np if isinstance(x, np.ndarray) else jnp)

    def _rows(self, x: Any, xp: Any) -> Any:
        rows = []
        for column, place in zip(self.columns, self._places(), strict=True):
            chosen = [
                xp.argmax(x[:, first : first + size], axis=1) for first, size in zip(place.blocks, column.blocks, strict=True)
            ]
            if column.kind == "category":
                missing = chosen[0] == len(column.values)
                rows.append(xp.where(missing, xp.nan, chosen[0].astype(x.dtype)))
            elif column.method:
                mode = chosen.pop(0) if column.method == "modes" else None
                values = METHODS[column.method].values(x[:, place.entry], mode, column.fitted, xp)
                values = values if column.decimals is None else xp.round(values, column.decimals)
                values = values.clip(column.low, column.high)
                rows.append(xp.where(chosen[0] == 1, xp.nan, values) if column.missing else values)
            else:
                rows.append(xp.full_like(x[:, 0], 0.0 if column.values else xp.nan))
        return xp.stack(rows, axis=1)

    def frame(self, rows: np.ndarray) -> "pd.DataFrame":
        """Returns rows [n, C] as the table has them: same columns, order, dtypes and categories."""
        import pandas as pd

        return pd.DataFrame(
            {column.name: _series(column, values) for column, values in zip(self.columns, rows.T, strict=True)},
            columns=list(self.names),
        )

    def told(self) -> str:
        """Returns the columns and their kinds in words: "carat number, cut 5 categories"."""
        words = []
        for column in self.columns[:TOLD]:
            kind = f"{len(column.values)} categories" if column.kind == "category" else column.kind
            kind = "yes/no" if kind == "2 categories" else kind
            by = f" ({column.method})" if column.method not in ("", self._usual) else ""
            words.append(f"{column.name} {kind}{by}" + " with missing values" * column.missing)
        return ", ".join(words) + f" and {len(self.columns) - TOLD} more" * (len(self.columns) > TOLD)

    @property
    def _usual(self) -> str:
        methods = [column.method for column in self.columns if column.method]
        return max(methods, key=methods.count, default="")


def _series(column: Column, values: np.ndarray) -> "pd.Series":
    import pandas as pd

    missing = np.isnan(values)
    if column.kind in ("category", "ordered", "constant"):
        codes = np.where(missing, -1, values).astype(int)
        if column.dtype in ("category", "ordered"):
            categories = pd.Categorical.from_codes(codes, list(column.values), ordered=column.dtype == "ordered")
            return pd.Series(categories)
        chosen = np.array([*column.values, None], object)[codes]
        return pd.Series(chosen, dtype=column.dtype)
    if column.kind == "date":
        dates = np.where(missing, 0, values).round().astype(np.int64).astype(f"datetime64[{column.unit}]")
        series = pd.Series(dates.astype("datetime64[us]")).mask(missing)
        if column.form:
            return series.dt.strftime(column.form).astype("str")
        return (series.dt.tz_localize("UTC") if "," in column.dtype else series).astype(column.dtype)  # a time zone
    series = pd.Series(values)
    return series.astype(column.dtype)


def fit_columns(columns: Sequence[Column], rows: np.ndarray) -> tuple[Column, ...]:
    """Returns columns with what their methods need, of the rows [n, C] of the training split.

    Raises:
      UserError: a column without values there, or with values that its method is not for.
    """
    fitted = []
    for column, values in zip(columns, rows.T, strict=True):
        if not column.method:
            fitted.append(column)
            continue
        there = values[~np.isnan(values)]
        if not len(there):
            raise UserError(
                f"config.data.path: column {column.name}: the training split has no value of it; leave it out with "
                f"--config.data.columns={column.name}:drop"
            )
        if column.method == "log" and there.min() <= 0:
            raise UserError(f"config.data.columns: {column.name}:log: its values go down to {there.min():g}; use another kind")
        low, high = float(there.min()), float(there.max())
        told = METHODS[column.method].fit(there)
        fitted.append(column._replace(fitted=told, low=low, high=high))
    return tuple(fitted)


def decimals_of(x: np.ndarray) -> int | None:
    """Returns how many decimals numbers [n] have, None where more than MOST_DECIMALS."""
    return next((places for places in range(MOST_DECIMALS + 1) if (np.round(x, places) == x).all()), None)
