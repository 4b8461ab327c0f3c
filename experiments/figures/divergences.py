"""What KL, reverse KL, JS, total variation and W1 say of laws that part, and which Gaussian each fits to two modes.

Parallel lines: Arjovsky 2017, example 1 and figure 1. The piles (3, 2, 1, 4) to (1, 2, 4, 3), W = 5: Weng 2019, "From GAN to
WGAN". One Gaussian for two modes: Huszar 2015, figure 1. JS has its halves, so that it is log 2 at most.
"""

import functools
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.special import ndtri
from scipy.stats import norm

from wgan_jax.metrics.divergences import histograms, jensen_shannon, kullback_leibler, total_variation
from wgan_jax.metrics.transport import (
    earth_movers_distance,
    empirical_wasserstein,
    optimal_transport,
    quantile_wasserstein,
)
from wgan_jax.report.drawing import BLUE, ORANGE, VERMILLION, colour

NARROW = 0.5  # of the second Gaussian; of equal widths KL and its reverse would be equal
PILES, OTHER = np.array([3, 2, 1, 4]), np.array([1, 2, 4, 3])
MODES, WEIGHTS, SIGMA = np.array([-2.0, 2.0]), np.array([0.6, 0.4]), 0.7  # of the law that one Gaussian is fitted to
NAMES = ("KL", "reverse KL", "JS", "TV", "W1")


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns the five divergences over the distance of two Gaussians and of two lines, the piles' moves, the fits."""
    x = np.linspace(-10, 12, 1101 if quick else 4401)
    cell = x[1] - x[0]
    shifts = np.linspace(0, 6, 13 if quick else 49)
    levels = (np.arange(len(x)) + 0.5) / len(x)

    def between(p: np.ndarray, q: np.ndarray, cell: float) -> list[float]:
        return [
            kullback_leibler(p, q, cell),
            kullback_leibler(q, p, cell),
            jensen_shannon(p, q, cell),
            total_variation(p, q, cell),
        ]

    gaussians = []
    for shift in shifts:
        p, q = norm.pdf(x), norm.pdf(x, shift, NARROW)
        w1 = quantile_wasserstein(ndtri(levels), functools.partial(norm.ppf, loc=shift, scale=NARROW))
        gaussians.append([*between(p, q, cell), w1])

    thetas, lines = np.linspace(-1, 1, 9 if quick else 41), []
    u = (np.arange(64) + 0.5) / 64
    for theta in thetas:
        line, other = np.stack([0 * u, u], axis=1), np.stack([theta + 0 * u, u], axis=1)
        lines.append([*between(*histograms(line, other, 16), 1.0), empirical_wasserstein(line, other)])

    places = np.arange(1.0, 5.0)
    plan = optimal_transport(places[:, None], places[:, None], 1, PILES, OTHER).plan * PILES.sum()
    target = WEIGHTS @ norm.pdf(x, MODES[:, None], SIGMA)
    return {
        "names": np.array(NAMES),
        "shifts": shifts,
        "gaussians": np.array(gaussians),
        "thetas": thetas,
        "lines": np.array(lines),
        "moves": plan,
        "work": np.array(earth_movers_distance(PILES, OTHER, places)),
        "fitted_by": np.array(list(FITTED)),
        "fits": np.array([fit(divergence, x, target) for divergence in FITTED.values()]),  # mean and sigma of each
        "x": x,
        "target": target,
    }


# (law, fitted law, places) -> divergence
FITTED: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "KL": lambda p, q, x: kullback_leibler(p, q, x[1] - x[0]),
    "reverse KL": lambda p, q, x: kullback_leibler(q, p, x[1] - x[0]),
    "JS": lambda p, q, x: jensen_shannon(p, q, x[1] - x[0]),
    "W1": lambda p, q, x: float(np.abs(np.cumsum(p - q)).sum()) * (x[1] - x[0]) ** 2,  # the integral of |F - G|
}


def fit(divergence: Callable[[np.ndarray, np.ndarray, np.ndarray], float], x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns mean and sigma of the Gaussian that is nearest to a law, the best of searches from several beginnings."""

    def loss(parameters: np.ndarray) -> float:
        return divergence(target, norm.pdf(x, parameters[0], np.exp(np.clip(parameters[1], -2, 2))), x)

    found = [minimize(loss, [mean, 0.0], method="Nelder-Mead") for mean in (*MODES, 0.0)]
    mean, log_sigma = min(found, key=lambda result: result.fun).x
    return np.array([mean, np.exp(log_sigma)])


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns a panel each: Gaussians that part, parallel lines, piles with their moves, one Gaussian for two modes."""
    figure = Figure(figsize=(11, 8.6), layout="constrained")
    (gaussians, lines), (piles, fits) = figure.subplots(2, 2)
    for index, name in enumerate(NAMES):
        style = {"color": colour(index), "label": name, "linewidth": 1.6}
        gaussians.plot(arrays["shifts"], arrays["gaussians"][:, index], **style)
        finite = np.where(np.isfinite(arrays["lines"][:, index]), arrays["lines"][:, index], np.nan)
        if index > 1:  # KL and its reverse are infinite but at 0
            thetas, at_zero = arrays["thetas"], np.where(arrays["thetas"] == 0, name == "W1", True)
            lines.plot(thetas, np.where(at_zero, finite, np.nan), **style)
    lines.plot(0, 0, "o", color="black", markersize=5, label="all of them at 0")
    gaussians.set(xlabel="distance of the means", ylabel="divergence (nats; W1 in units of x)", ylim=(0, 6.3))
    gaussians.set_title(f"N(0, 1) and N(distance, {NARROW:g}$^2$)", fontsize=10)
    gaussians.legend(fontsize=9)
    lines.set(xlabel=r"$\theta$", ylabel="divergence (nats; W1 in units of x)", ylim=(-0.03, 1.18))
    lines.set_title(r"parallel lines (0, u) and ($\theta$, u): KL is infinite but at 0", fontsize=10)
    lines.legend(fontsize=9, loc="lower right")
    _draw_piles(piles, arrays)
    fits.fill_between(arrays["x"], arrays["target"], color="0.85", label="the law")
    for index, (name, (mean, sigma)) in enumerate(zip(arrays["fitted_by"], arrays["fits"], strict=True)):
        told = f"{name}: N({mean:.2f}, {sigma:.2f}$^2$)"
        rank = NAMES.index(str(name))
        style = {"color": colour(rank), "linewidth": (5, 1.6, 3, 1.3)[index], "label": told}  # three of them nearly coincide
        fits.plot(arrays["x"], norm.pdf(arrays["x"], mean, sigma), ("-", "--", ":", "-")[index], **style)
    fits.set(xlabel="x", ylabel="density", xlim=(-7, 7), ylim=(0, 0.62))
    fits.set_title("the nearest Gaussian by each divergence", fontsize=10)
    fits.legend(fontsize=9, loc="upper right")
    for panel in (gaussians, lines, fits):
        panel.grid(alpha=0.3)
    return figure


def _draw_piles(axes: Axes, arrays: dict[str, np.ndarray]) -> None:
    places = np.arange(1, 5)
    axes.bar(places - 0.18, PILES, 0.34, color=BLUE, label="piles")
    axes.bar(places + 0.18, OTHER, 0.34, color=ORANGE, label="what they become")
    for source, target in np.argwhere(arrays["moves"] > 1e-9):
        if source != target:
            start, end = (places[source] - 0.18, PILES[source] + 0.08), (places[target] + 0.18, OTHER[target] + 0.08)
            arrow = {"arrowstyle": "->", "connectionstyle": "arc3,rad=-0.3", "color": VERMILLION, "linewidth": 1.6}
            axes.annotate("", end, start, arrowprops=arrow)
            middle = ((start[0] + end[0]) / 2, max(start[1], end[1]) + 0.55)
            axes.annotate(f"{arrays['moves'][source, target]:g}", middle, color=VERMILLION, ha="center", fontsize=10)
    axes.set(xlabel="place", ylabel="shovelfuls", xticks=places, ylim=(0, 6.6))
    axes.set_title(f"cheapest moves (their masses): W = {float(arrays['work']):g} shovelfuls x places", fontsize=10)
    axes.legend(fontsize=9, loc="upper left", ncols=2)
