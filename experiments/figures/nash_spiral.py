"""The game min_x max_y x y by simultaneous, alternating, extragradient and optimistic gradient steps.

Simultaneous steps spiral outwards, each by sqrt(1 + h^2) (Goodfellow 2016, section 8.2; Salimans 2016, section 3), alternating
ones stay on a closed curve, extragradient (Korpelevich 1976) and optimistic steps (Daskalakis 2018, equation 5) converge.
"""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from wgan_jax.report.drawing import PLAIN, colour

STEP = 0.1


def field(z: np.ndarray) -> np.ndarray:
    """Returns the direction in which both players move at z = (x, y): x descends x y, y ascends it."""
    return np.array([-z[1], z[0]])


# (z, the field before) -> z; each is linear
METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "simultaneous": lambda z, before: z + STEP * field(z),
    "alternating": lambda z, before: np.array([z[0] - STEP * z[1], z[1] + STEP * (z[0] - STEP * z[1])]),
    "extragradient": lambda z, before: z + STEP * field(z + STEP * field(z)),
    "optimistic": lambda z, before: z + 2 * STEP * field(z) - STEP * before,
}


def advance(name: str, state: np.ndarray) -> np.ndarray:
    """Returns the next state (x, y, the field before) of a method."""
    return np.concatenate([METHODS[name](state[:2], state[2:]), field(state[:2])])


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns paths [method, step, 2] from (1, 1), and the factor of a step's distance from the equilibrium."""
    paths, factors = [], []
    for name in METHODS:
        states = [np.array([1.0, 1.0, *field(np.ones(2))])]
        for _ in range(150 if quick else 400):
            states.append(advance(name, states[-1]))
        paths.append([state[:2] for state in states])
        linear = np.stack([advance(name, unit) for unit in np.eye(4)], axis=1)
        factors.append(np.abs(np.linalg.eigvals(linear)).max())
    return {"methods": np.array(list(METHODS)), "paths": np.array(paths), "factors": np.array(factors)}


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns the paths, and their distances from the equilibrium."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    plane, distance = figure.subplots(1, 2)
    for index, (name, path, factor) in enumerate(zip(arrays["methods"], arrays["paths"], arrays["factors"], strict=True)):
        inside = path[: 151 if name == "simultaneous" else None]
        style = "--" if name == "optimistic" else "-"  # it lies upon extragradient's
        plane.plot(*inside.T, style, color=colour(index), linewidth=1.5)
        told = f"{name}: x {factor:.4f} a step"
        distance.plot(np.linalg.norm(path, axis=1), style, color=colour(index), linewidth=1.5, label=told)
    plane.plot(1, 1, "o", color="black", markersize=6, label="start, (1, 1)")
    plane.plot(0, 0, "+", color="black", markersize=10, markeredgewidth=2)
    plane.set(xlabel="x, descends x y", ylabel="y, ascends x y", aspect="equal")
    plane.set_title("paths around the equilibrium + (outwards: 150 steps)", fontsize=10)
    distance.set(xlabel="steps", ylabel="distance from the equilibrium", yscale="log")
    distance.set_title(f"step size {STEP:g}", fontsize=10)
    distance.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    distance.yaxis.set_major_formatter(PLAIN)
    distance.yaxis.set_minor_locator(NullLocator())
    distance.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure
