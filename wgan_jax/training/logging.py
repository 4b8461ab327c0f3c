"""What a run tells: metrics.jsonl (the record), TensorBoard (the same), and the terminal (a live bar, or plain lines)."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from wgan_jax.evaluation.tables import Cell, print_metrics
from wgan_jax.training.workdir import to_json


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
    """Appends to metrics.jsonl and TensorBoard; opened at a step, it first cuts all that lies beyond it."""

    def __init__(self, workdir: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        path = workdir / "metrics.jsonl"
        kept = read_metrics(path, step)
        write_lines(path, kept)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, values: dict[str, int | float]) -> None:
        """Writes one line; "step" must rise from call to call."""
        self._file.write(_line(values))
        self._file.flush()
        for name, value in values.items():
            if name != "step" and math.isfinite(value):
                self._board.add_scalar(name, value, values["step"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Writes JSON lines, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(_line(line) for line in lines), encoding="utf-8")
    temporary.rename(path)


def _line(values: dict[str, Any]) -> str:
    return to_json(values) + "\n"


class Display:
    """The terminal's view of a run: a live bar with the latest evaluation, or plain lines when it is not a terminal."""

    SHOWN = ("estimate_normalised", "wasserstein_ratio", "wasserstein_quantile", "precision", "recall", "modes", "good_share")

    def __init__(self, title: str, steps: int, step: int) -> None:
        self.console = Console(soft_wrap=True)
        self._evaluation = ""
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(20),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[rate]:.1f} updates/s "),
            TimeRemainingColumn(),
            TextColumn("{task.fields[evaluation]}"),
        )
        self._progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task = self._progress.add_task(title, total=steps, completed=step, rate=0.0, evaluation="compiling")
        self._steps = steps

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, step: int, rate: float, values: dict[str, Any] | None = None) -> None:
        """Moves to a step; values are the metrics line just written, if any."""
        if values and any(name.startswith("eval/") for name in values):
            shown = [
                f"{name.replace('_', ' ')} {values[f'eval/{name}']:.3g}" for name in self.SHOWN if f"eval/{name}" in values
            ]
            self._evaluation = ", ".join(shown)
        self._progress.update(self._task, completed=step, rate=rate, evaluation=self._evaluation)
        if values and not self.console.is_terminal:
            left = (self._steps - step) / rate if rate else math.nan
            estimate = values["wasserstein_estimate"]
            line = f"step {step}/{self._steps}  {rate:.1f} updates/s  {left:.0f} s left  wasserstein estimate {estimate:.4g}"
            print(f"{line}  {self._evaluation}".rstrip(), flush=True)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def table(self, title: str, columns: dict[str, dict[str, Cell]]) -> None:
        """Prints {generator: {metric: cell}}: metrics as rows, a column per generator."""
        print_metrics(Console(width=self.console.width), title, columns)
