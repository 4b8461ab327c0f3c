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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wgan_jax.errors import UserError
from wgan_jax.training.logging import read_metrics
from wgan_jax.training.workdir import checkpoint_steps

PATIENCE, HEARTBEAT = 600.0, 10  # seconds: for a command to end; after which a silent process counts as lost
CLOCKS = ("seconds",)  # columns
UNFINISHED = ("writing_*", "deleting", "damaged_*", ".*.tmp", ".building-*", "tmp*")  # no name of these may be left


class Tally:
    """Faults, tries and outcomes, in the order in which they came."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}
        self.lost: dict[str, list[str]] = {}

    def add(self, fault: str, lost: Sequence[str] = ()) -> None:
        self.tries[fault] = self.tries.get(fault, 0) + 1
        self.lost.setdefault(fault, []).extend(lost)
        for line in lost:
            print(f"{fault}: {line}", flush=True)

    def table(self) -> str:
        rows = [f"| {name} | {count} | {'; '.join(self.lost[name]) or 'good'} |" for name, count in self.tries.items()]
        return "\n".join(["| fault | tries | outcome |", "|---|---|---|", *rows])


class Watched(NamedTuple):
    """A command under way, and what can be seen of it from outside."""

    process: subprocess.Popen[bytes]
    workdir: Path
    said: Path  # what it prints
    since: float

    def seconds(self) -> float:
        return time.monotonic() - self.since

    def says(self, text: str) -> bool:
        return text in self.said.read_text(encoding="utf-8", errors="replace")

    def step(self) -> int:
        """Returns the step of the newest line of the record, 0 without."""
        path = self.workdir / "metrics.jsonl"
        try:
            *_, line = path.read_bytes().splitlines()
            return int(json.loads(line)["step"])
        except (OSError, ValueError, KeyError):
            return 0


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
        end([process.pid, *processes_of(process.pid, workdir)])
        process.wait()


def processes_of(pid: int, workdir: Path) -> list[int]:
    """Returns the processes that a command has started, and jobs that name its directory."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
            parents[int(folder.name)] = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            if os.fsencode(workdir) in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    found.add(pid)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid, os.getpid()})


def end(pids: Sequence[int]) -> None:
    """Kills processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def settle(pid: int, workdir: Path) -> None:
    """Waits until what a killed command had started has ended, as it does by itself."""
    deadline = time.monotonic() + PATIENCE
    while processes_of(pid, workdir) and time.monotonic() < deadline:
        time.sleep(0.1)


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
    left = [path for pattern in UNFINISHED for path in workdir.rglob(pattern)]
    return lines + [f"left behind: {path.relative_to(workdir)}" for path in left]


def ended(words: Sequence[str], cache: Path) -> tuple[int, str]:
    """Runs a command to its end, and returns its exit code and what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stderr


def undisturbed(words: Sequence[str], workdir: Path, cache: Path) -> None:
    """Runs a command to its end.

    Raises:
      UserError: it fails.
    """
    with started(words, workdir, cache) as run:
        if code := run.process.wait(PATIENCE):
            raise UserError(f"{' '.join(words)}: exit code {code}; it prints: {run.said}")


@contextlib.contextmanager
def own_network() -> Iterator[str]:
    """The name of a network with nothing but a loopback, "" where this user may not make one."""
    name = f"soak{os.getpid()}"
    if not as_root("ip", "netns", "add", name):
        yield ""
        return
    try:
        as_root("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        as_root("ip", "netns", "delete", name)


def as_root(tool: str, *words: str) -> bool:
    """Runs a program of iproute2, and returns whether it did what was asked."""
    path = shutil.which(tool)
    return path is not None and subprocess.run([path, *words], check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def several(words: Sequence[str], workdir: Path, cache: Path, count: int, network: str) -> Iterator[list[Watched]]:
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
            record.seek(max(0, path.stat().st_size - size))
            return [json.loads(line) for line in record.read().split(b"\n")[1:-1]]
    except OSError:  # there is none yet
        return []
