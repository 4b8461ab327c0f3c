"""Faults of benchmarks.soak that take several commands at once: processes of one run, readers of a run, builders of a cache."""

import functools
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.soak_parts import (
    CHECKPOINT,
    HEARTBEAT,
    LONG,
    Tally,
    Watched,
    answer,
    left_behind,
    own_network,
    run_processes,
    run_to_end,
    started,
    states,
    succeeds,
    undisturbed,
    wait_for,
    without_clock,
)
from experiments.last_line import MESSAGE
from wgan_jax.training.workdir import checkpoint_steps

SLOW = "tbf rate 1mbit burst 16kb latency 400ms"  # a network's queue, in the words of tc
PICTURES = 4000  # that two commands decode at once
IMAGES = (
    *("--config.data.image_size=16", "--config.model.name=mlp", "--config.model.width=16", "--config.batch_size=8"),
    *("--config.steps=4", "--config.eval.samples=20", "--config.eval.feature_samples=20", "--config.eval.draws=1"),
)


def lose_processes(words: Sequence[str], folder: Path, counts: Sequence[int], rng: random.Random, tally: Tally) -> None:
    """Takes each process of a run, and the network between them, at random moments; another number of processes goes on."""
    reference, whole, cache = folder / "together-reference", folder / "together", folder / "cache"
    with own_network() as network:
        tries = [(count, fault, victim) for count in counts for fault in ("killed", "stopped") for victim in range(count)]
        if network:
            tries += [(count, fault, 0) for count in counts for fault in ("network cut", "network slowed")]
        else:
            print("the network is neither cut nor slowed, which takes root and iproute2", flush=True)
        rng.shuffle(tries)
        for count, fault, victim in tries:
            kept = _kept(whole)
            with run_processes([*words, f"--config.steps={LONG}"], whole, cache, count, network) as runs:
                if wait_for(functools.partial(_trains, runs[0]), runs):
                    time.sleep(rng.uniform(0, 3))
                    wrong = _disturb(runs, fault, victim, network)
                else:
                    wrong = [f"{[run.process.poll() for run in runs]} before it trains: {runs[0].text()[-500:]}"]
                wrong += [f"it begins at another step than {kept}"] * (f"{kept}/{LONG} compiling" not in runs[0].text())
                again = runs[0].step() - _kept(whole)
                wrong += [f"{again} updates to repeat"] * (again > 2 * CHECKPOINT)  # the newest may have been under way
            tally.add(f"{count} processes: {fault}", [f"process {victim}: {line}" for line in wrong])
    last = [*words, f"--config.steps={_kept(whole) + 2 * CHECKPOINT}"]
    undisturbed(last, reference, cache)
    wrong = run_to_end(last, whole, cache) + left_behind(whole)
    own, others = (
        [(line["step"], *line) for line in without_clock(workdir / "metrics.jsonl")] for workdir in (whole, reference)
    )
    tally.add("several processes: resumed to its end by one", wrong + ["the record lacks lines or names"] * (own != others))


def _trains(run: Watched) -> bool:
    return " training" in run.text()


def _kept(workdir: Path) -> int:
    return max(checkpoint_steps(workdir / "checkpoints"), default=0)


def _disturb(runs: Sequence[Watched], fault: str, victim: int, network: str) -> list[str]:
    """Does a fault to processes that train, and returns what came of it that should not."""
    if fault == "network slowed":
        if not succeeds("tc", "-n", network, "qdisc", "add", "dev", "lo", "root", *SLOW.split()):
            return ["it could not be slowed"]
        before = runs[0].step()
        time.sleep(3 * HEARTBEAT)
        wrong = ["it does not train"] * (runs[0].step() == before)
        succeeds("tc", "-n", network, "qdisc", "delete", "dev", "lo", "root")
        runs[-1].process.send_signal(signal.SIGTERM)
        codes = [run.code() for run in runs]
        return wrong + [f"exit codes {codes} at SIGTERM"] * any(code != 128 + signal.SIGTERM for code in codes)
    left = list(runs)
    if fault == "network cut":
        if not succeeds("ip", "-n", network, "link", "set", "lo", "down"):
            return ["it could not be cut"]
    else:
        left.remove(runs[victim])
        runs[victim].process.send_signal(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
    deadline = time.monotonic() + 2 * HEARTBEAT
    codes = [run.code(max(0.0, deadline - time.monotonic())) for run in left]
    time.sleep(1)  # for those that print the last lines of the aborted
    if fault == "network cut":
        succeeds("ip", "-n", network, "link", "set", "lo", "up")
    wrong = [f"exit codes {codes}"] * any(code not in (1, -signal.SIGABRT) for code in codes)
    return wrong + [f"it says: {run.text()[-500:]}" for run in left if not _in_a_line(run.text())]


def _in_a_line(text: str) -> bool:
    """Returns whether a text ends with one error, and has neither a traceback nor messages of JAX's."""
    lines = text.encode().splitlines()
    return (
        text.count("error: ") == 1
        and lines[-1].startswith(b"error: ")
        and not any(line.startswith((b"Traceback", b"***")) or MESSAGE.match(line) for line in lines)
    )


def read_meanwhile(words: Sequence[str], folder: Path, reads: int, tally: Tally) -> None:
    """Samples, evaluates and compares a run while it writes and deletes checkpoints, and begins it once more."""
    workdir, cache = folder / "read", folder / "cache"
    readers = [
        ["experiments.sample", "--num=4", f"--out={folder / 'samples.npz'}"],
        ["experiments.evaluate", "--repeats=1"],
        ["experiments.compare", f"--out={folder / 'compare.png'}"],
        ["experiments.evaluate", "--repeats=1", "--step=all"],
        ["experiments.sample", "--step=best", f"--out={folder / 'samples.png'}"],
    ]
    with started([*words, f"--config.steps={LONG}"], workdir, cache) as run:
        wait_for(lambda: run.step() > 2 * CHECKPOINT, [run])
        before = run.step()
        for index in range(reads):
            reader = readers[index % len(readers)]
            code, said = answer([*reader, f"--workdir={workdir}"], cache)
            tally.add(f"{reader[0]} of a run that goes on", [f"exit code {code}: {said}"] * (code != 0))
        code, said = answer([*words, f"--config.steps={LONG}", f"--workdir={workdir}"], cache)
        tally.add("a run begun twice", [f"exit code {code}: {said}"] * (code != 2 or said.count("error: ") != 1))
        after = run.step()
        run.process.send_signal(signal.SIGTERM)
        code = run.code()
    wrong = [f"from step {before} to {after}"] * (after <= before)
    tally.add("a run that is read", wrong + [f"exit code {code} at SIGTERM"] * (code != 128 + signal.SIGTERM))


def build_at_once(folder: Path, tally: Tally) -> None:
    """Lets two runs decode one folder of images at once, and a third read the cache that they leave."""
    from PIL import Image

    images, cache = folder / "images", folder / "images-cache"
    images.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (PICTURES, 40, 40, 3), np.uint8)):
        Image.fromarray(pixels).save(images / f"{index}.png")
    words = ["experiments.run", "--config=configs/wgan_gp.py:folder", f"--config.data.path={images}", *IMAGES]
    one, another, third = (folder / name for name in ("one", "another", "third"))
    with started(words, one, cache) as first, started(words, another, cache) as second:
        both = wait_for(lambda: len(list(cache.rglob(".building-*"))) == 2, [first, second])
        codes = [run.code() for run in (first, second)]
    wrong = ["they were not at it together"] * (not both) + [f"exit codes {codes}"] * any(code != 0 for code in codes)
    wrong += run_to_end(words, third, cache) + left_behind(cache)
    wrong += ["the states differ"] * (not states(one) == states(another) == states(third))
    tally.add("a cache of images built by two at once", wrong)
