"""Runs and settings: a run is one training of one config; the runs of a setting differ in their seed alone."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from wgan_jax.plan import Row
from wgan_jax.report.names import DIRECTIONS, SCORE, labels_of
from wgan_jax.report.statistics import Condition, failed, median


class Origin(NamedTuple):
    """Where a run was made, and what its values depend on beside the training; a key that is lacking is not known."""

    directory: str
    protocol: Row
    clock: str  # whose seconds they are
    real: Row  # test metrics of real data in the generator's place; may be empty
    real_n: str  # its number of examples, as text


class Run(NamedTuple):
    config: Row  # {dotted key: value}: the seed and what tells settings apart
    named: Sequence[str]  # the keys that were set by hand or are swept
    status: str  # done, or interrupted, non-finite, unfinished
    step: int  # that it has come to, in generator updates
    validation: Sequence[Row]  # by step: step, seconds, metrics; a sweep's has the evaluation that is non-finite as its last
    test: dict[str, Row]  # last, best -> step, seconds, metrics, <metric>_std over draws; empty where it is not done
    origin: Origin = Origin("", {}, "", {}, "")
    stage: int = 0  # of the sweep, at which it was chosen
    failed: bool = False  # by eval.fail


class Setting(NamedTuple):
    label: str
    values: dict[str, Any]  # of the keys that tell the settings apart
    runs: list[Run]

    @property
    def score(self) -> float:
        """The median over runs of the last score on validation, by which settings are ranked."""
        return float(median([value_of(run.validation[-1]) for run in self.runs]))

    @property
    def title(self) -> str:
        """The label with how many runs there are, and what is not done of them."""
        states = [run.status for run in self.runs if run.status != "done"]
        if len(self.runs) == 1:
            notes = [f"{state} at step {self.runs[0].step:,}" for state in states]
        else:
            notes = [f"{len(self.runs)} runs", *(f"{states.count(state)} {state}" for state in dict.fromkeys(states))]
        return ", ".join([self.label, *notes])


def runs_of(rows: Iterable[Row], config_of: Callable[[Row], Row], named: Sequence[str]) -> list[Run]:
    """Returns the runs of a sweep's points that were evaluated on validation, in the order of their first rows.

    config_of: the config of the point that a row is of.
    """
    points: dict[str, list[Row]] = {}
    for row in rows:
        points.setdefault(row["point"], []).append(row)
    runs = []
    for own in points.values():
        validation = sorted((row for row in own if row["split"] == "validation"), key=_order)
        if not validation:  # its rows were lost, but for later ones
            continue
        test = {row["state"]: row for row in own if row["split"] == "test"}
        died = any(row["status"] == "non-finite" for row in (*validation, *test.values()) if row["state"] == "last")
        status = "non-finite" if died else "done" if "last" in test else "unfinished"
        step, stage = validation[-1]["step"], own[0].get("stage", 0)
        runs.append(Run(config_of(own[0]), named, status, step, validation, {} if died else test, stage=stage))
    return runs


def _order(row: Row) -> tuple[int, bool]:
    return row["step"], row["status"] == "non-finite"


def gather(runs: Iterable[Run]) -> list[Setting]:
    """Returns the settings in the order of their first runs, each with a label of its own."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        config = {key: value for key, value in run.config.items() if key != "seed"}
        groups.setdefault(json.dumps([config, run.origin.protocol], sort_keys=True), []).append(run)
    firsts = [own[0] for own in groups.values()]
    keys = _distinguishing(firsts)
    values = [{key: run.config.get(key) for key in keys} for run in firsts]
    labels = labels_of(values)
    for index, run in enumerate(firsts):
        labels[index] = labels[index] or ", ".join(run.config[key] for key in ("method", "preset") if key in run.config)
    places = [run.origin.directory if labels.count(label) > 1 else "" for label, run in zip(labels, firsts, strict=True)]
    unique = [f"{label} ({place})" if place else label for label, place in zip(labels, places, strict=True)]
    return [Setting(*parts) for parts in zip(unique, values, groups.values(), strict=True)]


def _distinguishing(runs: Sequence[Run]) -> list[str]:
    """Returns the keys that tell runs apart: method, preset, what was set by hand, and of the others as few as are needed.

    A method's or preset's own values, of which there are dozens, follow from its name.
    """

    def column(key: str) -> list[str]:
        return [json.dumps(run.config.get(key)) for run in runs]

    every = dict.fromkeys(["method", "preset", *(key for run in runs for key in run.config if key != "seed")])
    named = {"method", "preset", *(key for run in runs for key in run.named)}
    keys = [key for key in every if key in named and len(set(column(key))) > 1]
    for key in every:
        apart = list(zip(*map(column, keys), strict=True)) if keys else [()] * len(runs)
        if len(set(zip(apart, column(key), strict=True))) > len(set(apart)):
            keys.append(key)
    return keys


def settings_of(rows: Sequence[Row], keys: Sequence[str], conditions: Sequence[Condition]) -> tuple[list[Setting], int]:
    """Returns the settings with their runs that are done, sorted by the keys' values, and the number of points not done.

    The runs of a setting are in the order of the stages.
    """
    keys = list(dict.fromkeys(["method", *keys]))

    def order(run: Run) -> tuple[list[tuple[bool, Any]], int]:
        values = [run.config[key] for key in keys]
        return [(isinstance(value, str), value) for value in values], run.stage

    runs = runs_of(rows, lambda row: {key: row[key] for key in (*keys, "seed")}, keys)
    done = [run for run in runs if run.status != "unfinished"]
    judged = [run._replace(failed=not run.test or failed(run.test["last"], conditions)) for run in done]
    return gather(sorted(judged, key=order)), len(runs) - len(done)


def value_of(row: Row | None, metric: str = SCORE) -> float:
    """Returns a row's metric: the worst value where the run became non-finite, which has no row; NaN where it has none."""
    if row is None or row.get("status") == "non-finite":
        return 0.0 if DIRECTIONS[metric] == "higher" else math.inf
    value = row.get(metric)
    return math.nan if value is None or not math.isfinite(value) else float(value)


def values_of(runs: Sequence[Run], metric: str = SCORE, state: str = "last") -> np.ndarray:
    """Returns the metric of runs on test, [n], in the state `last` or `best`."""
    return np.array([value_of(None if run.status == "non-finite" else run.test.get(state, {}), metric) for run in runs])
