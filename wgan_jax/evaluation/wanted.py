"""What `experiments.sample --label` asks for: labels for latents, and the way from one label to another."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from wgan_jax.data.attributes import Attributes, filled, parse
from wgan_jax.data.labels import find_class
from wgan_jax.errors import UserError
from wgan_jax.evaluation.sampling import code_walk, draw_latents, every_code, every_label, label_walk
from wgan_jax.types import Latents, Networks


class Wanted(NamedTuple):
    """The labels that are asked for."""

    draw: Callable[[Networks, Sequence[int], jax.Array, int], Latents]  # networks, class counts, key, n -> n latents of each
    words: str = ""  # of the label, for captions and names; "" where all are asked for, or none
    each: tuple[str, ...] = ()  # the labels that are given to the same latents, one after another, by name
    way: Callable[[Latents, int], Latents] | None = None  # latents [n], steps -> from one label to another, [steps, n]


DRAWN = Wanted(draw_latents)  # labels as the training data has them


def wanted(text: str, names: Sequence[str], attributes: Attributes | None, column: str, *, walks: bool) -> Wanted:
    """Returns what a text asks for of labels with names.

    A class by name or number, all, or, where it walks, CLASS:CLASS; each may have the column before it that the classes came
    from, COLUMN:CLASS. Of attributes COLUMN:VALUE,..., of which one may be COLUMN:all or, where it walks, COLUMN:VALUE:VALUE;
    all is every combination. Columns that are not named are drawn as the training examples have them that share the named ones.

    Raises:
      UserError: it asks for none of these.
    """
    if attributes is not None:
        return _of_attributes(text, names, attributes, walks=walks)
    if text not in names and column:
        text = text.removeprefix(f"{column}:")
    if text == "all":
        return _all(names)
    first, colon, last = text.partition(":")
    if walks and colon and text not in names:
        ends = find_class(first, names), find_class(last, names)
        way = functools.partial(_class_walk, ends=ends, classes=len(names))
        return Wanted(draw_latents, " to ".join(names[end] for end in ends), way=way)
    label = find_class(text, names)
    return Wanted(functools.partial(_of_class, label), names[label])


def _all(names: Sequence[str]) -> Wanted:
    return Wanted(lambda *drawn: every_label(draw_latents(*drawn), len(names)), each=tuple(names))


def _of_class(label: int, networks: Networks, counts: Sequence[int], key: jax.Array, count: int) -> Latents:
    latents = draw_latents(networks, counts, key, count)
    return latents._replace(label=np.full(count, label, np.int32))


def _class_walk(latents: Latents, steps: int, ends: tuple[int, int], classes: int) -> Latents:
    return label_walk(latents, ends, classes, steps)


def _of_attributes(text: str, names: Sequence[str], attributes: Attributes, *, walks: bool) -> Wanted:
    columns = attributes.columns
    if text == "all":
        if numbers := [columns[index].name for index in attributes.of_numbers]:
            raise UserError(
                f"--label: all combinations of numbers are without end; ask for one column, such as {numbers[0]}:all"
            )
        return _all(names)
    wishes = parse(text, attributes)
    fixed = {wish.column: wish.entries[0] for wish in wishes if len(wish.entries) == 1}
    several = next((wish for wish in wishes if len(wish.entries) > 1), None)

    def draw(networks: Networks, counts: Sequence[int], key: jax.Array, count: int) -> Latents:
        latents = draw_latents(networks, attributes.counts_of(counts, fixed), key, count)
        if several is not None and several.every:
            return every_code(latents, attributes, [(several.column, entry) for entry in several.entries], fixed)
        return latents._replace(label=attributes.encode(filled(attributes.rows[latents.label], fixed)))

    words = [f"{columns[index].name} {columns[index].says(entry)}" for index, entry in fixed.items()]
    if several is None:
        return Wanted(draw, ", ".join(words))
    name, said = columns[several.column].name, [columns[several.column].says(entry) for entry in several.entries]
    if several.every:
        return Wanted(draw, ", ".join(words), tuple(f"{name}: {value}" for value in said))
    if not walks:
        raise UserError(f"--label: {name}:{':'.join(said)} is a way from one value to another; it goes with --interpolate")

    def way(latents: Latents, steps: int) -> Latents:
        block, size = attributes.blocks[several.column], attributes.columns[several.column].width
        ends = [np.array(latents.label) for _ in several.entries]
        for codes, entry in zip(ends, several.entries, strict=True):
            codes[:, block] = np.eye(size)[int(entry)] if attributes.columns[several.column].values else entry
        return code_walk(latents, ends[0], ends[1], steps)

    return Wanted(draw, ", ".join([*words, f"{name} {' to '.join(said)}"]), way=way)


def in_a_name(words: str) -> str:
    """Returns words as a part of a file's name: "" for none."""
    return "_label_" + re.sub(r"[^\w.-]+", "_", words) if words else ""


def arrays(label: np.ndarray, attributes: Attributes | None) -> dict[str, np.ndarray]:
    """Returns labels as an .npz has them: `labels` [n], or of attributes `labels.COLUMN` [n] in the units of the data.

    label: classes [n], combinations [n], or codes [n, K] without any between two values.
    """
    if attributes is None:
        return {"labels": np.asarray(label)}
    rows = attributes.rows[label] if label.ndim == 1 else attributes.decode(label)
    return {f"labels.{name}": values for name, values in attributes.arrays(rows).items()}
