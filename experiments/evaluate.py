"""Evaluates a trained model: any checkpoint, any metrics, real data beside every value; writes DIR/evaluation.json.

    python -m experiments.evaluate --workdir=DIR [--metrics=a,b|all] [--num=N] [--step=latest|best|N|all]
                                   [--split=validation|test] [--raw] [--repeats=5] [--config.eval.features=classifier]

Every value is stored with its protocol: numbers of examples, split, features with the hash of their weights, seeds. Another
evaluation of the same protocol takes its place. --step=all evaluates every checkpoint, draws figures/evaluation.png, and
prints how the critic's estimates rank the checkpoints against the other metrics. Overrides: config.eval.features, weights,
samples, cache_dir, and the places of the data.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from experiments import launch
from experiments.restore import load_data, restore_run
from wgan_jax.config import rules
from wgan_jax.errors import UserError
from wgan_jax.training.workdir import write_json

if TYPE_CHECKING:
    from wgan_jax.evaluation.evaluator import Evaluator
    from wgan_jax.types import Params

MOST = 10_000  # examples of features by default, where the split has so many
KEYS = ("eval.features", "eval.samples", "eval.weights", "eval.cache_dir")  # that may differ from the run's
FEWEST_RANKED = 5  # checkpoints for a rank correlation to mean anything


def evaluate(argv: list[str]) -> None:
    """Parses the flags, evaluates, writes evaluation.json, prints a table."""
    parser = launch.Parser("experiments.evaluate", __doc__)
    parser.add_argument("--workdir", type=launch.path, required=True, metavar="DIR", help="a run directory")
    parser.add_argument("--metrics", metavar="A,B", help="names, or all (default: the run's config.eval.metrics)")
    parser.add_argument("--num", type=int, default=MOST, metavar="N", help=f"examples of features at most (default: {MOST})")
    parser.add_argument("--step", default="latest", help="latest, best, a step with a checkpoint, or all (default: latest)")
    parser.add_argument("--split", default="test", choices=("validation", "test"), help="compared with (default: test)")
    parser.add_argument("--raw", action="store_true", help="the generator itself, not its average")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="independent draws (default: 5)")
    flags, overrides = parser.parse(argv)
    if flags.repeats < 1:
        raise UserError(f"--repeats: {flags.repeats} is not a whole number of at least 1")
    if not rules()["eval.feature_samples"].accepts(flags.num):
        raise UserError(f"--num: {flags.num} is not {rules()['eval.feature_samples'].wanted}")
    metrics = rules()["eval.metrics"]
    if flags.metrics is not None and not metrics.accepts(flags.metrics):
        raise UserError(f"--metrics: {flags.metrics!r} is not {metrics.wanted}")
    workdir = Path(flags.workdir)
    path = workdir / "evaluation.json"
    _stored(path)  # found wanting now, not after the evaluation
    run = restore_run(workdir, "latest" if flags.step == "all" else flags.step, overrides, KEYS)
    run.config.eval.metrics = flags.metrics or run.config.eval.metrics
    run.config.eval.feature_samples = flags.num
    dataset = load_data(run)

    import jax
    from rich.progress import track

    from wgan_jax.evaluation.evaluator import make_evaluator, protocol
    from wgan_jax.training.checkpoint import Checkpoints

    evaluator = make_evaluator(run.config, dataset, run.networks)
    checkpoints = Checkpoints(workdir / "checkpoints")
    steps = checkpoints.steps() if flags.step == "all" else [run.step]
    real = [evaluator.of_real(flags.split, draw) for draw in range(flags.repeats)]
    entries = []
    for step in track(steps, f"evaluating on {flags.split}", disable=len(steps) < 2, transient=True):
        state = run.state if step == run.step else checkpoints.restore(step, jax.eval_shape(lambda: run.state))
        critic: Params = {"params": state.critic.params, **state.critic.model_state}
        generator = {"params": state.generator.params, **state.generator.model_state} if flags.raw else state.ema
        began = time.perf_counter()
        draws = [evaluator.of_generator(generator, critic, flags.split, draw) for draw in range(flags.repeats)]
        entries.append(
            {
                "step": step,
                "critic_step": int(state.critic_step),
                "generator": "raw" if flags.raw else "ema",
                "split": flags.split,
                "seeds": list(range(flags.repeats)),
                "seconds": time.perf_counter() - began,
                "accuracy": evaluator.network.accuracy if evaluator.network else None,
                "values": protocol(evaluator, flags.split, draws, real),
            }
        )
    with FileLock(workdir / ".evaluation.lock"):
        both = {_protocol(entry): entry for entry in [*_stored(path), *entries]}
        write_json(path, {"evaluations": sorted(both.values(), key=lambda entry: entry["step"])})
    _report(entries, evaluator, workdir)
    print(f"{len(entries)} evaluation{'s' if len(entries) > 1 else ''}: {path}")


def _stored(path: Path) -> list[dict[str, Any]]:
    """Returns the evaluations that are there already."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["evaluations"] if path.exists() else []
        _ = [(_protocol(entry), entry["step"]) for entry in stored]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is no evaluation.json of this program; move it away") from error
    return stored


def _protocol(entry: dict[str, Any]) -> str:
    """Returns everything but the values of an evaluation, as text."""
    values = {name: {**value, "mean": 0, "std": 0, "real": 0} for name, value in entry["values"].items()}
    return json.dumps([entry["step"], entry["generator"], entry["split"], entry["seeds"], values], sort_keys=True)


def _report(entries: list[dict[str, Any]], evaluator: "Evaluator", workdir: Path) -> None:
    """Prints the newest evaluation, and of several the rank correlations; draws their curves."""
    from rich.console import Console
    from rich.table import Table

    console, last = Console(width=120), entries[-1]
    table = Table("metric", title=f"step {last['step']}, {last['generator']}, {last['split']}, {len(last['seeds'])} draws")
    for name in ("value", "real data", "n", "of"):
        table.add_column(name, justify="right" if name != "of" else "left")
    for name, value in last["values"].items():
        real = value["real"]
        beside = f"{real['mean']:.4g} ± {real['std']:.2g} (n = {real['n']})" if real else ""
        n, of = f"{value['n_fake']} / {value['n_real'] or '-'}", value["features"]
        table.add_row(name, f"{value['mean']:.4g} ± {value['std']:.2g}", beside, n, of)
    console.print(table)
    if evaluator.network and evaluator.network.accuracy is not None:
        console.print(f"the classifier's accuracy on the test split: {evaluator.network.accuracy:.3f}")
    if len(entries) > 1:
        from wgan_jax.evaluation.figures import save_evaluations

        path = workdir / "figures" / "evaluation.png"
        save_evaluations(path, entries)
        console.print(f"curves: {path}")
    if len(entries) >= FEWEST_RANKED:
        console.print(_ranks(entries))


def _ranks(entries: Sequence[dict[str, Any]]) -> Any:
    """Returns the table of Spearman's rank correlations over checkpoints between the critic's values and the metrics."""
    import numpy as np
    from rich.table import Table
    from scipy.stats import spearmanr

    from wgan_jax.evaluation.critic import CRITIC_VALUES

    def series(name: str) -> list[float]:
        return [entry["values"][name]["mean"] for entry in entries]

    values = entries[0]["values"]
    table = Table("Spearman over checkpoints", *(name for name in CRITIC_VALUES if name in values))
    for name in values:
        if name not in CRITIC_VALUES and np.isfinite(series(name)).all() and np.ptp(series(name)) > 0:
            cells = [spearmanr(series(name), series(critic)).statistic for critic in CRITIC_VALUES]
            table.add_row(name, *(f"{cell:.2f}" for cell in cells))
    return table


if __name__ == "__main__":
    launch.main(evaluate)
