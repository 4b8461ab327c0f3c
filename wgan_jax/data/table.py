"""Tables from CSV and Parquet files: what kind of column each is, and its rows as numbers, in three splits."""

import csv
import hashlib
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data.cache import LEAST, SPLITS, hold_out
from wgan_jax.data.columns import METHODS, Column, Columns, decimals_of, fit_columns
from wgan_jax.data.dataset import Split, Stored
from wgan_jax.data.labels import conditions_of
from wgan_jax.errors import UserError
from wgan_jax.places import table_file

if TYPE_CHECKING:
    import pandas as pd

SNIFFED = 200  # lines in which the separator is looked for
SEPARATORS = ",;\t|"
ABSENT = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A", "-NaN", "-nan")  # of pandas' own
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


class Form(NamedTuple):
    """How a file is written."""

    separator: str = ","
    decimal: str = "."
    absent: str = ""


class Read(NamedTuple):
    """A column and what stands in it as numbers, [N] float64."""

    column: Column
    numbers: np.ndarray
    decimal: str = "."  # as its text has them


def load(config: ConfigDict) -> Stored:
    """Returns the rows that config.path holds, a .csv (.tsv, .txt) or a .parquet file; fixed shares are validation and test.

    The kind of each column is inferred, or what config.columns says, and numbers become network units by config.numbers.

    Raises:
      UserError: nothing there that can be read, what is no table, columns that nothing can be learned of, too few rows.
    """
    path = table_file(config)
    try:
        return _load(path, config)
    except UserError as error:
        raise error if str(error).startswith("config.") else UserError(f"config.data.path: {path}: {error}") from error
    except MemoryError as error:
        raise UserError(f"config.data.path: {path}: too large for the memory, or damaged") from error
    except OSError as error:
        raise UserError(f"config.data.path: {path}: {(error.strerror or str(error)).lower()}") from error


def _load(path: Path, config: ConfigDict) -> Stored:
    frame, form = _parquet(path) if path.suffix == ".parquet" else _text(path)
    asked = parse_kinds(config.columns)
    if wrong := [name for name in asked if name not in frame.columns]:
        raise UserError(f"config.data.columns: no column {wrong[0]}; there are {', '.join(map(str, frame.columns)):.300}")
    left_out: dict[str, int] = {}
    if _is_index(frame):
        frame, left_out["index column"] = frame.iloc[:, 1:], 1
    _vet_names(list(frame.columns))
    kept = [name for name in frame.columns if asked.get(name) != "drop"]
    if not kept:
        raise UserError("config.data.columns: drops every column")
    read = [_read(name, frame[name], asked.get(name, ""), config.numbers, text=path.suffix != ".parquet") for name in kept]
    columns = [column for column, _, _ in read]
    if all(column.kind == "constant" for column in columns):
        raise UserError("no column with more than one value: there is nothing to learn")
    decimal = "," if any(decimal == "," for _, _, decimal in read) else form.decimal
    rows = np.stack([numbers for _, numbers, _ in read], axis=1)
    finite = ~np.isinf(rows).any(axis=1)
    if not finite.all() and not config.skip_damaged:
        at = int(finite.argmin())
        name = kept[int(np.isinf(rows[at]).argmax())]
        raise UserError(
            f"{(~finite).sum()} of {len(rows)} rows hold infinity, the first in row {at + 1}, column {name}; mend them, or "
            "leave them out with --config.data.skip_damaged=True"
        )
    if not finite.all():
        left_out["with infinity"] = int((~finite).sum())
    return _split(columns, rows[finite], form._replace(decimal=decimal), config, left_out)


def _split(columns: Sequence[Column], rows: np.ndarray, form: Form, config: ConfigDict, left_out: Mapping[str, int]) -> Stored:
    parts = [rows[part] for part in hold_out(len(rows), config.holdout, 2)]
    if min(map(len, parts)) < LEAST:
        told = ", ".join(f"{len(part)} {name}" for name, part in zip(SPLITS, parts, strict=True))
        raise UserError(f"too few rows: {told}; each split needs {LEAST}, see config.data.holdout")
    names = [column.name for column in columns]
    if config.target and config.target not in names:
        raise UserError(f"config.data.target: no column {config.target}; there are {', '.join(names):.300}")
    varying = [index for index, column in enumerate(columns) if column.kind != "constant"]
    target = names.index(config.target) if config.target else varying[-1]
    table = Columns(fit_columns(columns, parts[0]), target, *form)
    labels = [table.labels(part) for part in parts]
    conditions = conditions_of(labels[0], len(table.conditions), config.balance) if table.conditions else None
    splits = [Split(part, _one_label(own, index)) for index, (part, own) in enumerate(zip(parts, labels, strict=True))]
    digest = hashlib.sha256(json.dumps([table._asdict(), list(map(len, parts))]).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part))
    train, validation, test = splits
    return Stored(
        (table.units,),
        train,
        validation,
        test,
        table.conditions,
        digest.hexdigest(),
        left_out,
        scaling=table,
        conditions=conditions,
    )


def _one_label(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns one of the labels [n, M] of each row, of a column drawn uniformly, [n] int32; 0 without any."""
    count, columns = labels.shape
    if not columns:
        return np.zeros(count, np.int32)
    return labels[np.arange(count), np.random.default_rng(seed).integers(0, columns, count)]


def parse_kinds(text: str) -> dict[str, str]:
    """Returns {name: kind} of config.data.columns, "price:log,id:drop"."""
    parts = [part.partition(":") for part in text.split(",") if part]
    return {name.strip(): kind.strip() for name, _, kind in parts}


def _parquet(path: Path) -> "tuple[pd.DataFrame, Form]":
    import pandas as pd

    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # pyarrow's own, of which there are many
        raise UserError(f"no Parquet file, or damaged: {' '.join(str(error).split()):.200}") from error
    _vet_size(frame)
    return frame, Form()


def _text(path: Path) -> "tuple[pd.DataFrame, Form]":
    """Returns a file of text as columns of text, missing where it says nothing, and how it is written."""
    import pandas as pd

    content = path.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        raise UserError("an Excel file or another archive, whatever its name; save it as CSV")
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8, from byte {error.start} on; save it as UTF-8") from error
    if not text.strip():
        raise UserError("an empty file")
    if "\0" in text:
        raise UserError("holds zero bytes: no text")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    separator = _separator(text)
    header = next(csv.reader(io.StringIO(text), delimiter=separator))
    names = [name.strip() for name in header]
    _vet_header(names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows longer than the header, which it would cut
            frame = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                dtype=str,
                header=0,
                names=names,
                index_col=False,
                keep_default_na=False,
                na_values=list(ABSENT),
                skip_blank_lines=len(names) > 1,
                skipinitialspace=True,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
        raise UserError(f"no table: {' '.join(str(error).split()):.200}") from error
    _vet_size(frame)
    return frame, Form(separator, ".", _absent(text, separator) if frame.isna().to_numpy().any() else "")


def _separator(text: str) -> str:
    """Returns what separates the fields: that by which the first lines have equally many, and the most."""
    lines = text.split("\n", SNIFFED + 1)[:SNIFFED]
    found = {}
    for separator in SEPARATORS:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            continue
        found[separator] = (len(set(widths)) == 1, widths[0])
    wide = [separator for separator, (_, width) in found.items() if width > 1]
    return max(wide, key=lambda separator: found[separator], default=",")


def _absent(text: str, separator: str) -> str:
    """Returns the word that stands in a text for what is missing, nothing where nothing does."""
    edge = re.escape(separator)
    for word in ABSENT[1:]:
        if re.search(rf"(?:^|{edge})\"?{re.escape(word)}\"?(?:{edge}|$)", text, re.MULTILINE):
            return word
    return ""


def _vet_header(names: Sequence[str]) -> None:
    if all(re.fullmatch(r"[+-]?\d+([.,]\d+)?", name) for name in names):
        raise UserError("the first line holds numbers, not names; give the columns names there")
    if twice := [name for index, name in enumerate(names) if name and name in names[:index]]:
        raise UserError(f"two columns are named {twice[0]}; rename one")


def _vet_size(frame: "pd.DataFrame") -> None:
    if not len(frame.columns):
        raise UserError("no columns")
    if not len(frame):
        raise UserError("names of columns, and no rows")


def _vet_names(names: Sequence[Any]) -> None:
    if empty := [index for index, name in enumerate(names, 1) if not str(name)]:
        raise UserError(f"column {empty[0]} of {len(names)} has no name")


def _is_index(frame: "pd.DataFrame") -> bool:
    """Says whether the first column is the number of a row, as programs write it without a name."""
    import pandas as pd

    if str(frame.columns[0]) not in ("", "index", "Unnamed: 0", "__index_level_0__") or len(frame.columns) == 1:
        return False
    numbers = pd.to_numeric(frame.iloc[:, 0], errors="coerce").to_numpy(float, na_value=np.nan)
    return bool((np.diff(numbers) == 1).all() and numbers[0] in (0, 1))


def _read(name: str, series: "pd.Series", asked: str, method: str, *, text: bool) -> Read:
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
