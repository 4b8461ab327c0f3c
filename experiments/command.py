"""What the commands share: flags, exit codes, output that is never fatal. Imports no jax."""

import argparse
import atexit
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from wgan_jax import paths
from wgan_jax.errors import Interrupted, LostError, NonFiniteError, UserError, said_by_system
from wgan_jax.hints import unknown_flag
from wgan_jax.keys import KEYS
from wgan_jax.runtime import settle_environment
from wgan_jax.training.interruption import SIGNALS, is_handled

FAILED, USAGE, NON_FINITE, SIGNALLED = 1, 2, 3, 128
REPEATS = 10_000  # of a flag that says how often something is done over, at most: more is a slip


class Parser(argparse.ArgumentParser):
    """argparse with whole flag names, and mistakes as one line."""

    def __init__(self, module: str, description: str | None) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(f"python -m {module}", description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises the mistake that argparse found."""
        raise UserError(message.removeprefix("argument "))

    def parse(self, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Returns the flags and the `--config.key=value` overrides; `--config.key value` is understood too.

        Raises:
          UserError: unknown flags or arguments, or flags that do not fit.
        """
        overrides: list[str] = []
        others: list[str] = []
        for before, word in zip(["", *argv], argv, strict=False):
            if word.startswith("--config."):
                overrides.append(word)
            elif before.startswith("--config.") and "=" not in before and not word.startswith("--"):
                overrides[-1] += f"={word}"
            else:
                others.append(word)
        names = [word.partition("=")[0] for word in others if word.startswith("--")]
        known = [name for action in self._actions for name in action.option_strings]
        if unknown := [unknown_flag(name, known, list(KEYS)) for name in names if name not in known]:
            raise UserError(*unknown)
        takes_names = any(not action.option_strings for action in self._actions)
        if (
            others and not others[0].startswith("-") and not takes_names
        ):  # before argparse misses what it may have been meant for
            wanted = [name for action in self._actions if action.required for name in action.option_strings]
            name = next((name for name in wanted if name not in names), None)
            raise UserError(f"{others[0]}: not a flag; write {f'{name}={others[0]}' if name else '--name=value'}")
        arguments, rest = self.parse_known_args(others)
        if rest:
            raise UserError(*(f"{word}: not a flag; write --name=value" for word in rest))
        return arguments, overrides


def path(text: str) -> str:
    """The type of every flag that is a path: absolute, `~` expanded; a `/` at its end, which says folder, stays."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a path")
    try:
        return paths.absolute(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def check_whole(flag: str, value: int, low: int, high: int) -> None:
    """Checks the number that a flag gives.

    Raises:
      UserError: it is outside the bounds.
    """
    if not low <= value <= high:
        raise UserError(f"{flag}: {value} is not a whole number from {low} to {high}")


def check_file(flag: str, path: Path) -> None:
    """Checks that a file can be written where a flag says, before the work that fills it.

    Raises:
      UserError: it is a folder, or in none, or may not be written.
    """
    if path.is_dir():
        raise UserError(f"{flag}: {path}: name a file, not a folder")
    if path.is_symlink() and not path.exists():
        raise UserError(f"{flag}: {path} is a link that leads nowhere")
    if not path.parent.is_dir():
        raise UserError(f"{flag}: no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{flag}: {path} cannot be written: permission denied")


def main(program: Callable[[list[str]], None]) -> NoReturn:
    """Runs program(argv) and exits: 0 done, 2 a user's mistake in a short message, 3 non-finite, 129/130/143 interrupted.

    1 is a bug, with its traceback, or that of several processes another was lost, which is 134 where JAX aborts this one first.
    """

    def interrupted(number: int, _: Any) -> NoReturn:
        raise SystemExit(SIGNALLED + number)

    for number in filter(is_handled, SIGNALS):
        signal.signal(number, interrupted)
    steady_output()
    settle_environment()
    handler = logging.lastResort  # which looks for sys.stderr at each message, as a progress bar takes its place
    assert handler is not None
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, handlers=[handler])
    try:
        program(sys.argv[1:])
    except UserError as error:
        _stop(USAGE, *error.lines)
    except NonFiniteError as error:
        _stop(NON_FINITE, str(error))
    except LostError as error:
        print(f"error: {error}", file=sys.stderr)
        leave(FAILED)
    except Interrupted as error:
        print(f"{error}; the same command goes on from the newest checkpoint", file=sys.stderr)
        leave(SIGNALLED + error.signum)
    except OSError as error:
        if (said := said_by_system(error)) is None:
            raise
        _stop(USAGE, said)
    sys.exit(0)


_ENDS: list[Callable[[], None]] = []  # what `before_exit` was given


def before_exit(call: Callable[[], None]) -> None:
    """Lets something be done as this process ends, whether by itself or by `leave`."""
    _ENDS.append(call)
    atexit.register(call)


def leave(code: int) -> NoReturn:
    """Ends this process at once: it waits for no compilation under way, and at JAX's exit for no other process."""
    try:
        for call in (sys.stdout.flush, sys.stderr.flush, *_ENDS):
            call()
    finally:  # also where a signal comes in between
        os._exit(code)


def _stop(code: int, *lines: str) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


class _Steady(io.TextIOWrapper):
    """A stream whose reader may go away, or whose disk may be full: what is lost then is the text, not the work."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._lose()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def steady_output() -> None:
    """Makes output never fatal: a closed pipe, a full disk, no stream at all, or letters that its encoding has not."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by a shell's >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):  # else it is somebody's own
            encoding, by_line, through = stream.encoding, stream.line_buffering, stream.write_through
            steady = _Steady(stream.detach(), encoding, "replace", None, by_line, through)
            setattr(sys, name, steady)
            setattr(sys, f"__{name}__", steady)  # which is asked for the terminal's width
