"""Metrics on a terminal: a row each, with its better direction, a column per generator, as many side by side as fit."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wgan_jax.evaluation.evaluator import Sizes, Values, count
from wgan_jax.evaluation.registry import DIRECTIONS, Direction
from wgan_jax.report.names import written

HEAD = 3  # lines of a column's name
GAP = 3  # between columns: a padding of 1 on either side of a divider
SIGNS: dict[Direction, str] = {"": " ", "lower": "↓", "higher": "↑"}
SMALL = 0.01  # below it three decimals say too little


class Cell(NamedTuple):
    """A metric of a generator over several draws; NaN for what does not exist, as a deviation of one draw."""

    mean: float
    std: float
    n: int  # examples of each side


def cells(summary: Values, sizes: Sizes) -> dict[str, Cell]:
    """Returns the cells {metric: cell} of what `summarise` gives."""
    names = [name for name in summary if f"{name}_std" in summary]
    return {name: Cell(summary[name], summary[f"{name}_std"], count(name, sizes)) for name in names}


def print_metrics(console: Console, title: str, columns: dict[str, dict[str, Cell]], draws: int = 1) -> None:
    """Prints {generator: {metric: cell}} as tables no wider than the console, a metric that a generator lacks as empty.

    The title goes on with the number of draws that the cells are of. n is of the examples on each side, several numbers where
    the generators differ in it, in their order.
    """
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    counts = {name: dict.fromkeys(str(own[name].n) for own in columns.values() if name in own) for name in names}
    texts = {key: [_text(own[name]) if name in own else "" for name in names] for key, own in columns.items()}
    labels = [f"{SIGNS[DIRECTIONS[name]]} {name.replace('_', ' ')}" for name in names]
    of = f"mean ± deviation of {draws} draws" if draws > 1 else "one draw"
    print_table(console, f"{title}, {of}", labels, texts, {"n": [" / ".join(counts[name]) for name in names]})
    told = f"{SIGNS['lower']} lower, {SIGNS['higher']} higher is better; n examples on each side"
    console.print(written(told, console.encoding), highlight=False)


def print_table(
    console: Console,
    title: str,
    labels: Sequence[str],
    columns: dict[str, list[str]],
    always: dict[str, list[str]] | None = None,
) -> None:
    """Prints a row per label with its texts in the columns, as several tables where one would be wider than the console.

    always: columns that stand in each of them. Signs that the console's encoding lacks are written in ASCII.
    """

    def letters(columns: dict[str, list[str]]) -> dict[str, list[str]]:
        return {name: [written(text, console.encoding) for text in texts] for name, texts in columns.items()}

    title, labels = written(title, console.encoding), [written(label, console.encoding) for label in labels]
    columns, always = letters(columns), letters(always or {})
    console.print(title, style="bold", markup=False, highlight=False)
    for block in _blocks(console.width, labels, columns, always):
        table = Table("", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
        for name, texts in (block | always).items():
            table.add_column(Text(name), justify="right", width=_wide(name, texts))
        for index, label in enumerate(labels):
            table.add_row(Text(label), *(Text(texts[index], no_wrap=True) for texts in (block | always).values()))
        console.print(table)
        console.print()


def _blocks(
    width: int, labels: Sequence[str], columns: dict[str, list[str]], always: dict[str, list[str]]
) -> list[dict[str, list[str]]]:
    """Returns the columns in groups that fit the width beside labels and names that wrap at words."""
    around = GAP + _wide("", [word for label in labels for word in label.split()])
    around += sum(_wide(name, texts) + GAP for name, texts in always.items())
    each = max(_wide(name, texts) for name, texts in columns.items()) + GAP
    blocks = -(-len(columns) // max(1, (width - around) // each))
    size = -(-len(columns) // blocks)
    return [dict(part) for part in itertools.batched(columns.items(), size)]


def _wide(name: str, texts: Sequence[str]) -> int:
    """Returns the width of a column whose name wraps at words, to HEAD lines at most, and whose texts do not."""
    least = max(len(text) for text in (*name.split(), *texts, ""))
    return next(width for width in itertools.count(max(1, least)) if len(textwrap.wrap(name, width)) <= HEAD)


def _text(cell: Cell) -> str:
    if not np.isfinite(cell.mean):
        return "-"
    single = not np.isfinite(cell.std)
    small = 0 < abs(cell.mean) < SMALL and (single or cell.std < SMALL)
    numbers = [cell.mean] if single else [cell.mean, cell.std]
    return " ± ".join(f"{number:.2g}" if small else f"{number:.3f}" for number in numbers)
