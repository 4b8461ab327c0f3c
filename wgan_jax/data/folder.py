"""A folder of images, as Hugging Face's ImageFolder lays it out: class subfolders, or metadata.csv with attribute columns."""

import csv
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from wgan_jax.data.cache import SPLITS, Record, Source, hold_out, stamp
from wgan_jax.data.cache import load as load_source
from wgan_jax.data.dataset import Dataset
from wgan_jax.data.images import SUFFIXES
from wgan_jax.errors import UserError

METADATA = "metadata.csv"
SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}


def load(config: ConfigDict) -> Dataset:
    """Returns the images under config.path.

    Subfolders train, validation (or val, valid) and test are the splits where there is a train; a fixed share
    (config.holdout) of the training images is held out for each of the other two that is not there. Labels: the column
    config.label of metadata.csv (column file_name, paths relative to the file), or the names of the subfolders that hold the
    images; none where neither is there.

    Raises:
      UserError: no such folder, no images, or a metadata.csv that does not fit them.
    """
    root = Path(config.path)
    if not config.path or not root.is_dir():
        raise UserError(f"config.data.path: {config.path or 'empty'}: no such folder; set --config.data.path=DIR")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"config.data.path: no images under {root} ({', '.join(SUFFIXES)})")
    tables = sorted(root.rglob(METADATA))
    identity = {"folder": str(root.resolve()), "label": config.label, "files": stamp([*files, *tables])}
    return load_source(Source(identity, lambda: _records(root, files, tables, config)), config)


def _records(
    root: Path, files: list[Path], tables: list[Path], config: ConfigDict
) -> tuple[dict[str, list[Callable[[], Record]]], list[str]]:
    names = _from_tables(root, files, tables, config.label) if config.label else _from_folders(root, files)
    classes = sorted(set(names.values()))
    if config.label and not 2 <= len(classes) <= len(files) / 2:
        raise UserError(f"config.data.label: {config.label} has {len(classes)} values on {len(files)} images: no classes")
    number = {name: index for index, name in enumerate(classes)}

    def reader(path: Path) -> Callable[[], Record]:
        return lambda: Record(str(path.relative_to(root)), path, number[names[path]] if names else 0)

    given = _given_splits(root, files)
    missing = [split for split in SPLITS if split not in given]
    parts = hold_out(len(given["train"]), config.holdout, len(missing))
    held = {split: [given["train"][i] for i in part] for split, part in zip(["train", *missing], parts, strict=True)}
    return {split: [reader(path) for path in (given | held)[split]] for split in SPLITS}, classes


def _given_splits(root: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Returns the files of each split that the folder itself makes, train among them; all are train where it makes none."""
    if not (root / "train").is_dir():
        return {"train": files}
    given: dict[str, list[Path]] = {}
    for path in files:
        split = SPLIT_FOLDERS.get(path.relative_to(root).parts[0])
        if split is None:
            raise UserError(f"config.data.path: {path} lies beside the folder train; move it into train, validation or test")
        given.setdefault(split, []).append(path)
    if "train" not in given:
        raise UserError(f"config.data.path: no images under {root / 'train'}")
    return given


def _from_folders(root: Path, files: list[Path]) -> dict[Path, str]:
    """Returns each file's subfolder; {} where the images lie in one folder, or some of them in none."""
    parents = {path: path.parent.name for path in files}
    flat = {path.parent for path in files} & {root, *(root / split for split in SPLIT_FOLDERS)}
    return {} if flat or len(set(parents.values())) < 2 else parents


def _from_tables(root: Path, files: list[Path], tables: list[Path], column: str) -> dict[Path, str]:
    if not tables:
        raise UserError(f"config.data.label: {column!r} asked for, but there is no {METADATA} under {root}")
    names: dict[Path, str] = {}
    for table in tables:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            try:
                columns = list(rows.fieldnames or [])
                if "file_name" not in columns or column not in columns:
                    raise UserError(f"config.data.label: {table} has the columns {columns}; wanted are file_name and {column}")
                for row in rows:
                    if None in (row["file_name"], row[column]):
                        raise UserError(f"{table}, line {rows.line_num}: too few columns")
                    path = table.parent / row["file_name"]
                    if ".." in Path(row["file_name"]).parts or Path(row["file_name"]).is_absolute():
                        raise UserError(f"{table}, line {rows.line_num}: {row['file_name']!r} leads out of the folder")
                    names[path] = row[column]
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(f"{table}: {error}") from error
    known = set(files)
    if missing := [path for path in names if path not in known]:
        raise UserError(f"{METADATA} names {len(missing)} files that are not there, first {missing[0].relative_to(root)}")
    if unnamed := [path for path in files if path not in names]:
        raise UserError(f"{METADATA} lacks {len(unnamed)} images, first {unnamed[0].relative_to(root)}")
    return names
