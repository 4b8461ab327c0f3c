"""N(2, 1) from U[0, 5] by MLPs: samples over training, W1 over updates, and the generator over the ideal one.

Bethune & Coiffier 2018, section 4.1. On the line the ideal generator is the inverse transform: F^-1 of the latent's own
distribution function (Xu 2020), rising or falling. Clipped against both penalties, several seeds; beside it the same law in
more dimensions, where W1 is that of a coordinate, the mean over coordinates.
"""

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from scipy.stats import norm

from configs import wgan, wgan_gp, wgan_lp
from experiments.figures.members import QUICK, Moment, examples, one, seeds, train
from wgan_jax.data.synthetic import GAUSSIAN_MEAN, GAUSSIAN_STD, gaussian
from wgan_jax.metrics.transport import quantile_wasserstein
from wgan_jax.report.drawing import MARKERS, PLAIN, UPDATES, colour
from wgan_jax.types import Latents

METHODS = {"clipped": wgan, "two-sided penalty": wgan_gp, "one-sided penalty": wgan_lp}
DIMENSIONS = (8,)  # beside 1
EXAMPLES = 10_000  # whose W1 to the law is about .014 where they are of it
SHOWN = (0, 2, 6, 19)  # stops whose histograms are shown, of one method
BINS = np.linspace(-2, 6, 41)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns W1 [method, stop, seed], histograms [method, stage, bin], generators [method, seed, z], W1 by dimension.

    The last is [method, dimension, seed], at the end.
    """
    updates, count = (200, 2) if quick else (2000, 5)
    stops = (np.arange(1, 21) * (updates // 20)).tolist()
    law = gaussian(wgan.get_config("gaussian").data)
    assert law.quantile is not None
    z = np.linspace(0, 5, 101)[1:-1]
    distances, histograms, generators = [], [], []
    names = ["clipped", "one-sided penalty"] if quick else list(METHODS)
    for method in map(METHODS.__getitem__, names):
        config = laptop(method.get_config("gaussian"), updates, quick=quick)
        own, shown = [], []
        for moment in train(config, law, seeds(count), stops):
            points = drawn(moment)
            own.append([quantile_wasserstein(x[:, 0], law.quantile) for x in points])
            shown.append(np.histogram(points[0], BINS, density=True)[0])
        distances.append(own)
        histograms.append([shown[stop] for stop in SHOWN])
        latents = Latents(z[:, None].astype(np.float32), np.zeros(len(z), np.int32))
        generate = jax.jit(moment.networks.generate)
        generators.append([np.asarray(generate(one(moment.states.ema, seed), latents))[:, 0] for seed in range(count)])
    dimensions = () if quick else DIMENSIONS
    return {
        "methods": np.array(names),
        "stops": np.array(stops),
        "distances": np.array(distances),
        "bins": BINS,
        "stages": np.array(stops)[list(SHOWN)],
        "histograms": np.array(histograms),
        "z": z,
        "generators": np.array(generators),
        "ideal": law.quantile(z / 5),
        "dimensions": np.array([1, *dimensions]),
        "by_dimension": np.array(
            [
                [np.array(own)[-1], *(in_dimension(method.get_config("gaussian"), updates, count, dim) for dim in dimensions)]
                for method, own in zip(map(METHODS.__getitem__, names), distances, strict=True)
            ]
        ),
    }


def laptop(config: ConfigDict, updates: int, *, quick: bool = False) -> ConfigDict:
    """Returns a method's config at the figure's size; the rate falls to 0."""
    sizes = QUICK if quick else {"model.width": 64}
    config.update_from_flattened_dict({**sizes, "steps": updates, "decay_steps": updates, "ema_decay": 0.98})
    config.critic.learning_rate = config.generator.learning_rate = 2e-3 if quick else 5e-4
    return config


def drawn(moment: Moment) -> np.ndarray:
    """Returns examples [seed, n, D] of the averaged generators."""
    return np.asarray(examples(moment.networks, moment.states.ema, EXAMPLES, 0))


def in_dimension(config: ConfigDict, updates: int, count: int, dimension: int) -> list[float]:
    """Returns the mean W1 of a coordinate to its law, for each seed, at the end of training in so many dimensions."""
    config = laptop(config, updates)
    config.update_from_flattened_dict({"data.dim": dimension, "latent.dim": dimension})
    (moment,) = train(config, gaussian(config.data), seeds(count), [updates])
    quantile = gaussian(wgan.get_config("gaussian").data).quantile
    assert quantile is not None
    return [float(np.mean([quantile_wasserstein(x, quantile) for x in own.T])) for own in drawn(moment)]


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns histograms over training, W1 over updates, generators over the ideal one, and W1 over dimensions."""
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    (histograms, distances), (generators, dimensions) = figure.subplots(2, 2)
    shown = list(arrays["methods"]).index("one-sided penalty")
    for index, stage in enumerate(arrays["stages"]):
        histograms.stairs(
            arrays["histograms"][shown, index],
            arrays["bins"],
            color=colour(index),
            linewidth=1.6,
            label=f"{stage:,.0f} updates",
        )
    x = np.linspace(-2, 6, 200)
    histograms.plot(x, norm.pdf(x, GAUSSIAN_MEAN, GAUSSIAN_STD), color="black", linewidth=1.2, label="N(2, 1)")
    histograms.set(xlabel="x", ylabel="density")
    histograms.set_title("generated, one-sided penalty, one seed", fontsize=10)
    histograms.legend(fontsize=9)
    for index, method in enumerate(arrays["methods"]):
        style, values = {"color": colour(index)}, arrays["distances"][index]
        distances.plot(arrays["stops"], np.median(values, axis=1), f"{MARKERS[index]}-", markersize=4, label=method, **style)
        distances.fill_between(arrays["stops"], values.min(axis=1), values.max(axis=1), alpha=0.2, linewidth=0, **style)
        for seed, curve in enumerate(arrays["generators"][index]):
            generators.plot(arrays["z"], curve, linewidth=0.9, alpha=0.8, label="" if seed else method, **style)
        across = arrays["dimensions"] * 1.06 ** (index - 1)  # side by side
        ends = arrays["by_dimension"][index]
        dimensions.plot(np.repeat(across, ends.shape[1]), ends.ravel(), MARKERS[index], alpha=0.4, markersize=5, **style)
        dimensions.plot(across, np.median(ends, axis=1), "_", markersize=16, label=method, **style)
    distances.set(xlabel=UPDATES, ylabel="W1 to N(2, 1)")
    distances.set_title(f"{arrays['distances'].shape[-1]} seeds: median, least and most", fontsize=10)
    for sign, told in ((1, "ideal: F$^{-1}$(z / 5)"), (-1, "or F$^{-1}$(1 - z / 5)")):
        generators.plot(arrays["z"], arrays["ideal"][::sign], "--", color="black", linewidth=1.6, label=told)
    generators.set(xlabel="latent z, uniform on [0, 5]", ylabel="G(z)", ylim=(-1.2, 5.2))
    generators.set_title("every seed's generator at the end", fontsize=10)
    dimensions.set(xscale="log", xlabel="dimension", ylabel="W1 of a coordinate, at the end")
    dimensions.set_xticks(arrays["dimensions"], [f"{dimension:.0f}" for dimension in arrays["dimensions"]])
    dimensions.minorticks_off()
    dimensions.set_title("every seed, and medians", fontsize=10)
    dimensions.set_ylim(0)
    distances.set_ylim(0)
    distances.xaxis.set_major_formatter(PLAIN)
    for panel in (distances, generators, dimensions):
        panel.grid(alpha=0.3)
        panel.legend(fontsize=9)
    return figure
