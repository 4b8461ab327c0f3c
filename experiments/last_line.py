"""What a process of several prints where another is lost: one line, in place of JAX's messages and stack trace.

JAX ends a process that has lost another by SIGABRT, from a thread of its own: nothing in Python can catch it, and the callback
that jaxlib 0.12.0.1 has for it fails with std::bad_cast. So what such a process writes to stderr goes through this file, run
as a program that outlives it.
"""

import atexit
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

MESSAGE = re.compile(rb"[EF]\d{4} [\d:.]+ +\d+ (coordination_service\w*|client)\.(cc|h):")  # of JAX's coordination service
FATAL = b"because the JAX distributed service detected fatal errors"
WAIT = 10.0  # seconds for the last line to be printed, at most


def keep_to(line: str) -> None:
    """Lets stderr have this line where JAX aborts this process; all else passes through, but its messages about the others."""
    sys.stderr.flush()
    own = os.dup(2)
    words = [sys.executable, "-I", __file__, line]
    program = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - this file
    assert program.stdin is not None
    os.dup2(program.stdin.fileno(), 2)
    program.stdin.close()

    def let_go() -> None:
        sys.stderr.flush()
        os.dup2(own, 2)
        program.wait(WAIT)

    atexit.register(let_go)


def passed(lines: Iterable[bytes], last: bytes) -> Iterator[bytes]:
    """Yields the lines that stderr gets: what came before JAX's messages, what the program itself says of them, or `last`."""
    held: list[bytes] = []
    told = False
    for line in lines:
        own = line.startswith(b"error: ")
        told |= own
        if own or not (held or MESSAGE.match(line)):
            yield line
        else:
            held.append(line)
    if told:
        return
    if any(FATAL in line for line in held):
        yield last
    else:
        yield from held


if __name__ == "__main__":
    for text in passed(sys.stdin.buffer, f"error: {sys.argv[1]}\n".encode()):
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()
