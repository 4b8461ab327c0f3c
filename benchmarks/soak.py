"""What a run and a sweep bear: killed and stopped at random moments of all that they do, then resumed; and many runs on end.

    python -m benchmarks.soak [--kills=30] [--sweep-kills=6] [--launchers=vectorized,processes,slurm] [--processes=2,4]
                              [--reads=20] [--runs=20] [--minutes=0] [--seed=0] [--workdir=DIR] [--config.key=value ...]

A small run of ring8 is killed (SIGKILL, to all its processes) at every phase in turn, and the same command goes on; once in a
while it is stopped and continued (SIGSTOP, SIGCONT). When it is done, its record must rise and equal, but for the clock, that
of a run which was left alone; its last state must be the same to the bit; nothing half-written may lie about; and no kill may
have cost more than what was trained since the last checkpoint was due. A sweep likewise under each launcher: all its processes
killed, one of its workers, or the command alone. Of a run of --processes each process is killed in turn, and stopped for good,
and the network between them is cut and slowed (as root with iproute2, in a network of their own): those that are left must end
within twice their heartbeat, each with one line, and another number of processes goes on. --reads samples, evaluates and
compares a run that goes on, and lets two runs build one cache of images. --runs trains so many runs in one process, and
--minutes one run for that long; they tell memory, open files and updates a second, at first and at last. Prints a table of
faults, tries and outcomes; exit code 1 where one lost something. Linux.
"""

import contextlib
import io
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.soak_parts import (
    HEARTBEAT,
    PATIENCE,
    UNFINISHED,
    Tally,
    Watched,
    as_root,
    end,
    ended,
    lost,
    newest_lines,
    own_network,
    processes_of,
    resources,
    settle,
    several,
    started,
    states,
    undisturbed,
    without_clock,
    words_of,
)
from experiments import command
from wgan_jax import runtime
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.training.logging import read_metrics
from wgan_jax.training.workdir import checkpoint_steps

CONFIG = "configs/wgan_gp.py:ring8"
STEPS, LOG, EVALUATE, CHECKPOINT = 600, 5, 60, 20
TINY = {
    "batch_size": 16,
    "model.width": 16,
    "n_critic": 2,
    "devices": 1,
    "steps": STEPS,
    "log_every": LOG,
    "eval_every": EVALUATE,
    "sample_every": 200,
    "checkpoint_every": CHECKPOINT,
    "keep": 2,
    "eval.samples": 100,
    "eval.feature_samples": 100,
    "eval.draws": 1,
}
LAUNCHERS = {
    "vectorized": ["--launcher=vectorized"],
    "processes": ["--launcher=processes", "--workers=2"],
    "slurm": ["--launcher=slurm", "--cluster=local"],
}
IMAGES = [f"--config.{pair}" for pair in ("data.image_size=16", "model.name=mlp", "model.width=16", "steps=4", "batch_size=8")]
IMAGES += [f"--config.eval.{pair}" for pair in ("samples=20", "feature_samples=20", "draws=1")]
LONG = 100_000_000  # steps that none reaches
SLOW = "tbf rate 1mbit burst 16kb latency 400ms"  # a network's queue, in the words of tc


# phase of a run -> whether it has come, given the step that the run began at
PHASES: dict[str, Callable[[Watched, int], bool]] = {
    "start": lambda run, _: True,
    "compilation": lambda run, _: run.says(" compiling"),
    "update": lambda run, began: run.step() > began,
    "evaluation": lambda run, began: run.step() > began and run.step() % EVALUATE == EVALUATE - LOG,
    "checkpoint": lambda run, _: any(run.workdir.glob("checkpoints/writing_*")),
    "end": lambda run, _: run.step() == STEPS,  # the last evaluation, figures, summary
}
DELAYS = {"start": 2.0, "compilation": 1.0, "update": 0.3, "evaluation": 0.05, "checkpoint": 0.0, "end": 1.5}  # at most


def kill_run(words: Sequence[str], folder: Path, kills: int, rng: random.Random, tally: Tally) -> None:
    """Kills a run at each phase in turn, and lets the same command go on, as often as it is told."""
    reference, cache, names = folder / "reference", folder / "cache", list(PHASES)
    undisturbed(words, reference, cache)
    whole, left, attempt = folder / "run0", kills, 0
    print(f"the run left alone: {len(read_metrics(reference / 'metrics.jsonl'))} lines", flush=True)
    while left > 0 or whole.exists():
        phase = names[attempt % len(names)]
        before = max(checkpoint_steps(whole / "checkpoints"), default=0)
        with started(words, whole, cache) as run:
            while run.process.poll() is None and not (left > 0 and PHASES[phase](run, before)):
                time.sleep(0.001)
            if run.process.poll() is None:
                time.sleep(rng.uniform(0, DELAYS[phase]))
                if rng.random() < 0.2:
                    run.process.send_signal(signal.SIGSTOP)
                    time.sleep(1.0)
                    run.process.send_signal(signal.SIGCONT)
                    tally.add("SIGSTOP, SIGCONT")
                if run.process.poll() is None:
                    end([run.process.pid])
                    run.process.wait()
                    trained, kept = run.step(), max(checkpoint_steps(whole / "checkpoints"), default=0)
                    again = trained - kept
                    most = 2 * CHECKPOINT  # the newest may have been under way
                    tally.add(f"run killed: {phase}", [f"{again} updates to repeat"] if again > most else [])
                    left, attempt = left - 1, attempt + 1
                    continue
            code = run.process.wait(PATIENCE)
        said = run.said.read_text(encoding="utf-8", errors="replace")
        tally.add(
            "resumed to its end", [f"exit code {code}: {said[-500:]}"] if code else lost(whole, reference, "metrics.jsonl")
        )
        attempt += 1
        if left <= 0 or code:
            return
        whole = folder / f"run{attempt}"


def kill_sweep(launcher: str, words: Sequence[str], folder: Path, kills: int, rng: random.Random, tally: Tally) -> None:
    """Kills a sweep's processes, one worker, or the command alone, in turn, at random moments; the same command goes on."""
    reference, cache, workdir = folder / f"{launcher}-reference", folder / "cache", folder / launcher
    undisturbed(words, reference, cache)
    whose = ["all"] if launcher == "vectorized" else ["the command", "a worker", "all"]
    for kill in range(kills):
        victim = whose[kill % len(whose)]
        with started(words, workdir, cache) as run:
            moment = rng.uniform(0.5, 12.0)
            while run.process.poll() is None and run.seconds() < moment:
                time.sleep(0.01)
            if run.process.poll() is not None:
                break
            others = processes_of(run.process.pid, workdir)
            working = [pid for pid in others if b"spawn_main" in words_of(pid) or b"submitit" in words_of(pid)]
            pids = {"all": [run.process.pid, *others], "a worker": rng.sample(working, min(1, len(working)))}
            end(pids.get(victim, [run.process.pid]))
            run.process.wait(PATIENCE)  # a worker's end is told by the command, which ends with the others
            settle(run.process.pid, workdir)
        tally.add(f"sweep, {launcher}, killed: {victim}")
    code, said = -1, ""
    for _ in range(2):  # the first may find that a job has ended with its worker
        with started(words, workdir, cache) as run:
            code = run.process.wait(PATIENCE)
        said = run.said.read_text(encoding="utf-8", errors="replace")
        if code == 0:
            break
    tally.add(
        f"sweep, {launcher}, resumed to its end",
        [f"exit code {code}: {said[-500:]}"] if code else lost(workdir, reference, "results.jsonl"),
    )


def lose_processes(words: Sequence[str], folder: Path, counts: Sequence[int], rng: random.Random, tally: Tally) -> None:
    """Takes each process of a run, and the network between them, at random moments; another number of processes goes on."""
    reference, whole, cache = folder / "processes-reference", folder / "processes", folder / "cache"
    with own_network() as network:
        tries = [(count, fault, victim) for count in counts for fault in ("killed", "stopped") for victim in range(count)]
        if network:
            tries += [(count, fault, -1) for count in counts for fault in ("network cut", "network slowed")]
        else:
            print("the network is neither cut nor slowed, which takes root and iproute2", flush=True)
        rng.shuffle(tries)
        for count, fault, victim in tries:
            with several([*words, f"--config.steps={LONG}"], whole, cache, count, network) as runs:
                began = runs[0].step()
                while runs[0].step() == began and all(run.process.poll() is None for run in runs):
                    time.sleep(0.1)
                time.sleep(rng.uniform(0, 3))
                outcome = _disturbed(runs, fault, victim, network)
            tally.add(f"{count} processes: {fault}", [f"process {victim}: {line}" for line in outcome])
    steps = max(checkpoint_steps(whole / "checkpoints"), default=0) + 2 * CHECKPOINT
    for workdir in (whole, reference):
        undisturbed([*words, f"--config.steps={steps}"], workdir, cache)
    own, others = (
        [(line["step"], *line) for line in without_clock(workdir / "metrics.jsonl")] for workdir in (whole, reference)
    )
    left = [path for pattern in UNFINISHED for path in whole.rglob(pattern)]
    wrong = ["the record lacks lines or names"] * (own != others) + [f"left behind: {path.relative_to(whole)}" for path in left]
    tally.add("processes: one resumed to the end", wrong)


def _disturbed(runs: Sequence[Watched], fault: str, victim: int, network: str) -> list[str]:
    """Does a fault to processes that train, and returns what came of it that should not."""
    if any(run.process.poll() is not None for run in runs):
        return ["one ended by itself"]
    if fault == "network slowed":
        as_root("tc", "-n", network, "qdisc", "add", "dev", "lo", "root", *SLOW.split())
        before = runs[0].step()
        time.sleep(3 * HEARTBEAT)
        wrong = ["it does not train"] * (runs[0].step() == before)
        as_root("tc", "-n", network, "qdisc", "delete", "dev", "lo", "root")
        runs[-1].process.send_signal(signal.SIGTERM)
        codes = [run.process.wait(PATIENCE) for run in runs]
        return wrong + [f"exit codes {codes} at SIGTERM"] * any(code != 128 + signal.SIGTERM for code in codes)
    left = list(runs)
    if fault == "network cut":
        as_root("ip", "-n", network, "link", "set", "lo", "down")
    else:
        left.remove(runs[victim])
        runs[victim].process.send_signal(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
    deadline = time.monotonic() + 2 * HEARTBEAT
    while any(run.process.poll() is None for run in left) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)  # for what prints their last lines
    if fault == "network cut":
        as_root("ip", "-n", network, "link", "set", "lo", "up")
    wrong = [f"{sum(run.process.poll() is None for run in left)} still run"] * any(run.process.poll() is None for run in left)
    said = [run.said.read_text(encoding="utf-8", errors="replace") for run in left]
    return wrong + [f"it says: {text[-500:]}" for text in said if text.count("error: ") != 1 or "race" in text]


def share(words: Sequence[str], folder: Path, reads: int, tally: Tally) -> None:
    """Reads a run while it writes and deletes checkpoints, starts it twice, and lets two build one cache of images."""
    workdir, cache = folder / "shared", folder / "cache"
    readers = [
        ["experiments.sample", "--num=4", f"--out={folder / 'samples.npz'}"],
        ["experiments.evaluate", "--repeats=1"],
        ["experiments.compare", f"--out={folder / 'compare.png'}"],
        ["experiments.evaluate", "--repeats=1", "--step=all"],
        ["experiments.sample", "--step=best", f"--out={folder / 'samples.png'}"],
    ]
    with started([*words, f"--config.steps={LONG}"], workdir, cache) as run:
        while run.step() < CHECKPOINT and run.process.poll() is None:
            time.sleep(0.1)
        for index in range(reads):
            reader = readers[index % len(readers)]
            code, said = ended([*reader, f"--workdir={workdir}"], cache)
            tally.add(f"{reader[0]} of a run that goes on", [f"exit code {code}: {said}"] * (code != 0))
        code, said = ended([*words, f"--config.steps={LONG}", f"--workdir={workdir}"], cache)
        tally.add("a run begun twice", [f"exit code {code}: {said}"] * (code != 2 or said.count("error: ") != 1))
        tally.add("what is read goes on", [f"exit code {run.process.poll()}"] * (run.process.poll() is not None))
    images, cache = folder / "images", folder / "images-cache"
    _write_images(images)
    own = ["experiments.run", "--config=configs/wgan_gp.py:folder", f"--config.data.path={images}", *IMAGES]
    workdirs = [folder / name for name in ("one", "another", "third")]
    with started(own, workdirs[0], cache) as one, started(own, workdirs[1], cache) as another:
        codes = [run.process.wait(PATIENCE) for run in (one, another)]
    undisturbed(own, workdirs[2], cache)
    wrong = [f"exit codes {codes}"] * any(codes)
    wrong += ["the states differ"] * (not states(workdirs[0]) == states(workdirs[1]) == states(workdirs[2]))
    left = [path for pattern in UNFINISHED for path in cache.rglob(pattern)]
    tally.add("a cache of images built by two at once", wrong + [f"left behind: {path.relative_to(folder)}" for path in left])


def _write_images(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(200):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / f"{index}.png")


def told(name: str, seen: Sequence[tuple[float, int, float]]) -> None:
    """Prints memory, open files and updates a second of the first and of the last tenth, the very first one aside."""
    tenth = max(1, len(seen) // 10)
    for when, part in (("first", seen[1 : 1 + tenth]), ("last", seen[-tenth:])):
        memory, files, rate = (sum(column) / len(part) for column in zip(*part, strict=True))
        print(f"{name}, {when} tenth: {memory:.0f} MB, {files:.0f} open files, {rate:.0f} updates/s", flush=True)


def many_runs(words: Sequence[str], count: int) -> None:
    """Trains runs back to back in this process, and says what they cost at first and at last."""
    config = load(CONFIG, words)
    runtime.configure_jax(config)
    import jax

    from wgan_jax.training.notebook import train

    seen = []
    for seed in range(count):
        config.seed = seed
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            summary = train(config, workdir=folder).summary
        jax.clear_caches()  # of compiled programs, which JAX keeps: 50 MB or so of each run
        seen.append((*resources("self"), float(summary["updates_per_second"])))
    told(f"{count} runs in one process", seen)


def long_run(words: Sequence[str], folder: Path, minutes: float) -> None:
    """Trains one run for so long, and says what it costs at first and at last."""
    seen: list[tuple[float, int, float]] = []
    with started([*words, f"--config.steps={LONG}"], folder / "long", folder / "cache") as run:
        while run.process.poll() is None and len(seen) < 60 * minutes:  # a look a second, from the first updates on
            time.sleep(1.0)
            lines = newest_lines(run.workdir / "metrics.jsonl")
            if len(lines) > 1 and run.process.poll() is None:
                rate = (lines[-1]["step"] - lines[0]["step"]) / max(1e-9, lines[-1]["seconds"] - lines[0]["seconds"])
                seen.append((*resources(run.process.pid), rate))
        step = run.step()
        run.process.send_signal(signal.SIGTERM)
        code = run.process.wait(PATIENCE)
    told(f"one run of {step:,} updates (exit code {code} at SIGTERM)", seen)


def soak(argv: list[str]) -> None:
    """Parses the flags, kills, compares, prints the table."""
    parser = command.Parser("benchmarks.soak", __doc__)
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="of a run")
    parser.add_argument("--sweep-kills", type=int, default=6, metavar="N", help="of a sweep under each launcher")
    parser.add_argument("--launchers", default=",".join(LAUNCHERS), metavar="A,B", help="that sweeps are killed under")
    parser.add_argument("--processes", default="2,4", metavar="N,N", help="of runs that lose one; empty for none")
    parser.add_argument("--reads", type=int, default=20, metavar="N", help="of a run that goes on, by three commands")
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="back to back in one process")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="M", help="of one long run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--workdir", type=command.path, metavar="DIR", help="kept; by default a temporary folder")
    flags, overrides = parser.parse(argv)
    if not all(count.isdecimal() and int(count) > 1 for count in filter(None, flags.processes.split(","))):
        raise UserError(f"--processes: {flags.processes} is not a list of whole numbers of at least 2")
    rng, tally = random.Random(flags.seed), Tally()  # noqa: S311 - moments, not secrets
    tiny = [*(f"--config.{key}={value}" for key, value in TINY.items()), *overrides]
    with contextlib.ExitStack() as stack:
        folder = Path(flags.workdir or stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        if flags.kills:
            kill_run(["experiments.run", f"--config={CONFIG}", *tiny], folder, flags.kills, rng, tally)
        if flags.sweep_kills:
            words = ["experiments.sweep", f"--config={CONFIG}", "--seeds=4", "--members=2", *tiny]
            for launcher in flags.launchers.split(","):
                kill_sweep(launcher, [*words, *LAUNCHERS[launcher]], folder, flags.sweep_kills, rng, tally)
        if flags.processes:
            words = ["experiments.run", f"--config={CONFIG}", *tiny]
            lose_processes(words, folder, [int(count) for count in flags.processes.split(",")], rng, tally)
        if flags.reads:
            share(["experiments.run", f"--config={CONFIG}", *tiny], folder, flags.reads, tally)
        if flags.minutes:
            long_run(["experiments.run", f"--config={CONFIG}", *tiny], folder, flags.minutes)
        if flags.runs:
            many_runs(tiny, flags.runs)
    print(tally.table())
    if any(tally.lost.values()):
        sys.exit(1)


if __name__ == "__main__":
    command.main(soak)
