"""A generator without convolutions, with which a GAN is said to collapse: samples, digits covered and failures over seeds.

Arjovsky 2017, figure 7: an MLP of four ReLU layers against DCGAN's discriminator; the GAN's samples lose quality and modes, the
WGAN's do not. There 4 x 512 and bedrooms of 64 x 64, here 4 x 128 and digits of 8 x 8, several seeds. A run has failed where
config.eval.fail says so, as in sweeps.
"""

import functools
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from configs import gan, wgan, wgan_gp
from experiments.figures.members import examples, seeds, train
from wgan_jax.data import digits
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.evaluation.sheets import image_grid
from wgan_jax.metrics.fidelity import class_shares
from wgan_jax.models import build_networks
from wgan_jax.report.drawing import MARKERS, PLAIN, VERMILLION, colour
from wgan_jax.report.statistics import failed, parse_conditions, wilson_interval

METHODS: dict[str, Any] = {"GAN": gan, "WGAN, clipped": wgan, "WGAN-GP": wgan_gp}
WIDTH = 16  # of the critic's first layer: the generator is 4 x 128; 64 has the 4 x 512 of the paper
VALUES = ("wasserstein_excess", "smallest_class", "classes_covered", "precision", "recall")
EXAMPLES = 1000  # two samples of 500, as the excess wants them
SHOWN = 49  # samples
SETTINGS = {
    "model.name": "mlp_dcgan",
    "model.critic_activation": "leaky_relu",
    "eval.metrics": "wasserstein,precision_recall,classes",
}


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns VALUES [method, seed, value], shares of the digits [method, seed, class], failures and samples.

    failed [method, seed] is 0 or 1, rates [method, 3] the share of failures and its 95 % Wilson interval; samples
    [method, 2, n, H, W] are of the seeds with the median and the highest excess, uint8.
    """
    updates, count, width = (100, 2, 4) if quick else (1000, 10, WIDTH)
    data = digits.load(gan.get_config("digits").data)
    names = ["GAN", "WGAN-GP"] if quick else list(METHODS)
    values, shares, failures, samples = [], [], [], []
    for method in map(METHODS.__getitem__, names):
        config = method.get_config("digits")
        config.update_from_flattened_dict(SETTINGS | {"model.width": width, "steps": updates})
        evaluator = make_evaluator(config, data, build_networks(config, data.shape))
        (moment,) = train(config, data, seeds(count), [updates])
        drawn = [data.encode(x) for x in np.asarray(examples(moment.networks, moment.states.ema, EXAMPLES, 0))]
        rows = [evaluator.of_examples(functools.partial(_first, x), "test", 0) for x in drawn]
        conditions = parse_conditions(config.eval.fail)
        failures.append([failed({"status": "ok", **row}, conditions) for row in rows])
        values.append([[row[value] for value in VALUES] for row in rows])
        assert evaluator.network is not None
        label, apply = evaluator.network.label, evaluator.network.apply
        shares.append([class_shares(label(x, apply(x)), len(data.class_names)) for x in drawn])
        worse = np.argsort([row["wasserstein_excess"] for row in rows])
        samples.append([drawn[seed][:SHOWN, ..., 0] for seed in (worse[(count - 1) // 2], worse[-1])])
    return {
        "methods": np.array(names),
        "names": np.array(VALUES),
        "values": np.array(values),
        "shares": np.array(shares),
        "failed": np.array(failures, int),
        "rates": np.array([wilson_interval(sum(own), count) for own in failures]),
        "samples": np.array(samples),
    }


def _first(x: np.ndarray, n: int) -> np.ndarray:
    return x[:n]


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns samples of a median and of the worst run, a column per method; every run's values, coverage and failures."""
    methods, names, values = arrays["methods"], list(arrays["names"]), arrays["values"]
    count = values.shape[1]
    figure = Figure(figsize=(10.5, 11), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[2, 1]))
    grids, (quality, coverage, rates) = upper.subplots(2, len(methods)), lower.subplots(1, 3)
    for column, method in enumerate(methods):
        for row, told in enumerate(("median run", "worst run")):
            axes, excess = grids[row, column], np.sort(values[column, :, 0])[(count - 1) // 2 if row == 0 else -1]
            images = arrays["samples"][column, row][..., None] / 127.5 - 1
            axes.imshow(image_grid(images).convert("L"), cmap="gray", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{method}, {told}: excess {excess:.2f}", fontsize=10)
        style = {"color": colour(column)}
        across = column + np.linspace(-0.25, 0.25, count)
        for seed, lost in enumerate(arrays["failed"][column]):
            look = {"color": VERMILLION} if lost else style
            quality.plot(across[seed], values[column, seed, 0], "x" if lost else "o", **look)
        ordered = np.sort(arrays["shares"][column], axis=1)[:, ::-1]  # [seed, rank]
        ranks = np.arange(1, ordered.shape[1] + 1)
        coverage.plot(ranks, 100 * np.median(ordered, axis=0), f"{MARKERS[column]}-", markersize=4, label=str(method), **style)
        coverage.fill_between(ranks, *(100 * ordered.min(axis=0), 100 * ordered.max(axis=0)), alpha=0.2, linewidth=0, **style)
        share, low, high = 100 * arrays["rates"][column]
        rates.errorbar(column, share, [[share - low], [high - share]], fmt=MARKERS[column], capsize=5, markersize=8, **style)
    quality.plot([], [], "x", color=VERMILLION, label="failed")
    quality.set(yscale="log", ylabel="excess of W1 (lower is better)")
    quality.yaxis.set_major_formatter(PLAIN)
    quality.yaxis.set_minor_formatter(PLAIN)
    quality.set_title(f"every run, {count} seeds", fontsize=10)
    quality.legend(fontsize=9)
    coverage.axhline(2, color="0.3", linestyle=":", label="2 %: below, a run has failed")
    coverage.set(xlabel="digits of a run, by their share", ylabel="share (%)", ylim=0)
    coverage.set_xticks(range(1, 11))
    coverage.set_title("median, least and most of the seeds", fontsize=10)
    coverage.legend(fontsize=9)
    rates.set(ylabel="failed runs (%)", ylim=(-4, 104))
    rates.set_title("failure rate and its 95 % interval", fontsize=10)
    for axes in (quality, rates):
        axes.set_xticks(range(len(methods)), [str(method).replace(", ", ",\n") for method in methods])
        axes.set_xlim(-0.5, len(methods) - 0.5)
    for axes in (quality, coverage, rates):
        axes.grid(alpha=0.3)
    assert names[0] == "wasserstein_excess"
    return figure
