"""Rows of a table that a model makes: those that --where asks for, and the files that hold them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.restore import Restored
from wgan_jax.data.columns import Column, Columns
from wgan_jax.errors import UserError
from wgan_jax.paths import replacing, write_whole

if TYPE_CHECKING:
    import pandas as pd

    from wgan_jax.types import Params

MOST = 2**21  # rows that are drawn to find those that match
ROUND = 2**16  # of them at once
SIGNS = {
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "!=": np.not_equal,
    "=": np.equal,
    "<": np.less,
    ">": np.greater,
}


class Wish(NamedTuple):
    """What a row is to have in a column."""

    column: int
    sign: str  # of SIGNS
    value: float  # as rows have it; NaN for a missing one

    def holds(self, rows: np.ndarray) -> np.ndarray:
        """Returns which rows [n, C] have it."""
        values = rows[:, self.column]
        if np.isnan(self.value):
            return np.isnan(values) == (self.sign == "=")
        return SIGNS[self.sign](values, self.value)


class Drawn(NamedTuple):
    """Rows as the table's numbers [n, C], what they were made of, and how many were drawn to get them."""

    rows: np.ndarray
    latents: np.ndarray
    labels: np.ndarray
    drawn: int


def parse_where(text: str | None, columns: Columns) -> list[Wish]:
    """Returns the wishes of "cut=Ideal,price<1000": NAME, one of = != < <= > >=, and a value, nothing for a missing one.

    Raises:
      UserError: no such column, or no such value of it.
    """
    wishes = []
    for part in (text or "").split(",") if text else []:
        found = re.match(r"([^<>=!]+)(<=|>=|!=|=|<|>)(.*)", part.strip())
        if found is None:
            raise UserError(f"--where: {part!r}; write NAME=VALUE, or with <, <=, >, >=, !=, several by commas")
        name, sign, value = (word.strip() for word in found.groups())
        if name not in columns.names:
            raise UserError(f"--where: no column {name}; there are {', '.join(columns.names):.300}")
        index = columns.names.index(name)
        column = columns.columns[index]
        number = _number(column, value, columns.decimal)
        if (column.kind == "category" or np.isnan(number)) and sign not in ("=", "!="):
            raise UserError(f"--where: {part}: has no order; write = or !=")
        wishes.append(Wish(index, sign, number))
    return wishes


def _number(column: Column, value: str, decimal: str) -> float:
    """Returns what a value is in rows.

    Raises:
      UserError: the column has no such value.
    """
    import pandas as pd

    if value == "":
        return np.nan
    if column.values:
        known = [str(own) for own in column.values]
        if value not in known:
            raise UserError(f"--where: {column.name} has no value {value!r}; it has {', '.join(known):.300}")
        return float(known.index(value))
    if column.kind == "date":
        date = pd.to_datetime(value, format=column.form or "ISO8601", errors="coerce")
        if pd.isna(date):
            raise UserError(f"--where: {value!r} is no date as {column.name} has them: {column.form or '%Y-%m-%d'}")
        return float(date.to_datetime64().astype(f"datetime64[{column.unit}]").astype(np.int64))
    try:
        return float(value.replace(decimal, "."))
    except ValueError as error:
        raise UserError(f"--where: {value!r} is no number, and {column.name} holds such") from error


def condition_of(wishes: Sequence[Wish], columns: Columns, counts: Sequence[int]) -> int | None:
    """Returns the label to make rows with: of the categories that are asked for the rarest; None without any."""
    labels = []
    for wish in wishes:
        if columns.columns[wish.column].kind == "category" and wish.sign == "=":
            row = np.zeros((1, len(columns.columns)))
            row[0, wish.column] = wish.value
            before = sum(column.kind == "category" for column in columns.columns[: wish.column])
            labels.append(int(columns.labels(row)[0, before]))
    return min(labels, key=lambda label: counts[label], default=None)


def draw_rows(restored: Restored, variables: "Params", num: int, seed: int, wishes: Sequence[Wish]) -> Drawn:
    """Returns `num` rows that have what is wished for: the first of those that the seed gives.

    Raises:
      UserError: of MOST rows too few match.
    """
    import jax

    from wgan_jax.evaluation import sampling

    columns, counts = restored.scaling, restored.info.get("class_counts", ())
    assert isinstance(columns, Columns)
    label = condition_of(wishes, columns, counts) if restored.networks.classes else None
    generate = sampling.make_generate(restored.networks, variables)
    draw = sampling.make_draw_latents(restored.networks, counts, jax.random.key(seed))
    parts, have, drawn = [], 0, 0
    while have < num:
        if drawn >= MOST:
            raise UserError(f"--where: {have:,} of {drawn:,} rows match, and --num={num} are asked for; ask for less")
        rate = max(have, 1) / max(drawn, 1) if drawn else 1.0
        wanted = min(ROUND, int(1.1 * (num - have) / rate) + 1, MOST - drawn)
        latents = draw(drawn, -(-wanted // sampling.CHUNK) * sampling.CHUNK)
        if label is not None:
            latents = latents._replace(label=np.full(len(latents.z), label, np.int32))
        rows = np.concatenate([columns.encode(part) for part in generate(latents)])
        kept = np.logical_and.reduce([np.ones(len(rows), bool), *(wish.holds(rows) for wish in wishes)])
        parts.append((rows[kept], np.asarray(latents.z, np.float32)[kept], np.asarray(latents.label)[kept]))
        have, drawn = have + int(kept.sum()), drawn + len(rows)
        if wishes and have < num:
            print(f"--where: {have:,} of {drawn:,} rows match so far", flush=True)
    rows, z, labels = (np.concatenate(leaves)[:num] for leaves in zip(*parts, strict=True))
    return Drawn(rows, z, labels, drawn)


def write_rows(path: Path, drawn: Drawn, columns: Columns, title: str) -> None:
    """Writes rows as the ending of a path says: as the table they are of is written, typed, as arrays, or as a figure."""
    if path.suffix == ".png":
        from wgan_jax.evaluation.figures import DPI
        from wgan_jax.evaluation.marginals import marginals_figure
        from wgan_jax.report.drawing import save_figure

        save_figure(marginals_figure(columns, title, drawn.rows), path, DPI)
        return
    frame = columns.frame(drawn.rows)
    if path.suffix == ".csv":
        told = {"sep": columns.separator, "decimal": columns.decimal, "na_rep": columns.absent}
        write_whole(path, frame.to_csv(index=False, lineterminator="\n", **told).encode())
    elif path.suffix == ".parquet":
        write_whole(path, frame.to_parquet(engine="pyarrow", index=False))
    else:
        arrays = {name: _as_array(frame[name]) for name in frame.columns}
        samples = np.empty(len(frame), [(name, array.dtype) for name, array in arrays.items()])
        for name, array in arrays.items():
            samples[name] = array
        with replacing(path) as file:
            np.savez(file, allow_pickle=False, samples=samples, latents=drawn.latents, labels=drawn.labels)


def _as_array(series: "pd.Series") -> np.ndarray:
    """Returns a column without objects: text where it is of anything but numbers and dates, "" for what is missing."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(series.dtype) and not series.isna().any():
        return series.to_numpy(bool)
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.to_numpy(float, na_value=np.nan) if series.isna().any() else series.to_numpy()
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return series.to_numpy("datetime64[us]")
    return np.array(["" if pd.isna(value) else str(value) for value in series.tolist()], str)
