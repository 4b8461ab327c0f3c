"""What a sweep says, in tables (summary.md) and pictures."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wgan_jax.paths import write_whole
from wgan_jax.plan import Row
from wgan_jax.report import figures as sweep_figures
from wgan_jax.report import statistics
from wgan_jax.report.drawing import UPDATES, save_figure
from wgan_jax.report.names import DIRECTIONS, HEADLINE, SCORE, labels_of, number
from wgan_jax.report.settings import Run, Setting, settings_of, value_of, values_of
from wgan_jax.report.statistics import Condition, Interval, Unit
from wgan_jax.report.tables import markdown_table

UNITS: dict[Unit, str] = {"step": UPDATES, "critic_step": "critic steps", "seconds": "seconds of a device"}
SHOWN, CURVES = 20, 10  # settings in tables and strips, as curves
DPI = 110
LEVELS = 10  # of the other keys, each a colour
DRAWS = 10  # settings, most of them with one run, from which on they are draws of a random search
TABLE_DRAWS = (1, 2, 5, 10, 20, 50, 100, 200)
AXIS = "Wasserstein excess\n(share of the real-real floor; lower is better)"


def write_summary(folder: Path, rows: Sequence[Row], keys: Sequence[str], fail: str, title: str) -> str:
    """Writes folder/summary.md and folder/figures/*.png, and returns the text of the former.

    rows: each one evaluation of one point of a sweep, in the order of the points; keys: the swept ones without the seed;
    fail: `eval.fail`. Points that are not done are counted and left out.

    Raises:
      UserError: as `parse_conditions`.
    """
    conditions = statistics.parse_conditions(fail)
    measured = {name for row in rows if row["split"] == "test" for name, value in row.items() if value is not None}
    every, pending = settings_of(rows, keys, [condition for condition in conditions if condition.metric in measured])
    # Of the latest stage: the earlier runs are why a setting was chosen.
    settings = [s._replace(runs=[run for run in s.runs if run.stage == s.runs[-1].stage]) for s in every]
    parts = [f"# {title}", _preamble(settings, pending, conditions, measured)]
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    if settings:
        latest = max(setting.runs[0].stage for setting in settings)
        chosen = [setting for setting in settings if setting.runs[0].stage == latest]
        ranked = [chosen[index] for index in np.argsort([setting.score for setting in chosen], kind="stable")]
        shown = chosen if len(chosen) <= SHOWN else ranked[:SHOWN]
        if latest:
            parts.append(f"The tables and pictures by setting are of the {len(chosen)} that stage {latest} chose, in its runs.")
        parts += _settings_table(shown, len(chosen), measured) + _superiority(ranked) + _equal_budgets(shown, chosen)
        captions = _draw_results(figures / "results.png", chosen, shown, title)
        captions += _draw_curves(figures / "curves.png", ranked, title)
        if len(settings) >= DRAWS and np.median([len(setting.runs) for setting in settings]) == 1:
            groups = _by_method([s._replace(runs=s.runs[:1]) for s in every if s.runs[0].stage == 0])
            parts += _best_of(groups) + _same_settings(groups)
            captions += _draw_search(figures, groups, measured, title)
        parts += ["## Figures", "\n".join(captions)]
    text = "\n\n".join(parts) + "\n"
    write_whole(folder / "summary.md", text.encode())
    return text


def _median(runs: Sequence[Run], metric: str = SCORE, state: str = "last") -> str:
    return _interval(statistics.median_interval(values_of(runs, metric, state), higher=DIRECTIONS[metric] == "higher"))


def _interval(interval: Interval) -> str:
    ends = "" if interval.low is None else f" [{number(interval.low)}, {number(interval.high)}]"
    return number(interval.value) + ends


def _failures(runs: Sequence[Run]) -> str:
    failures = sum(run.failed for run in runs)
    if len(runs) == 1:
        return f"{failures} of 1"
    share, low, high = statistics.wilson_interval(failures, len(runs))
    return f"{failures} of {len(runs)}, {share:.0%} [{low:.0%}, {high:.0%}]"


def _preamble(settings: Sequence[Setting], pending: int, conditions: Sequence[Condition], measured: set[str]) -> str:
    count = sum(len(setting.runs) for setting in settings)
    lines = [f"Done are {count} runs of {len(settings)} settings; n counts the runs of a setting, which differ in their seed."]
    if pending:
        lines.append(
            f"{pending} more have begun and are left out. Failures are provisional: what becomes non-finite is done early."
        )
    fails = [f"`{c.metric}{c.comparison}{c.bound:g}`" for c in conditions if c.metric in measured]
    judged = f", or on test, in its last state, has {' or '.join(fails)}" if fails else ""
    lines.append(f"A run **fails** where it becomes non-finite{judged}.")
    if unmeasured := [f"`{c.metric}`" for c in conditions if c.metric not in measured]:
        lines.append(f"No test row has {', '.join(unmeasured)}: what eval.fail says of it is not judged.")
    lines.append(
        f"Whatever is selected, a run's `best` state or the best settings, has the lowest `{SCORE}` on validation. Scores are "
        "on test, of the last state unless another is named. A run that became non-finite counts as the worst: ∞, or 0. "
        "One without a value, `-`, ranks last."
    )
    return "\n".join(lines)


def _settings_table(shown: Sequence[Setting], count: int, measured: set[str]) -> list[str]:
    metrics = [metric for metric in HEADLINE if metric in measured or metric == SCORE]
    means = any(len(setting.runs) >= statistics.BOOTSTRAP_RUNS for setting in shown)
    header = ["setting", "n", "failed", *(f"`{metric}`" for metric in metrics)]
    header += [f"mean `{SCORE}`"] * means + [f"`{SCORE}`, best state", "seconds of a device, a run"]
    lines = []
    for label, _, runs in shown:
        scores = values_of(runs)
        mean = _interval(statistics.mean_interval(scores)) if np.isfinite(scores).all() else "-"
        medians = [_median(runs, metric) for metric in metrics]
        seconds = float(np.median([run.validation[-1]["seconds"] for run in runs]))
        lines.append(
            [label, str(len(runs)), _failures(runs), *medians, *[mean] * means, _median(runs, state="best"), number(seconds)]
        )
    note = (
        "Medians over runs. In brackets 95 % intervals: of failures Wilson's, of medians between order statistics (from n = 6)"
    )
    note += f", of means of finite runs a BCa bootstrap (from n = {statistics.BOOTSTRAP_RUNS})." if means else "."
    if count > len(shown):
        note += f" These are the best {len(shown)} of {count} settings on validation; `results.csv` has all."
    return ["## Settings", note, markdown_table(header, lines)]


def _superiority(ranked: Sequence[Setting]) -> list[str]:
    several = [setting for setting in ranked if len(setting.runs) > 1]
    if len(several) < 2:
        return []
    scores = [values_of(setting.runs) for setting in several]
    others = scores if len(several) <= SHOWN else scores[:1]
    lines = [
        [f"{index}. {setting.label}", *(f"{statistics.probability_of_superiority(own, other):.2f}" for other in others)]
        for index, (setting, own) in enumerate(zip(several, scores, strict=True), 1)
    ]
    note = f"Probability that a run of A has a lower `{SCORE}` than one of B, ties half. Settings by their score on validation."
    return ["## P(A beats B)", note, markdown_table(["A", *(f"B = {index}" for index, _ in enumerate(others, 1))], lines)]


def _equal_budgets(shown: Sequence[Setting], settings: Sequence[Setting]) -> list[str]:
    finite = [run for setting in settings for run in setting.runs if run.test]
    if not finite:
        return []
    header, columns = ["setting"], []
    for unit, name in UNITS.items():
        spent = [run.validation[-1][unit] for run in finite]
        if not any(spent):
            continue
        budget = min(filter(None, spent))  # what takes none, as IMLE does of critic steps, bounds nobody
        header.append(f"{budget:,.1f} {name}" if isinstance(budget, float) else f"{budget:,} {name}")
        columns.append([_median_within(setting, unit, budget) for setting in shown])
    note = f"Median `{SCORE}` on validation at the largest budget that all runs reached, those aside that became non-finite."
    lines = list(zip((setting.label for setting in shown), *columns, strict=True))
    return ["## At equal budgets", note, markdown_table(header, lines)]


def _median_within(setting: Setting, unit: Unit, budget: float) -> str:
    if not any(run.validation[-1][unit] for run in setting.runs):
        return "no critic"
    found = [statistics.equal_budget(run.validation, unit, budget) for run in setting.runs]
    return (
        "not evaluated by then"
        if None in found
        else number(float(statistics.median(np.array([value_of(row) for row in found]))))
    )


def _draw_results(path: Path, settings: Sequence[Setting], shown: Sequence[Setting], title: str) -> list[str]:
    axis = _logarithmic(settings)
    drawn = settings if axis else shown
    levels = labels_of([_other_values(axis, setting, drawn) for setting in drawn]) if axis else _methods(drawn)
    columns = []
    for setting, level in zip(drawn, levels, strict=True):
        failed = np.array([run.failed for run in setting.runs])
        place = float(setting.values[axis]) if axis else None
        columns.append(sweep_figures.Column(setting.label, level, values_of(setting.runs), failed, place))
    save_figure(sweep_figures.results_figure(columns, f"test {AXIS}", axis, title), path, DPI)
    which = f"the best {len(drawn)} settings on validation" if len(drawn) < len(settings) else "all settings"
    return [f"- `figures/{path.name}`: every run on test, {which}; crosses failed, those on the frame became non-finite."]


def _other_values(axis: str, setting: Setting, settings: Sequence[Setting]) -> dict[str, Any]:
    """Returns the values of a setting that its place on the axis does not determine."""
    keys = [key for key in setting.values if key != axis]
    free = [
        key
        for key in keys
        if len({(s.values[axis], s.values[key]) for s in settings}) > len({s.values[axis] for s in settings})
    ]
    return {key: setting.values[key] for key in free}


def _logarithmic(settings: Sequence[Setting]) -> str:
    """Returns the key whose numbers span a decade and determine all such, "" where none does or the others have many values."""
    keys = []
    for key in settings[0].values:
        values = {setting.values[key] for setting in settings}
        numbers = all(isinstance(value, int | float) and value > 0 for value in values)
        if numbers and len(values) >= 3 and max(values) >= 10 * min(values):
            keys.append(key)
    for axis in keys:
        others = {tuple(_other_values(axis, setting, settings).items()) for setting in settings}
        alone = all(key == axis or key not in _other_values(axis, settings[0], settings) for key in keys)
        if alone and len(others) <= LEVELS:
            return axis
    return ""


def _draw_curves(path: Path, ranked: Sequence[Setting], title: str) -> list[str]:
    curves = [_curve(setting) for setting in ranked[:CURVES]]
    save_figure(sweep_figures.sweep_curves_figure(curves, f"validation {AXIS}", title), path, DPI)
    which = f"the best {CURVES} settings on validation" if len(ranked) > CURVES else "all settings"
    return [
        f"- `figures/{path.name}`: validation against three budgets, {which}; the median, shaded the middle half of the runs."
    ]


def _curve(setting: Setting) -> sweep_figures.Curve:
    """Returns the scores at the steps at which every run was evaluated that was still finite."""
    by_step = [{row["step"]: row for row in run.validation} for run in setting.runs]
    lasting = [rows for run, rows in zip(setting.runs, by_step, strict=True) if run.test] or by_step
    steps = sorted(set.intersection(*map(set, lasting)))
    spent = {name: np.array([np.median([rows[s][unit] for rows in lasting]) for s in steps]) for unit, name in UNITS.items()}
    values = np.array([[value_of(rows.get(step)) for rows in by_step] for step in steps])
    return sweep_figures.Curve(setting.label, spent, values.reshape(len(steps), len(by_step)))


def _methods(settings: Sequence[Setting]) -> list[str]:
    """Returns the method of each setting, with its loss where that is swept too; "" where neither is."""
    return labels_of([{key: value for key, value in s.values.items() if key in ("method", "loss")} for s in settings])


def _by_method(settings: Sequence[Setting]) -> dict[str, list[Setting]]:
    groups: dict[str, list[Setting]] = {}
    for name, setting in zip(_methods(settings), settings, strict=True):
        groups.setdefault(name or "all", []).append(setting)
    return groups


def _of_chosen(group: Sequence[Setting]) -> Callable[[int], tuple[float, float]]:
    """Returns k -> the expected score on test of the best by validation of k settings, and how probably it is a failure."""
    selection = np.array([setting.score for setting in group])
    runs = [setting.runs[0] for setting in group]
    scores, failures = values_of(runs), np.array([float(run.failed) for run in runs])
    return lambda k: (statistics.expected_best(selection, scores, k), statistics.expected_best(selection, failures, k))


def _best_of(groups: dict[str, list[Setting]]) -> list[str]:
    counts, lines = [k for k in TABLE_DRAWS if k <= max(map(len, groups.values()))], []
    for name, group in groups.items():
        best = [_of_chosen(group)(k) for k in counts if k <= len(group)]
        texts = [f"{number(score)} ({failing:.0%})" for score, failing in best] + ["-"] * (len(counts) - len(best))
        lines.append([name, _failures([setting.runs[0] for setting in group]), *texts])
    note = (
        f"Expected `{SCORE}` on test of the best by validation of k of a method's settings, drawn without replacement; choices "
        "that are not finite are left out. In brackets how probably the chosen one failed. Of every setting the first run; "
        "settings that a later stage drew near the best are left out."
    )
    return ["## Best of k", note, markdown_table(["method", "failed", *(f"k = {k}" for k in counts)], lines)]


def _same_settings(groups: dict[str, list[Setting]]) -> list[str]:
    lines = []
    for (a, of_a), (b, of_b) in itertools.combinations(groups.items(), 2):
        domains = {key: [{s.values[key] for s in group} for group in (of_a, of_b)] for key in of_a[0].values}
        keys = [key for key, (a_has, b_has) in domains.items() if a_has == b_has]
        failed_a, failed_b = (
            {(s.runs[0].config["seed"], *(s.values[key] for key in keys)): s.runs[0].failed for s in group}
            for group in (of_a, of_b)
        )
        pairs = [(failed_a[values], failed_b[values]) for values in failed_a if values in failed_b]
        if pairs and len(failed_a) == len(of_a) and len(failed_b) == len(of_b):  # each setting has its own values of the keys
            outcomes = ((False, False), (False, True), (True, False), (True, True))
            lines.append([a, b, str(len(pairs)), *(str(pairs.count(outcome)) for outcome in outcomes)])
    note = (
        "Settings with one seed that differ in the keys alone that do not take the same values under both methods, by which of "
        "the two does not fail."
    )
    header = ["A", "B", "settings", "both", "only A", "only B", "neither"]
    return ["## The same settings under two methods", note, markdown_table(header, lines)] if lines else []


def _draw_search(figures: Path, groups: dict[str, list[Setting]], measured: set[str], title: str) -> list[str]:
    best = {}
    for name, group in groups.items():
        draws = np.unique(np.geomspace(1, len(group), 40).astype(int)).tolist()
        best[name] = sweep_figures.BestOf(draws, *zip(*map(_of_chosen(group), draws), strict=True))
    save_figure(sweep_figures.budget_figure(best, f"test {AXIS}", title), figures / "budget.png", DPI)
    runs = {name: [setting.runs[0] for setting in group] for name, group in groups.items()}
    scores = {m: {name: values_of(own, m) for name, own in runs.items()} for m in HEADLINE if m in measured}
    higher = [metric for metric in scores if DIRECTIONS[metric] == "higher"]
    save_figure(sweep_figures.thresholds_figure(scores, higher, title), figures / "thresholds.png", DPI)
    return [
        "- `figures/budget.png`: the table `Best of k` for more k.",
        "- `figures/thresholds.png`: share of a method's settings that are at least as good as each threshold.",
    ]
