"""What this program writes as JSON and believes when it reads it again: seals, and lines that are good. Imports no jax.

A sealed dict holds, beside what it says, the SHA-256 of that: a number that was changed, or a key, is seen.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

SEAL = "seal"  # the key of the hash


def to_json(value: Any, indent: int | None = None) -> str:
    """Returns JSON; numbers that are not finite, for which it has no name, are null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digest(value: Any) -> str:
    """Returns the SHA-256 of a value of JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Returns what JSON makes of a dict, with its seal."""
    plain = json.loads(to_json(content))
    return {**plain, SEAL: digest(plain)}


def unsealed(stored: Any) -> dict[str, Any]:
    """Returns what a sealed dict says.

    Raises:
      ValueError: it is none, or it does not say what was sealed.
    """
    if not isinstance(stored, dict) or SEAL not in stored:
        raise ValueError("it has no seal")
    content = {name: value for name, value in stored.items() if name != SEAL}
    if digest(content) != stored[SEAL]:
        raise ValueError("it was changed: its seal is another")
    return content


def read_json(path: Path) -> Any:
    """Returns what a file of JSON holds.

    Raises:
      OSError: it cannot be read.
      ValueError: it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_sealed(path: Path) -> dict[str, Any]:
    """Returns what a file that holds a sealed dict says.

    Raises:
      OSError: it cannot be read.
      ValueError: it does not say what was sealed.
    """
    try:
        return unsealed(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged, or of an earlier version") from error


def parse_lines(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Returns the good lines of a file of JSON lines, dicts with a whole number as `step`, and how many others it has.

    Blank ones count as neither; nor does a last one without its end, which a process leaves that is killed while it writes.
    """
    *ended, last = content.split(b"\n")
    parsed = [_parse(text) for text in ended if text.strip()]
    good = [line for line in (*parsed, _parse(last)) if line is not None]
    return good, parsed.count(None)


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and type(line.get("step")) is int else None
