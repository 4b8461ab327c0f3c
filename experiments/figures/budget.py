"""What a second of training buys: the excess of every method on digits against its own seconds, on one core.

Methods are compared at equal generator updates in most papers, where an update of a WGAN-GP costs several of a GAN's. Here all
have the network, the optimizer's rate and the averaged generator of configs' digits preset, and as many updates as take about
equally long; the rate is constant, so that a point within a curve is a run of that length. The excess is a function of
the updates alone, the seconds are processor time of the machine, so that other work on it does not count.
"""

import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from ml_collections import ConfigDict

from configs import dragan, gan, imle, r3gan, sngan, ttur, wgan, wgan_gp, wgan_groupsort, wgan_lp
from experiments.figures.members import QUICK, one, seeds, train
from wgan_jax.data import digits
from wgan_jax.data.dataset import Dataset
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.models import build_networks
from wgan_jax.report.drawing import MARKERS, PLAIN, colour, scale_scores

# with the updates that take some seconds of a seed
METHODS: dict[str, tuple[ModuleType, int]] = {
    "WGAN, clipped": (wgan, 1600),
    "WGAN-GP": (wgan_gp, 800),
    "WGAN-LP": (wgan_lp, 800),
    "TTUR": (ttur, 2400),
    "GroupSort": (wgan_groupsort, 800),
    "GAN": (gan, 4000),
    "DRAGAN": (dragan, 2400),
    "SN-GAN": (sngan, 1600),
    "R3GAN": (r3gan, 2400),
    "IMLE": (imle, 2400),
}
CRITICS = 5  # of these have a Wasserstein critic
PARTS = (16, 8, 4, 2, 1)  # of all updates, where it is evaluated
VALUES = ("wasserstein_excess", "precision", "recall")


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns what `measure` does, on digits."""
    data = digits.load(wgan_gp.get_config("digits").data)
    count, fewer = (1, 10) if quick else (2, 1)
    names = ["WGAN-GP", "GAN"] if quick else list(METHODS)
    updates = {name: METHODS[name][1] // fewer for name in names}
    return measure("digits", data, updates, count, {"model.width": 128} | (QUICK if quick else {}))


def measure(
    preset: str, data: Dataset, updates: Mapping[str, int], count: int, changes: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Returns updates and seconds [method, stop], VALUES on test [value, method, stop, seed], the excess at equal seconds.

    updates: of each method of METHODS, the most; changes: of its config.
    """
    stops_of, seconds, told = [], [], []
    for name, most in updates.items():
        method = METHODS[name][0]
        config: ConfigDict = method.get_config(preset)
        config.n_critic = method.get_config("digits").n_critic  # presets of images have fewer
        config.update_from_flattened_dict({"decay_steps": 0, "eval.metrics": "wasserstein,precision_recall", **changes})
        evaluator = make_evaluator(config, data, build_networks(config, data.shape))
        stops = [most // part for part in PARTS]
        rows, spent, began = [], [], time.process_time()
        for moment in train(config, data, seeds(count), stops):
            spent.append(time.process_time() - began)
            generators, critics = moment.states.ema, moment.states.critic.variables
            found = [evaluator.of_generator(one(generators, seed), one(critics, seed), "test", seed) for seed in range(count)]
            rows.append([[own[value] for value in VALUES] for own in found])
            began = time.process_time()
        stops_of.append(stops)
        # of one seed, as one is trained after another; the first stretch compiles
        each = np.median(np.array(spent[1:]) / np.diff(stops)) / count
        seconds.append(each * np.array(stops))
        told.append(rows)
    values, times = np.moveaxis(np.array(told), -1, 0), np.array(seconds)
    equal = times[:, -1].min()  # the latest that all have reached
    means = values[0].mean(axis=-1)
    return {
        "methods": np.array(list(updates)),
        "updates": np.array(stops_of),
        "seconds": times,
        "names": np.array(VALUES),
        "values": values,
        "equal_seconds": np.array(equal),
        "at_equal": np.array([np.interp(np.log(equal), np.log(t), own) for t, own in zip(times, means, strict=True)]),
    }


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns the excess over seconds, of Wasserstein critics and of the others, and at equal seconds in order."""
    methods, values = [str(method) for method in arrays["methods"]], arrays["values"][0]
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    left, right, ranks = figure.subplots(1, 3)
    right.sharey(left)
    for index, (method, own, seconds) in enumerate(zip(methods, values, arrays["seconds"], strict=True)):
        critic = list(METHODS).index(method) < CRITICS
        axes, style = left if critic else right, {"color": colour(index % CRITICS), "marker": MARKERS[index % CRITICS]}
        axes.plot(seconds, own.mean(axis=-1), label=method, markersize=5, **style)
        axes.fill_between(seconds, own.min(axis=-1), own.max(axis=-1), color=style["color"], alpha=0.15, linewidth=0)
    for axes, told in ((left, "Wasserstein critics"), (right, "others")):
        axes.set(xscale="log", xlabel="seconds of processor time")
        axes.set_title(f"{told}; {values.shape[-1]} seeds: mean, least and most", fontsize=10)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    scale_scores(left, "y", values)
    left.set_ylabel("excess on test (0 as real ones)")
    order = np.argsort(-arrays["at_equal"])
    for place, index in enumerate(order):
        ranks.plot(arrays["at_equal"][index], place, MARKERS[index % CRITICS], color=colour(index % CRITICS), markersize=8)
    ranks.set_yticks(range(len(order)), [methods[index] for index in order], fontsize=9)
    ranks.set(xlabel=f"excess after {arrays['equal_seconds']:.1f} seconds of processor time", xlim=(0, None))
    ranks.grid(alpha=0.3)
    return figure
