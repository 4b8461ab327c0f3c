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
--minutes one run for that long; they tell memory, open files and updates a second, at first and at last, and the overrides of
the config are theirs. Prints a table of faults, tries and outcomes; exit code 1 where one lost something. Linux.
"""

import contextlib
import functools
import io
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.soak_parts import (
    CHECKPOINT,
    LONG,
    Tally,
    Watched,
    kill,
    lost,
    newest_lines,
    processes_of,
    resources,
    run_to_end,
    settle,
    started,
    undisturbed,
    wait_for,
    words_of,
)
from benchmarks.soak_together import build_at_once, lose_processes, read_meanwhile
from experiments import command
from wgan_jax import runtime
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.training.logging import read_metrics
from wgan_jax.training.workdir import checkpoint_steps

CONFIG = "configs/wgan_gp.py:ring8"
STEPS, LOG, EVALUATE, BATCH = 600, 5, 60, 16
TINY = {
    "batch_size": BATCH,
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
GROWTH, SPARE = 1.5, 20  # of MB and open files, from the first tenth to the last: so many times, and so many more
STALLED = 60  # seconds without an update
LAUNCHERS = {
    "vectorized": ["--launcher=vectorized"],
    "processes": ["--launcher=processes", "--workers=2"],
    "slurm": ["--launcher=slurm", "--cluster=local"],
}


# phase of a run -> whether it has come, given the step that the run began at
PHASES: dict[str, Callable[[Watched, int], bool]] = {
    "start": lambda run, _: True,
    "compilation": lambda run, _: " compiling" in run.text(),
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
            come = functools.partial(PHASES[phase], run, before)
            if left > 0 and wait_for(come, [run], pause=0.001):
                time.sleep(rng.uniform(0, DELAYS[phase]))
                if rng.random() < 0.2:
                    run.process.send_signal(signal.SIGSTOP)
                    time.sleep(1.0)
                    run.process.send_signal(signal.SIGCONT)
                    tally.add("SIGSTOP, SIGCONT")
                if run.process.poll() is None:
                    kill([run.process.pid])
                    run.process.wait()
                    trained, kept = run.step(), max(checkpoint_steps(whole / "checkpoints"), default=0)
                    again = trained - kept
                    most = 2 * CHECKPOINT  # the newest may have been under way
                    tally.add(f"run killed: {phase}", [f"{again} updates to repeat"] if again > most else [])
                    left, attempt = left - 1, attempt + 1
                    continue
            code = run.code()
            said = run.text()
        tally.add(
            "resumed to its end",
            [f"exit code {code}: {said[-500:]}"] if code != 0 else lost(whole, reference, "metrics.jsonl"),
        )
        attempt += 1
        if left <= 0 or code != 0:
            return
        whole = folder / f"run{attempt}"


def kill_sweep(launcher: str, words: Sequence[str], folder: Path, kills: int, rng: random.Random, tally: Tally) -> None:
    """Kills a sweep's processes, one worker, or the command alone, in turn, at random moments; the same command goes on."""
    reference, cache, workdir = folder / f"{launcher}-reference", folder / "cache", folder / launcher
    undisturbed(words, reference, cache)
    whose = ["all"] if launcher == "vectorized" else ["the command", "a worker", "all"]
    for index in range(kills):
        victim = whose[index % len(whose)]
        with started(words, workdir, cache) as run:
            moment = rng.uniform(0.5, 12.0)
            if not wait_for(functools.partial(_has_run, run, moment, victim), [run]):
                print(f"{launcher}: it ended before kill {index + 1} of {kills}", flush=True)
                break
            others = processes_of(run.process.pid, workdir)
            pids = {"all": [run.process.pid, *others], "a worker": workers(run)[:1], "the command": [run.process.pid]}
            kill(pids[victim])
            code = run.code()  # a worker's end is told by the command, which ends with the others
            left = settle(run.process.pid, workdir)
        wrong = ["the command goes on"] * (code is None) + [f"{len(left)} processes go on"] * (left != [])
        tally.add(f"sweep, {launcher}, killed: {victim}", wrong)
    wrong = run_to_end(words, workdir, cache)
    if wrong and launcher == "slurm":  # the first may find that a job has ended with its worker
        print(f"{launcher}: {wrong[0]}", flush=True)
        wrong = run_to_end(words, workdir, cache)
    tally.add(f"sweep, {launcher}, resumed to its end", wrong or lost(workdir, reference, "results.jsonl"))


def _has_run(run: Watched, seconds: float, victim: str) -> bool:
    return run.seconds() > seconds and (victim != "a worker" or workers(run) != [])


def workers(run: Watched) -> list[int]:
    """Returns the processes that train for a sweep's command."""
    found = processes_of(run.process.pid, run.workdir)
    return [pid for pid in found if b"spawn_main" in words_of(pid) or b"submitit" in words_of(pid)]


def told(name: str, seen: Sequence[tuple[float, int, float]], tally: Tally) -> None:
    """Prints memory, open files and updates a second of the first and of the last tenth, the very first one aside."""
    tenth, means = max(1, len(seen) // 10), []
    for when, part in (("first", seen[1 : 1 + tenth] or seen), ("last", seen[-tenth:])):
        means.append([sum(column) / len(part) for column in zip(*part, strict=True)])
        memory, files, rate = means[-1]
        print(f"{name}, {when} tenth: {memory:.0f} MB, {files:.0f} open files, {rate:.0f} updates/s", flush=True)
    first, last = means
    grown = [what for what, was, now in zip(("memory", "open files"), first, last, strict=False) if now > GROWTH * was + SPARE]
    tally.add(name, [f"more {what}" for what in grown])


def many_runs(words: Sequence[str], count: int, tally: Tally) -> None:
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
    told(f"{count} runs in one process", seen, tally)


def long_run(words: Sequence[str], folder: Path, minutes: float, tally: Tally) -> None:
    """Trains one run for so long, and says what it costs at first and at last."""
    seen: list[tuple[float, int, float]] = []
    with started([*words, f"--config.steps={LONG}"], folder / "long", folder / "cache") as run:
        trains = wait_for(lambda: len(newest_lines(run.workdir / "metrics.jsonl")) > 1, [run])
        wrong, newest = ["it does not train"] * (not trains), 0
        for _ in range(int(60 * minutes) if trains else 0):  # a look a second
            time.sleep(1.0)
            lines = newest_lines(run.workdir / "metrics.jsonl")
            rate = (lines[-1]["step"] - lines[0]["step"]) / max(1e-9, lines[-1]["seconds"] - lines[0]["seconds"])
            if run.process.poll() is not None:
                break
            seen.append((*resources(run.process.pid), rate))
            if len(seen) % STALLED == 0:
                wrong += [f"it stalls at step {newest}"] * (run.step() == newest)
                newest = run.step()
        step = run.step()
        run.process.send_signal(signal.SIGTERM)
        code = run.code()
    tally.add("a long run", wrong + [f"exit code {code} at SIGTERM"] * (code != 128 + signal.SIGTERM))
    if seen:
        told(f"one run of {step:,} updates", seen, tally)


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
    counts = [int(count) if count.isdecimal() else 0 for count in flags.processes.split(",") if flags.processes]
    if any(count < 2 or BATCH % count for count in counts):
        raise UserError(f"--processes: {flags.processes} is no list of numbers of at least 2 that share a batch of {BATCH}")
    launchers = flags.launchers.split(",")
    for flag in ("kills", "sweep_kills", "reads", "runs"):
        command.check_whole(f"--{flag.replace('_', '-')}", getattr(flags, flag), 0, command.REPEATS)
    if not 0 <= flags.minutes <= command.REPEATS:
        raise UserError(f"--minutes: {flags.minutes} is not a number from 0 to {command.REPEATS}")
    if not set(launchers) <= set(LAUNCHERS):
        raise UserError(f"--launchers: {flags.launchers}; some of: {', '.join(LAUNCHERS)}")
    rng, tally = random.Random(flags.seed), Tally()  # noqa: S311 - moments, not secrets
    tiny = [f"--config.{key}={value}" for key, value in TINY.items()]
    run = ["experiments.run", f"--config={CONFIG}", *tiny]
    with contextlib.ExitStack() as stack:
        folder = Path(flags.workdir or stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"--workdir: {folder} is not empty")
        stack.callback(lambda: print(tally.table()))  # of what was tried, whatever ends this
        if flags.kills:
            kill_run(run, folder, flags.kills, rng, tally)
        for launcher in launchers if flags.sweep_kills else []:
            words = ["experiments.sweep", f"--config={CONFIG}", "--seeds=4", "--members=2", *tiny, *LAUNCHERS[launcher]]
            kill_sweep(launcher, words, folder, flags.sweep_kills, rng, tally)
        if counts:
            lose_processes(run, folder, counts, rng, tally)
        if flags.reads:
            read_meanwhile(run, folder, flags.reads, tally)
            build_at_once(folder, tally)
        if flags.minutes:
            long_run([*run, *overrides], folder, flags.minutes, tally)
        if flags.runs:
            many_runs([*tiny, *overrides], flags.runs, tally)
    if any(tally.wrong.values()):
        sys.exit(1)


if __name__ == "__main__":
    command.main(soak)
