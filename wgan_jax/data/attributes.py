"""Attributes of examples: several columns of names or numbers as one condition.

A label is the number of a combination of values that the data has, so that labels stay int32 [B]. What networks see of it is
its code [K]: a one-hot block of each column of names, a standardised number of each column of numbers. A combination that the
data lacks is given as its code.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from wgan_jax.errors import UserError

NAMES_AT_MOST = 20  # different numbers of a text column, beyond which these are numbers and no names
LISTED = 20  # values that a message names
SHOWN = (-1.5, 0.0, 1.5)  # of a column of numbers, in standard deviations, where one is shown by a few values
KINDS = ("names", "numbers")


class Column(NamedTuple):
    """An attribute: of names where it has values, else of numbers."""

    name: str
    values: tuple[str, ...] = ()
    mean: float = 0.0  # of the training split's numbers
    std: float = 1.0

    @property
    def width(self) -> int:
        """How many entries of a code it has."""
        return len(self.values) or 1

    def says(self, entry: float) -> str:
        """Returns an entry of a row as the data has it."""
        return self.values[int(entry)] if self.values else f"{self.mean + entry * self.std:.6g}"


@dataclass(frozen=True, eq=False)
class Attributes:
    """The columns, and of each label its row."""

    columns: tuple[Column, ...]
    rows: np.ndarray  # [labels, columns] float64: the index among a column's values, or a standardised number

    @classmethod
    def of_json(cls, told: dict[str, Any] | None) -> Self | None:
        """Returns the attributes that `told` gave, read back; None where there are none."""
        if told is None:
            return None
        columns = (Column(name, tuple(values), mean, std) for name, values, mean, std in told["columns"])
        return cls(tuple(columns), np.asarray(told["rows"], np.float64))

    def told(self) -> dict[str, Any]:
        """Returns the attributes as JSON takes them."""
        return {"columns": [list(column) for column in self.columns], "rows": self.rows.tolist()}

    @property
    def size(self) -> int:
        """Returns K, the entries of a code."""
        return sum(column.width for column in self.columns)

    @property
    def blocks(self) -> list[slice]:
        """Returns where each column lies in a code."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return [slice(end - column.width, end) for end, column in zip(ends, self.columns, strict=True)]

    @property
    def of_names(self) -> list[int]:
        """Returns which columns are of names."""
        return [index for index, column in enumerate(self.columns) if column.values]

    @property
    def of_numbers(self) -> list[int]:
        """Returns which columns are of numbers."""
        return [index for index, column in enumerate(self.columns) if not column.values]

    @functools.cached_property
    def codes(self) -> np.ndarray:
        """Returns the code of each label, [labels, K] float32."""
        return self.encode(self.rows)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Returns the codes [n, K] float32 of rows [n, columns]."""
        parts = [
            np.eye(column.width)[rows[:, index].astype(int)] if column.values else rows[:, [index]]
            for index, column in enumerate(self.columns)
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the rows [n, columns] of codes [n, K]."""
        parts = [
            codes[:, block].argmax(axis=1) if column.values else codes[:, block.start].astype(np.float64)
            for column, block in zip(self.columns, self.blocks, strict=True)
        ]
        return np.stack(parts, axis=1).astype(np.float64)

    def names(self) -> tuple[str, ...]:
        """Returns the name of each label: its values, side by side."""
        return tuple(
            ", ".join(column.says(entry) for column, entry in zip(self.columns, row, strict=True)) for row in self.rows
        )

    def arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns rows [n, columns] as a column each, as the data has them: text [n], or float64 [n]."""
        return {
            column.name: np.asarray(column.values)[rows[:, index].astype(int)]
            if column.values
            else column.mean + rows[:, index] * column.std
            for index, column in enumerate(self.columns)
        }

    def shown(self) -> list[tuple[str, int, float]]:
        """Returns what a sheet shows of the columns, row by row: words, column, entry."""
        entries = [range(len(column.values)) if column.values else SHOWN for column in self.columns]
        return [
            (f"{column.name}: {column.says(entry)}", index, float(entry))
            for index, (column, own) in enumerate(zip(self.columns, entries, strict=True))
            for entry in own
        ]

    def counts_of(self, counts: Sequence[int], fixed: Mapping[int, float]) -> tuple[int, ...]:
        """Returns the counts of the labels that have given entries in columns of names; all of them where none has."""
        held = np.ones(len(self.rows), bool)
        for index in set(fixed) & set(self.of_names):
            held &= self.rows[:, index] == fixed[index]
        chosen = np.where(held, counts, 0)
        return tuple(map(int, chosen if chosen.any() else counts))


def filled(rows: np.ndarray, fixed: Mapping[int, float]) -> np.ndarray:
    """Returns rows [n, columns] with given entries in some columns."""
    rows = rows.copy()
    for index, entry in fixed.items():
        rows[:, index] = entry
    return rows


def of_columns(
    columns: Mapping[str, np.ndarray], train: np.ndarray, key: str, place: str = ""
) -> tuple[Attributes, np.ndarray]:
    """Returns the attributes of examples, and the label [N] int32 of each.

    columns: name -> [N], floats for numbers, else names; train: the rows by which numbers are standardised. For
    messages, key: the key of the config that asks for them; place: where they are.

    Raises:
      UserError: numbers that are not finite, a column of one value, or of names that hardly any two examples share.
    """
    made, entries = [], []
    for name, cells in columns.items():
        total = len(cells)
        if cells.dtype.kind == "f":
            numbers = cells.astype(np.float64)
            if not np.isfinite(numbers).all():
                bad = int((~np.isfinite(numbers)).sum())
                raise UserError(f"{key}: {name}{place} is NaN or infinite in {bad} of {total} examples; mend or leave them out")
            mean, std = float(numbers[train].mean()), float(numbers[train].std())
            if not std > 0:
                raise UserError(f"{key}: {name}{place} is {mean:g} in every training example: no attribute")
            made.append(Column(name, (), mean, std))
            entries.append((numbers - mean) / std)
            continue
        values, index = np.unique(cells, return_inverse=True)
        if not 2 <= len(values) <= total / 2:
            raise UserError(f"{key}: {name}{place} has {len(values)} values on {total} examples: no classes")
        made.append(Column(name, tuple(_as_text(value) for value in values.tolist())))
        entries.append(index.astype(np.float64))
    rows, labels = np.unique(np.stack(entries, axis=1), axis=0, return_inverse=True)
    return Attributes(tuple(made), rows), labels.reshape(-1).astype(np.int32)


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def as_cells(texts: Sequence[str], kind: str, where: str) -> np.ndarray:
    """Returns the texts of a column as floats where it is of numbers, else as they are.

    kind: "names", "numbers", or "" for numbers where all are and more than NAMES_AT_MOST differ.

    Raises:
      UserError: numbers are asked for, and not all texts are.
    """
    if kind == "names" or (not kind and len(set(texts)) <= NAMES_AT_MOST):
        return np.asarray(texts)
    numbers = [_number(text) for text in texts]
    index = not kind and len(set(texts)) == len(texts) and all(text.isdecimal() for text in texts)  # of the rows: no attribute
    if None not in numbers and not index:
        return np.asarray(numbers, np.float64)
    if kind == "numbers":
        raise UserError(f"{where} is {texts[numbers.index(None)]!r} somewhere, which is no number; ask for it without :numbers")
    return np.asarray(texts)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def asked_columns(spec: str, columns: Sequence[str]) -> dict[str, str]:
    """Returns {column: kind} of what config.data.label asks for: columns, comma-separated, each with :names or :numbers or not.

    A column of just that name comes first, whatever commas it has. Empty names are left as they are, for the caller to refuse.
    """
    if spec in columns:
        return {spec: ""}
    asked = {}
    for item in spec.split(","):
        name, colon, kind = item.strip().rpartition(":")
        whole = not colon or kind not in KINDS or item.strip() in columns
        asked[item.strip() if whole else name] = "" if whole else kind
    return asked


class Wish(NamedTuple):
    """What is asked of a column: one entry, two that a walk leads between, or all of its values."""

    column: int
    entries: tuple[float, ...]
    every: bool = False


def parse(text: str, attributes: Attributes) -> list[Wish]:
    """Returns what `COLUMN:VALUE,...` asks for; of one column it may be `COLUMN:VALUE:VALUE` or `COLUMN:all`.

    Raises:
      UserError: no such column or value, or one column twice.
    """
    columns = attributes.columns
    wishes: dict[int, Wish] = {}
    known = "|".join(re.escape(column.name) for column in columns)
    for item in re.split(rf",(?=(?:{known}):)", text):
        index = next((i for i, column in enumerate(columns) if item.startswith(f"{column.name}:")), None)
        if index is None:
            listed = ", ".join(f"{column.name} ({_listed(column)})" for column in columns)
            raise UserError(f"--label: {item!r} is not COLUMN:VALUE; the run's columns are {listed}")
        if index in wishes:
            raise UserError(f"--label: {columns[index].name} is asked for twice")
        wishes[index] = _wish(columns[index], index, item.removeprefix(f"{columns[index].name}:"))
    if len([wish for wish in wishes.values() if len(wish.entries) > 1]) > 1:
        raise UserError("--label: only one column can be :all, or lead from a value to another")
    return list(wishes.values())


def _wish(column: Column, index: int, text: str) -> Wish:
    if text == "all" and text not in column.values:
        if not column.values:
            return Wish(index, SHOWN, every=True)
        return Wish(index, tuple(map(float, range(len(column.values)))), every=True)
    first, colon, last = text.partition(":")
    if colon and text not in column.values:
        return Wish(index, (_entry(column, first), _entry(column, last)))
    return Wish(index, (_entry(column, text),))


def _entry(column: Column, text: str) -> float:
    if text in column.values:
        return float(column.values.index(text))
    number = None if column.values else _number(text)
    if number is None:
        raise UserError(f"--label: {column.name} is not {text!r}; it is {_listed(column)}")
    return (number - column.mean) / column.std


def _listed(column: Column) -> str:
    if not column.values:
        return f"a number, on average {column.mean:.4g}"
    return ", ".join(column.values[:LISTED]) + ", ..." * (len(column.values) > LISTED)


def in_words(attributes: Attributes) -> str:
    """Returns what a run says of its attributes at the start."""
    each: Iterable[str] = (
        f"{column.name} ({len(column.values)} values)" if column.values else f"{column.name} (numbers)"
        for column in attributes.columns
    )
    return f"attributes {', '.join(each)}: {len(attributes.rows):,} combinations"
