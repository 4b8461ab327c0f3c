"""How a command ends other than well: what its user must mend, what training came to, what a signal asked for."""

import signal

LONGEST = 2000  # letters of a line of a message


class UserError(Exception):
    """A user's mistake: launchers print each line on stderr without a traceback and exit with code 2.

    Of a line of more than LONGEST letters, as a value may be, the beginning and the end are kept.
    """

    def __init__(self, *lines: str) -> None:
        self.lines = tuple(
            line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}" for line in lines
        )
        super().__init__("\n".join(self.lines))


class NonFiniteError(Exception):
    """Training became non-finite: exit code 3."""


class LostError(Exception):
    """Another of the processes that train together was lost: exit code 1, or 134 where JAX aborts this one first."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)  # what pickling calls it with
        self.reason = reason

    def __str__(self) -> str:
        because = f" ({self.reason.splitlines()[0]})" if self.reason else ""
        return f"another process was lost; the same command goes on from the newest checkpoint{because}"


def said_by_system(error: OSError) -> str | None:
    """Returns what the system refused, "FILE: no space left on device"; None of what is no refusal of its but a bug."""
    if error.errno is None:
        return None
    return f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}"


class Interrupted(BaseException):  # as KeyboardInterrupt is: what catches any error of a metric or a decoder lets it pass
    """A signal ended the run, after saving where there was something to save: exit code 128 + signum."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)  # what pickling calls it with
        self.signum = signum

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.signum).name}"
