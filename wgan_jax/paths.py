"""Paths as their user writes them, made absolute once, at the edge: inside the program every path is absolute."""

import atexit
import contextlib
import logging
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wgan_jax.errors import UserError

STALE = 24 * 3600.0  # seconds after which what a killed process left half-made in a folder that others share is deleted


def absolute(text: str) -> str:
    """Returns a path with `~` expanded, relative to the current directory; a `/` at its end, which says folder, stays.

    Raises:
      UserError: it begins with `~` and nothing here says where the home directory is.
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111 - pathlib's raises where it knows no home
    if expanded == "~" or expanded.startswith("~/"):
        raise UserError(f"{text}: no home directory is known here (HOME is not set); write the path in full")
    return os.path.abspath(expanded) + "/" * expanded.endswith("/")  # noqa: PTH100 - links keep the names that users gave them


def cache_folder(text: str, otherwise: str) -> Path | None:
    """Returns the folder of a cache, made where it is missing, or None with a warning where it cannot be written.

    A cache is a convenience: `otherwise` says what its lack comes to.
    """
    try:
        folder = Path(absolute(text))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, UserError) as error:
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
        logging.getLogger(__name__).warning("%s: %s; %s", text, why, otherwise)
        return None


def temporary_folder() -> Path:
    """Returns a new folder that is deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="wgan_jax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an OSError in this context the file that it is of, as writes to an open one do not say it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # else it is none of the system's, and its words would be lost
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """Gives a new file that takes a path's place once it is written, or is gone: a file is there whole or not at all.

    A link stays a link, and what it leads to is replaced; a device or a pipe is written to. Processes that write the same file
    do not disturb each other. lasting: the file is on the disk before it has its name, so that no crash leaves it half-written.

    Raises:
      OSError: of the path.
    """
    whole = Path(os.path.realpath(path))
    if whole.exists() and not whole.is_file():
        with naming(path), whole.open("wb") as file:
            yield file
        return
    temporary = whole.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with naming(path):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                if lasting:
                    os.fsync(file.fileno())
            temporary.replace(whole)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


def is_temporary(name: str) -> bool:
    """Says whether a file is one of `replacing`'s, which a process that was killed leaves behind."""
    return re.fullmatch(r"\.[0-9a-f]{32}\.tmp", name) is not None


def delete_temporaries(folder: Path, *patterns: str) -> None:
    """Deletes what killed processes left in a folder that no other uses: `replacing`'s files and what patterns name."""
    named = [path for pattern in patterns for path in folder.glob(pattern)]
    for path in named + [path for path in folder.glob(".*.tmp") if is_temporary(path.name)]:
        delete(path)


def delete_stale(folder: Path, *patterns: str) -> None:
    """Deletes what patterns name in a folder that other processes use, where nothing has changed in it for STALE seconds."""
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        with contextlib.suppress(OSError):  # another process was faster
            changed = max(part.lstat().st_mtime for part in (path, *path.glob("*")))
            if time.time() - changed > STALE:
                delete(path)


def delete(path: Path) -> None:
    """Deletes a folder, a file or a link, whose target stays; what is not there, or not whole, is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def unsuited(path: str) -> str | None:
    """Returns why checkpoints cannot be written under a path, or None: TensorStore takes a backslash for a slash."""
    if os.sep == "/" and "\\" in path:
        return "has a backslash, which the checkpoint library takes for a slash"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8, which the checkpoint library needs"
    return None
