"""Evaluates a trained model: any checkpoint, any metrics, real data beside every value; writes DIR/evaluation.json.

    python -m experiments.evaluate --workdir=DIR [--point=ID] [--metrics=a,b|all] [--num=N] [--step=latest|best|N|all]
                                   [--split=validation|test] [--raw] [--repeats=5] [--config.eval.features=classifier]

Every value is stored with its protocol: numbers of examples, split, features with the hash of their weights, seeds. Another
evaluation of the same protocol takes its place. --step=all evaluates every checkpoint, draws figures/evaluation.png, and
prints how the critic's estimates rank the checkpoints against the other metrics. A run may go on meanwhile: of a checkpoint
that it deletes the next is taken, or with --step=all it is left out. Metrics that the data does not allow are left out, and
said. Of a conditional run a second table compares each class, or each value of an attribute, with real examples of the same.
Overrides: config.eval.features, weights, samples, cache_dir, the places of the data, and cache_dir; a place that is not given
is the default, not the one that DIR names. Of a sweep's directory --point names the model, whose own files are in
DIR/points/ID.
"""

import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from ml_collections import ConfigDict

from experiments import command
from experiments.restore import check_data, find_model, generator_of, load_data, naming_places, restore_run
from wgan_jax.errors import UserError
from wgan_jax.keys import KEYS
from wgan_jax.records import read_json
from wgan_jax.training.workdir import write_json

if TYPE_CHECKING:
    from rich.console import Console

    from wgan_jax.data.dataset import Dataset
    from wgan_jax.evaluation.evaluator import Evaluator, Values
    from wgan_jax.types import Params

MOST = 10_000  # examples of features by default, where the split has so many
DIFFERING = ("eval.features", "eval.samples", "eval.weights", "eval.cache_dir")  # that may differ from the run's
WHOSE = {"ema": "averaged generator", "raw": "generator without averaging"}
FEWEST_RANKED = 5  # checkpoints for a rank correlation to mean anything


def evaluate(argv: list[str]) -> None:
    """Parses the flags, evaluates, writes evaluation.json, prints a table."""
    parser = command.Parser("experiments.evaluate", __doc__)
    parser.add_argument(
        "--workdir", type=command.path, required=True, metavar="DIR", help="the directory of a run, or of a sweep"
    )
    parser.add_argument("--point", metavar="ID", help="of a sweep: a point's id, or as much of its beginning as no other has")
    parser.add_argument("--metrics", metavar="A,B", help="names, or all (default: the run's config.eval.metrics)")
    parser.add_argument("--num", type=int, default=MOST, metavar="N", help=f"examples of features at most (default: {MOST})")
    parser.add_argument("--step", default="latest", help="latest, best, a step with a checkpoint, or all (default: latest)")
    parser.add_argument("--split", default="test", choices=("validation", "test"), help="compared with (default: test)")
    parser.add_argument("--raw", action="store_true", help="the generator itself, not its average")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="independent draws (default: 5)")
    flags, overrides = parser.parse(argv)
    command.check_whole("--repeats", flags.repeats, 1, command.REPEATS)
    samples, metrics = KEYS["eval.feature_samples"].rule, KEYS["eval.metrics"].rule
    if not samples.accepts(flags.num):
        raise UserError(f"--num: {samples.refusal(flags.num)}")
    if flags.metrics is not None and not metrics.accepts(flags.metrics):
        raise UserError(f"--metrics: {metrics.refusal(flags.metrics)}")
    model = find_model(Path(flags.workdir), flags.point, overrides, DIFFERING)
    path = model.folder / "evaluation.json"
    _stored(path)  # found wanting now, not after the evaluation
    check_data(model)
    run = restore_run(model, "latest" if flags.step == "all" else flags.step)
    run.config.eval.metrics = flags.metrics or run.config.eval.metrics
    run.config.eval.feature_samples = flags.num
    dataset = load_data(run)
    if flags.metrics is not None:
        run.config.eval.metrics = _allowed(run.config, dataset)

    import rich
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from wgan_jax.evaluation.evaluator import make_evaluator, protocol
    from wgan_jax.training.checkpoint import NoCheckpoint

    with naming_places(model):
        evaluator = make_evaluator(run.config, dataset, run.networks)
    model.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(model.folder / ".evaluation.lock")
    with lock:
        pass  # where nothing can be written, it is said now
    steps = sorted({*run.steps, run.step}) if flags.step == "all" else [run.step]
    what = f"step {run.step}" if len(steps) == 1 else f"{len(steps)} checkpoints"
    print(f"evaluating {what} and real data, {flags.repeats} draw{'s' * (flags.repeats > 1)} of each", flush=True)
    entries, deleted, console = [], [], rich.get_console()
    columns = (TextColumn("evaluating"), BarColumn(20), MofNCompleteColumn(), TextColumn("draws"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=flags.repeats * (1 + len(steps)))

        def draw_each(of: "Callable[[int], Values]") -> "list[Values]":
            values = []
            for draw in range(flags.repeats):
                values.append(of(draw))
                progress.advance(bar)
            return values

        real = draw_each(lambda draw: evaluator.of_real(flags.split, draw))
        for step in steps:
            try:
                state = run.state if step == run.step else run.at(step)
            except NoCheckpoint:
                deleted.append(str(step))
                continue
            critic: Params = state.critic.variables
            generator = generator_of(state, raw=flags.raw)
            began = time.perf_counter()
            of_generator = functools.partial(evaluator.of_generator, generator, critic, flags.split)
            draws = draw_each(of_generator)
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
                    "by_label": evaluator.by_label(generator, flags.split),
                }
            )
    with lock:
        both = {_protocol(entry): entry for entry in [*_stored(path), *entries]}
        write_json(path, {"evaluations": sorted(both.values(), key=lambda entry: entry["step"])})
    if deleted:
        print(f"left out: step {', '.join(deleted)}, which the run deleted meanwhile")
    _report(entries, evaluator, model.folder, run.config)
    print(f"{len(entries)} evaluation{'s' if len(entries) > 1 else ''}: {path}")


def _allowed(config: ConfigDict, dataset: "Dataset") -> str:
    """Returns config.eval.metrics less those that the data does not allow, and says of these why.

    Raises:
      UserError: it allows none.
    """
    from wgan_jax.evaluation.evaluator import left_out, metric_names

    reasons = left_out(config, dataset)
    said = [f"{name} {reason}" for name, reason in reasons.items()]
    names = [name for name in metric_names(config) if name not in reasons]
    if not names:
        raise UserError(f"--metrics: {', '.join(said)}")
    for line in said:
        print(f"left out: {line}")
    return ",".join(names)


def _stored(path: Path) -> list[dict[str, Any]]:
    """Returns the evaluations that are there already."""
    try:
        stored = read_json(path)["evaluations"] if path.exists() else []
        _ = [(_protocol(entry), entry["step"]) for entry in stored]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is no evaluation.json of this program; move it away") from error
    return stored


def _protocol(entry: dict[str, Any]) -> str:
    """Returns everything but the values of an evaluation, as text."""
    values = {name: {**value, "mean": 0, "std": 0, "real": 0} for name, value in entry["values"].items()}
    return json.dumps([entry["step"], entry["generator"], entry["split"], entry["seeds"], values], sort_keys=True)


def _report(entries: list[dict[str, Any]], evaluator: "Evaluator", workdir: Path, config: ConfigDict) -> None:
    """Prints the newest evaluation, and of several the rank correlations; draws their curves."""
    from rich.console import Console

    from wgan_jax.evaluation.tables import Cell, print_metrics

    console, last = Console(), entries[-1]
    title = f"step {last['step']}, {WHOSE[last['generator']]}, {last['split']} split"
    values = last["values"]
    generated = {name: Cell(value["mean"], value["std"], value["n_fake"]) for name, value in values.items()}
    real = {name: Cell(**value["real"]) for name, value in values.items() if value["real"]}
    print_metrics(console, title, {"generated": generated, "real data": real}, len(last["seeds"]))
    if last["by_label"]:
        _print_labels(console, last["by_label"])
    if evaluator.network:
        of = [name for name, value in values.items() if value["features"] == evaluator.network.name != "pixels"]
        if of:
            console.print(f"in features of {evaluator.network.name}: {', '.join(of)}", markup=False, highlight=False)
    if evaluator.network and evaluator.network.accuracy is not None:
        console.print(f"the classifier's accuracy on the test split: {evaluator.network.accuracy:.3f}", highlight=False)
    if len(entries) > 1:
        from wgan_jax.evaluation.figures import run_title, save_evaluations

        path = workdir / "figures" / "evaluation.png"
        save_evaluations(path, entries, run_title(config))
        print(f"curves: {path}")
    if len(entries) >= FEWEST_RANKED:
        _print_ranks(console, entries)


def _print_labels(console: "Console", by_label: dict[str, dict[str, float]]) -> None:
    """Prints what each label comes to by itself."""
    from wgan_jax.report.tables import print_table

    columns: dict[str, list[str]] = {name.replace("_", " "): [] for name in next(iter(by_label.values()))}
    for values in by_label.values():
        for column, (name, value) in zip(columns.values(), values.items(), strict=True):
            column.append(f"{value:.0f}" if name == "n" else f"{value:.2f}")
    print_table(console, "each label against real examples of it", list(by_label), columns)


def _print_ranks(console: "Console", entries: Sequence[dict[str, Any]]) -> None:
    """Prints Spearman's rank correlations over checkpoints between the critic's values and the metrics."""
    import numpy as np
    from scipy.stats import spearmanr

    from wgan_jax.evaluation.critic import CRITIC_VALUES
    from wgan_jax.report.tables import print_table

    def series(name: str) -> list[float]:
        return [entry["values"][name]["mean"] for entry in entries]

    def ranked(name: str) -> bool:
        return bool(np.isfinite(series(name)).all() and np.ptp(series(name)) > 0)

    values = [name for name in entries[0]["values"] if ranked(name)]
    critic, metrics = ([name for name in values if (name in CRITIC_VALUES) is of] for of in (True, False))
    if not critic:  # of packs, or without a rank
        return
    columns = {
        name.replace("_", " "): [f"{spearmanr(series(name), series(metric)).statistic:.2f}" for metric in metrics]
        for name in critic
    }
    print_table(console, "Spearman's rank correlation over checkpoints", [name.replace("_", " ") for name in metrics], columns)


if __name__ == "__main__":
    command.main(evaluate)
