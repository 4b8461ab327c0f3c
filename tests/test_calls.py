"""The driver of a run and of a sweep's task, on a program made of plain functions that writes down what is asked of it."""

import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from wgan_jax.data.source import Feeds
from wgan_jax.errors import Interrupted
from wgan_jax.training import calls as module
from wgan_jax.training.calls import Clock, Pace, Start, calls, updates_in_call
from wgan_jax.training.interruption import Signals

SECONDS = 0.25  # that an update takes, on a clock that stands still else


class Watched:
    """A program whose state counts its updates, each with two of the critic; `events` is what happened, in order."""

    def __init__(self, monkeypatch):
        self.events, self.now, self.signals = [], 0.0, Signals()
        self.clock = Clock(0.0)
        compiled = SimpleNamespace(compile=lambda: self.events.append("compile") or self.run)
        self.program = SimpleNamespace(
            spread=lambda tree: tree, run_updates=SimpleNamespace(lower=lambda *arguments: compiled), devices=1
        )
        device_get = jax.device_get
        monkeypatch.setattr(module.jax, "device_get", lambda tree: self.events.append("wait") or device_get(tree))
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def run(self, state, n, hyper, run_key, feed):
        self.events.append(("run", np.max(n), feed, self.signals.deferred))
        self.now += SECONDS * float(np.max(n))
        after = SimpleNamespace(step=state.step + n, critic_step=state.critic_step + 2 * n)
        return after, {"loss": after.step}, n, np.isfinite(n)

    def plan(self, capacity):
        def at(position):
            self.events.append(("feed", position))
            return position

        return lambda: self.events.append("plan") or Feeds(at, capacity, lambda step: 3)

    def calls(self, steps, capacity=np.inf, intervals=(1000,), seconds=1.0, start=0, updates=np.int32):
        state = SimpleNamespace(step=np.int32(start), critic_step=np.int32(2 * start))
        begun = Start(state, None, None, updates)
        return calls(self.program, begun, self.plan(capacity), Pace(steps, intervals, seconds), self.clock, self.signals)

    def ran(self):
        return [int(event[1]) for event in self.events if event[0] == "run"]


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


def test_calls_take_as_long_as_is_aimed_at_once_an_update_was_timed(watched):
    found = [(call.step, call.critic_step, call.done, int(call.metrics["loss"])) for call in watched.calls(steps=10)]
    assert found == [(1, 2, 1, 1), (5, 10, 4, 5), (9, 18, 4, 9), (10, 20, 1, 10)]
    assert watched.clock.seconds["train"] == 10 * SECONDS


def test_calls_end_at_every_event(watched):
    found = [call.step for call in watched.calls(steps=10, intervals=(4, 7), seconds=100.0, start=2)]
    assert found == [3, 4, 7, 8, 10]


@pytest.mark.parametrize(("step", "per_update", "count"), [(0, 0.0, 1), (0, 0.3, 3), (0, 5.0, 1), (0, 1e-3, 10), (17, 1e-3, 3)])
def test_updates_in_call(step, per_update, count):
    """By hand: events each 10 and 25 updates, a second for a call, 20 updates in all."""
    assert updates_in_call(Pace(20, (10, 25), 1.0), step, per_update) == count


def test_the_next_feed_is_read_while_the_device_works(watched):
    """A feed of 8 batches holds two updates of three; the third would read past its end."""
    assert [call.step for call in watched.calls(steps=5, capacity=8, seconds=100.0)] == [1, 2, 4, 5]
    events = [event for event in watched.events if event[0] in ("run", "feed") or event == "wait"]
    assert [key for key, group in itertools.groupby(event if event == "wait" else event[:2] for event in events)] == [
        *("wait", ("feed", 0), ("run", 1), "wait", ("run", 1), ("feed", 6)),
        *("wait", ("run", 2), ("feed", 12), "wait", ("run", 1), "wait"),
    ]
    assert [event[2] for event in watched.events if event[0] == "run"] == [0, 0, 6, 12]


def test_it_compiles_once_and_not_at_all_where_all_is_trained(watched):
    assert len(list(watched.calls(steps=9))) > 2
    assert watched.events.count("compile") == watched.events.count("plan") == 1
    watched.events.clear()
    assert list(watched.calls(steps=9, start=9)) == []
    assert {"compile", "plan"}.isdisjoint(watched.events)


def test_a_signal_waits_for_the_call_and_ends_after_it_was_seen(watched):
    seen = []

    def look(call):
        seen.append((call.step, call.received))
        watched.signals.received = 15  # while the caller is at work

    with pytest.raises(Interrupted) as caught:
        [*map(look, watched.calls(steps=10))]
    assert seen == [(1, 0), (5, 15)]
    assert caught.value.signum == 15
    assert [event[3] for event in watched.events if event[0] == "run"] == [True, True]
    assert watched.signals.deferred


def test_members_stand_where_the_furthest_does(watched):
    """The last of three ended before; what training goes on with is asked for anew at every call."""
    alive = [1, 1, 0]

    def updates(n):
        return np.array([n * lives for lives in alive], np.int32)

    found = []
    for call in watched.calls(steps=6, updates=updates):
        found.append((call.step, call.critic_step, call.done, call.state.step.tolist()))
        alive[0] = 0
    assert found == [(1, 2, 1, [1, 1, 0]), (5, 10, 4, [1, 5, 0]), (6, 12, 1, [1, 6, 0])]


def test_processes_meet_before_and_after_every_call_and_go_by_the_first_ones_clock(watched, monkeypatch):
    met = []

    def agree(seconds, signum):
        met.append((seconds, signum, len(watched.ran())))
        return 2 * seconds, signum

    monkeypatch.setattr(module.processes, "agree", agree)
    assert [(call.step, call.per_update) for call in watched.calls(steps=4)] == [(1, 0.5), (3, 0.5), (4, 0.5)]
    assert met == [(0.0, 0, 0), (0.25, 0, 1), (0.0, 0, 1), (0.25, 0, 2), (0.0, 0, 2), (0.25, 0, 3)]


def test_a_clock_adds_up_and_counts_what_failed(monkeypatch):
    now = iter([1.0, 3.0, 10.0, 14.0, 20.0, 21.0, 30.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(now))
    clock = Clock(0.5)
    with clock("evaluate"):
        pass
    with pytest.raises(ZeroDivisionError), clock("evaluate"):
        1 / 0  # noqa: B018
    assert clock.seconds == {"startup": 0.0, "compile": 0.0, "train": 0.0, "evaluate": 6.0}
    clock.end_startup()
    assert clock.seconds["startup"] == 20.0 - 0.5 - 6.0
    assert clock.total() == 20.5
