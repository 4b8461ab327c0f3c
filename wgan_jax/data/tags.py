"""Tag archives of anime faces as the metadata.csv that a folder of images is read with."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from wgan_jax.data.images import SUFFIXES
from wgan_jax.data.walk import METADATA, in_words, walk
from wgan_jax.errors import UserError
from wgan_jax.paths import write_whole

UNKNOWN = "unknown"


class Tags(NamedTuple):
    """What an image is tagged with."""

    id: str
    hair: str
    eyes: str


class Written(NamedTuple):
    """What a metadata.csv was made of."""

    images: int  # rows
    untagged: int  # of them without a line of the archive
    no_hair: int  # unknown for any reason
    no_eyes: int
    unused: int  # lines of the archive without an image
    left_out: dict[str, int]  # files, by reason


def read_tags(lines: Iterable[str]) -> Iterator[Tags]:
    """Yields the tags of lines `id,tag:count<TAB>tag:count...` or `id,<hair> hair <eyes> eyes`.

    Ids are compared without leading zeros. Of several colours the one counted most often is taken; without one, "unknown".

    Raises:
      UserError: a line of neither form, or an id that an earlier line has.
    """
    numbers: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name, comma, rest = line.strip().partition(",")
        if not line.strip():
            continue
        if not comma or not name:
            raise UserError(f"line {number}: {line.strip()[:40]!r} is not `id,tags`")
        if (first := numbers.setdefault(_unpadded(name), number)) != number:
            raise UserError(f"line {number}: the id {name} is that of line {first}; keep one of them")
        hair, _, eyes = rest.removesuffix(" eyes").rpartition(" hair ")
        if rest.endswith(" eyes") and hair and eyes:
            yield Tags(name, hair, eyes)
        else:
            counted = re.findall(r"(?:^|[\t:])([^\t:]++):(\d+)", rest)  # of a line's length in time, whatever stands in it
            if rest and not counted:
                raise UserError(f"line {number}: {rest[:40]!r} is neither `tag:count` nor `<hair> hair <eyes> eyes`")
            ranked = sorted(counted, key=lambda tag: -float(tag[1]))  # which has no limit of digits
            hair, eyes = (
                next((tag.removesuffix(f" {part}") for tag, _ in ranked if tag.endswith(f" {part}")), UNKNOWN)
                for part in ("hair", "eyes")
            )
            yield Tags(name, hair, eyes)


def _unpadded(name: str) -> str:
    """Returns an id without leading zeros: archives write 00001 where the image is 1.jpg, and the other way round."""
    return name.lstrip("0") or "0" if name.isdecimal() else name


def write_metadata(tags: Path, images: Path) -> Written:
    """Writes images/metadata.csv (file_name, hair, eyes) from a tag archive.

    An image of the folder or its subfolders belongs to the line whose id is its name without suffix; untagged images get
    "unknown".

    Raises:
      UserError: there is a metadata.csv already, there are no images or none that a line names, two images have one id, or the
        archive cannot be read.
    """
    table = images / METADATA
    if table.exists() or table.is_symlink():
        raise UserError(f"--images: {table} is there already; move it away first")
    try:
        files, _, left_out = walk(images)
    except UserError as error:
        raise UserError(f"--images: {error}") from error
    if not files:
        raise UserError(f"--images: no images in {images} ({', '.join(SUFFIXES)}){in_words(left_out)}")
    try:
        with open(tags, encoding="utf-8-sig") as file:
            found = {_unpadded(row.id): row for row in read_tags(file)}
    except UnicodeDecodeError as error:
        raise UserError(f"--tags: {tags}: {error}") from error
    except UserError as error:
        raise UserError(f"--tags: {tags}, {error.lines[0]}") from error
    owners: dict[str, Path] = {}
    for path in files:
        if (first := owners.setdefault(_unpadded(path.stem), path)) != path:
            raise UserError(f"--images: {first} and {path} have one id; keep one of them")
    if found.keys().isdisjoint(owners):
        some = f"ids such as {next(iter(found.values())).id}" if found else "no line"
        raise UserError(f"--tags: {tags} has {some}, of none of the {len(files)} images in {images}, such as {files[0].name}")
    rows = {path: found.get(name, Tags(name, UNKNOWN, UNKNOWN)) for name, path in owners.items()}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file_name", "hair", "eyes"])
    writer.writerows([path.relative_to(images).as_posix(), row.hair, row.eyes] for path, row in rows.items())
    write_whole(table, text.getvalue().encode("utf-8", "surrogateescape"))  # as file names are read
    no_hair, no_eyes = (sum(getattr(row, part) == UNKNOWN for row in rows.values()) for part in ("hair", "eyes"))
    untagged, unused = len(owners.keys() - found.keys()), len(found.keys() - owners.keys())
    return Written(len(rows), untagged, no_hair, no_eyes, unused, left_out)
