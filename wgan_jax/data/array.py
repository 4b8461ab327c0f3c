"""Arrays of any shape from .npy and .npz files: vectors [N, D], series [N, T, C], images [N, H, W, C], volumes [N, D, H, W, C].

Examples keep their dtype, in the byte order of this machine. A set of more than config.data.resident_mb is laid out once, split
by split, in a memory-mapped cache, as decoded images are, and streamed from there.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from numpy.lib.npyio import NpzFile

from wgan_jax.data.arrays import open_arrays
from wgan_jax.data.attributes import Attributes, of_columns
from wgan_jax.data.cache import BUILDING, LEAST, SPLITS, UNFINISHED, cache_name, end_cache, hold_out, open_cache, stamp
from wgan_jax.data.dataset import KINDS, Split, Stored
from wgan_jax.data.scaling import Scaling, fit
from wgan_jax.errors import UserError
from wgan_jax.paths import cache_folder, delete_stale, naming, temporary_folder
from wgan_jax.places import array_file

VERSION = 2  # of the layout: another one makes all caches anew
CHUNK_BYTES = 2**26  # of examples read at once


class Source(NamedTuple):
    """Examples on disk, not yet read."""

    files: list[Path]
    total: int  # of examples
    shape: tuple[int, ...]  # of one example
    dtype: np.dtype  # in the byte order of this machine
    read: Callable[[np.ndarray], np.ndarray]  # rows [n] -> examples [n, *shape]
    labels: dict[str, np.ndarray]  # by name [N] or [N, A], as the file has them; {} for none

    def parts(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the examples of rows, CHUNK_BYTES at a time."""
        size = max(1, CHUNK_BYTES // (self.dtype.itemsize * int(np.prod(self.shape))))
        for start in range(0, len(rows), size):
            yield np.asarray(self.read(rows[start : start + size]), self.dtype)


def load(config: ConfigDict) -> Stored:
    """Returns the examples that config.path holds: an .npy file, an .npz file, or a folder of .npy files, an example each.

    An .npz has the examples as config.x, or as its only array, and may have their labels as config.y: whole numbers or text [N]
    are classes; floating numbers, arrays [N, A], and several arrays, whose names are comma-separated, are attributes, a column
    of names or numbers each. Numbers [N] are vectors of one. Fixed shares (config.holdout) are validation and test. They are
    scaled by config.scaling.

    Raises:
      UserError: nothing there that can be read or that memory holds, pickled objects, examples that are not finite, labels that
        are no classes, too few of either.
    """
    path = array_file(config)
    try:
        return _load(path, config)
    except UserError as error:
        raise error if str(error).startswith("config.") else UserError(f"config.data.path: {error}") from error
    except MemoryError as error:
        raise UserError(
            f"config.data.path: {path}: too large for the memory, or damaged: {' '.join(str(error).split())}"
        ) from error
    except OSError as error:
        raise UserError(f"config.data.path: {path}: {(error.strerror or str(error)).lower()}") from error


def _load(path: Path, config: ConfigDict) -> Stored:
    source = _of_folder(path) if path.is_dir() else _of_file(path, config)
    size = source.total * int(np.prod(source.shape)) * source.dtype.itemsize
    if size <= config.resident_mb * 2**20:
        return _laid_out(source, path, config, lambda shape: np.empty(shape, source.dtype))
    options = {name: config[name] for name in ("x", "y", "scaling", "skip_damaged", "holdout")}
    identity = {"array": str(path.resolve()), "files": stamp(source.files), **options, "version": VERSION}
    key = cache_name(identity)
    folder = Path(config.cache_dir) / key
    if (cached := _cached(folder)) is not None:
        return cached
    folder = (cache_folder(config.cache_dir, "arrays are laid out anew at each start") or temporary_folder()) / key
    delete_stale(folder.parent, *UNFINISHED)
    building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=folder.parent))
    try:
        dataset = _laid_out(source, path, config, lambda shape: _mapped(building / "examples.bin", source.dtype, shape))
        splits = dataset.splits
        np.save(building / "labels.npy", np.concatenate([split.labels for split in splits.values()]), allow_pickle=False)
        told = {
            "shape": dataset.shape,
            "counts": [len(split.images) for split in splits.values()],
            "classes": () if dataset.attributes else dataset.class_names,
            "attributes": dataset.attributes.told() if dataset.attributes else None,
            "fingerprint": dataset.fingerprint,
            "left_out": dict(dataset.left_out),
            "scaling": dataset.scaling._asdict(),
        }
        end_cache(building, {**told, "identity": identity})
        if _cached(folder) is None:  # else another process was faster
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one
            building.replace(folder)
    except OSError as error:
        where = f"config.data.cache_dir: {folder.parent}"
        raise UserError(f"{where}: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    cached = _cached(folder)
    assert cached is not None
    return cached


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """Returns a new file as an array; its room on the disk is taken now, as a write into a hole of a full disk is a crash.

    Raises:
      OSError: no space left.
    """
    with naming(path), path.open("wb") as file:
        size = dtype.itemsize * int(np.prod(shape))
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, dtype, "r+", shape=shape)


def _cached(folder: Path) -> Stored | None:
    """Returns the dataset of a finished cache, mapped; None where there is none, or a damaged one."""
    told = open_cache(folder)
    if told is None:
        return None
    scaling = Scaling.of_json(told["scaling"])
    shape = (sum(told["counts"]), *told["shape"])
    examples = np.memmap(folder / "examples.bin", scaling.dtype, "r", shape=shape)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    train, validation, test = _cut(examples, labels, told["counts"])
    attributes, left_out = Attributes.of_json(told["attributes"]), told["left_out"]
    classes = attributes.names() if attributes else tuple(told["classes"])
    splits = Stored(shape[1:], train, validation, test, classes, told["fingerprint"], left_out)
    return splits._replace(scaling=scaling, attributes=attributes)


def _cut(examples: np.ndarray, labels: np.ndarray, counts: list[int]) -> list[Split]:
    ends = np.cumsum(counts)
    return [Split(examples[end - count : end], labels[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def _of_file(path: Path, config: ConfigDict) -> Source:
    labels: dict[str, np.ndarray] = {}
    with open_arrays(path, mapped=path.suffix == ".npy") as loaded:
        if isinstance(loaded, np.ndarray):
            if wrong := [name for name in ("x", "y") if config[name] != name]:
                raise UserError(f"config.data.{wrong[0]}: {path} is an .npy file, whose one array has no name")
            array = loaded
        else:
            array = np.asarray(_named(loaded, path, "x", config.x, config.y.split(",")))  # bytes, where it is no array
            names = [config.y] if config.y in loaded else config.y.split(",")
            if config.y != "y" or "y" in loaded:
                labels = {name: np.asarray(_named(loaded, path, "y", name, names)) for name in names}
    array = array[:, None] if array.ndim == 1 else array
    dtype, shape = _vetted(path, array, 1), array.shape[1:]
    return Source([path], len(array), shape, dtype, lambda rows: array[rows], labels)


def _named(loaded: NpzFile, path: Path, key: str, name: str, labels: list[str]) -> Any:
    """Returns the array of a name that the key has; where it says nothing of the examples, the only one beside labels."""
    others = [other for other in loaded.files if other not in labels]
    if key == "x" and name == "x" and len(others) == 1:
        name = others[0]
    if name not in loaded:
        raise UserError(f"config.data.{key}: {path} has no array {name}; it has {', '.join(loaded.files) or 'none':.200}")
    return loaded[name]


def _of_folder(root: Path) -> Source:
    files = sorted(root.rglob("*.npy"))
    if not files:
        raise UserError(f"{root}: no .npy files in this folder")

    def read_one(path: Path) -> np.ndarray:
        with open_arrays(path) as loaded:
            if not isinstance(loaded, np.ndarray):
                raise UserError(f"{path}: an .npz file, whatever its name")
        return loaded[None] if loaded.ndim == 0 else loaded

    first = read_one(files[0])
    dtype = _vetted(files[0], first, 0)

    def read(rows: np.ndarray) -> np.ndarray:
        examples = np.empty((len(rows), *first.shape), first.dtype)
        for into, row in zip(examples, rows, strict=True):
            example = read_one(files[row])
            if (example.shape, example.dtype) != (first.shape, first.dtype):
                raise UserError(
                    f"{files[row]}: is {example.dtype} {example.shape} and {files[0]} is {first.dtype} {first.shape}; each "
                    "file is one example, and all are alike"
                )
            into[...] = example
        return examples

    return Source(files, len(files), first.shape, dtype, read, {})


def _vetted(path: Path, array: np.ndarray, leading: int) -> np.dtype:
    """Returns the dtype of examples in this machine's byte order; leading: axes of the array before those of an example.

    Raises:
      UserError: they are no numbers, or of no shape that is wanted.
    """
    given, axes = f"{path}: {array.dtype} of shape {array.shape}", array.ndim - leading
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise UserError(f"{given}; wanted are integers or floating numbers of at most 64 bits")
    if not 1 <= axes < len(KINDS) or 0 in array.shape:
        wanted = "vectors [N, D], series [N, T, C], images [N, H, W, C] or volumes [N, D, H, W, C]"
        raise UserError(f"{given}; wanted are {wanted}" + ", of a file the axes after N" * (leading == 0))
    return array.dtype.newbyteorder("=")


def _laid_out(source: Source, path: Path, config: ConfigDict, make: Callable[[tuple[int, ...]], np.ndarray]) -> Stored:
    """Returns the dataset of a source, its examples in an array that `make` gives, split by split."""
    rows = np.arange(source.total)
    if source.dtype.kind == "f":
        finite = np.concatenate([np.isfinite(part.reshape(len(part), -1)).all(axis=1) for part in source.parts(rows)])
        rows = rows[finite]
        if len(rows) < source.total and not config.skip_damaged:
            raise UserError(
                f"{path}: {source.total - len(rows)} of {source.total} examples hold NaN or infinity, the first at index "
                f"{finite.argmin()}; mend them, or leave them out with --config.data.skip_damaged=True"
            )
    kept = [np.sort(rows[part]) for part in hold_out(len(rows), config.holdout, 2)]
    if min(map(len, kept)) < LEAST:
        told = ", ".join(f"{len(part)} {name}" for name, part in zip(SPLITS, kept, strict=True))
        raise UserError(f"{path}: too few examples: {told}; each split needs {LEAST}, see config.data.holdout")
    order = np.concatenate(kept)
    attributes, labels = _attributes(source, order, len(kept[0]), path)
    classes = attributes.names() if attributes else ()
    if attributes and len(attributes.of_names) == len(attributes.columns) == 1:  # one column of names is classes
        attributes = None
    scaling = fit(config.scaling, source.dtype, source.parts(kept[0]))
    examples, filled, digest = make((len(order), *source.shape)), 0, hashlib.sha256()
    for part in source.parts(order):
        examples[filled : filled + len(part)] = part
        digest.update(np.ascontiguousarray(part))
        filled += len(part)
    counts = [len(part) for part in kept]
    of = attributes.told() if attributes else list(classes)
    digest.update(json.dumps([counts, source.shape, source.dtype.name, of]).encode() + labels.tobytes())
    train, validation, test = _cut(examples, labels, counts)
    left_out = {"with NaN or infinity": source.total - len(rows)} if len(rows) < source.total else {}
    splits = Stored(source.shape, train, validation, test, classes, digest.hexdigest(), left_out)
    return splits._replace(scaling=scaling, attributes=attributes)


def _attributes(source: Source, order: np.ndarray, trained: int, path: Path) -> tuple[Attributes | None, np.ndarray]:
    """Returns what labels are of, None without any, and the label of each row; the first `trained` rows are training ones.

    Raises:
      UserError: labels that are neither classes nor attributes.
    """
    columns: dict[str, np.ndarray] = {}
    for name, given in source.labels.items():
        flat = given.reshape(source.total, 1) if given.shape[:1] == (given.size,) == (source.total,) else given
        if flat.ndim != 2 or len(flat) != source.total or 0 in flat.shape or flat.dtype.kind not in "fiubUS":
            raise UserError(
                f"config.data.y: {name} in {path} is {given.dtype} of shape {given.shape}; wanted are whole numbers, text or "
                f"numbers [{source.total}] or [{source.total}, A], a row per example"
            )
        several = flat.shape[1] > 1
        columns |= {f"{name}{index}" if several else name: own for index, own in enumerate(flat[order].T)}
    if not columns:
        return None, np.zeros(len(order), np.int32)
    return of_columns(columns, np.arange(trained), "config.data.y", f" in {path}")


def from_arrays(
    x: np.ndarray, y: np.ndarray | Mapping[str, np.ndarray] | None = None, config: ConfigDict | None = None
) -> Stored:
    """Returns a dataset of examples in memory, as `load` reads them: x as config.x, and their labels y, or several by name.

    config: config.data, of which scaling, holdout and skip_damaged are read; without one these are as by default.

    Raises:
      UserError: as `load`.
    """
    options = config or ConfigDict({"scaling": "auto", "holdout": 0.1, "skip_damaged": False})
    array = x[:, None] if x.ndim == 1 else x
    named = dict(y) if isinstance(y, Mapping) else {} if y is None else {"y": y}
    labels, given = {name: np.asarray(own) for name, own in named.items()}, Path("dataset")
    source = Source([], len(array), array.shape[1:], _vetted(given, array, 1), lambda rows: array[rows], labels)
    return _laid_out(source, given, options, lambda shape: np.empty(shape, source.dtype))
