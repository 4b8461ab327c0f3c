"""What a run records: metrics.jsonl, and TensorBoard (its curves, with the config and pictures of samples)."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from wgan_jax.paths import write_whole
from wgan_jax.training.workdir import to_json

COUNTERS = {"step", "critic_step", "examples", "seconds"}  # of a metrics line: they say when, and are no curves
FLUSH = 20  # seconds after which TensorBoard's reader sees what was written, at most


def read_metrics(path: Path, last_step: int | None = None) -> list[dict[str, Any]]:
    """Returns the lines of a metrics file up to a step; a line that a killed process left half-written ends it."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                break
            if last_step is not None and line["step"] > last_step:
                break
            lines.append(line)
    return lines


class MetricsLog:
    """Appends to metrics.jsonl and TensorBoard; opened at a step, it first cuts all that lies beyond it.

    settings: {dotted key: value} of the config, which TensorBoard shows as text.
    """

    def __init__(self, workdir: Path, step: int, settings: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        path = workdir / "metrics.jsonl"
        kept = read_metrics(path, step)
        write_lines(path, kept)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1, flush_secs=FLUSH)
        self._board.add_text("config", "\n".join(f"    {key} = {value!r}" for key, value in settings.items()), step)

    def write(self, values: dict[str, int | float]) -> None:
        """Writes one line; "step" must rise from call to call."""
        self._file.write(_line(values))
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


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Writes JSON lines, whole or not at all."""
    write_whole(path, "".join(map(_line, lines)).encode())


def _line(values: dict[str, Any]) -> str:
    return to_json(values) + "\n"
