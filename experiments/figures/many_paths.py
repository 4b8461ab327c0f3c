"""Parallel lines, trained: the generated line starts at 0, the data's is at theta, and no divergence tells it the way.

Fedus 2017, "Many Paths to Equilibrium", section 4.1: KL is infinite and JS log 2 at any distance (Arjovsky 2017, example 1),
and yet the non-saturating GAN learns, and with a gradient penalty the minimax one does too: a trained discriminator is no
divergence. All have five updates of the critic for one of the generator, 3 x 64 networks and the same optimizer.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import gan, wgan, wgan_gp
from experiments.figures.members import QUICK, examples, seeds, train
from wgan_jax.data.synthetic import parallel_lines
from wgan_jax.metrics.transport import empirical_wasserstein
from wgan_jax.report.drawing import PLAIN, UPDATES, colour, dashes

THETA = 4.0
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "minimax": (gan, {"loss": "minimax"}),
    "non-saturating": (gan, {}),
    "minimax, GP": (gan, {"loss": "minimax", "penalty.name": "two_sided", "penalty.weight": 10.0}),
    "non-saturating, GP": (gan, {"penalty.name": "two_sided", "penalty.weight": 10.0}),
    "WGAN, clipped": (wgan, {}),
    "WGAN-GP": (wgan_gp, {"penalty.weight": 10.0}),
}
SETTINGS = {"n_critic": 5, "batch_size": 64, "latent.dim": 1, "data.theta": THETA}
SETTINGS |= {f"{player}.learning_rate": 5e-4 for player in ("critic", "generator")}
EXAMPLES = 500  # of a side; W1 is empirical
REACHED = 0.1 * THETA  # a generator nearer than this has arrived


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns empirical W1 to the data [method, stop, seed], and examples of a seed at the end [method, n, 2]."""
    updates, count = (100, 2) if quick else (800, 4)
    stops = np.arange(1, 21) * (updates // 20)
    names = ["minimax", "minimax, GP"] if quick else list(METHODS)
    distances, ends = [], []
    for name in names:
        config = configured(name, updates, QUICK if quick else {})
        law = parallel_lines(config.data)
        u = (np.arange(EXAMPLES) + 0.5) / EXAMPLES
        real = np.stack([np.full(EXAMPLES, THETA), u], axis=1)
        own = []
        for moment in train(config, law, seeds(count), stops.tolist()):
            points = np.asarray(examples(moment.networks, moment.states.generator.variables, EXAMPLES, 0))
            own.append([empirical_wasserstein(x, real) for x in points])
        distances.append(own)
        ends.append(points[0, :200])
    return {
        "methods": np.array(names),
        "stops": stops,
        "distances": np.array(distances),
        "ends": np.array(ends),
        "arrived": (np.array(distances)[:, -1] < REACHED).mean(axis=1),
    }


def configured(name: str, updates: int, sizes: Mapping[str, Any]) -> ConfigDict:
    """Returns a method's config with a constant rate."""
    method, changes = METHODS[name]
    config: ConfigDict = method.get_config("parallel_lines")
    config.update_from_flattened_dict({**SETTINGS, **sizes, **changes, "steps": updates, "decay_steps": 0})
    return config


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns W1 over updates, with and without the penalty, and where the generators end."""
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    panels = figure.subplots(1, 3)
    plain, penalised, plane = panels
    for index, method in enumerate(arrays["methods"]):
        axes = penalised if "GP" in str(method) else plain
        values, style = arrays["distances"][index], {"color": colour(index)}
        told = f"{method}: {100 * arrays['arrived'][index]:.0f} % arrive"
        axes.plot(arrays["stops"], np.median(values, axis=1), dashes(index), label=told, linewidth=1.8, **style)
        axes.fill_between(arrays["stops"], values.min(axis=1), values.max(axis=1), alpha=0.2, linewidth=0, **style)
        plane.plot(*arrays["ends"][index].T, ".", markersize=4, label=str(method), **style)
    highest = 1.05 * float(arrays["distances"].max())
    for axes, told in ((plain, "without a penalty"), (penalised, "with the penalty, lambda 10")):
        axes.axhline(REACHED, color="0.3", linestyle=":", label=f"arrived: below {REACHED:g}")
        axes.set(xlabel=UPDATES, ylabel="W1 to the data's line", ylim=(0, highest))
        axes.set_title(f"{told}; {arrays['distances'].shape[-1]} seeds", fontsize=10)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.legend(fontsize=9)
    plane.plot([THETA, THETA], [0, 1], color="black", linewidth=1.5, label="data")
    plane.set(xlabel="x1", ylabel="x2", xlim=(-1, THETA + 2), ylim=(-1.5, 2.5))
    plane.set_title("one seed's examples at the end", fontsize=10)
    plane.legend(fontsize=8, loc="upper left")
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure
