"""A process that loses another says one line: JAX's messages and stack trace stay away, and nothing else does."""

import os
import signal
import subprocess
import sys

import jax
import pytest

from experiments.last_line import passed
from wgan_jax.errors import LostError
from wgan_jax.training.processes import is_of_others

POLLED = [
    b"E1128 09:07:36.879703    5044 coordination_service_agent.cc:288] Polled an error from coordination service\n",
    b"RPC: /xla.coordination.CoordinationService/PollForError [type.googleapis.com/...='']\n",
    b"=== Source Location Trace: ===\n",
]
ABORTS = (
    b"F1128 09:07:36.879751    5044 client.h:86] Terminating process because the JAX distributed service detected "
    b"fatal errors. absl::Status: UNAVAILABLE: gone\n"
)
ABORT = [
    ABORTS,
    b"*** Check failure stack trace: ***\n",
    b"    @     0x7f1f378f81b4  absl::SendToLog()\n",
]
FOREIGN = b"E1128 09:07:36.879703    5044 cuda_executor.cc:1] out of memory\n"
BUG = [b"Traceback (most recent call last):\n", b'  File "a.py", line 1, in f\n', b"ValueError: b\n"]
LAST = b"error: lost (UNAVAILABLE: gone)\n"


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([b"WARNING: a\n", *BUG], [b"WARNING: a\n", *BUG]),
        ([b"WARNING: a\n", *POLLED, *ABORT], [b"WARNING: a\n", LAST]),
        ([*POLLED, *BUG, *ABORT], [*BUG, LAST]),
        ([*POLLED, b"error: out of disk\n", *ABORT], [b"error: out of disk\n"]),
        ([b"error: of a library\n", b"WARNING: a\n", *ABORT], [b"error: of a library\n", b"WARNING: a\n", LAST]),
        ([*POLLED, FOREIGN, *ABORT], [FOREIGN, LAST]),
        ([BUG[0], *POLLED, BUG[1], *ABORT], [BUG[0], BUG[1], LAST]),
        ([*BUG, *POLLED], [*BUG, *POLLED]),
        ([], []),
    ],
)
def test_what_stderr_gets(lines, left):
    assert list(passed(lines, "lost")) == left


@pytest.mark.parametrize(("end", "code"), [("os.abort()", -signal.SIGABRT), ("os._exit(1)", 1), ("", 0)])
def test_the_line_is_that_of_a_process_that_jax_ends(root, end, code):
    """Written by what is no Python, as the process dies."""
    lines = b"a\n" + b"".join(POLLED + ABORT)
    program = (
        f"import os; from experiments.last_line import filter_stderr; filter_stderr('lost'); os.write(2, {lines!r}); {end}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=root, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, b"a\n" + LAST)


def test_signals_to_all_processes_leave_what_prints(root):
    """As of a scheduler that signals every process of a job: the filter is the only child of the program."""
    program = (
        "import os, signal, sys, time; from pathlib import Path; from experiments.last_line import filter_stderr\n"
        "filter_stderr('lost'); print('up', file=sys.stderr, flush=True)\n"
        "pid = int(Path(f'/proc/self/task/{os.getpid()}/children').read_text())\n"
        "sys.stdin.readline(); os.kill(pid, signal.SIGTERM); time.sleep(0.2); raise ValueError('a bug')"
    )
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "up\n"  # the filter reads, and has set its signals aside
        _, said = process.communicate("\n", timeout=60)
    assert said.splitlines()[-1] == "ValueError: a bug"


def test_a_closed_stderr_is_not_fatal(root):
    program = "import os; os.close(2); from experiments.last_line import filter_stderr; filter_stderr('lost')(); os._exit(0)"
    assert subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60, check=False).returncode == 0


def test_leaving_at_once_prints_what_was_said(root):
    """Also by a filter that is late: with the process a container or a job step may end, and the filter with it."""
    program = (
        "import os, signal, sys, threading; from pathlib import Path\n"
        "from experiments import command; from experiments.last_line import filter_stderr\n"
        "command.before_exit(filter_stderr('lost')); print('error: mine', file=sys.stderr)\n"
        "pid = int(Path(f'/proc/self/task/{os.getpid()}/children').read_text()); os.kill(pid, signal.SIGSTOP)\n"
        "threading.Timer(0.5, os.kill, (pid, signal.SIGCONT)).start(); command.leave(3)"
    )
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as said:
        code = subprocess.Popen([sys.executable, "-c", program], stderr=writing, cwd=root).wait(60)
        os.close(writing)
        os.set_blocking(reading, False)
        assert (code, said.read()) == (3, b"error: mine\n")


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


def test_a_loss_is_said_in_one_line_with_its_reason():
    assert str(LostError("UNKNOWN: a\nb")).endswith("goes on from the newest checkpoint (UNKNOWN: a)")
    assert str(LostError()).endswith("goes on from the newest checkpoint")
