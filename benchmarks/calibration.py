"""Critics against distances that are known: what each constraint's estimate and gradient are worth.

    python -m benchmarks.calibration [--laws=gaussian,funnel4,funnel16] [--dimensions=1,2,8,64] [--seeds=5] [--fitted=4096]
                                     [--methods=two_sided,...,clip,sn,groupsort] [--out=DIR] [--config.key=value ...]

Shifted Gaussians: W1 is the length of the shift, the potential linear. Funnels (Korotin 2022, "Kantorovich strikes back"): the
1-Lipschitz u(x) = min_n (|x - a_n| + b_n) is a potential between any law and the same law moved towards the a_n that attains
the minimum. For y = x + t (a_n - x) with t in [0, 1], u(y) <= |y - a_n| + b_n = u(x) - |x - y|, and no 1-Lipschitz function
falls faster: so W1 = E u(x) - E u(y) = t E|x - a_n|. (Away from a_n this holds only until another funnel is lower.) Sphere
(Anil 2019): a point against the unit sphere about it, W1 = 1, the potential -|x|.

Every seed has a law of its own, and other ones at another --config.seed. Critics are fitted as experiments.distance does, all
seeds of a cell in one compiled call, and judged on fresh examples. Gradients are compared at fresh generated examples, where a
generator would follow them: cosine E<g, u'> / sqrt(E|g|^2 E|u'|^2), and L2 sqrt(E|g - u'|^2) of the critic as it is and divided
by its Lipschitz quantile.
--laws are names of LAWS, --methods are names of PENALTIES, methods of experiments.distance, or files of configs/. --out gets
calibration.json and calibration.png. Of 64 funnels and more W1 in the plane is below the distance between two samples of 4,096:
there --fitted=200000 measures the constraint and not what a critic learns by heart.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments import command
from experiments.distance import critic_config, methods
from wgan_jax import runtime
from wgan_jax.errors import UserError
from wgan_jax.registries import registered

SHIFT = 2.0
FRACTION = 0.5  # of the way to its a_n that a funnel moves an example
OFFSET = 0.2  # b_n are uniform in [0, OFFSET]
FITTED, HELDOUT = 4096, 1000  # examples of each side
TRUTH_SAMPLES = 200_000  # of E|x - a_n|: its relative error is below .3 %
LENGTHS = ("estimate_fitted", "estimate_heldout", "estimate_normalised", "c_transform_bound")
EMPIRICAL = ("wasserstein_empirical", "wasserstein_floor")
GRADIENTS = ("cosine", "l2", "l2_normalised")
COLUMNS = {  # of the table: value -> heading
    "distance": "W1",
    "estimate_fitted": "fitted/W1",
    "estimate_heldout": "held-out/W1",
    "estimate_normalised": "normalised/W1",
    "c_transform_bound": "bound/W1",
    "wasserstein_empirical": "empirical/W1",
    "wasserstein_floor": "floor/W1",
    "lipschitz_q99": "q99",
    "cosine": "cosine",
    "l2": "L2",
    "l2_normalised": "L2 of g/q99",
}


class Problem(NamedTuple):
    """Two laws, by independent examples, and the truth about them."""

    real: np.ndarray  # [n, D]
    generated: np.ndarray  # [n, D]
    distance: float  # W1 between the laws
    potential: Callable[[np.ndarray], np.ndarray]  # x [m, D] -> [m]; W1 is its mean over real minus over generated
    gradient: Callable[[np.ndarray], np.ndarray]  # of the potential, x [m, D] -> [m, D], of length one


def shifted_gaussian(dimension: int, rng: np.random.Generator, count: int) -> Problem:
    """N(0, I) against N(-SHIFT d, I) for a random direction d."""
    direction = rng.normal(size=dimension)
    direction /= np.linalg.norm(direction)
    real, generated = rng.normal(size=(2, count, dimension))
    gradient = partial(np.broadcast_to, direction)
    return Problem(real, generated - SHIFT * direction, SHIFT, lambda x: x @ direction, lambda x: gradient(x.shape))


def funnel(funnels: int, dimension: int, rng: np.random.Generator, count: int) -> Problem:
    """N(0, I) against itself moved FRACTION of the way towards one of `funnels` points a_n of N(0, I)."""
    from scipy.spatial.distance import cdist

    centres, offsets = rng.normal(size=(funnels, dimension)), rng.uniform(0, OFFSET, funnels)

    def towards(x: np.ndarray) -> np.ndarray:
        return x - centres[(cdist(x, centres) + offsets).argmin(axis=1)]

    def gradient(x: np.ndarray) -> np.ndarray:
        difference = towards(x)
        return difference / np.linalg.norm(difference, axis=1, keepdims=True)

    real, base = rng.normal(size=(2, count, dimension))
    distance = FRACTION * np.linalg.norm(towards(rng.normal(size=(TRUTH_SAMPLES, dimension))), axis=1).mean()
    potential = lambda x: (cdist(x, centres) + offsets).min(axis=1)  # noqa: E731
    return Problem(real, base - FRACTION * towards(base), float(distance), potential, gradient)


def sphere(dimension: int, rng: np.random.Generator, count: int) -> Problem:
    """The origin against the uniform law on the unit sphere (Anil 2019, section 5.1)."""
    generated = rng.normal(size=(count, dimension))
    generated /= np.linalg.norm(generated, axis=1, keepdims=True)
    return Problem(
        np.zeros((count, dimension)),
        generated,
        1.0,
        lambda x: -np.linalg.norm(x, axis=-1),
        lambda x: -x / np.linalg.norm(x, axis=-1, keepdims=True),
    )


type Draw = Callable[[int, np.random.Generator, int], Problem]  # dimension, rng, examples of each side

LAWS: dict[str, Draw] = {
    "gaussian": shifted_gaussian,
    **{f"funnel{funnels}": partial(funnel, funnels) for funnels in (4, 16, 64, 256)},
    "sphere": sphere,
}


def calibration(argv: list[str]) -> None:
    """Parses the flags, fits and judges all critics, prints a table."""
    penalties = [name for name in registered("objectives/penalties.py", "PENALTIES") if name != "none"]
    parser = command.Parser("benchmarks.calibration", __doc__)
    parser.add_argument("--laws", default="gaussian,funnel4,funnel16", metavar="L,L,...", help="default: %(default)s")
    parser.add_argument("--dimensions", default="1,2,8,64", metavar="D,D,...", help="default: %(default)s")
    parser.add_argument("--fitted", type=int, default=FITTED, metavar="N", help="examples of a side (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="laws and critics of a cell (default: 5)")
    parser.add_argument(
        "--methods", default=",".join([*penalties, "clip", "sn", "groupsort"]), metavar="M,M,...", help="default: %(default)s"
    )
    parser.add_argument(
        "--out", type=command.path, metavar="DIR", help="an existing folder for calibration.json and calibration.png"
    )
    flags, overrides = parser.parse(argv)
    dimensions = [int(part) if part.isdecimal() else 0 for part in flags.dimensions.split(",")]
    if min(dimensions) < 1:
        raise UserError(f"--dimensions: {flags.dimensions} is not a list of whole numbers of at least 1")
    if flags.seeds < 1:
        raise UserError(f"--seeds: {flags.seeds} is not a whole number of at least 1")
    if flags.fitted < HELDOUT:
        raise UserError(f"--fitted: {flags.fitted} is not a whole number of at least {HELDOUT}")
    if flags.out is not None and not Path(flags.out).is_dir():
        raise UserError(f"--out: no directory {flags.out}")
    if "--config.eval.samples" in (override.partition("=")[0] for override in overrides):
        raise UserError(f"config.eval.samples: nothing here reads it; {HELDOUT} examples of each side are held out")
    if wrong := [law for law in flags.laws.split(",") if law not in LAWS]:
        raise UserError(f"--laws: no {wrong[0]!r}; some of: {', '.join(LAWS)}")
    laws = {law: LAWS[law] for law in flags.laws.split(",")}
    configs: dict[str, ConfigDict] = {}
    for method in flags.methods.split(","):
        if method not in (known := [*penalties, *methods()]):
            raise UserError(f"--methods: no {method!r}; some of: {', '.join(known)}")
        chosen = [f"--config.penalty.name={method}"] if method in penalties else []
        configs[method] = critic_config("gp" if chosen else method, (1,), [*chosen, *overrides])
    runtime.configure_jax(next(iter(configs.values())))

    from wgan_jax.training.workdir import machine, write_json

    began, cells = time.perf_counter(), []
    print(
        f"{flags.fitted} examples of each side fitted, {HELDOUT} held out, {flags.seeds} seeds: "
        "means ± half of the 95 % t-interval"
    )
    print(f"{'':30}" + "".join(f"{heading:>14}" for heading in COLUMNS.values()))
    for cell in measure_cells(configs, laws, dimensions, flags.seeds, flags.fitted):
        cells.append(cell)
        print(line(cell), flush=True)
    seconds = time.perf_counter() - began
    print(f"{len(cells)} cells of {flags.seeds} seeds in {seconds:.0f} s")
    if flags.out:
        settings = {name: config.to_dict() for name, config in configs.items()}
        report = {"machine": machine(1), "seconds": seconds, "configs": settings, "cells": cells}
        write_json(Path(flags.out, "calibration.json"), report)
        save_figure(Path(flags.out, "calibration.png"), cells)


def measure_cells(
    configs: dict[str, ConfigDict], laws: dict[str, Draw], dimensions: list[int], seeds: int, fitted: int
) -> Iterator[dict[str, Any]]:
    """Yields a cell per dimension, law and method: {"law", "dimension", "method", "seeds": [{value: ...}, ...]}.

    Lengths are divided by the true distance, which each seed holds as "distance".
    """
    import jax

    from wgan_jax.batching import example_keys
    from wgan_jax.distance import Halves, empirical_values, in_units, make_critic_values, make_fit, standardise
    from wgan_jax.types import Batch

    chosen, no_label = next(iter(configs.values())).seed, np.zeros(1, np.int32)
    own = np.arange(fitted)
    rows = np.arange(seeds * (fitted + HELDOUT)).reshape(seeds, -1)[:, :fitted]
    for dimension in dimensions:
        programs = {}
        for name, config in configs.items():
            networks, fit = make_fit(config, (dimension,))
            slope = jax.grad(lambda x, variables, score=networks.score: score(variables, Batch(x[None], no_label))[0])
            programs[name] = fit, make_critic_values(networks.score), jax.jit(jax.vmap(slope, (0, None)))
        for law, draw in laws.items():
            rngs = [np.random.default_rng((seed, dimension, chosen)) for seed in range(seeds)]
            problems = [draw(dimension, rng, fitted + HELDOUT) for rng in rngs]
            scaled = [standardise(p.real, p.generated, own, own) for p in problems]
            reals, generateds, scales = zip(*scaled, strict=True)
            sides = [[Halves(x[:HELDOUT], x[fitted:]) for x in pair] for pair in zip(reals, generateds, strict=True)]
            empirical = [empirical_values(*pair) for pair in sides]
            keys = example_keys(jax.random.key(chosen), seeds)
            for name, (fit, judge, slopes) in programs.items():
                variables = fit(keys, np.concatenate(reals), np.concatenate(generateds), rows, rows)
                values = []
                for seed, problem in enumerate(problems):
                    critic = jax.tree.map(lambda leaf, s=seed: leaf[s], variables)
                    lengths = in_units(judge(critic, *sides[seed]) | empirical[seed], scales[seed])
                    lengths |= {length: lengths[length] / problem.distance for length in (*LENGTHS, *EMPIRICAL)}
                    got = np.asarray(slopes(sides[seed][1].heldout, critic))
                    true = problem.gradient(problem.generated[fitted:])
                    gradients = gradient_values(got, true, lengths["lipschitz_q99"])
                    values.append({"distance": problem.distance, **lengths, **gradients})
                yield {"law": law, "dimension": dimension, "method": name, "seeds": values}


def gradient_values(gradient: np.ndarray, true: np.ndarray, lipschitz: float) -> dict[str, float]:
    """Returns GRADIENTS of a critic's gradient [m, D] against the true one [m, D]: means are over the m points."""
    norms = np.sqrt(np.square(gradient).sum() * np.square(true).sum())
    values = ((gradient * true).sum() / norms, *(_distance(g, true) for g in (gradient, gradient / lipschitz)))
    return dict(zip(GRADIENTS, map(float, values), strict=True))


def _distance(gradient: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(np.square(gradient - true).sum(axis=1).mean()))


def line(cell: dict[str, Any]) -> str:
    """Returns a cell as a line of the table: means over seeds with half of their 95 % t-interval."""
    from wgan_jax.distance import t_interval

    intervals = [t_interval([seed[name] for seed in cell["seeds"]]) for name in COLUMNS]
    shown = (f"{f'{mean:.2f} ±{half:.2f}':>14}" for mean, half in intervals)
    return f"{cell['law']:10}{cell['dimension']:>3}-D {cell['method']:13}" + "".join(shown)


def save_figure(path: Path, cells: list[dict[str, Any]]) -> None:
    """Saves estimates over the truth, raw and normalised, and the gradient's cosine: a row per law, a point per seed."""
    from matplotlib.figure import Figure

    laws, dimensions, methods = (list(dict.fromkeys(cell[key] for cell in cells)) for key in ("law", "dimension", "method"))
    columns = {
        "estimate_heldout": "held-out estimate / W1",
        "estimate_normalised": "normalised estimate / W1",
        "cosine": "cosine to the true gradient",
    }
    figure = Figure(figsize=(12, 2.6 * len(laws) + 0.6), layout="constrained")
    grid = figure.subplots(len(laws), len(columns), sharex=True, squeeze=False)
    for axes, law in zip(grid, laws, strict=True):
        for ax, (value, label) in zip(axes, columns.items(), strict=True):
            ax.axhline(1, color="0.7", linewidth=1)
            if value == "estimate_heldout":
                ax.set_yscale("symlog", linthresh=0.01)  # estimates may be negative
            if value != "cosine":
                for place, dimension in enumerate(dimensions):
                    cell = next(c for c in cells if (c["law"], c["dimension"]) == (law, dimension))
                    empirical = [seed["wasserstein_empirical"] for seed in cell["seeds"]]
                    ax.plot([place + 0.45] * len(empirical), empirical, "_", color="0.5", label="empirical W1" * (place == 0))
            for index, method in enumerate(methods):
                places = [
                    (dimensions.index(cell["dimension"]) + 0.8 * (index / len(methods) - 0.5), seed[value])
                    for cell in cells
                    if (cell["law"], cell["method"]) == (law, method)
                    for seed in cell["seeds"]
                ]
                ax.plot(*zip(*places, strict=True), "o", color=f"C{index}", markersize=3.5, alpha=0.7, label=method)
            ax.set_xticks(range(len(dimensions)), [f"{dimension}-D" for dimension in dimensions])
            ax.set_ylabel(f"{law}\n{label}" if ax is axes[0] else label)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(methods) + 1)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    command.main(calibration)
