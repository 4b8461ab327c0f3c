"""What the members of a sweep's task have come to, and the rows that tell it.

A row is one evaluation of one member, a flat dict: its point, seed and method, its status ("ok" or "non-finite"), step,
critic_step and seconds (of a device, on a CPU a core, that training this member took), the split, whether it is of the last
state or the best, and the metrics. Rows are kept in the checkpoint, with the states that they are of. What collects them adds
the swept values and the stage of the sweep at which the point was chosen.
"""

import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from wgan_jax.errors import NonFiniteError
from wgan_jax.evaluation.evaluator import Evaluator, Values, summarise
from wgan_jax.plan import Point, Row
from wgan_jax.report.names import SCORE
from wgan_jax.training.calls import Call
from wgan_jax.training.interruption import Signals
from wgan_jax.types import Params, TrainState

EVALUATED_AT_ONCE = 2  # assignments, most of an evaluation, run outside Python's lock on a core each


@dataclasses.dataclass
class Progress:
    """What members have come to beside their states: the info of their checkpoint."""

    alive: list[bool]
    seconds: list[float]
    scores: list[float | None]  # of the best state on validation; None before there is one, as metrics may not exist
    best_steps: list[int]  # 0 before there is one
    rows: list[Row]

    def living(self) -> list[int]:
        """Returns the members that are finite."""
        return [i for i, lives in enumerate(self.alive) if lives]


PROGRESS = tuple(field.name for field in dataclasses.fields(Progress))


def progress_of(info: dict[str, Any]) -> Progress:
    return Progress(**{name: info[name] for name in PROGRESS})


def on_host(states: TrainState, count: int) -> TrainState:
    """Returns the states of the first members on the host."""
    return jax.tree.map(lambda leaf: leaf[:count], jax.device_get(states))


def evaluated(states: TrainState) -> dict[str, Params]:
    """Returns what an evaluation reads of states: variables of the averaged generator and of the critic."""
    return {"ema": states.ema, "critic": states.critic.variables}


def judge(
    points: Sequence[Point], progress: Progress, values: list[Values | None], call: Call, current: Params, best: Params
) -> None:
    """Adds the validation rows of those that live after a call, and keeps the best."""
    for i, metrics in zip(progress.living(), values, strict=True):
        if metrics is None:
            end(points, progress, i, call.step, call.critic_step)
            continue
        at = (call.step, call.critic_step, progress.seconds[i])
        progress.rows.append(_row(points[i], at, "validation", "last", metrics))
        score, kept = metrics.get(SCORE, math.nan), progress.scores[i]
        if math.isfinite(score) and (kept is None or score < kept):
            progress.scores[i], progress.best_steps[i] = score, call.step
            jax.tree.map(lambda own, new, i=i: own.__setitem__(i, new[i]), best, current)


def end(points: Sequence[Point], progress: Progress, index: int, step: int, critic_step: int) -> None:
    """Ends a member that became non-finite."""
    progress.alive[index] = False
    progress.rows.append(_row(points[index], (step, critic_step, progress.seconds[index]), "validation", "last", None))


def evaluate_members(
    evaluator: Evaluator, players: Params, which: Sequence[int], split: str, draws: int, signals: Signals
) -> list[Values | None]:
    """Returns the metrics of some members, each the mean over draws; None where samples are not finite, or after a signal."""

    def evaluate(index: int) -> Values | None:
        if signals.received:
            return None
        member = jax.tree.map(lambda leaf: leaf[index], players)
        try:
            values = [evaluator.of_generator(member["ema"], member["critic"], split, draw) for draw in range(draws)]
        except NonFiniteError:
            return None
        return {name: value for name, value in summarise(values).items() if not name.endswith("_std")}

    first_one = [evaluate(index) for index in which[:1]]  # compiles, and makes the real side
    with ThreadPoolExecutor(EVALUATED_AT_ONCE) as pool:
        return [*first_one, *pool.map(evaluate, which[1:])]


def rows_on_test(
    points: Sequence[Point], evaluator: Evaluator, last: Params, best: Params, progress: Progress, signals: Signals
) -> list[Row]:
    """Returns the rows of the last and of the best state, where there is one, on the test split, of the finite members."""
    draws, living = points[0].config.eval.draws, progress.living()
    validated = {(row["point"], row["step"]): row for row in progress.rows}
    ends = {i: max(step for name, step in validated if name == points[i].id) for i in living}
    differ = [i for i in living if progress.best_steps[i] not in (0, ends[i])]
    each = (("last", last, living), ("best", best, differ))
    found = {state: evaluate_members(evaluator, players, which, "test", draws, signals) for state, players, which in each}
    values = {(state, i): own for state, _, which in each for i, own in zip(which, found[state], strict=True)}
    rows = []
    for i in living:
        for state, step in (("last", ends[i]), ("best", progress.best_steps[i])):
            if step > 0:
                row = validated[points[i].id, step]
                at = (step, row["critic_step"], row["seconds"])
                rows.append(_row(points[i], at, "test", state, values.get((state, i), values["last", i])))
    return rows


def _row(point: Point, at: tuple[int, int, float], split: str, state: str, metrics: Values | None) -> Row:
    """Returns the row of an evaluation at (step, critic_step, seconds); metrics are None of what is not finite."""
    status, (step, critic_step, seconds) = "non-finite" if metrics is None else "ok", at
    told = {"point": point.id, "seed": point.config.seed, "method": point.config.method, "status": status}
    spent = {"step": step, "critic_step": critic_step, "seconds": round(seconds, 3)}
    return {**told, **spent, "split": split, "state": state, **(metrics or {})}
