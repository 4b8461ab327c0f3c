"""What benchmarks.soak watches with: commands seen from outside, what a directory lost, a network to cut, and the tally."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wgan_jax.errors import UserError
from wgan_jax.training.logging import read_metrics
from wgan_jax.training.workdir import checkpoint_steps

PATIENCE, HEARTBEAT = 600.0, 10  # seconds: for a command to end; after which a silent process counts as lost
LONG, CHECKPOINT = 100_000_000, 20  # steps that none reaches; updates between two checkpoints
CLOCKS = ("seconds",)  # columns
UNFINISHED = ("writing_*", "deleting", "damaged_*", ".*.tmp", ".building-*", "tmp*")  # no name of these may be left


class Tally:
    """Faults, tries and outcomes, in the order in which they came."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}
        self.wrong: dict[str, list[str]] = {}

    def add(self, fault: str, wrong: Sequence[str] = ()) -> None:
        self.tries[fault] = self.tries.get(fault, 0) + 1
        self.wrong.setdefault(fault, []).extend(" ".join(line.split()) for line in wrong)
        for line in wrong:
            print(f"{fault}: {line}", flush=True)

    def table(self) -> str:
        rows = [f"| {name} | {count} | {'; '.join(self.wrong[name]) or 'good'} |" for name, count in self.tries.items()]
        return "\n".join(["| fault | tries | outcome |", "|---|---|---|", *rows])


class Watched(NamedTuple):
    """A command under way, and what can be seen of it from outside."""

    process: subprocess.Popen[bytes]
    workdir: Path
    said: Path  # what it prints
    since: float

    def seconds(self) -> float:
        return time.monotonic() - self.since

    def text(self) -> str:
        """Returns what it has printed so far."""
        return self.said.read_text(encoding="utf-8", errors="replace")

    def step(self) -> int:
        """Returns the step of the newest line of the record, 0 without."""
        lines = newest_lines(self.workdir / "metrics.jsonl")
        return int(lines[-1]["step"]) if lines else 0

    def code(self, seconds: float = PATIENCE) -> int | None:
        """Waits until it ends, and returns its exit code; None where it goes on for longer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None


def wait_for(condition: Callable[[], Any], runs: Sequence[Watched], pause: float = 0.05) -> bool:
    """Waits until a condition holds, and returns whether it does before a command ends or patience does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline or any(run.process.poll() is not None for run in runs):
            return False
        time.sleep(pause)
    return True


@contextlib.contextmanager
def started(words: Sequence[str], workdir: Path, cache: Path, within: Sequence[str] = (), name: str = "") -> Iterator[Watched]:
    """A command in a session of its own, with a cache of programs of its own; nothing of it outlives this context.

    within: words before the command. name: of the one among several of a directory.
    """
    said = workdir.with_name(f"{workdir.name}{name}.log")
    with said.open("wb") as out:
        process = subprocess.Popen(
            [*within, sys.executable, "-m", *words, f"--workdir={workdir}"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "XDG_CACHE_HOME": str(cache)},
            start_new_session=True,
        )
    try:
        yield Watched(process, workdir, said, time.monotonic())
    finally:
        kill([process.pid, *processes_of(process.pid, workdir)])
        process.wait()


def processes_of(pid: int, workdir: Path) -> list[int]:
    """Returns the processes that a command has started, and jobs that name its directory."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
            parents[int(folder.name)] = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            words = words_of(int(folder.name))
            if os.fsencode(workdir) in words and b"python" in words:
                found.add(int(folder.name))
    found.add(pid)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid, os.getpid()})


def kill(pids: Sequence[int]) -> None:
    """Kills processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def settle(pid: int, workdir: Path) -> list[int]:
    """Waits until what a killed command had started has ended, as it does by itself; returns what goes on for too long."""
    deadline = time.monotonic() + PATIENCE
    while (left := processes_of(pid, workdir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def without_clock(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a record, less what a clock says."""
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in read_metrics(path)]


def states(workdir: Path) -> list[bytes]:
    """Returns every array of the newest checkpoints under a directory, as bytes."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    arrays = []
    for folder in sorted({path.parent for path in workdir.rglob("step_*") if path.parent.parts[-1] != "samples"}):
        if steps := checkpoint_steps(folder):
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                tree = checkpointer.restore(folder / f"step_{steps[-1]:08d}" / "state")
            arrays += [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
    return arrays


def lost(workdir: Path, reference: Path, record: str) -> list[str]:
    """Returns what a directory lacks of one that was left alone."""
    lines = []
    own, others = (without_clock(folder / record) for folder in (workdir, reference))
    if own != others:
        lines.append(f"{record} has {len(own)} lines, and {len(others)} was to be had, or they differ")
    if states(workdir) != states(reference):
        lines.append("the last state differs")
    return lines + left_behind(workdir)


def answer(words: Sequence[str], cache: Path) -> tuple[int | None, str]:
    """Runs a command to its end, and returns its exit code, None for one that goes on too long, and its stderr."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stderr


def run_to_end(words: Sequence[str], workdir: Path, cache: Path) -> list[str]:
    """Runs a command of a directory to its end, and returns what it ends with other than well."""
    with started(words, workdir, cache) as run:
        code = run.code()
        return [f"exit code {code}: {run.text()[-500:]}"] * (code != 0)


def undisturbed(words: Sequence[str], workdir: Path, cache: Path) -> None:
    """Runs a command that others are compared with to its end.

    Raises:
      UserError: it fails.
    """
    if wrong := run_to_end(words, workdir, cache):
        raise UserError(f"{' '.join(words)}: {wrong[0]}")


def left_behind(folder: Path) -> list[str]:
    """Returns what a killed process has left in a folder half-written."""
    return [f"left behind: {path.relative_to(folder)}" for pattern in UNFINISHED for path in folder.rglob(pattern)]


@contextlib.contextmanager
def own_network() -> Iterator[str]:
    """The name of a network with nothing but a loopback, "" where this user may not make one."""
    name = f"soak{os.getpid()}"
    if not succeeds("ip", "netns", "add", name):
        yield ""
        return
    try:
        yield name if succeeds("ip", "-n", name, "link", "set", "lo", "up") else ""
    finally:
        succeeds("ip", "netns", "delete", name)


def succeeds(tool: str, *words: str) -> bool:
    """Runs a program of iproute2, which asks for root, and returns whether it did what was asked."""
    path = shutil.which(tool)
    return path is not None and subprocess.run([path, *words], check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def run_processes(words: Sequence[str], workdir: Path, cache: Path, count: int, network: str) -> Iterator[list[Watched]]:
    """The processes of a run on one network; nothing of them outlives this context."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = [
        f"--config.devices={count}",
        "--distributed",
        f"--coordinator=127.0.0.1:{port}",
        f"--processes={count}",
        f"--heartbeat={HEARTBEAT}",
    ]
    within = ["ip", "netns", "exec", network] if network else []
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(started([*words, *flags, f"--process={index}"], workdir, cache, within, str(index)))
            for index in range(count)
        ]


def words_of(pid: int) -> bytes:
    """Returns the words of a process's command, b"" of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def resources(pid: int | str) -> tuple[float, int]:
    """Returns a process's resident memory in MB, and how many files it has open."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def newest_lines(path: Path, size: int = 8_192) -> list[dict[str, Any]]:
    """Returns the whole lines among the last bytes of a record: to read all of a long one would slow the run that it is of."""
    try:
        with path.open("rb") as record:
            beyond = max(0, path.stat().st_size - size)
            record.seek(beyond)
            return [json.loads(line) for line in record.read().split(b"\n")[beyond > 0 : -1]]
    except (OSError, ValueError):  # there is none yet, or it is being cut
        return []
