"""Optimal transport's plans and potentials, and the c-transform that inverts exactly the 1-Lipschitz functions' signs.

The dual of W_p is max mean f + mean g with f(x) + g(y) <= |x - y|^p, at the optimum each the c-transform of the other; for
p = 1 that makes g = -f with f 1-Lipschitz (Villani 2009, theorem 5.10 and case 5.16; Xu 2020), which a critic then is.
"""

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist
from scipy.special import ndtri

from wgan_jax.metrics.transport import c_transform, gaussian_wasserstein, optimal_transport
from wgan_jax.report.drawing import BLUE, ORANGE, VERMILLION

SLOPES = np.array([0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4])
MEAN, SIGMA = 2.0, 0.5  # of the second Gaussian; the first is N(0, 1)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns plans and potentials of samples on a line and in the plane, and how far c-transforms are from negatives."""
    n = 100 if quick else 400
    levels = (np.arange(n) + 0.5) / n
    x, y = ndtri(levels), MEAN + SIGMA * ndtri(levels)
    line = {p: optimal_transport(x[:, None], y[:, None], p) for p in (1, 2)}
    arrays = {"x": x, "y": y, "w2_gaussians": np.array(gaussian_wasserstein(*_moments(0, 1), *_moments(MEAN, SIGMA)))}
    for p, transport in line.items():
        dual = transport.f.mean() + transport.g.mean()
        arrays |= {f"w{p}": np.array(transport.distance), f"w{p}_dual": np.array(dual ** (1 / p))}
        arrays |= {f"f{p}": transport.f, f"g{p}": transport.g}

    rng = np.random.default_rng(0)
    angle = 2 * np.pi * rng.random(24)
    ring = 2.2 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.1 * rng.normal(size=(24, 2))
    disc = 0.6 * rng.normal(size=(24, 2))
    for p in (1, 2):
        transport = optimal_transport(disc, ring, p)
        arrays |= {f"pairs{p}": transport.plan.argmax(axis=1), f"plane_w{p}": np.array(transport.distance)}

    points = np.stack(np.meshgrid(*[np.linspace(-2, 2, 12 if quick else 30)] * 2), axis=-1).reshape(-1, 2)
    cost, potential = cdist(points, points), np.linalg.norm(points - 0.3, axis=1)  # of slope 1
    apart = [np.abs(c_transform(slope * potential, cost) + slope * potential).max() for slope in SLOPES]
    return arrays | {"disc": disc, "ring": ring, "slopes": SLOPES, "apart": np.array(apart)}


def _moments(mean: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([mean]), np.array([[sigma**2]])


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns potentials on the line, plans in the plane for both costs, and where a c-transform is the negative."""
    figure = Figure(figsize=(11, 8.6), layout="constrained")
    (first, second), (plans, transforms) = figure.subplots(2, 2)
    for p, panel in ((1, first), (2, second)):
        panel.plot(arrays["x"], arrays[f"f{p}"], color=BLUE, label="f(x), of N(0, 1)", linewidth=2)
        panel.plot(
            arrays["y"], -arrays[f"g{p}"], "--", color=ORANGE, label=f"-g(y), of N({MEAN:g}, {SIGMA:g}$^2$)", linewidth=2
        )
        panel.set(xlabel="x or y", ylabel=f"potential (units of x{'$^2$' if p == 2 else ''})")
        panel.set_title(
            f"p = {p}: W{p} = {float(arrays[f'w{p}']):.4f}, the dual's {float(arrays[f'w{p}_dual']):.4f}", fontsize=10
        )
        panel.legend(fontsize=9)
    for p, style, color in ((1, "-", BLUE), (2, "--", ORANGE)):
        for start, end in zip(arrays["disc"], arrays["ring"][arrays[f"pairs{p}"]], strict=True):
            plans.plot(*np.stack([start, end], axis=1), style, color=color, linewidth=1.2)
        plans.plot([], [], style, color=color, label=f"p = {p}: W{p} = {float(arrays[f'plane_w{p}']):.2f}")
    plans.plot(*arrays["disc"].T, "o", color="black", markersize=5, label="x")
    plans.plot(*arrays["ring"].T, "^", color=VERMILLION, markersize=6, label="y")
    plans.set(xlabel="x1", ylabel="x2", aspect="equal", xlim=(-2.8, 6), ylim=(-2.8, 2.8))
    plans.set_title("optimal plans; for p = 1 no two lines cross", fontsize=10)
    plans.legend(fontsize=9, loc="center right")
    transforms.plot(arrays["slopes"], arrays["apart"], "o-", color=BLUE)
    transforms.axvline(1, color="0.4", linestyle=":")
    transforms.annotate(
        "1-Lipschitz up to here", (1, arrays["apart"].max() * 0.7), (1.05, arrays["apart"].max() * 0.7), fontsize=9
    )
    transforms.set(xlabel="Lipschitz constant of f", ylabel="largest |f$^c$ + f|")
    transforms.set_title("f$^c$ = -f exactly where f is 1-Lipschitz", fontsize=10)
    for panel in (first, second, transforms):
        panel.grid(alpha=0.3)
    return figure
