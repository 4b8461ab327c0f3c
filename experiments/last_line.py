"""What a process of several prints where another is lost: one line, in place of JAX's messages and stack trace.

JAX ends a process that has lost another by SIGABRT, from a thread of its own: nothing in Python can catch it, and the callback
that jaxlib 0.12.0.1 has for it fails with std::bad_cast. So what such a process writes to stderr goes through this file, run
as a program that outlives it.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

MESSAGE = re.compile(rb"[EF]\d{4} [\d:.]+ +\d+ (coordination_service\w*|client)\.(cc|h):")  # of JAX's coordination service
ABORTS = re.compile(rb"because the JAX distributed service detected fatal errors.*?(?:absl::Status: (.*))?$")
# how what is no part of JAX's messages, of several lines each, begins
OWN = (b"error: ", b"interrupted ", b"WARNING: ", b"ERROR: ", b"Traceback ")
WAIT = 5.0  # seconds for the last line to be printed, at most


def filter_stderr(line: str) -> Callable[[], None]:
    """Leads this process's stderr through `passed`, and returns what gives it back when all is printed.

    line: the last one where JAX aborts this process, to which JAX's reason is added.
    """
    try:
        own = os.dup(2)
    except OSError:  # it is closed, and nobody reads
        return lambda: None
    sys.stderr.flush()
    words = [sys.executable, "-I", __file__, line]
    program = subprocess.Popen(  # noqa: S603 - this file
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    assert program.stdin is not None
    os.dup2(program.stdin.fileno(), 2)
    program.stdin.close()

    def give_back() -> None:
        sys.stderr.flush()
        os.dup2(own, 2)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child that goes on has it too
            program.wait(WAIT)

    return give_back


def passed(lines: Iterable[bytes], last: str) -> Iterator[bytes]:
    """Yields what stderr gets of lines: all but JAX's messages, and `last` with JAX's reason where it aborts, unless told.

    What begins with a message is held until something of the program's own begins; it is yielded at the end if none aborted.
    """
    held: list[bytes] = []
    of_jax = told = False
    aborted = None
    for line in lines:
        of_jax = MESSAGE.match(line) is not None or (of_jax and not line.startswith(OWN))
        if not of_jax:
            told = line.startswith(b"error: ")
            yield line
            continue
        held.append(line)
        aborted = aborted or ABORTS.search(line)
    if aborted is None:
        yield from held
    elif not told:
        reason = (aborted[1] or b"").decode(errors="replace").strip()
        yield (f"error: {last} ({reason})" if reason else f"error: {last}").encode() + b"\n"


if __name__ == "__main__":
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # it ends with the process that it prints for
    for text in passed(sys.stdin.buffer, sys.argv[1]):
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()
