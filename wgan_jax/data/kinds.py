"""What kind of column stands in a table, and what it holds as numbers: inferred, or as config.data.columns says."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wgan_jax.data.columns import Column, decimals_of
from wgan_jax.data.numbers import METHODS
from wgan_jax.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

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

MOST_CATEGORIES = 1000  # of a column of text
MOST_WORDS = 20  # beside numbers in one column, which are then categories
MIXED = 0.5  # share of numbers from which on a column is taken for one of numbers with something else among them
DATES = (
    *("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"),
    *("%Y-%m-%dT%H:%M:%SZ", "%Y/%m/%d", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d-%m-%Y", "%m-%d-%Y"),
)
WHOLE = r"[+-]?\d+"
COMMAS = r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?"  # decimal commas, points between thousands
THOUSANDS = r"[+-]?\d{1,3}(,\d{3})+"
CODE = r"[+-]?0\d+"  # leading zeros: no number
UNITS = {"D": 86_400_000_000, "s": 1_000_000, "ms": 1000, "us": 1}  # microseconds


class Read(NamedTuple):
    """A column and what stands in it as numbers, [N] float64."""

    column: Column
    numbers: np.ndarray
    decimal: str = "."  # as its text has them


def read_column(name: str, series: "pd.Series", asked: str, method: str, *, text: bool) -> Read:
    """Returns what a column is. text: whether it was read as text, whatever it holds.

    Raises:
      UserError: nothing can be learned of it, or it is not what was asked for.
    """
    import pandas as pd

    there = series.dropna()
    if not len(there):
        return Read(Column(name, "constant", "float64" if text else str(series.dtype)), np.full(len(series), np.nan))
    decimal, form = ".", ""
    dated = asked == "date" or "%" in asked
    if text and not dated and (given := _numbers(name, series, asked)):
        series, decimal = given
    if text and (dated or (not asked and pd.api.types.is_string_dtype(series))) and (dates := _dates(name, series, asked)):
        series, form = dates
    return _classified(name, series, asked, method, form)._replace(decimal=decimal)


def _numbers(name: str, series: "pd.Series", asked: str) -> "tuple[pd.Series, str] | None":
    """Returns a column of text as numbers, and its decimal point; None where it is none.

    Raises:
      UserError: it is one but for some values, or may be read in two ways.
    """
    import pandas as pd

    there, numeric = series.dropna().str.strip(), asked in ("number", *METHODS)
    numbers = pd.to_numeric(there, errors="coerce")
    if numbers.notna().all():
        whole = bool(there.str.fullmatch(WHOLE).all())
        if not numeric and (there.str.fullmatch(CODE).any() or (whole and numbers.abs().max() >= 2**53)):
            return None
        whole_type = "int64" if len(there) == len(series) else "Int64"
        return numbers.reindex(series.index).astype(whole_type if whole else "float64"), "."
    if asked and not numeric:
        return None
    if there.str.fullmatch(COMMAS).all():
        cut = there[there.str.contains(",")]
        if cut.str.fullmatch(THOUSANDS).all():
            first = cut.iloc[0]
            raise UserError(f"column {name}: {first} may be {first.replace(',', '')} or {first.replace(',', '.')}; write it so")
        pointed = there.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
        return pd.to_numeric(pointed).reindex(series.index).astype("float64"), ","
    wrong = there[numbers.isna()]
    mixed = numbers.notna().mean() >= MIXED and there.nunique() > MOST_WORDS
    if numeric or mixed:
        raise UserError(
            f"column {name}: {len(wrong)} of {len(there)} values are no numbers, the first is {wrong.iloc[0]!r:.40} in row "
            f"{wrong.index[0] + 1}; mend them, or say what it is with --config.data.columns={name}:category or {name}:drop"
        )
    return None


def _dates(name: str, series: "pd.Series", asked: str) -> "tuple[pd.Series, str] | None":
    """Returns a column of text as dates, and how they are written; None where it is none.

    Raises:
      UserError: it must be one, or may be read in two ways.
    """
    import pandas as pd

    there = series.dropna().str.strip()
    forms = [asked] if "%" in asked else DATES
    first = [form for form in forms if pd.notna(pd.to_datetime(there.iloc[:1], format=form, errors="coerce").iloc[0])]
    read = {form: pd.to_datetime(there, format=form, errors="coerce") for form in first}
    whole = [form for form, dates in read.items() if dates.notna().all()]
    if len(whole) > 1 and not read[whole[0]].equals(read[whole[1]]):
        ways = " or ".join(whole)
        raise UserError(f"column {name}: {there.iloc[0]} may be {ways}; say which with --config.data.columns={name}:{whole[0]}")
    if whole:
        dates = read[whole[0]]
        dates = dates.dt.tz_localize(None) if dates.dt.tz is not None else dates
        return dates.reindex(series.index), whole[0]
    if asked:
        raise UserError(f"column {name}: {there.iloc[0]!r:.40} is no date that is known here; give its format, {name}:%d.%m.%Y")
    return None


def _classified(name: str, series: "pd.Series", asked: str, method: str, form: str) -> Read:
    """Returns what a column is by its dtype and values.

    Raises:
      UserError: nothing can be learned of it, or it is not what was asked for.
    """
    import pandas as pd

    kinds, dtype, there = pd.api.types, series.dtype, series.dropna()
    dated = kinds.is_datetime64_any_dtype(dtype)
    number = kinds.is_numeric_dtype(dtype) and not kinds.is_bool_dtype(dtype) and not kinds.is_complex_dtype(dtype)
    if asked in ("number", *METHODS) and not number:
        raise UserError(f"config.data.columns: {name}:{asked}: it holds {dtype}, and no numbers")
    if (asked == "date" or "%" in asked) and not dated:
        raise UserError(f"config.data.columns: {name}:{asked}: it holds {dtype}, and no dates")
    categorical = isinstance(dtype, pd.CategoricalDtype)
    try:
        distinct = there.nunique()
    except TypeError as error:  # lists and the like
        raise UserError(f"column {name}: holds {type(there.iloc[0]).__name__}s; leave it out: {name}:drop") from error
    missing = len(there) < len(series)
    if asked == "" and distinct == 1 and not missing and not (number and np.isinf(there.iloc[0])):
        constant = Column(name, "constant", "str" if form else str(dtype), values=(_plain(there.iloc[0], form),))
        return Read(constant, np.zeros(len(series)))
    if (dated and asked in ("", "date", *METHODS)) or "%" in asked:
        return _of_dates(name, series, method, form)
    words = kinds.is_bool_dtype(dtype) or kinds.is_string_dtype(dtype) or categorical or kinds.is_object_dtype(dtype)
    whole = number and bool((there == there.round()).all())
    if number and asked in ("", "number", *METHODS) and not (asked == "" and distinct == 2 and whole):
        chosen = asked if asked in METHODS else method
        numbers = series.to_numpy(float, na_value=np.nan)
        places = decimals_of(numbers[np.isfinite(numbers)])
        kind = "integer" if places == 0 else "number"
        return Read(Column(name, kind, str(dtype), chosen, missing=missing, decimals=places), numbers)
    if not (words or number or asked):
        raise UserError(f"column {name}: holds {dtype}, of which nothing is known here; leave it out: {name}:drop")
    if asked == "" and not categorical and distinct > min(MOST_CATEGORIES, len(there) / 2):
        raise UserError(
            f"column {name}: {distinct:,} different texts in {len(there):,} rows, of which nothing can be learned; leave it "
            f"out with --config.data.columns={name}:drop, or keep them with {name}:category"
        )
    return _of_categories(name, series, asked, form)


def _of_dates(name: str, series: "pd.Series", method: str, form: str) -> Read:
    naive = series.dt.tz_convert("UTC").dt.tz_localize(None) if series.dt.tz is not None else series
    missing = naive.isna().to_numpy()
    since = naive.to_numpy("datetime64[us]").astype(np.int64)[~missing]
    unit = next(unit for unit, size in UNITS.items() if (since % size == 0).all())
    numbers = np.full(len(series), np.nan)
    numbers[~missing] = since // UNITS[unit]
    dtype = "str" if form else str(series.dtype)
    chosen = method if method != "log" else "standard"
    return Read(Column(name, "date", dtype, chosen, missing=bool(missing.any()), decimals=0, form=form, unit=unit), numbers)


def _of_categories(name: str, series: "pd.Series", asked: str, form: str) -> Read:
    import pandas as pd

    ordered = asked == "ordered" or "<" in asked
    dtype = str(series.dtype)
    if isinstance(series.dtype, pd.CategoricalDtype):
        values = [value for value in series.cat.categories if asked or (series == value).any()]
        ordered = ordered or (asked == "" and bool(series.cat.ordered))
        dtype = "ordered" if series.cat.ordered else "category"
        series = series.astype(object)
    else:
        values = sorted(series.dropna().unique().tolist(), key=lambda value: (str(type(value)), value))
    if "<" in asked:
        order = [word.strip() for word in asked.split("<")]
        if lacking := [value for value in map(str, values) if value not in order]:
            raise UserError(f"config.data.columns: {name}:{asked}: it has {lacking[0]} too, which the order does not name")
        values = sorted(values, key=lambda value: order.index(str(value)))
    plain = tuple(_plain(value, form) for value in values)
    places = {value: place for place, value in enumerate(values)}
    numbers = np.array([places.get(value, np.nan) for value in series.tolist()], float)
    missing = bool(np.isnan(numbers).any())
    if not ordered:
        return Read(Column(name, "category", dtype, values=plain, missing=missing), numbers)
    column = Column(name, "ordered", dtype, "quantile", values=plain, missing=missing, decimals=0)
    return Read(column, numbers)


def _plain(value: Any, form: str) -> str | int | float | bool:
    """Returns a value as JSON takes it."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool | int | float | str):
        return value
    return value.strftime(form) if form else str(value)
