"""Images decoded once: a memory-mapped uint8 cache, keyed by files and options, written atomically, checked when it is opened.

Files are told apart by name, size and time of change, as `make` does; what was decoded, by a hash of every pixel and label.
"""

import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import rich
from ml_collections import ConfigDict
from rich.progress import track

from wgan_jax.data.attributes import Attributes
from wgan_jax.data.dataset import Split, Stored
from wgan_jax.data.images import DamagedImageError, Form, bombs_refused, decode_image
from wgan_jax.errors import UserError
from wgan_jax.paths import cache_folder, delete_stale, temporary_folder
from wgan_jax.records import file_digest, read_sealed, sealed

VERSION = 2  # of the decoding: another one makes all caches anew
BLOCK = 512  # images decoded ahead of the writing
SMALL = 2**13  # bytes of an encoded image, below which threads wait for each other longer than they decode
SHOWN = 3  # damaged images named in a message
LEAST = 4  # images of a split: precision and recall look at the third neighbour
SPLITS = ("train", "validation", "test")
BUILDING = ".building-"  # begins the name of a cache that is not there yet
UNFINISHED = (f"{BUILDING}*", ".*.tmp", "tmp????????")  # what a killed process leaves in a folder of caches


class Record(NamedTuple):
    """An image before decoding."""

    name: str
    image: Path | bytes
    label: int


class Records(Protocol):
    """Images before decoding, in their order; a slice is read at once, which archives do many times faster than one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Sequence[Record]: ...


class Content(NamedTuple):
    """What a source has: records by split, and what their labels are numbers of."""

    records: dict[str, Records]
    classes: Sequence[str]  # names of the labels
    attributes: Attributes | None = None  # that the labels are combinations of


class Source(NamedTuple):
    """Images on disk. `content` is called only where the cache is not there yet."""

    identity: dict[str, Any]  # JSON; the content and everything that its decoding depends on
    content: Callable[[], Content]
    left_out: dict[str, int]  # reason -> number of files; found anew at every start, as it is no part of the identity


def form_of(config: ConfigDict) -> Form:
    """Returns what config.data makes of every image."""
    return Form(config.image_size, config.channels, config.background, config.image_width, config.crop)


def hold_out(count: int, share: float, parts: int) -> list[np.ndarray]:
    """Returns a fixed permutation of range(count), cut into the rest and `parts` parts of about count * share each."""
    order = np.random.RandomState(0).permutation(count)
    held = round(count * share)
    return np.split(order, [count - held * (parts - index) for index in range(parts)])


def stamp(paths: Iterable[Path]) -> str:
    """Returns a hash of files' names, sizes and times of change: what tells one content from another without reading it."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(os.fsencode(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"))  # not every name is UTF-8
    return digest.hexdigest()


def cache_name(identity: dict[str, Any]) -> str:
    """Returns the name of the cache of what is so described, as JSON: that of no other."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


def end_cache(folder: Path, said: dict[str, Any]) -> None:
    """Ends a cache with its meta.json: what is said of it, its identity too, and the hashes of its files, under a seal."""
    files = {path.name: file_digest(path) for path in folder.iterdir()}
    (folder / "meta.json").write_text(json.dumps(sealed({**said, "files": files}), indent=1), encoding="utf-8")


def open_cache(folder: Path) -> dict[str, Any] | None:
    """Returns what a finished cache says of itself; None where there is none, or a wrong one, which is warned of."""
    try:
        meta = read_sealed(folder / "meta.json")
        paths = tuple(folder / name for name in meta["files"])
        if _digests(stamp(paths), paths) == tuple(meta["files"].values()) and cache_name(meta["identity"]) == folder.name:
            return meta
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    logging.getLogger(__name__).warning("%s: damaged, of other data or of an earlier version; it is made anew", folder)
    return None


@functools.cache
def _digests(stamp: str, paths: tuple[Path, ...]) -> tuple[str, ...]:
    """Returns the hashes of files, computed once in a process while their stamp is the same."""
    del stamp
    return tuple(map(file_digest, paths))


def load(source: Source, config: ConfigDict) -> Stored:
    """Returns the dataset of a source by config.data, from the cache where it is there; else decodes it first.

    Raises:
      UserError: damaged images, images of different sizes, too few of them, no room for the cache.
    """
    options = {**form_of(config)._asdict(), "skip_damaged": config.skip_damaged, "holdout": config.holdout, "version": VERSION}
    identity = {"source": source.identity, "options": options}
    key = cache_name(identity)
    folder = Path(config.cache_dir) / key
    meta = open_cache(folder)
    if meta is None:
        folder = (cache_folder(config.cache_dir, "images are decoded anew at each start") or temporary_folder()) / key
        _build(source, folder, identity, config)
        meta = open_cache(folder)
        assert meta is not None
    shape = tuple(meta["shape"])
    total = sum(meta["counts"].values())
    images = np.memmap(folder / "images.bin", np.uint8, "r", shape=(total, *shape))
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    if meta["damaged"]:
        logging.getLogger(__name__).warning("%d damaged images were left out: %s", len(meta["damaged"]), _some(meta["damaged"]))
    ends = np.cumsum([meta["counts"][name] for name in SPLITS])
    bounds = zip(ends - [meta["counts"][name] for name in SPLITS], ends, strict=True)
    train, validation, test = (Split(images[a:b], labels[a:b]) for a, b in bounds)
    left_out = {**source.left_out, **({"damaged": len(meta["damaged"])} if meta["damaged"] else {})}
    attributes = Attributes.of_json(meta["attributes"])
    classes = attributes.names() if attributes else tuple(meta["classes"])
    return Stored(shape, train, validation, test, classes, meta["sha256"], left_out, attributes=attributes)


def _some(damaged: list[str]) -> str:
    more = f" and {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else ""
    return "; ".join(damaged[:SHOWN]) + more


def _build(source: Source, folder: Path, identity: dict[str, Any], config: ConfigDict) -> None:
    records, classes, attributes = source.content()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        delete_stale(folder.parent, *UNFINISHED)
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=folder.parent))
    except OSError as error:
        raise UserError(f"config.data.cache_dir: {folder.parent}: {(error.strerror or str(error)).lower()}") from error
    try:
        told = (
            {"classes": [], "attributes": attributes.told()} if attributes else {"classes": list(classes), "attributes": None}
        )
        meta = _decode(records, building, config, json.dumps(told) if attributes else "")
        end_cache(building, {**meta, **told, "identity": identity})
        building.chmod(0o755)
        if open_cache(folder) is None:  # else another process was faster
            shutil.rmtree(folder, ignore_errors=True)  # an unfinished or damaged one
            building.replace(folder)
    except OSError as error:
        if open_cache(folder) is None:
            where = "config.data.cache_dir"
            raise UserError(f"{where}: {folder.parent}: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _decode(records: dict[str, Records], building: Path, config: ConfigDict, labelled: str) -> dict[str, Any]:
    """Decodes into images.bin and labels.npy, in the order of SPLITS; returns counts, shape and the damaged images.

    labelled: what labels are of, where their numbers alone do not tell one content from another.
    """
    form, damaged = form_of(config), []
    counts, labels = dict.fromkeys(SPLITS, 0), []
    shape: tuple[int, ...] | None = None
    digest = hashlib.sha256()

    def decode(record: Record) -> tuple[np.ndarray | None, str]:
        try:
            return decode_image(record.image, form), ""
        except DamagedImageError as error:
            return None, str(error)

    total = sum(len(records[name]) for name in SPLITS)
    blocks = [(name, start) for name in SPLITS for start in range(0, len(records[name]), BLOCK)]
    with bombs_refused(), open(building / "images.bin", "wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, start in _shown(blocks, total):
            try:
                block = records[name][start : start + BLOCK]
            except (OSError, RuntimeError) as error:  # array_record's are RuntimeErrors
                raise UserError(f"config.data: the images cannot be read: {' '.join(str(error).split())}") from error
            spread = pool.map if sum(map(_bytes, block)) > SMALL * len(block) else map
            for record, (pixels, why) in zip(block, spread(decode, block), strict=True):
                if pixels is None:
                    damaged.append(f"{record.name} ({why})")
                    continue
                shape = shape or pixels.shape
                if pixels.shape != shape:
                    sizes = f"{record.name} is {pixels.shape} and others {shape}"
                    raise UserError(f"config.data: {sizes}; set config.data.image_size (and channels)")
                file.write(pixels.tobytes())
                digest.update(pixels)
                labels.append(record.label)
                counts[name] += 1
        file.flush()
        os.fsync(file.fileno())
    if damaged and not config.skip_damaged:
        raise UserError(
            f"config.data: {len(damaged)} of {total} images damaged: {_some(damaged)}; "
            "mend or remove them, or set --config.data.skip_damaged=True"
        )
    if shape is None or min(counts.values()) < LEAST:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise UserError(f"config.data: too few images: {told}; each split needs {LEAST}, see config.data.holdout")
    stored = np.asarray(labels, np.int32)
    np.save(building / "labels.npy", stored, allow_pickle=False)
    digest.update(json.dumps([counts, shape]).encode() + stored.tobytes() + labelled.encode())
    return {"counts": counts, "shape": shape, "damaged": damaged, "sha256": digest.hexdigest()}


def _bytes(record: Record) -> int:
    return len(record.image) if isinstance(record.image, bytes) else record.image.stat().st_size


def _shown[B](blocks: Sequence[B], images: int) -> Iterable[B]:
    """Yields the blocks and, of more than one, says so: a bar on a terminal, elsewhere a line."""
    console, task = rich.get_console(), f"decoding {images:,} images, once"
    if len(blocks) > 1 and console.is_interactive:
        return track(blocks, task, console=console, transient=True)
    if len(blocks) > 1:
        print(task, flush=True)
    return blocks
