"""A process that loses another says one line: JAX's messages and stack trace stay away, and nothing else does."""

import signal
import subprocess
import sys

import jax
import pytest

from experiments.last_line import FATAL, passed
from wgan_jax.training.processes import is_of_others

POLLED = b"E1128 09:07:36.879703    5044 coordination_service_agent.cc:288] Polled an error from coordination service\n"
ABORTS = b"F1128 09:07:36.879751    5044 client.h:86] Terminating process " + FATAL + b".\n"
TRACE = [b"*** Check failure stack trace: ***\n", b"    @     0x7f1f378f81b4  absl::SendToLog()\n"]
LAST = b"error: another process was lost\n"


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([b"WARNING: a\n", b"Traceback\n", b"ValueError: b\n"], [b"WARNING: a\n", b"Traceback\n", b"ValueError: b\n"]),
        ([b"WARNING: a\n", POLLED, ABORTS, *TRACE], [b"WARNING: a\n", LAST]),
        ([POLLED, b"error: out of disk\n", ABORTS, *TRACE], [b"error: out of disk\n"]),
        ([b"error: out of disk\n", ABORTS, *TRACE], [b"error: out of disk\n"]),
        ([POLLED, b"Traceback\n", b"ValueError: b\n"], [POLLED, b"Traceback\n", b"ValueError: b\n"]),
        ([], []),
    ],
)
def test_what_stderr_gets(lines, left):
    assert list(passed(lines, LAST)) == left


@pytest.mark.parametrize(("end", "code"), [("os.abort()", -signal.SIGABRT), ("os._exit(1)", 1), ("", 0)])
def test_the_line_is_that_of_a_process_that_jax_ends(root, end, code):
    """Written by what is no Python, from any thread, as the process dies."""
    lines = POLLED + ABORTS + b"".join(TRACE)
    program = f"import os; from experiments.last_line import keep_to; keep_to('lost'); os.write(2, b'a\\n' + {lines!r}); {end}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=root, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, b"a\nerror: lost\n")


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), True),
        (jax.errors.JaxRuntimeError("UNAVAILABLE: Failed to send RPC to coordination service."), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes"), False),
        (ValueError("shapes do not match"), False),
        (OSError("heartbeat"), False),
    ],
)
def test_errors_of_a_connection_are_told_from_those_of_this_process(error, lost):
    assert is_of_others(error) == lost
