"""What a run and a sweep's task share: the compiled program called again and again, fed and timed.

A call's length is the driver's choice and changes no number: only how often training can be looked at or interrupted.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from wgan_jax.data.source import Feeds
from wgan_jax.errors import Interrupted
from wgan_jax.training import processes
from wgan_jax.training.interruption import Signals, in_background
from wgan_jax.training.program import Program
from wgan_jax.types import Hyperparameters, TrainState


class Clock:
    """Where the time since `started`, on time.perf_counter's clock, goes: `with clock("train"):` adds to seconds["train"]."""

    def __init__(self, started: float) -> None:
        self._started = started
        self.seconds = dict.fromkeys(("startup", "compile", "train", "evaluate"), 0.0)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def total(self) -> float:
        return time.perf_counter() - self._started

    def end_startup(self) -> None:
        """Counts as startup what passed so far and was spent on nothing else."""
        self.seconds["startup"] += self.total() - sum(self.seconds.values())


class Pace(NamedTuple):
    """How training is cut into calls."""

    steps: int  # generator updates in all
    intervals: tuple[int, ...]  # a call ends at each multiple of these
    seconds: float  # the aim for a call: an interrupt waits for it


class Start(NamedTuple):
    """What training goes on from, laid out for the program."""

    state: TrainState
    hyper: Hyperparameters
    run_key: jax.Array
    updates: Callable[[int], np.ndarray | np.int32]  # a call's updates -> those of each member, int32


class Call(NamedTuple):
    """What a call of the program came to. Of members, step, critic_step and done are those of the one that is furthest."""

    step: int
    critic_step: int
    state: TrainState  # until the next call, which takes its buffers
    metrics: dict[str, np.ndarray]  # at its last update
    done: int  # updates
    finite: np.ndarray  # whether they all were, [] or [members]
    per_update: float  # seconds
    received: int  # a signal after which the run ends, or 0


def calls(
    program: Program, start: Start, plan: Callable[[], Feeds], pace: Pace, clock: Clock, signals: Signals
) -> Iterator[Call]:
    """Trains to pace.steps, a call at a time, from the step of start.state on. Of several processes every one does the same.

    The next feed is read while the devices are at work on the last updates that the one before it holds. `plan` is called,
    and the program compiled, where there is something to train. Between calls signals are deferred.

    Raises:
      Interrupted: after the call in which a signal came, once the caller has seen it.
    """
    state, (step, critic_step) = start.state, reached(start.state)
    if step >= pace.steps:
        return
    signals.obey()
    with clock("startup"):
        feeds = plan()
        feed, feed_end = feeds.at(step + critic_step), step + critic_step + feeds.capacity
    none = program.spread(start.updates(0))
    with clock("compile"):
        run_updates = in_background(lambda: program.run_updates.lower(state, none, start.hyper, start.run_key, feed).compile())
    per_update = 0.0
    while step < pace.steps:
        signals.deferred = True  # no signal may part a process from the others within a collective
        processes.agree(0.0, 0)  # none ended since the last collective
        wanted = updates_in_call(pace, step, per_update)
        n, position = updates_in_feed(feeds.needed, step, wanted, step + critic_step, feed_end)
        before = clock.seconds["train"]
        with clock("train"):
            arguments = (program.spread(start.updates(n)), start.hyper, start.run_key, feed)
            state, metrics, each, finite = run_updates(state, *arguments)
            if position + feeds.needed(0) > feed_end:  # the next update may not fit any more
                feed, feed_end = feeds.at(position), position + feeds.capacity
            metrics, each, finite, at = jax.device_get((metrics, each, finite, (state.step, state.critic_step)))
        step, critic_step, done = (int(np.max(x)) for x in (*at, each))
        per_update, received = processes.agree((clock.seconds["train"] - before) / done, signals.received)
        yield Call(step, critic_step, state, metrics, done, finite, per_update, received)
        if received:
            raise Interrupted(received)


def reached(state: TrainState) -> tuple[int, int]:
    """Returns the step and the critic_step of a state, of stacked ones those of the member that is furthest."""
    step, critic_step = jax.device_get((state.step, state.critic_step))
    return int(np.max(step)), int(np.max(critic_step))


def updates_in_call(pace: Pace, step: int, per_update: float) -> int:
    """Returns how many updates a call takes from a step on: to the next event, in pace.seconds; 1 before any was timed."""
    event = min(pace.steps, *(step - step % every + every for every in pace.intervals))
    return min(event - step, max(1, int(pace.seconds / per_update)) if per_update else 1)


def updates_in_feed(needed: Callable[[int], int], step: int, count: int, position: int, end: float) -> tuple[int, int]:
    """Returns how many of `count` updates from a step on fit into the feed, and the position after them.

    needed: step -> batches that its update takes. The first one's begin at `position`, the feed ends before `end`.
    """
    for fits, later in enumerate(range(step, step + count)):
        if position + needed(later) > end:
            return fits, position
        position += needed(later)
    return count, position
