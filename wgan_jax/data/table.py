"""Tables from CSV and Parquet files: the frame that stands there, and its rows as numbers, in three splits."""

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
from wgan_jax.data.columns import Column, Columns, fit_columns
from wgan_jax.data.dataset import Split, Stored
from wgan_jax.data.kinds import read_column
from wgan_jax.data.labels import conditions_of
from wgan_jax.errors import UserError
from wgan_jax.places import table_file

if TYPE_CHECKING:
    import pandas as pd

SNIFFED = 200  # lines in which the separator is looked for
SEPARATORS = ",;\t|"
ABSENT = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A", "-NaN", "-nan")  # of pandas' own


class Form(NamedTuple):
    """How a file is written."""

    separator: str = ","
    decimal: str = "."
    absent: str = ""


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
    read = [
        read_column(name, frame[name], asked.get(name, ""), config.numbers, text=path.suffix != ".parquet") for name in kept
    ]
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
