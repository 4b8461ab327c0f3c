"""Paths as their user writes them, made absolute once, at the edge: inside the program every path is absolute."""

import atexit
import logging
import os
import shutil
import tempfile
import uuid
from pathlib import Path

from wgan_jax.errors import UserError


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


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; processes that write the same one do not disturb each other."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unsuited(path: str) -> str | None:
    """Returns why checkpoints cannot be written under a path, or None: TensorStore takes a backslash for a slash."""
    if os.sep == "/" and "\\" in path:
        return "has a backslash, which the checkpoint library takes for a slash"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8, which the checkpoint library needs"
    return None
