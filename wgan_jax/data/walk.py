"""The one walk of a folder of images: what is there, in the order of the paths, and what is left out, counted by reason."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from wgan_jax.data.images import SUFFIXES
from wgan_jax.errors import UserError

METADATA = "metadata.csv"
HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")  # what macOS, Synology, Windows, Linux put beside one's own
SHOWN = 5  # reasons named in a message

type Identity = tuple[int, int]


class Found(NamedTuple):
    """What a folder and its subfolders hold."""

    images: list[Path]
    tables: list[Path]  # every metadata.csv
    left_out: dict[str, int]  # reason -> number of files


def walk(root: Path) -> Found:
    """Returns the images of a folder and its subfolders, told by their suffixes; links to files and folders are followed.

    Left out are: other suffixes; images in what is hidden (a name with a dot at its start, or of HIDDEN); links that lead
    nowhere, or to a folder around them.

    Raises:
      UserError: a folder cannot be read, or lies too deep, or links make one folder appear twice.
    """
    images: list[Path] = []
    tables: list[Path] = []
    left_out: Counter[str] = Counter()
    seen: dict[Identity, Path] = {}

    def visit(folder: Path, above: frozenset[Identity], *, hidden: bool) -> None:
        try:
            here, entries = _open(folder)
        except OSError as error:
            if hidden:
                return
            raise UserError(f"{folder}: {(error.strerror or str(error)).lower()}") from error
        if here in above:
            left_out["linked in a circle"] += 1
            return
        first = folder if hidden else seen.setdefault(here, folder)
        if first != folder:
            raise UserError(f"{first} and {folder} are one folder, by a link, and would be read twice; remove one of them")
        for entry in entries:
            path, aside = Path(entry.path), hidden or entry.name.startswith(".") or entry.name in HIDDEN
            kind, suffix = _kind(entry), path.suffix.lower()
            if kind == "folder":
                if not (aside and entry.is_symlink()):
                    visit(path, above | {here}, hidden=aside)
            elif aside:
                left_out["hidden"] += suffix in SUFFIXES
            elif kind != "file":
                left_out[kind] += 1
            elif suffix in SUFFIXES:
                images.append(path)
            elif entry.name == METADATA:
                tables.append(path)
            else:
                left_out[suffix or "without a suffix"] += 1

    try:
        visit(root, frozenset(), hidden=False)
    except RecursionError:
        raise UserError(f"{root}: folders lie in each other hundreds deep; give a folder nearer to the images") from None
    return Found(images, tables, {why: count for why, count in left_out.items() if count})


def _open(folder: Path) -> tuple[Identity, list[os.DirEntry[str]]]:
    """Returns what tells a folder from others, whatever leads to it, and its entries by their names."""
    status = folder.stat()
    with os.scandir(folder) as entries:
        return (status.st_dev, status.st_ino), sorted(entries, key=lambda entry: entry.name)


def _kind(entry: os.DirEntry[str]) -> str:
    """Returns "file", "folder", or the reason for which it is neither; asks the system about links alone."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself
        return "linked nowhere"
    return "linked nowhere" if entry.is_symlink() else "special"


def in_words(left_out: Mapping[str, int]) -> str:
    """Returns `; left out: 40 .tif, 2 hidden`, the most first, or nothing where nothing was."""
    ranked = sorted(left_out.items(), key=lambda pair: -pair[1])
    told = [f"{count:,} {printable(why)}" for why, count in ranked[:SHOWN]]
    if more := ranked[SHOWN:]:
        told.append(f"{sum(count for _, count in more):,} for {len(more)} further reasons")
    return f"; left out: {', '.join(told)}" if told else ""


def printable(name: str) -> str:
    r"""Returns a name as text that any file and figure takes: bytes of it that are not UTF-8 are written as \udcxx."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
