"""A folder of images, as Hugging Face's ImageFolder lays it out: class subfolders, or metadata.csv with attribute columns."""

import csv
import itertools
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data.attributes import Attributes, as_cells, asked_columns, of_columns
from wgan_jax.data.cache import SPLITS, Content, Record, Source, hold_out, stamp
from wgan_jax.data.cache import load as load_source
from wgan_jax.data.dataset import Stored
from wgan_jax.data.images import SUFFIXES
from wgan_jax.data.walk import METADATA, in_words, printable, walk
from wgan_jax.errors import UserError
from wgan_jax.places import image_folder

NO_LABELS = "none"  # config.data.label
SPLIT_NAMES = {  # of folders, in any case
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


class Layout(NamedTuple):
    """How the folder itself divides its images."""

    splits: dict[str, list[Path]]  # the images of each split that it makes; all are train where it makes none
    inside: dict[Path, tuple[str, ...]]  # folder with images -> the names of the folders from its split to it


def load(config: ConfigDict) -> Stored:
    """Returns the images under config.path, as `walk` finds them.

    Subfolders named as SPLIT_NAMES says are the splits where one of them is train, at the top or in one folder that holds all;
    a fixed share (config.holdout) of the training images is held out for each of the other two that is not there. Labels: the
    column config.label of metadata.csv (column file_name, paths relative to the file), or several, comma-separated, as
    attributes; by default the paths of the subfolders that hold the images; none at config.label "none" or where the images lie
    in one folder. A column of numbers, more than a few different ones, is one attribute too; COLUMN:names and COLUMN:numbers
    say which it is.

    Raises:
      UserError: no such folder, no images, folders whose meaning is not clear, or a metadata.csv that does not fit them.
    """
    root = image_folder(config)
    try:
        files, tables, left_out = walk(root)
    except UserError as error:
        raise UserError(f"config.data.path: {error}") from error
    if not files:
        raise UserError(f"config.data.path: no images under {root} ({', '.join(SUFFIXES)}){in_words(left_out)}")
    identity = {"folder": str(root.resolve()), "label": config.label, "files": stamp([*files, *tables])}
    return load_source(Source(identity, lambda: _records(root, files, tables, config), left_out), config)


def _records(root: Path, files: list[Path], tables: list[Path], config: ConfigDict) -> Content:
    layout = _lay_out(root, files)
    given = layout.splits
    missing = [split for split in SPLITS if split not in given]
    parts = hold_out(len(given["train"]), config.holdout, len(missing))
    held = {split: [given["train"][i] for i in part] for split, part in zip(["train", *missing], parts, strict=True)}
    splits = given | held
    number: dict[Path, int] = {}
    classes: tuple[str, ...] = ()
    attributes = None
    if config.label == "":
        names = _from_folders(layout)
        classes = tuple(sorted(set(names.values())))
        number = {path: classes.index(name) for path, name in names.items()}
    elif config.label != NO_LABELS:
        attributes, number = _from_tables(root, files, tables, splits["train"], config.label)
        classes = attributes.names()
        if len(attributes.of_names) == len(attributes.columns) == 1:  # one column of names is classes
            attributes = None

    def record(path: Path) -> Record:
        return Record(printable(str(path.relative_to(root))), path, number.get(path, 0))

    return Content({split: [record(path) for path in splits[split]] for split in SPLITS}, classes, attributes)


def _lay_out(root: Path, files: list[Path]) -> Layout:
    """Returns the splits that the folder makes.

    Raises:
      UserError: folders that may be splits or not.
    """
    parts = {folder: folder.relative_to(root).parts for folder in dict.fromkeys(path.parent for path in files)}
    depth = 0  # of the folder that holds all, below the root
    while len(heads := {names[depth : depth + 1] for names in parts.values()}) == 1:
        (head,) = heads
        if not head or _split(head[0]):
            break
        depth += 1
    folders = {_split(head[0]): head[0] for head in sorted(heads) if head}
    named = sorted(head[0] for head in heads if head and _split(head[0]))
    where = " and ".join(str(root.joinpath(*next(iter(parts.values()))[:depth], name)) for name in named)
    if len(named) > len(folders.keys() - {""}):
        raise UserError(f"config.data.path: {where}: two of these folders are one split by their names; join or rename them")
    if named and "train" not in folders:
        raise UserError(
            f"config.data.path: {where}: a split by its name, but there is no folder train with images; rename what is a class"
        )
    skipped = depth + bool(named)
    for folder, names in parts.items():
        if any(map(_split, names[skipped:])):
            raise UserError(
                f"config.data.path: {folder}: a split by its name, below other folders; put the splits at the top, the classes "
                "into them (train/cat, test/cat), or rename what is a class"
            )
    splits: dict[str, list[Path]] = {}
    for path in files:
        split = _split(parts[path.parent][depth]) if named and len(parts[path.parent]) > depth else ""
        if named and not split:
            beside = f"lies beside the folder {folders['train']}"
            raise UserError(f"config.data.path: {path} {beside}; move it into train, validation or test")
        splits.setdefault(split or "train", []).append(path)
    return Layout(splits, {folder: names[skipped:] for folder, names in parts.items()})


def _split(name: str) -> str:
    """Returns the split that a folder's name means, or nothing."""
    return SPLIT_NAMES.get(name.lower(), "")


def _from_folders(layout: Layout) -> dict[Path, str]:
    """Returns each image's class, the path of its folder; {} where all lie in one.

    Raises:
      UserError: a folder with images is within another one, or a class has none in train.
    """
    levels = zip(*layout.inside.values(), strict=False)  # as deep as the least deep folder
    common = sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, levels))
    inside = {folder: names[common:] for folder, names in layout.inside.items()}
    outer = {names: folder for folder, names in inside.items()}
    if len(outer) < 2:
        return {}
    for folder, names in inside.items():
        around = next((outer[names[:end]] for end in range(len(names)) if names[:end] in outer), None)
        if around is not None:
            (path, *_) = [path for files in layout.splits.values() for path in files if path.parent == around]
            raise UserError(
                f"config.data.path: {path}: of which class? Other images lie in folders such as {folder}; move it into one, or "
                f"ask for no labels with --config.data.label={NO_LABELS}"
            )
    trained = {inside[path.parent] for path in layout.splits["train"]}
    if absent := [folder for folder, names in inside.items() if names not in trained]:
        raise UserError(
            f"config.data.path: {absent[0]}: no class of that name in train; rename it, or ask for no labels with "
            f"--config.data.label={NO_LABELS}"
        )
    return {path: printable("/".join(inside[path.parent])) for files in layout.splits.values() for path in files}


def _from_tables(
    root: Path, files: list[Path], tables: list[Path], train: list[Path], spec: str
) -> tuple[Attributes, dict[Path, int]]:
    """Returns the attributes that config.label asks for, and the label of every image.

    Raises:
      UserError: no table, or one that does not name every image once, each with all attributes; no attributes.
    """
    if not tables:
        raise UserError(f"config.data.label: {spec!r} asked for, but there is no {METADATA} under {root}")
    cells: dict[Path, list[str]] = {}
    lines: dict[Path, str] = {}
    kinds: dict[str, str] = {}
    for table in tables:
        for line, name, own in _rows(table, spec, kinds):
            path = table.parent / name
            if path in lines:
                raise UserError(f"{line}: {name} is there twice, first in {lines[path]}; keep one of them")
            cells[path], lines[path] = own, line
    known = set(files)
    if missing := [path for path in cells if path not in known]:
        raise UserError(
            f"{METADATA} names {len(missing)} files that are not there or left out, first {missing[0].relative_to(root)}"
        )
    if unnamed := [path for path in files if path not in cells]:
        raise UserError(f"{METADATA} lacks {len(unnamed)} images, first {unnamed[0].relative_to(root)}")
    where, row = "config.data.label", {path: index for index, path in enumerate(files)}
    columns = {
        name: as_cells(list(map(operator.itemgetter(index), map(cells.__getitem__, files))), kind, f"{where}: {name}")
        for index, (name, kind) in enumerate(kinds.items())
    }
    attributes, labels = of_columns(columns, np.array([row[path] for path in train]), where)
    return attributes, {path: int(labels[index]) for path, index in row.items()}


def _rows(table: Path, spec: str, kinds: dict[str, str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yields where a row is, its file_name and its labels, without the spaces around them; fills in {column: kind}."""
    with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:  # as file names are read
        rows = csv.reader(file)
        try:
            columns = [name.strip() for name in next(rows, [])]
            asked = asked_columns(spec, columns)
            if any(columns.count(name) != 1 for name in ("file_name", *asked)) or "file_name" in asked:
                wanted = f"wanted are file_name and {' and '.join(asked)}, each once"
                raise UserError(f"config.data.label: {table} has the columns {columns}; {wanted}")
            kinds.update(asked)
            for cells in rows:
                line = f"{table}, line {rows.line_num}"
                if not any(cell.strip() for cell in cells):
                    continue
                if any("\0" in cell for cell in cells):
                    raise UserError(f"{line}: holds a zero byte; save the table as text")
                if len(cells) != len(columns):
                    raise UserError(f"{line}: too {'few' if len(cells) < len(columns) else 'many'} columns")
                own = {key: cells[columns.index(key)].strip() for key in ("file_name", *asked)}
                if empty := [key for key, cell in own.items() if not cell]:
                    raise UserError(f"{line}: an empty {empty[0]}; fill it in")
                name = own.pop("file_name")
                if odd := [cell for cell in own.values() if printable(cell) != cell]:
                    raise UserError(f"{line}: {printable(odd[0])} is not UTF-8; save the table as UTF-8")
                if ".." in Path(name).parts or Path(name).is_absolute():
                    raise UserError(f"{line}: {name!r} leads out of the folder")
                yield line, name, list(own.values())
        except csv.Error as error:
            raise UserError(f"{table}: {error}") from error
