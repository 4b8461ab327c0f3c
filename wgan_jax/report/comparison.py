"""Runs beside each other: by setting, whose runs differ in their seed alone, as a table and as curves, with what forbids it."""

import difflib
import itertools
import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from wgan_jax.errors import UserError
from wgan_jax.report.drawing import LINEAR, PLAIN, UPDATES, colour, dashes, legend_below, scale_scores
from wgan_jax.report.names import HEADLINE, SCORE, labels_of, number

PANELS, CURVES = 4, 10  # metrics and settings that are drawn
REAL: tuple[Literal["--", ":", "-."], ...] = ("--", ":", "-.")  # lines of real data, where settings are of several
BUDGETS = {"step": UPDATES, "seconds": "seconds of training"}

type Row = dict[str, Any]


class Run(NamedTuple):
    """What a run directory, or a sweep of one of its points, says."""

    where: str  # its directory
    config: Row  # {dotted key: value}, without what only says where it ran and how closely it was watched
    named: Sequence[str]  # the keys that its command set or its sweep varies
    status: str  # done, or interrupted, non-finite, unfinished
    step: int  # that it has come to, in generator updates
    seconds: float  # of training
    validation: Sequence[Row]  # by step: step, seconds, metrics
    test: dict[str, Row]  # last, best -> step, seconds, metrics, <metric>_std over draws; empty before the end
    real: Row  # test metrics of real data in the generator's place; may be empty
    real_n: str  # its number of examples, as text
    protocol: Row  # what a metric's value depends on beside the generator; a key that is lacking is not known
    clock: str  # whose seconds they are


class Setting(NamedTuple):
    label: str
    runs: list[Run]

    @property
    def note(self) -> str:
        """How many runs there are, and what is not done of them."""
        count = [f"{len(self.runs)} runs"] if len(self.runs) > 1 else []
        states = [run.status for run in self.runs if run.status != "done"]
        if len(self.runs) == 1 and states:
            return f"{states[0]} at step {self.runs[0].step:,}"
        return ", ".join(count + [f"{states.count(status)} {status}" for status in dict.fromkeys(states)])


def gather(runs: Sequence[Run]) -> list[Setting]:
    """Returns the settings in the order of their first runs, each with a label of its own."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        told = {key: value for key, value in run.config.items() if key != "seed"}
        groups.setdefault(json.dumps([told, run.protocol], sort_keys=True), []).append(run)
    firsts = [own[0] for own in groups.values()]
    labels = labels_of([{key: run.config.get(key) for key in _telling(firsts)} for run in firsts])
    labels = [label or f"{run.config['method']}, {run.config['preset']}" for label, run in zip(labels, firsts, strict=True)]
    unique = [f"{x} ({run.where})" if labels.count(x) > 1 else x for x, run in zip(labels, firsts, strict=True)]
    return [Setting(label, own) for label, own in zip(unique, groups.values(), strict=True)]


def _telling(runs: Sequence[Run]) -> list[str]:
    """Returns the keys that tell runs apart: method, preset, what was set by hand, and of the others as few as are needed.

    A method's or preset's own values, of which there are dozens, follow from its name.
    """

    def column(key: str) -> list[str]:
        return [json.dumps(run.config.get(key)) for run in runs]

    every = dict.fromkeys(["method", "preset", *(key for run in runs for key in run.config if key != "seed")])
    named = {"method", "preset", *(key for run in runs for key in run.named)}
    telling = [key for key in every if key in named and len(set(column(key))) > 1]
    for key in every:
        told = list(zip(*map(column, telling), strict=True)) if telling else [()] * len(runs)
        if len(set(zip(told, column(key), strict=True))) > len(set(told)):
            telling.append(key)
    return telling


def shared_metrics(settings: Sequence[Setting], wanted: str | None) -> list[str]:
    """Returns the metrics that every evaluated run has, the one to compare by first: `wanted`, else the score.

    Raises:
      UserError: no run was evaluated yet, they share no metric, or not the one that is wanted.
    """
    runs = [run for setting in settings for run in setting.runs if run.validation or run.test]
    if not runs:
        raise UserError("--workdir: nothing to compare yet, no run has an evaluation (config.eval_every says when they come)")
    measured = [(run.where, _measured(run)) for run in runs]
    shared = set.intersection(*(names for _, names in measured))
    if wanted is not None and wanted not in shared:
        lacking = next(where for where, names in measured if wanted not in names)
        close = difflib.get_close_matches(wanted, sorted(shared), 1)
        hint = f"did you mean {close[0]}?" if close else f"all have {', '.join(sorted(shared)) or 'nothing in common'}"
        raise UserError(f"--metric: {lacking} has no {wanted}; {hint}")
    if not shared:
        own = "; ".join(f"{where} has {', '.join(sorted(names))}" for where, names in dict(measured).items())
        raise UserError(f"--workdir: no common metric: {own}")
    return list(dict.fromkeys([*filter(None, [wanted]), *(name for name in HEADLINE if name in shared)])) or sorted(shared)


def _measured(run: Run) -> set[str]:
    rows = [*run.validation, *run.test.values()]
    names = {name for row in rows for name, value in row.items() if isinstance(value, int | float) and math.isfinite(value)}
    return {name for name in names if not name.endswith("_std")} - {"step", "critic_step", "seconds", "seed", "stage"}


def warnings_of(settings: Sequence[Setting]) -> list[str]:
    """Returns a line for what makes values incomparable, one for seconds, and one for seeds that are there twice."""
    lines = []
    keys = dict.fromkeys(key for setting in settings for key in setting.runs[0].protocol)
    protocols = [(setting.label, setting.runs[0].protocol) for setting in settings]
    different = [_apart(key, [(label, told[key]) for label, told in protocols if key in told]) for key in keys]
    if parts := list(filter(None, different)):
        lines.append(f"not comparable: {'; '.join(parts)}")
    if seconds := _apart("seconds", [(setting.label, run.clock) for setting in settings for run in setting.runs]):
        lines.append(f"seconds are not comparable: {seconds.removeprefix('seconds ')}")
    for setting in settings:
        seeds = [run.config["seed"] for run in setting.runs]
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            lines.append(
                f"{setting.label}: seed {', '.join(map(str, twice))} is there more than once; its runs are no new ones"
            )
    return lines


def _apart(key: str, told: Sequence[tuple[str, Any]]) -> str:
    """Returns "key A (of a, b), B (of c)" where the values differ, else ""."""
    owners: dict[str, list[str]] = {}
    for label, value in told:
        names = owners.setdefault(number(value) or "none", [])
        names += [label] if label not in names else []
    if len(owners) < 2:
        return ""
    short = {
        value: ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
        for value, names in owners.items()
    }
    return f"{key} " + " and ".join(f"{value} ({names})" for value, names in short.items())


def write_table(settings: Sequence[Setting], metrics: Sequence[str], width: int) -> str:
    """Returns the test metrics of the last and the best state of every setting, and real data's, as many as fit a width.

    What has no test metrics yet is told by its last evaluation on validation. Runs that are not done are left out of the means
    of several.
    """
    lines: list[str | list[str]] = [["", "updates", "seconds", *(metric.replace("_", " ") for metric in metrics)]]
    for setting in settings:
        lines.append(", ".join(filter(None, [setting.label, setting.note])))
        done = [run.test for run in setting.runs if run.test]
        states = {name: [test[name] for test in done if name in test] for name in ("last", "best")}
        if not done:
            states = {"so far": [run.validation[-1] for run in setting.runs if run.validation]}
        for name, rows in states.items():
            if rows:
                spent = [f"{np.mean([row[unit] for row in rows]):,.0f}" for unit in BUDGETS]
                draws = setting.runs[0].config["eval.draws"]
                lines.append([f"  {name}", *spent, *(_mean(rows, metric, draws) for metric in metrics)])
    for whose, run in _real(settings):
        lines.append(f"real, n = {run.real_n}{whose}")
        lines.append(["", "", "", *(_mean([run.real], metric, run.config["eval.draws"]) for metric in metrics)])
    columns = list(zip(*(line for line in lines if isinstance(line, list)), strict=True))
    widths = [max(map(len, column)) for column in columns]
    fits = max(4, *(n for n in range(len(widths) + 1) if sum(widths[:n]) + 2 * (n - 1) <= width))

    def text(line: str | list[str]) -> str:
        if isinstance(line, str):
            return "\n".join(textwrap.wrap(line, width, subsequent_indent="  "))
        first, *others = [cell.rjust(size) for cell, size in zip(line[:fits], widths, strict=False)]
        return "  ".join([line[0].ljust(len(first)), *others]).rstrip()

    return "\n".join(map(text, lines))


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
            if run.real:
                found.setdefault(json.dumps([run.real, run.real_n], sort_keys=True), (f" ({setting.label})", run))
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
                if run.real.get(metric) is not None:
                    axes.axhline(run.real[metric], color="0.3", linestyle=style, linewidth=1, label="real")
            axes.set(xlabel=name, xlim=(0, None))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(PLAIN)
            axes.grid(alpha=0.3)
        better = {math.inf: "\nlower is better", 0.0: "\nhigher is better", None: ""}[HEADLINE.get(metric)]
        panels[0, column].set_title(metric.replace("_", " ") + better, fontsize=11)
        if metric == SCORE:
            drawn = panels[0, column].lines
            values = np.concatenate([line.get_ydata() for line in drawn] or [np.empty(0)])
            scale_scores(panels[0, column], "y", values)
            if panels[0, column].get_yscale() == "symlog":  # whose margin below 0 is wide
                panels[0, column].set_ylim(bottom=values.min() - LINEAR)
    labels = [", ".join(filter(None, [setting.label, setting.note])) for setting in settings]
    handles = [
        Line2D([], [], color=colour(index), linestyle=dashes(index), linewidth=2, label=label)
        for index, label in enumerate(labels)
    ]
    labels = [f"real, n = {run.real_n}, on test{name}" for name, run in real]
    handles += [
        Line2D([], [], color="0.3", linestyle=style, label=label)
        for label, style in zip(labels, itertools.cycle(REAL), strict=False)
    ]
    if any(run.status == "non-finite" for setting in settings for run in setting.runs):
        handles.append(Line2D([], [], color="0.3", marker="x", linestyle="", label="became non-finite after this"))
    legend_below(figure, handles)
    figure.supylabel("on validation, averaged generator", fontsize=10)
    return figure


def _draw_setting(axes: Axes, setting: Setting, unit: str, metric: str, look: dict[str, Any]) -> None:
    several = len(setting.runs) > 1
    by_step = [{row["step"]: row for row in run.validation if row.get(metric) is not None} for run in setting.runs]
    own = {"linewidth": 0.7, "alpha": 0.5} if several else {"linewidth": 1.5, "marker": ".", "label": setting.label}
    for run, rows in zip(setting.runs, by_step, strict=True):
        spent, values = [row[unit] for row in rows.values()], [row[metric] for row in rows.values()]
        axes.plot(spent, values, **look, **own)
        if run.status == "non-finite":
            axes.plot(spent[-1:], values[-1:], "x", color=look["color"], markersize=8, markeredgewidth=2)
    steps = sorted(set.intersection(*map(set, by_step)))
    if several and steps:
        at = [float(np.median([rows[step][unit] for rows in by_step])) for step in steps]
        ends = np.quantile([[rows[step][metric] for rows in by_step] for step in steps], [0, 0.5, 1], axis=1)
        axes.plot(at, ends[1], **look, linewidth=2, marker=".", label=setting.label)
        axes.fill_between(at, ends[0], ends[2], color=look["color"], alpha=0.15, linewidth=0)
