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

LOG = rb"[IWEF]\d{4} [\d:.]+ +\d+ "  # begins a message of what is no Python
MESSAGE = re.compile(LOG + rb"(\w*coordination\w*|client|service|key_value_store)\.(cc|h):")  # JAX's of other processes
ABORTS = re.compile(rb"because the JAX distributed service detected fatal errors.*?(?:absl::Status: (.*))?$")
# how what is no part of such messages, of several lines each, begins
OWN = re.compile(LOG + rb"|error: |interrupted |WARNING: |ERROR: |CRITICAL: |Traceback |  File |Exception |Fatal |.*Warning: ")
WAIT = 5.0  # seconds for the last line to be printed, at most


def filter_stderr(line: str) -> Callable[[], None]:
    """Leads this process's stderr through `passed`, and returns what ends that when all is printed, and stderr with it.

    line: the last one where JAX aborts this process, to which JAX's reason is added.
    """
    try:
        os.fstat(2)
    except OSError:  # it is closed, and nobody reads
        return lambda: None
    sys.stderr.flush()
    words = [sys.executable, "-I", __file__, line]
    # it ends with the process that it prints for, and not by what a scheduler sends to all of a job
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    program = subprocess.Popen(  # noqa: S603 - this file
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert program.stdin is not None
    os.dup2(program.stdin.fileno(), 2)
    program.stdin.close()

    def end() -> None:
        sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # and not what it was: JAX may abort this process even now
        os.close(nowhere)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child that goes on has it too
            program.wait(WAIT)

    return end


def passed(lines: Iterable[bytes], last: str) -> Iterator[bytes]:
    """Yields what stderr gets of lines: all but JAX's messages, and `last` with JAX's reason where it aborts, unless told.

    What begins with a message is held until something of the program's own begins; it is yielded at the end if none aborted.
    """
    held: list[bytes] = []
    of_jax = told = False
    aborted = None
    for line in lines:
        of_jax = MESSAGE.match(line) is not None or (of_jax and not OWN.match(line))
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
    for text in passed(sys.stdin.buffer, sys.argv[1]):
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()
