"""The rows of a sweep by setting: what its points share but for their seeds, with a short name and the runs that are done."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from wgan_jax.plan import Row
from wgan_jax.report.names import HEADLINE, SCORE, labels_of
from wgan_jax.report.statistics import Condition, failed


class Run(NamedTuple):
    """A point that is done."""

    validation: list[Row]  # by step; the last is non-finite where the run became so
    test: dict[str, Row]  # state -> row; empty where the run became non-finite
    failed: bool
    stage: int  # of the sweep, at which it was chosen


class Setting(NamedTuple):
    label: str
    values: dict[str, Any]  # of the keys that vary in the sweep
    runs: list[Run]  # of the latest stage: the earlier ones are why the setting was chosen
    first: Run  # of the earliest stage

    @property
    def validation(self) -> float:
        """The median over runs of the last score on validation, by which settings are ranked."""
        return float(np.median([value_of(run.validation[-1]) for run in self.runs]))


def gather(rows: Sequence[Row], keys: Sequence[str], conditions: Sequence[Condition]) -> tuple[list[Setting], int]:
    """Returns the settings with their runs that are done, sorted by the keys' values, and the number of points not done."""
    points: dict[str, list[Row]] = {}
    for row in rows:
        points.setdefault(row["point"], []).append(row)
    names = list(dict.fromkeys(["method", *keys]))
    done: dict[tuple[Any, ...], list[Run]] = {}
    for own in points.values():
        validation = sorted((row for row in own if row["split"] == "validation"), key=_order)
        test = {row["state"]: row for row in own if row["split"] == "test"}
        if end := test.get("last") or next((row for row in validation if row["status"] == "non-finite"), None):
            run = Run(validation, test, failed(end, conditions), own[0]["stage"])
            done.setdefault(tuple(own[0][name] for name in names), []).append(run)
    vary = [name for index, name in enumerate(names) if len({values[index] for values in done}) > 1]
    ordered = sorted(done, key=lambda values: [(isinstance(value, str), value) for value in values])
    swept = [{name: value for name, value in zip(names, values, strict=True) if name in vary} for values in ordered]
    labels = [label or str(values[0]) for label, values in zip(labels_of(swept), ordered, strict=True)]
    settings = []
    for label, varied, values in zip(labels, swept, ordered, strict=True):
        runs = sorted(done[values], key=lambda run: run.stage)
        settings.append(Setting(label, varied, [run for run in runs if run.stage == runs[-1].stage], runs[0]))
    return settings, len(points) - sum(map(len, done.values()))


def _order(row: Row) -> tuple[int, bool]:
    return row["step"], row["status"] == "non-finite"


def value_of(row: Row | None, metric: str = SCORE) -> float:
    """Returns a row's metric; what a non-finite run counts as, where the row has no number."""
    value = None if row is None else row.get(metric)
    return HEADLINE[metric] if value is None or not math.isfinite(value) else float(value)


def values_of(runs: Sequence[Run], metric: str = SCORE, state: str = "last") -> np.ndarray:
    """Returns the metric of runs on test, [n], in the state `last` or `best`."""
    return np.array([value_of(run.test.get(state), metric) for run in runs])
