"""Metrics on a terminal: a row each, with its better direction, a column per generator, as many side by side as fit."""

from typing import NamedTuple

import numpy as np
from rich.console import Console

from wgan_jax.evaluation.evaluator import Sizes, Values, count
from wgan_jax.report.names import DIRECTIONS, Direction, written
from wgan_jax.report.tables import print_table

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
    signs = f"{SIGNS['lower']} lower, {SIGNS['higher']} higher is better; n examples on each side"
    console.print(written(signs, console.encoding), highlight=False)


def _text(cell: Cell) -> str:
    if not np.isfinite(cell.mean):
        return "-"
    single = not np.isfinite(cell.std)
    small = 0 < abs(cell.mean) < SMALL and (single or cell.std < SMALL)
    numbers = [cell.mean] if single else [cell.mean, cell.std]
    return " ± ".join(f"{number:.2g}" if small else f"{number:.3f}" for number in numbers)
