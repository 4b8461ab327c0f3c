"""What a run's states come to: their evaluations, the final table, and what the terminal says at the end."""

import math
import time
from pathlib import Path
from typing import Any

import jax
import rich
from ml_collections import ConfigDict

from wgan_jax.evaluation.evaluator import Evaluator, Values, summarise
from wgan_jax.evaluation.tables import Cell, cells, print_metrics
from wgan_jax.report.names import SCORE
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.display import say, span
from wgan_jax.types import TrainState

type Rows = dict[str, dict[str, Cell]]  # the final table: label -> metric -> cell
SECONDS, SHARE, LEAST = 10.0, 0.05, 2  # that the final draws may take, of training where that is more; draws at least


def on_validation(evaluator: Evaluator, state: TrainState, *, raw: bool) -> dict[str, float]:
    """Returns eval/x of the averaged generator, and where asked eval/raw/x of the generator itself, on validation."""
    players = {"eval": state.ema} | ({"eval/raw": state.generator.variables} if raw else {})
    hosted, critic = jax.device_get((players, state.critic.variables))
    values = {prefix: evaluator.of_generator(player, critic, "validation", 0) for prefix, player in hosted.items()}
    return {f"{prefix}/{name}": x for prefix, own in values.items() for name, x in own.items()}


def on_test(
    config: ConfigDict, checkpoints: Checkpoints, evaluator: Evaluator, state: TrainState, trained: float = math.inf
) -> tuple[Rows, dict[str, Any]]:
    """Returns the final table, and what the summary says: test metrics of the last and the best state, and real data's.

    They are means over config.eval.draws, or over fewer where these would take more than SHARE of the `trained` seconds and
    more than SECONDS; over LEAST at least.
    """
    best, last = checkpoints.best(), int(state.step)
    states = {"last and best" if best == last else "last": state}
    if best not in (None, last):
        states["best"] = checkpoints.restore(best, jax.eval_shape(lambda: state))
    players = {name: jax.device_get((state.ema, state.critic.variables)) for name, state in states.items()}
    drawn: dict[str, list[Values]] = {name: [] for name in (*players, "real")}
    began = before = time.perf_counter()
    for draw in range(config.eval.draws):
        now = time.perf_counter()
        if draw >= LEAST and now + (now - before) - began > max(SECONDS, SHARE * trained):  # with one more like the last
            break
        before = now
        for name, (ema, critic) in players.items():
            drawn[name].append(evaluator.of_generator(ema, critic, "test", draw))
        drawn["real"].append(evaluator.of_real("test", draw))
    found: dict[str, Any] = {name: summarise(values) for name, values in drawn.items()}
    sizes, steps = evaluator.sizes("test"), {name: best if name == "best" else last for name in players}
    rows = {f"{name}, step {step}": cells(found[name], sizes) for name, step in steps.items()}
    *_, row = (found[name] for name in players)  # of the best state, where there is one
    told = {"step": best, "metric": SCORE, "value": checkpoints.best_score(), "split": "validation", "test": row}
    summary = {"final": found[next(iter(players))], "best": None if best is None else told, "real": found["real"]}
    rows |= {"real data": cells(found["real"], evaluator.real_sizes("test"))}
    return rows, summary | {"draws": len(drawn["real"])}


def tell(workdir: Path, rows: Rows, summary: dict[str, Any]) -> None:
    print_metrics(rich.get_console(), "test split", rows, summary["draws"])
    if summary["best"] is None:
        say(f"no best state: {SCORE} on validation does not exist for any checkpoint; it is of every eval_every-th step")
    say(", ".join(f"{name} {span(summary['seconds'][name])}" for name in ("startup", "compile", "train", "evaluate")))
    say(f"samples, figures, metrics.jsonl, summary.json: {workdir}")
