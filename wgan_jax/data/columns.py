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
import numpy as np
from jax.typing import DTypeLike

from wgan_jax.data.numbers import METHODS, Fitted
from wgan_jax.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MOST_DECIMALS = 10  # to which numbers may have been rounded
TOLD = 12  # columns that the first line of a run names


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
