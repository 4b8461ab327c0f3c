"""Settings compared: as a table and as curves, with what makes their values or seconds incomparable."""

import difflib
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from wgan_jax.errors import UserError
from wgan_jax.plan import Row
from wgan_jax.report.drawing import LINEAR, PLAIN, UPDATES, colour, dashes, legend_below, scale_scores
from wgan_jax.report.names import DIRECTIONS, HEADLINE, SCORE, number
from wgan_jax.report.settings import Run, Setting

PANELS, CURVES = 4, 10  # metrics and settings that are drawn
REAL: tuple[Literal["--", ":", "-."], ...] = ("--", ":", "-.")  # lines of real data, where settings are of several
BUDGETS = {"step": UPDATES, "seconds": "seconds of training"}


def shared_metrics(settings: Sequence[Setting], wanted: str | None) -> list[str]:
    """Returns the metrics that every evaluated run has, the one to compare by first: `wanted`, else the score.

    Raises:
      UserError: no run was evaluated yet, they share no metric, or not the one that is wanted.
    """
    runs = [run for setting in settings for run in setting.runs if run.test or _finite(run)]
    if not runs:
        raise UserError("--workdir: nothing to compare yet, no run has an evaluation (config.eval_every says when they come)")
    measured = [(run.origin.directory, _measured(run)) for run in runs]
    shared = set.intersection(*(names for _, names in measured))
    if wanted is not None and wanted not in shared:
        lacking = next(folder for folder, names in measured if wanted not in names)
        close = difflib.get_close_matches(wanted, sorted(shared), 1)
        hint = f"did you mean {close[0]}?" if close else f"all have {', '.join(sorted(shared)) or 'nothing in common'}"
        raise UserError(f"--metric: {lacking} has no {wanted}; {hint}")
    if not shared:
        own = "; ".join(f"{folder} has {', '.join(sorted(names))}" for folder, names in dict(measured).items())
        raise UserError(f"--workdir: no common metric: {own}")
    return list(dict.fromkeys([*filter(None, [wanted]), *(name for name in HEADLINE if name in shared)])) or sorted(shared)


def _finite(run: Run) -> list[Row]:
    return [row for row in run.validation if row.get("status") != "non-finite"]


def _measured(run: Run) -> set[str]:
    rows = [*run.validation, *run.test.values()]
    names = {name for row in rows for name, value in row.items() if isinstance(value, int | float) and math.isfinite(value)}
    return {name for name in names if not name.endswith("_std")} - {"step", "critic_step", "seconds", "stage", *run.config}


def warnings_of(settings: Sequence[Setting]) -> list[str]:
    """Returns a line for what makes values incomparable, one for seconds, and one for seeds that are there twice."""
    lines = []
    protocols = [(setting.label, setting.runs[0].origin.protocol) for setting in settings]
    keys = dict.fromkeys(key for _, protocol in protocols for key in protocol)
    different = [_difference(key, [(label, own[key]) for label, own in protocols if key in own]) for key in keys]
    if parts := list(filter(None, different)):
        lines.append(f"not comparable: {'; '.join(parts)}")
    clocks = [(setting.label, run.origin.clock) for setting in settings for run in setting.runs]
    if seconds := _difference("seconds", clocks):
        lines.append(f"seconds are not comparable: {seconds.removeprefix('seconds ')}")
    for setting in settings:
        seeds = [run.config["seed"] for run in setting.runs]
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            lines.append(
                f"{setting.label}: seed {', '.join(map(str, twice))} is there more than once; its runs are no new ones"
            )
    return lines


def _difference(key: str, values: Sequence[tuple[str, Any]]) -> str:
    """Returns "key A (of a, b), B (of c)" where the values differ, else ""."""
    owners: dict[str, list[str]] = {}
    for label, value in values:
        names = owners.setdefault(number(value) or "none", [])
        names += [label] if label not in names else []
    if len(owners) < 2:
        return ""
    short = {
        value: ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
        for value, names in owners.items()
    }
    return f"{key} " + " and ".join(f"{value} ({names})" for value, names in short.items())


def table_of(settings: Sequence[Setting], metrics: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Returns labels and columns: test metrics of the last and the best state of every setting, below its title; real data's.

    What has no test metrics yet has its last evaluation on validation. Runs that are not done are left out of the means of
    several.
    """
    names = ["updates", "seconds", *(metric.replace("_", " ") for metric in metrics)]
    lines: list[list[str]] = []
    for setting in settings:
        lines.append([setting.title, *[""] * len(names)])
        done = [run.test for run in setting.runs if run.test]
        states = {name: [test[name] for test in done if name in test] for name in ("last", "best")}
        if not done:
            states = {"so far": [rows[-1] for run in setting.runs if (rows := _finite(run))]}
        for name, rows in states.items():
            if rows:
                spent = [f"{np.mean([row[unit] for row in rows]):,.0f}" for unit in BUDGETS]
                draws = setting.runs[0].config["eval.draws"]
                lines.append([f"  {name}", *spent, *(_mean(rows, metric, draws) for metric in metrics)])
    for whose, run in _real(settings):
        lines.append([f"real, n = {run.origin.real_n}{whose}", *[""] * len(names)])
        lines.append(["", "", "", *(_mean([run.origin.real], metric, run.config["eval.draws"]) for metric in metrics)])
    labels, *columns = map(list, zip(*lines, strict=True))
    return labels, dict(zip(names, columns, strict=True))


def _mean(rows: Sequence[Row], metric: str, draws: int) -> str:
    values = [row[metric] for row in rows if row.get(metric) is not None]
    if not values:
        return "-"
    spread = rows[0].get(f"{metric}_std") if len(rows) == 1 and draws > 1 else None
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else spread
    return f"{np.mean(values):.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _real(settings: Sequence[Setting]) -> list[tuple[str, Run]]:
    """Returns a run for every set of values that real data has, each with whose it is where there are several."""
    found: dict[str, tuple[str, Run]] = {}
    for setting in settings:
        for run in setting.runs:
            if run.origin.real:
                found.setdefault(json.dumps([run.origin.real, run.origin.real_n], sort_keys=True), (f" ({setting.label})", run))
    return list(found.values()) if len(found) > 1 else [("", run) for _, run in found.values()]


def draw_comparison(settings: Sequence[Setting], metrics: Sequence[str]) -> Figure:
    """Returns validation curves of the metrics, a column of panels each, against generator updates and against seconds.

    A line is a run; of several runs of a setting the thick line is the median at the steps that all of them have, shaded from
    the least to the greatest.
    """
    metrics, settings = metrics[:PANELS], settings[:CURVES]
    figure = Figure(figsize=(1 + 4 * len(metrics), 7), layout="constrained")
    panels = figure.subplots(len(BUDGETS), len(metrics), squeeze=False, sharey="col", sharex="row")
    real = _real(settings)
    for column, metric in enumerate(metrics):
        for (unit, name), axes in zip(BUDGETS.items(), panels[:, column], strict=True):
            for index, setting in enumerate(settings):
                _draw_setting(axes, setting, unit, metric, {"color": colour(index), "linestyle": dashes(index)})
            for (_, run), style in zip(real, itertools.cycle(REAL), strict=False):
                if run.origin.real.get(metric) is not None:
                    axes.axhline(run.origin.real[metric], color="0.3", linestyle=style, linewidth=1, label="real")
            axes.set(xlabel=name, xlim=(0, None))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(PLAIN)
            axes.grid(alpha=0.3)
        better = f"\n{DIRECTIONS[metric]} is better" if DIRECTIONS.get(metric) else ""
        panels[0, column].set_title(metric.replace("_", " ") + better, fontsize=11)
        if metric == SCORE:
            drawn = panels[0, column].lines
            values = np.concatenate([line.get_ydata() for line in drawn] or [np.empty(0)])
            scale_scores(panels[0, column], "y", values)
            if panels[0, column].get_yscale() == "symlog":  # whose margin below 0 is wide
                panels[0, column].set_ylim(bottom=values.min() - LINEAR)
    handles = [
        Line2D([], [], color=colour(index), linestyle=dashes(index), linewidth=2, label=setting.title)
        for index, setting in enumerate(settings)
    ]
    labels = [f"real, n = {run.origin.real_n}, on test{name}" for name, run in real]
    handles += [
        Line2D([], [], color="0.3", linestyle=style, label=label)
        for label, style in zip(labels, itertools.cycle(REAL), strict=False)
    ]
    if any(run.status == "non-finite" for setting in settings for run in setting.runs):
        handles.append(Line2D([], [], color="0.3", marker="x", linestyle="", label="became non-finite after this"))
    legend_below(figure, handles)
    figure.supylabel("on validation, averaged generator", fontsize=10)
    return figure


def _draw_setting(axes: Axes, setting: Setting, unit: str, metric: str, style: dict[str, Any]) -> None:
    several = len(setting.runs) > 1
    by_step = [{row["step"]: row for row in run.validation if row.get(metric) is not None} for run in setting.runs]
    own = {"linewidth": 0.7, "alpha": 0.5} if several else {"linewidth": 1.5, "marker": ".", "label": setting.label}
    for run, rows in zip(setting.runs, by_step, strict=True):
        spent, values = [row[unit] for row in rows.values()], [row[metric] for row in rows.values()]
        axes.plot(spent, values, **style, **own)
        if run.status == "non-finite":
            axes.plot(spent[-1:], values[-1:], "x", color=style["color"], markersize=8, markeredgewidth=2)
    steps = sorted(set.intersection(*map(set, by_step)))
    if several and steps:
        at = [float(np.median([rows[step][unit] for rows in by_step])) for step in steps]
        ends = np.quantile([[rows[step][metric] for rows in by_step] for step in steps], [0, 0.5, 1], axis=1)
        axes.plot(at, ends[1], **style, linewidth=2, marker=".", label=setting.label)
        axes.fill_between(at, ends[0], ends[2], color=style["color"], alpha=0.15, linewidth=0)
