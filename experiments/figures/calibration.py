"""Critics' estimates against distances that are known, beside Korotin's table of the same kind of problems.

Korotin 2022, "Kantorovich Strikes Back!": between N(0, I) and the same moved along a known potential of N funnels, W1 and the
optimal gradient are known. The problems and what is measured are those of `python -m benchmarks.calibration`, which has more
of them and more seeds; critics are 3 x 64 and fitted for seconds, Korotin's wider and for up to 60,000 updates.
"""

import numpy as np
from matplotlib.figure import Figure

from benchmarks.calibration import LAWS, measure_cells
from experiments.distance import critic_config
from wgan_jax.report.drawing import MARKERS, colour

METHODS = {"clip": "clipped", "gp": "two-sided (GP)", "lp": "one-sided (LP)", "sn": "spectral norm", "groupsort": "GroupSort"}
PROBLEMS = (("funnel4", 2), ("funnel64", 2), ("funnel4", 32), ("funnel64", 32))
# Korotin 2022, tables 2 and 3: the estimate over W1 and the cosine to the true gradient, in the order of METHODS; one seed
KOROTIN = {
    ("funnel4", 2): ((0.04, 1.05, 1.08, 0.19, 0.93), (0.07, 0.84, 0.82, 0.21, 0.77)),
    ("funnel4", 32): ((1.56, 1.09, 1.05, 0.40, 0.98), (0.40, 0.95, 0.95, 0.42, 0.98)),
    ("funnel64", 2): ((-0.02, 0.55, 0.97, 0.01, 0.37), (0.07, 0.35, 0.68, 0.07, 0.66)),
    ("funnel64", 32): ((0.34, 0.77, 0.76, 0.12, 0.68), (0.18, 0.73, 0.73, 0.14, 0.74)),
}
VALUES = ("estimate_heldout", "cosine")


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns ours [value, problem, method, seed] and Korotin's [value, problem, method]: estimate over W1, and cosine."""
    methods = ("clip", "lp") if quick else tuple(METHODS)
    problems = PROBLEMS[:1] if quick else PROBLEMS
    fitted, count, steps = (1000, 1, 60) if quick else (4096, 2, 250)
    configs = {method: critic_config(method, (1,), [f"--config.steps={steps}"]) for method in methods}
    found = {}
    for dimension in dict.fromkeys(dimension for _, dimension in problems):
        laws = {law: LAWS[law] for law, own in problems if own == dimension}
        for cell in measure_cells(configs, laws, [dimension], count, fitted):
            found[cell["law"], dimension, cell["method"]] = [[seed[value] for seed in cell["seeds"]] for value in VALUES]
    published = [[KOROTIN[problem][value] for problem in problems] for value in range(len(VALUES))]
    chosen = [list(METHODS).index(method) for method in methods]
    return {
        "names": np.array(VALUES),
        "laws": np.array([f"{law.removeprefix('funnel')} funnels, {dimension}-D" for law, dimension in problems]),
        "methods": np.array([METHODS[method] for method in methods]),
        "ours": np.moveaxis(np.array([[found[(*problem, method)] for method in methods] for problem in problems]), 2, 0),
        "korotin": np.array(published)[:, :, chosen],
    }


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns estimates and cosines, a panel each: a column per problem and method, every seed, Korotin's beside it."""
    laws, methods = arrays["laws"], arrays["methods"]
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for value, (axes, told) in enumerate(zip(panels, ("held-out estimate / W1", "cosine to the true gradient"), strict=True)):
        axes.axhline(1, color="0.4", linewidth=1, linestyle=":")
        for index, method in enumerate(methods):
            places = np.arange(len(laws)) + 0.15 * (index - (len(methods) - 1) / 2)
            ours, style = arrays["ours"][value, :, index], {"color": colour(index), "marker": MARKERS[index], "linestyle": ""}
            axes.plot(np.repeat(places, ours.shape[1]), ours.ravel(), markersize=7, label=str(method), **style)
            axes.plot(places + 0.05, arrays["korotin"][value, :, index], fillstyle="none", markersize=9, **style)
        axes.plot([], [], "o", color="0.3", fillstyle="none", markersize=9, label="Korotin's, hollow")
        axes.set_ylabel(told)
        axes.grid(alpha=0.3, axis="y")
    panels[1].set_xticks(range(len(laws)), laws)
    panels[0].set_title(f"{arrays['ours'].shape[-1]} seeds, each with a law of its own; 1 is the truth", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods) + 1, fontsize=9)
    return figure
