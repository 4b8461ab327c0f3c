"""What a run records: metrics.jsonl, and TensorBoard (its curves, with the config and pictures of samples)."""

import errno
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from wgan_jax.paths import naming, write_whole
from wgan_jax.records import parse_lines, to_json

COUNTERS = {"step", "critic_step", "examples", "seconds"}  # of a metrics line: they say when, and are no curves
WORDS = ("point", "method", "status", "split", "state")  # of a row
NUMBERS = ("seed", "step", "critic_step", "seconds")  # of every row; what else it has are numbers or None
FLUSH = 20  # seconds after which TensorBoard's reader sees what was written, at most


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the good lines of a file of JSON lines, [] where there is none; others are left out, and said."""
    lines, lost = parse_lines(path.read_bytes()) if path.is_file() else ([], 0)
    if lost:
        logging.getLogger(__name__).warning("%s: %d damaged line%s left out", path, lost, " is" if lost == 1 else "s are")
    return lines


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a task, [] where there is no file; lines that are none are left out, with a warning."""
    lines = read_metrics(path)
    rows = [line for line in lines if all(_fits(name, line.get(name)) for name in {*WORDS, *NUMBERS, *line})]
    if left := len(lines) - len(rows):
        logging.getLogger(__name__).warning("%s: %d line%s no row, and left out", path, left, " is" if left == 1 else "s are")
    return rows


def _fits(name: str, value: Any) -> bool:
    if name in WORDS:
        return isinstance(value, str)
    return type(value) in (int, float) or (value is None and name not in NUMBERS)


class MetricsLog:
    """Appends to metrics.jsonl and TensorBoard; opened at a step, it first cuts all that lies beyond it.

    record: what `content` gave at that step, in place of what happened to the file since; None where nothing was kept.
    settings: {dotted key: value} of the config, which TensorBoard shows as text.
    """

    def __init__(self, workdir: Path, step: int, settings: Mapping[str, Any], record: bytes | None = None) -> None:
        from tensorboardX import SummaryWriter

        self._path = workdir / "metrics.jsonl"
        kept = _restored(self._path, step, record)
        write_lines(self._path, kept)
        self._texts = [_line(values) for values in kept]
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1, flush_secs=FLUSH)
        self._board.add_text("config", "\n".join(f"    {key} = {value!r}" for key, value in settings.items()), step)

    def content(self) -> bytes:
        """Returns what was written to the file, whatever happened to it meanwhile."""
        return "".join(self._texts).encode()

    def lines(self) -> list[dict[str, Any]]:
        """Returns what was written to the file, line by line."""
        return parse_lines(self.content())[0]

    def write(self, values: dict[str, int | float]) -> None:
        """Writes one line; "step" must rise from call to call.

        Raises:
          OSError: of the file, also where it was deleted.
        """
        if not self._path.exists():  # what is written from here on would be lost without a word
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        self._texts.append(_line(values))
        with naming(self._path):
            self._file.write(self._texts[-1])
            self._file.flush()
        for name, value in values.items():
            if name not in COUNTERS and math.isfinite(value):
                self._board.add_scalar(board_tag(name), value, values["step"])

    def write_picture(self, path: Path, step: int) -> None:
        """Gives TensorBoard a picture of samples that was saved at a step."""
        with Image.open(path) as picture:
            self._board.add_image("samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()


def board_tag(name: str) -> str:
    """Returns the name of a metric in TensorBoard, which groups by what is before the slash: train/, eval/, eval_raw/."""
    if name.startswith("eval/raw/"):
        return name.replace("eval/raw/", "eval_raw/", 1)
    return name if name.startswith("eval/") else f"train/{name}"


def _restored(path: Path, step: int, record: bytes | None) -> list[dict[str, Any]]:
    """Returns the lines of a metrics file up to a step, from the record that was kept of them where there is one."""
    found, lost = parse_lines(path.read_bytes()) if path.is_file() else ([], 0)
    kept = _rising(found, step)
    if record is not None:
        saved = _rising(parse_lines(record)[0], step)
        if kept != saved:
            told = "%s: is not as it was written; its %d lines are restored from the checkpoint of step %d"
            logging.getLogger(__name__).warning(told, path, len(saved), step)
        return saved
    if lost:
        logging.getLogger(__name__).warning("%s: %d damaged line%s lost", path, lost, " is" if lost == 1 else "s are")
    return kept


def _rising(lines: Iterable[dict[str, Any]], last_step: int) -> list[dict[str, Any]]:
    """Returns the lines up to a step, without those whose step does not rise."""
    kept: list[dict[str, Any]] = []
    for line in lines:
        if (kept[-1]["step"] if kept else -1) < line["step"] <= last_step:
            kept.append(line)
    return kept


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Writes JSON lines, whole or not at all."""
    write_whole(path, "".join(map(_line, lines)).encode())


def _line(values: dict[str, Any]) -> str:
    return to_json(values) + "\n"
