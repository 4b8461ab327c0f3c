"""Draws runs and sweeps in one figure and prints them as one table.

    python -m experiments.compare --workdir=A --workdir=B ... [--out=compare.png] [--metric=NAME]

A workdir is a run's or a sweep's, finished or not. Runs that differ in their seed alone are one setting, drawn as their median,
shaded from the least to the greatest. Curves are on validation, against generator updates and seconds; the table is on test.
"""

import contextlib
import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from experiments import command
from experiments.launchers.task import read_task, summary_of, task_names
from experiments.sweep import STAGES, rows_of
from wgan_jax.config import flatten
from wgan_jax.errors import UserError
from wgan_jax.keys import keys_of
from wgan_jax.records import read_json, read_sealed
from wgan_jax.report.comparison import CURVES, draw_comparison, shared_metrics, table_of, warnings_of
from wgan_jax.report.drawing import save_figure
from wgan_jax.report.settings import Origin, Run, gather, runs_of
from wgan_jax.report.tables import print_table
from wgan_jax.training.display import say
from wgan_jax.training.logging import read_metrics
from wgan_jax.training.workdir import identity, kind_of, leave_out, read_config, read_summary

NOTE = (
    "on the test split, but `so far`, on validation; best is the state with the lowest excess on validation; ±: of one run "
    "over draws of its evaluation, of several over runs"
)
OWN = re.compile(r"eval/\w+")  # not of the generator without averaging, eval/raw/...
PROTOCOL, UNCOMPARED = keys_of("protocol"), keys_of("watch", "place", "cache")


def compare(argv: list[str]) -> None:
    """Parses the flags, reads the directories, prints the table, draws the figure."""
    parser = command.Parser("experiments.compare", __doc__)
    parser.add_argument(
        "--workdir", required=True, action="append", type=command.path, metavar="DIR", help="of a run or a sweep; once for each"
    )
    parser.add_argument(
        "--out", default="compare.png", type=command.path, metavar="FILE", help="the figure, a .png (default: compare.png)"
    )
    parser.add_argument("--metric", metavar="NAME", help="compared by (default: wasserstein_excess where all have it)")
    flags, overrides = parser.parse(argv)
    if overrides:
        raise UserError(f"{overrides[0]}: runs are compared as they are; this command takes no config")
    out, folders = Path(flags.out), [Path(name) for name in flags.workdir]
    if out.suffix != ".png":
        raise UserError(f"--out: {out} does not end in .png")
    command.check_file("--out", out)
    for index, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:index]]:
            raise UserError(f"--workdir: {folder} is given twice")
    settings = gather([run for folder in folders for run in read_runs(folder)])
    metrics = shared_metrics(settings, flags.metric)
    save_figure(draw_comparison(settings, metrics), out, 110)
    console = Console()
    print_table(console, "", *table_of(settings, metrics), at_least=3)
    say(NOTE, console, whole=False)
    for line in warnings_of(settings):
        say(line, console)
    if len(settings) > CURVES:
        say(f"drawn are the first {CURVES} of {len(settings)} settings", console)
    say(f"curves: {out}", console)


def read_runs(folder: Path) -> list[Run]:
    """Returns the run of a run directory, or a sweep's points that have begun; of several stages those of the latest.

    Raises:
      UserError: it is neither, or a file of it cannot be read.
    """
    config = read_config(folder)
    try:
        return _read_sweep(folder) if kind_of(folder) == "sweep" else [_read_run(folder, config)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # files of another program, or damaged ones
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--workdir: {folder} cannot be read: {why}; the command that trained it mends it") from error


def _provenance(folder: Path) -> dict[str, Any]:
    path = folder / "provenance.json"
    try:
        return read_json(path) if path.exists() else {}
    except (OSError, ValueError):
        leave_out(path, "cannot be read")
        return {}


def _read_run(folder: Path, stored: ConfigDict) -> Run:
    config, summary = flatten(stored), {}
    with contextlib.suppress(FileNotFoundError):
        summary = read_summary(folder, config["steps"], identity(stored))
    lines, made = read_metrics(folder / "metrics.jsonl"), _provenance(folder)
    if not all(_is_number(x) or (x is None and name != "seconds") for line in lines for name, x in line.items()):
        raise ValueError("metrics.jsonl holds what is no number")
    evaluated = [(line, {name.removeprefix("eval/"): x for name, x in line.items() if OWN.fullmatch(name)}) for line in lines]
    validation = [{"step": line["step"], "seconds": line["seconds"], **values} for line, values in evaluated if values]
    step, status = max([line["step"] for line in lines[-1:]] + [summary.get("step", 0)]), summary.get("status", "unfinished")
    if summary.get("step") != step or (status == "done" and step < config["steps"]):  # it went on
        status = "unfinished"
    seconds = {line["step"]: line["seconds"] for line in lines}
    test = {}
    if status == "done":
        best = summary["best"]
        states = {"last": (step, summary["final"])} | ({"best": (best["step"], best["test"])} if best else {})
        spent = {at: seconds[at] if at in seconds else at / summary["updates_per_second"] for at, _ in states.values()}
        test = {name: {"step": at, "seconds": spent[at], **values} for name, (at, values) in states.items()}
    data, evaluation = made.get("data", {}), made.get("evaluation", {})
    sizes = {split: (size["points"], size["features"]) for split, size in evaluation.get("sizes", {}).items()}
    known = {f"images of {split}": n for split, n in data.get("examples", {}).items()} | {
        "data": data.get("fingerprint", "")[:12]
    }
    known |= {f"n on {split}": _counted(*size) for split, size in sizes.items()}
    known |= {
        f"features' {name}": evaluation["features"][name][:12] for name in ("weights", "resize") if evaluation.get("features")
    }
    machine = made.get("machine", {})
    clock = f"on {machine['devices']} {machine['device_kind']}, {machine['processor']}" if machine else "on an unknown machine"
    real = summary.get("real", {}) if status == "done" else {}
    real_n = _counted(*map(min, zip(*sizes.values(), strict=True))) if sizes else ""
    origin = Origin(str(folder), _protocol(config) | known, clock, real, real_n)
    return Run(_compared(config), _overridden(made), status, step, validation, test, origin)


def _read_sweep(folder: Path) -> list[Run]:
    tasks = [read_task(folder, name) for name in task_names(folder)]
    for task in tasks:
        with contextlib.suppress(FileNotFoundError):
            summary_of(folder, task)  # that its rows are those that it ended with
    points = {point.id: point for task in tasks for point in task.points}
    if not (folder / STAGES).exists():
        raise ValueError(f"it has no {STAGES}")
    stages = [[points[name] for name in stage if name in points] for stage in read_sealed(folder / STAGES)["stages"]]
    rows = rows_of(folder, stages)
    if not rows:
        raise UserError(f"--workdir: {folder} is a sweep of which nothing was evaluated yet")
    configs = {name: flatten(point.config) for name, point in points.items()}
    overridden = _overridden(_provenance(folder))
    named = list(dict.fromkeys([*overridden, *(key for point in points.values() for key in point.overrides)]))
    runs = runs_of(rows, lambda row: configs[row["point"]], named)
    latest = max(run.stage for run in runs)
    clock = "of a device, shared by the members of a sweep's program"
    return [
        run._replace(config=_compared(run.config), origin=Origin(str(folder), _protocol(run.config), clock, {}, ""))
        for run in runs
        if run.stage == latest
    ]


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _compared(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in UNCOMPARED}


def _protocol(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in PROTOCOL if key in config}


def _overridden(made: dict[str, Any]) -> list[str]:
    return [word.removeprefix("--config.").partition("=")[0] for word in made.get("overrides", [])]


def _counted(points: int, features: int) -> str:
    return f"{points}" if points == features else f"{points}, of features {features}"


if __name__ == "__main__":
    command.main(compare)
