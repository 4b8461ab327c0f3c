"""What a person sees of a run in the terminal: a live bar, or plain lines where there is none; evaluations; tables."""

import functools
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeGuard

import rich
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from wgan_jax.report.names import written
from wgan_jax.report.tables import print_table

SHOWN = {  # of an evaluation, in its line
    "wasserstein_excess": "excess",
    "wasserstein_ratio": "ratio",
    "wasserstein_quantile": "W1",
    "modes": "modes",
    "good_share": "good share",
    "precision": "precision",
    "recall": "recall",
}
SILENCE = 30.0  # seconds, at most, between the lines of a run that has no bar
MEMORY = 30.0  # seconds of training, about, that the shown rate is a mean over


def span(seconds: float) -> str:
    """Returns a time as a person says it: "12 s", "3 min", "2 h 5 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def pace(rate: float) -> str:
    """Returns so many updates a second in words; of slow ones the seconds that one takes."""
    return f"{rate:.{0 if rate >= 10 else 1}f} updates/s" if rate >= 1 else f"{1 / rate:.1f} s per update"


def progress_line(step: int, steps: int, state: str, rate: float = 0.0, left: float = 0.0) -> str:
    """Returns where a run is: "30/60 training, 120 updates/s, 12 s left"; a rate of 0 is not known yet."""
    parts = [f"{step}/{steps} {state}"]
    if rate and step < steps:
        parts += [pace(rate)] * (state == "training") + [f"{span(left)} left"]
    return ", ".join(parts)


def evaluation_line(step: int, steps: int, values: Mapping[str, float | None]) -> str:
    """Returns the evaluation of an averaged generator, {"eval/<metric>": value}, in a line.

    It has the metrics of SHOWN or, where there are none of these, the first four.
    """
    own = {name.removeprefix("eval/"): value for name, value in values.items() if name.startswith("eval/")}
    known = {name: value for name, value in own.items() if _exists(value) and not name.startswith("raw/")}
    words = {name: word for name, word in SHOWN.items() if name in known}
    words = words or {name: name.replace("_", " ") for name in [*known][:4]}
    text = ", ".join(f"{word} {rounded(known[name])}" for name, word in words.items())
    return f"step {step}/{steps}: {text or 'no metric has a value'}"


def members_line(step: int, steps: int, count: int, scores: Sequence[float | None]) -> str:
    """Returns the evaluation of a sweep's members in a line; scores are the finite ones' excess, if it exists."""
    known = sorted(filter(_exists, scores))
    excess = f", excess {rounded(known[0])} to {rounded(known[-1])}" if known else ""
    return f"step {step}/{steps}: {len(scores)} of {count} finite{excess}"


def _exists(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def rounded(value: float) -> str:
    """Returns a number with two decimals below 10, and at least three digits above."""
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def say(text: str, console: Console | None = None, *, whole: bool = True) -> None:
    """Prints a line; a whole one is the terminal's to break, so that a path can be copied, others are broken between words."""
    console = console or rich.get_console()
    console.print(written(text, console.encoding), markup=False, highlight=False, soft_wrap=whole)


def print_summary(markdown: str, console: Console | None = None) -> None:
    """Prints a sweep's summary: a pipe gets all of it, a terminal its beginning and as much of its first table as has room."""
    console = console or rich.get_console()
    if not console.is_terminal:
        say(markdown, console)
        return
    title, preamble, *parts = re.sub(r"`|\*\*", "", markdown).strip().split("\n\n")
    for line in (title.strip("# "), *preamble.split("\n")[:2]):
        say(line, console, whole=False)
    if tables := [part for part in parts if part.startswith("|")]:
        header, _, *lines = [line.strip("| ").split(" | ") for line in tables[0].split("\n")]
        words = [functools.reduce(lambda name, metric: name.replace(metric, SHOWN[metric]), SHOWN, name) for name in header]
        labels, *columns = zip(*([cell.replace(" [", "\n[") for cell in line] for line in lines), strict=True)
        print_table(console, "", labels, dict(zip(words[1:], columns, strict=True)), at_least=1)
        say("Medians over runs on test; 95 % intervals in brackets. More is in summary.md.", console, whole=False)


class Display:
    """The terminal's view of a run: a live bar or, where no cursor can be moved (a pipe, TERM=dumb), lines now and then.

    What is to stay is printed above the bar. The time left has the evaluations in it that are to come, each `eval_every`.
    """

    def __init__(
        self,
        title: str,
        steps: int,
        eval_every: int,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or rich.get_console()
        self._live = self.console.is_interactive
        self._title, self._steps, self._eval_every, self._clock = title, steps, eval_every, clock
        self._step, self._state, self._since = 0, "starting", clock()
        self._seconds = self._updates = 0.0  # of training, fading
        self._evaluation = 0.0  # seconds of the last one
        self._estimate = ""
        self._said, self._tenth = clock(), -1  # when a line was printed last, and at which tenth of the steps
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="crop"))
        margin = TextColumn("  ")  # for a terminal's echo of Ctrl-C, which would break a full line
        self._progress = Progress(BarColumn(20), text, margin, console=self.console, disable=not self._live)
        self._task = self._progress.add_task(self._line(), total=steps)
        self._ended = threading.Event()
        self._speaker = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self) -> Self:
        self.say(f"{self._title}, {self._steps} updates")
        if self._live:
            self._progress.start()
        else:
            self._speaker.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()
        else:
            self._ended.set()
            self._speaker.join()

    def begin(self, step: int) -> None:
        """Says from where the run goes on; the program is compiled next, unless all is trained."""
        self._step = step
        self._progress.update(self._task, completed=step)
        self.state("compiling" if step < self._steps else "evaluating")
        if not self._live:
            self.say(self._line())

    def state(self, text: str) -> None:
        """Says what is being done: "compiling", "training", "evaluating", "writing"."""
        now = self._clock()
        if self._state == "evaluating":
            self._evaluation = now - self._since
        self._state, self._since = text, now
        self._progress.update(self._task, description=self._line())

    def show(self, step: int, rate: float, estimate: float | None = None) -> None:
        """Moves to a step, trained at so many updates a second; estimate is the critic's at its update."""
        seconds = (step - self._step) / rate
        fading = math.exp(-seconds / MEMORY)
        self._seconds = self._seconds * fading + seconds
        self._updates = self._updates * fading + step - self._step
        self._step, self._estimate = step, "" if estimate is None else f", wasserstein estimate {estimate:.4g}"
        self.state("training")
        self._progress.update(self._task, completed=step)
        if not self._live and 10 * step // self._steps > self._tenth:
            self._tenth = 10 * step // self._steps
            self.say(self._line() + self._estimate)
        self.tick()

    def tick(self) -> None:
        """Without a bar: says where the run is where it has been silent for long."""
        now = self._clock()
        if not self._live and now - self._said >= SILENCE:
            since = "" if self._state == "training" else f" for {span(now - self._since)}"
            self.say(self._line(since) + self._estimate)

    def evaluation(self, values: Mapping[str, float | None]) -> None:
        """Says what an evaluation at this step came to."""
        self.say(evaluation_line(self._step, self._steps, values), whole=not self._live)

    def interrupted(self, number: int) -> None:
        """Says that a signal was heard."""
        self.say(f"{signal.Signals(number).name}: saving, then ending")

    def say(self, text: str, *, whole: bool = True) -> None:
        """Prints a line that stays."""
        self._said = self._clock()
        say(text, self.console, whole=whole)

    def _line(self, since: str = "") -> str:
        if not self._updates:
            return progress_line(self._step, self._steps, self._state + since)
        rate = self._updates / self._seconds
        evaluations = self._steps // self._eval_every - self._step // self._eval_every
        left = (self._steps - self._step) / rate + evaluations * self._evaluation
        return progress_line(self._step, self._steps, self._state + since, rate, left)

    def _speak(self) -> None:
        while not self._ended.wait(1):
            self.tick()
