"""Tables: on a terminal, no wider than it, and in a markdown file."""

import functools
import itertools
import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Console

from wgan_jax.report.names import written

GAP = 2  # letters between columns
HEAD = 3  # lines of a column's name
LABEL = 12  # letters that a longer label has on a line, at least

type Columns = Mapping[str, Sequence[str]]  # name -> a text per row; its lines stand one below another


def print_table(
    console: Console,
    title: str,
    labels: Sequence[str],
    columns: Columns,
    always: Columns | None = None,
    at_least: int | None = None,
) -> None:
    """Prints a row per label with its texts in the columns; a row without a text is a heading, as wide as it likes.

    What is wider than the console becomes several tables or, with `at_least`, one of the first columns that fit, at least so
    many. always: columns that stand last in each table. Signs that the console's encoding lacks are written in ASCII.
    """

    def letters(columns: Columns) -> dict[str, list[str]]:
        return {ours(name): list(map(ours, texts)) for name, texts in columns.items()}

    ours = functools.partial(written, encoding=console.encoding)
    labels, columns, last = list(map(ours, labels)), letters(columns), letters(always or {})
    widths = {name: _width(name, texts) for name, texts in (*columns.items(), *last.items())}
    headings = [not any(texts) for texts in zip(*columns.values(), *last.values(), strict=True)] or [True] * len(labels)
    own = [label for label, heading in zip(labels, headings, strict=True) if not heading]
    longest = max(map(len, own), default=0)
    needed = max([min(longest, LABEL), *(len(word) for label in own for word in label.split())])
    free = console.width - needed - sum(GAP + widths[name] for name in last)
    if title:
        _print(console, [title], "bold")
    for block in _blocks(columns, widths, free, at_least):
        shown = {**block, **last}
        sizes = [GAP + widths[name] for name in shown]
        size = max(needed, min(longest, console.width - sum(sizes)))
        heads = [textwrap.wrap(name, widths[name]) for name in shown]
        depth = max(map(len, heads), default=0)
        _print(console, _row([], [[""] * (depth - len(head)) + head for head in heads], size, sizes), "bold")
        _print(console, ["─" * (size + sum(sizes))])
        for index, (label, heading) in enumerate(zip(labels, headings, strict=True)):
            if heading:
                _print(console, textwrap.wrap(label, console.width, subsequent_indent="  "))
            else:
                cells = [texts[index].split("\n") for texts in shown.values()]
                _print(console, _row(textwrap.wrap(label, size), cells, size, sizes))
        console.print()


def _blocks(columns: Columns, widths: Mapping[str, int], free: int, at_least: int | None) -> list[dict[str, Sequence[str]]]:
    """Returns the columns in groups that are no wider than what is free, or the first group alone."""
    blocks: list[dict[str, Sequence[str]]] = [{}]
    left = free
    for name, texts in columns.items():
        if GAP + widths[name] > left and len(blocks[-1]) >= (at_least or 1):
            blocks.append({})
            left = free
        blocks[-1][name] = texts
        left -= GAP + widths[name]
    return blocks if at_least is None else blocks[:1]


def _width(name: str, texts: Sequence[str]) -> int:
    """Returns the width of a column whose name wraps at words, to HEAD lines at most, and whose texts do not."""
    fewest = max([1, *map(len, name.split()), *(len(line) for text in texts for line in text.split("\n"))])
    return next(width for width in itertools.count(fewest) if len(textwrap.wrap(name, width)) <= HEAD)


def _row(label: Sequence[str], cells: Sequence[Sequence[str]], size: int, sizes: Sequence[int]) -> list[str]:
    lines = itertools.zip_longest(label, *cells, fillvalue="")
    return [first.ljust(size) + "".join(map(str.rjust, rest, sizes)) for first, *rest in lines]


def _print(console: Console, lines: Sequence[str], style: str = "") -> None:
    for line in lines:
        console.print(written(line, console.encoding).rstrip(), style=style, markup=False, highlight=False, soft_wrap=True)


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a table of a markdown file, whose columns but the first are of numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))
