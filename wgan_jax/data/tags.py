"""Tag archives of anime faces as the metadata.csv that a folder of images is read with."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from wgan_jax.data.folder import METADATA
from wgan_jax.data.images import SUFFIXES
from wgan_jax.errors import UserError

UNKNOWN = "unknown"


class Tags(NamedTuple):
    """What an image is tagged with."""

    id: str
    hair: str
    eyes: str


def read_tags(lines: Iterable[str]) -> Iterator[Tags]:
    """Yields the tags of lines `id,tag:count<TAB>tag:count...` or `id,<hair> hair <eyes> eyes`.

    Of several colours the one counted most often is taken; without one, "unknown".

    Raises:
      UserError: a line of neither form.
    """
    for number, line in enumerate(lines, 1):
        name, comma, rest = line.strip().partition(",")
        if not line.strip():
            continue
        if not comma or not name:
            raise UserError(f"line {number}: {line.strip()[:40]!r} is not `id,tags`")
        if together := re.fullmatch(r"(.+) hair (.+) eyes", rest):
            yield Tags(name, together[1], together[2])
        else:
            counted = re.findall(r"([^\t:]+):(\d+)", rest)
            if rest and not counted:
                raise UserError(f"line {number}: {rest[:40]!r} is neither `tag:count` nor `<hair> hair <eyes> eyes`")
            ranked = sorted(counted, key=lambda tag: -int(tag[1]))
            hair, eyes = (
                next((tag.removesuffix(f" {part}") for tag, _ in ranked if tag.endswith(f" {part}")), UNKNOWN)
                for part in ("hair", "eyes")
            )
            yield Tags(name, hair, eyes)


def write_metadata(tags: Path, images: Path) -> int:
    """Writes images/metadata.csv (file_name, hair, eyes) from a tag archive; returns its number of rows.

    An image belongs to the line whose id is its name without suffix; untagged images get "unknown".

    Raises:
      UserError: there is a metadata.csv already, there are no images, or the archive cannot be read.
    """
    table = images / METADATA
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"--images: no images in {images}")
    try:
        with open(tags, encoding="utf-8") as file:
            found = {row.id: row for row in read_tags(file)}
    except UnicodeDecodeError as error:
        raise UserError(f"--tags: {tags}: {error}") from error
    except UserError as error:
        raise UserError(f"--tags: {tags}, {error.lines[0]}") from error
    try:
        with open(table, "x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "hair", "eyes"])
            for path in files:
                row = found.get(path.stem, Tags(path.stem, UNKNOWN, UNKNOWN))
                writer.writerow([path.name, row.hair, row.eyes])
    except FileExistsError as error:
        raise UserError(f"--images: {table} is there already; move it away first") from error
    return len(files)
