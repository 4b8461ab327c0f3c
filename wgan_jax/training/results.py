"""What a run's states come to: their evaluations, the final table, and what the terminal says at the end."""

from pathlib import Path
from typing import Any

import jax
import rich
from ml_collections import ConfigDict

from wgan_jax.evaluation.evaluator import Evaluator, summarise
from wgan_jax.evaluation.tables import Cell, cells, print_metrics
from wgan_jax.report.names import SCORE
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.display import say, span
from wgan_jax.types import TrainState

type Rows = dict[str, dict[str, Cell]]  # the final table: label -> metric -> cell


def on_validation(evaluator: Evaluator, state: TrainState) -> dict[str, float]:
    """Returns eval/x of the averaged generator and eval/raw/x of the generator itself, on validation."""
    ema, generator, critic = jax.device_get((state.ema, state.generator.variables, state.critic.variables))
    averaged, raw = (evaluator.of_generator(player, critic, "validation", 0) for player in (ema, generator))
    return {f"eval/{name}": x for name, x in averaged.items()} | {f"eval/raw/{name}": x for name, x in raw.items()}


def on_test(
    config: ConfigDict, checkpoints: Checkpoints, evaluator: Evaluator, state: TrainState
) -> tuple[Rows, dict[str, Any]]:
    """Returns the final table, and what the summary says: test metrics of the last and the best state, and real data's."""
    draws, sizes = range(config.eval.draws), evaluator.sizes("test")

    def metrics_of(state: TrainState) -> dict[str, float]:
        ema, critic = jax.device_get((state.ema, state.critic.variables))
        return summarise([evaluator.of_generator(ema, critic, "test", draw) for draw in draws])

    row = metrics_of(state)
    found: dict[str, Any] = {"final": row, "best": None}
    best, last = checkpoints.best(), int(state.step)
    rows = {f"{'last and best' if best == last else 'last'}, step {last}": cells(row, sizes)}
    if best is not None:
        if best != last:
            row = metrics_of(checkpoints.restore(best, jax.eval_shape(lambda: state)))
            rows[f"best, step {best}"] = cells(row, sizes)
        found["best"] = {"step": best, "metric": SCORE, "value": checkpoints.best_score(), "split": "validation", "test": row}
    found["real"] = summarise([evaluator.of_real("test", draw) for draw in draws])
    return rows | {"real data": cells(found["real"], evaluator.real_sizes("test"))}, found


def tell(config: ConfigDict, workdir: Path, rows: Rows, summary: dict[str, Any]) -> None:
    print_metrics(rich.get_console(), "test split", rows, config.eval.draws)
    if summary["best"] is None:
        say(f"no best state: {SCORE} on validation does not exist for any checkpoint")
    say(", ".join(f"{name} {span(summary['seconds'][name])}" for name in ("startup", "compile", "train", "evaluate")))
    say(f"samples, figures, metrics.jsonl, summary.json: {workdir}")
