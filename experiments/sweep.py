"""Trains every point of an ablation file, many as one program, and says what came of it; goes on where it was stopped.

    python -m experiments.sweep --config=configs/ablations/FILE.py[:preset] [--workdir=DIR] [--config.key=value ...]
    python -m experiments.sweep --config=configs/gan.py:ring8 --seeds=30        # the seeds 0 to 29 of one config

Points that differ in seed and numeric hyperparameters alone train together as one program, a task; the others are tasks of
their own. `--list` prints them and trains nothing. Launchers: `vectorized` trains the tasks one after another in this process,
`processes` in a local pool, `slurm` as a job array. The directory gets results.csv, results.jsonl, summary.md and figures/.
Exit codes are those of experiments.run, but members that became non-finite are results.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments import command
from experiments.launchers import add_flags, choose
from experiments.launchers.task import is_done, read_task, run_task, task_names, write_task
from wgan_jax.config import flatten, warn_of_idle_updates
from wgan_jax.errors import UserError
from wgan_jax.keys import keys_of
from wgan_jax.paths import write_whole
from wgan_jax.places import check_data
from wgan_jax.plan import Point, Row, Task, load_sweep, plan, swept_keys
from wgan_jax.records import sealed
from wgan_jax.report.statistics import parse_conditions
from wgan_jax.sizes import check_batches
from wgan_jax.training.logging import read_rows, write_lines
from wgan_jax.training.workdir import open_workdir, provenance, vet_workdir, write_json

STAGES = "stages.json"  # what the points of each stage are so far
MEMBERS = 64  # of a task: what a kill loses since the last checkpoint, and the width of a vmapped program


def sweep(argv: list[str]) -> None:
    """Parses the flags, plans, launches what is missing, writes the results."""
    parser = command.Parser("experiments.sweep", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:PRESET]", help="an ablation file, or a method's with --seeds")
    parser.add_argument(
        "--workdir", type=command.path, metavar="DIR", help="the sweep's directory (default: runs/sweep-<file>[-<preset>])"
    )
    parser.add_argument("--list", action="store_true", help="print the points and their tasks, train nothing")
    parser.add_argument("--seeds", type=int, metavar="N", help="take every point at the seeds 0 to N - 1 in place of its own")
    parser.add_argument("--members", type=int, default=MEMBERS, metavar="N", help=f"of a task at most (default: {MEMBERS})")
    add_flags(parser)
    flags, overrides = parser.parse(argv)
    launcher = choose(flags)
    for name in ("seeds", "members"):
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            raise UserError(f"--{name}: {getattr(flags, name)} is not a whole number of at least 1")
    described = load_sweep(flags.config, overrides, flags.seeds)
    config = described.base
    if flags.list:
        print_plan(plan(described.points, flags.members))
        return
    for point in described.points:
        check_batches(point.config)
        check_data(point.config)
    warn_of_idle_updates(point.config for point in described.points)
    path, _, preset = flags.config.partition(":")
    name = "-".join(["sweep", Path(path).stem, *filter(None, [preset.replace(",", "-")])])
    workdir = Path(flags.workdir or command.path(f"runs/{name}"))
    vet_workdir(workdir, "sweep")
    parse_conditions(config.eval.fail)
    with open_workdir(workdir, config, "sweep"):
        print(f"sweep directory: {workdir}", flush=True)
        stages = [described.points]
        try:
            while stages[-1]:
                points = [point for stage in stages for point in stage]
                tasks = prepare(workdir, points, flags.members)
                write_json(workdir / STAGES, sealed({"stages": [[point.id for point in stage] for stage in stages]}))
                missing = [task.id for task in tasks if not is_done(workdir, task)]
                print(
                    f"{_number(points, 'point')} in {_number(tasks, 'task')}, of which {len(missing)} are to be trained",
                    flush=True,
                )
                if missing:
                    write_json(workdir / "provenance.json", provenance(config, {}))
                    launcher(run_task, str(workdir), missing, flags)
                    if left := [task.id for task in tasks if not is_done(workdir, task)]:
                        raise UserError(
                            f"{_number(left, 'task')} ended early: {', '.join(left)}; the same command goes on with them"
                        )
                known = {point.id for point in points}
                stages.append([point for point in described.further(rows_of(workdir, stages)) if point.id not in known])
        finally:
            report(workdir, stages, config.eval.fail, flags.config)
    print(f"results.csv, results.jsonl, summary.md, figures/: {workdir}")


def prepare(workdir: Path, points: Iterable[Point], most: int) -> list[Task]:
    """Returns the tasks of points, in the sweep's directory: those that are there, and new ones for points that have none.

    Raises:
      UserError: a task that is there would train further points, on data whose place the directory says and not the command.
    """
    points = list(points)
    wanted = {point.id for point in points}
    found = [read_task(workdir, name) for name in task_names(workdir)]
    known = [task for task in found if not wanted.isdisjoint(point.id for point in task.points)]
    others = [point for task in known for point in task.points if point.id not in wanted]
    if foreign := sorted({key for point in others for key in point.overrides} & {*keys_of("place")}):
        raise UserError(
            f"config.{foreign[0]}: a task in {workdir} sets it for points that this command has not; choose another --workdir"
        )
    tasks = plan(points, most, known)
    for task in tasks[len(known) :]:
        write_task(workdir, task)
    return tasks


def rows_of(workdir: Path, stages: Sequence[Sequence[Point]]) -> list[Row]:
    """Returns the rows so far of all stages' points, in their order, each with its stage and the values of the swept keys."""
    keys = swept_keys(point for points in stages for point in points)
    marks: dict[str, Row] = {}
    for stage, points in enumerate(stages):
        for point in points:
            flat = flatten(point.config)
            marks[point.id] = {"stage": stage, "point": point.id, "seed": flat["seed"], **{key: flat[key] for key in keys}}
    rows: dict[str, list[Row]] = {name: [] for name in marks}
    for name in task_names(workdir):
        for row in read_rows(workdir / "tasks" / name / "rows.jsonl"):
            if (own := row["point"]) in rows:
                rows[own].append({**marks[own], **row})
    return [row for found in rows.values() for row in found]


def report(workdir: Path, stages: Sequence[Sequence[Point]], fail: str, title: str) -> None:
    """Writes results.jsonl, results.csv, summary.md and the figures of the rows so far, and prints the summary."""
    rows, points = rows_of(workdir, stages), [point for stage in stages for point in stage]
    if not rows:
        return
    from wgan_jax.report.summary import write_summary
    from wgan_jax.training.display import print_summary

    write_lines(workdir / "results.jsonl", rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(workdir / "results.csv", table.getvalue().encode())
    begun = len({row["point"] for row in rows})
    progress = _number(points, "point") if begun == len(points) else f"{begun} of {len(points)} points so far"
    print_summary(write_summary(workdir, rows, swept_keys(points), fail, f"{title}: {progress}"))


def print_plan(tasks: list[Task]) -> None:
    """Prints every point, task by task."""
    for task in tasks:
        print(f"task {task.id}: one program, {_number(task.points, 'member')}")
        for point in task.points:
            print(f"  {point.id}  " + "  ".join(f"{key}={_short(value)}" for key, value in point.overrides.items()))
    print(f"{_number([point for task in tasks for point in task.points], 'point')} in {_number(tasks, 'task')}")


def _number(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    command.main(sweep)
