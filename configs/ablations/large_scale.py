"""Are GANs created equal? Six methods, each at the best of many hyperparameters drawn at random.

Paper: Lucic 2018, "Are GANs Created Equal? A Large-Scale Study" (arXiv 1711.10337), sections 5 and 6: with enough tuning and
restarts most methods reach similar values. The ranges are its wide ones.
Command: python -m experiments.sweep --config=configs/ablations/large_scale.py[:preset[,paper=True]]
Measured on two cores: digits, 240 runs in all stages, 7 minutes.

Three stages. A setting's excess is wasserstein_excess on validation after the last update; infinite if it became non-finite.
1. Wide (seed 0): 20 settings of every method, drawn from the ranges below.
2. Narrow (seed 1): 10 settings. Each number is drawn between its least and its greatest value in the fifth of the wide settings
   with the lowest excess (two at least); n_critic and batch normalisation are those of the very best. The paper's narrow
   ranges were chosen by hand.
3. Best (seeds 100, 101, ...): of all those settings the one with the lowest excess, at 10 fresh seeds. These are a method's
   result, on the test split: neither those seeds nor that split had a part in the choice.

Both players have the same learning rate, constant, and the same beta1, in Adam with beta2 .999. The budget is counted in
critic updates, so that n_critic 5 makes a fifth of the generator updates. Batch normalisation is drawn for critics without a
penalty only, which it would make meaningless; the paper drew it for all. Unlike the paper's, generators are averaged, MLPs
of toys and digits have no batch normalisation, and published settings are not among the draws. paper=True: 100 wide, 50
narrow, 50 seeds, batch 64 and the paper's epochs; data sets that it has not get 100,000 critic updates.
"""

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import default, gan
from configs.ablations import points

METHODS: dict[str, points.Point] = {
    "gan_minimax": {"loss": "minimax"},
    "gan_non_saturating": {"loss": "non_saturating"},
    "lsgan": {"loss": "least_squares"},
    "wgan": {"loss": "wasserstein"},
    "wgan_gp": {"loss": "wasserstein", "penalty.name": "two_sided", "penalty.points": "interpolates"},
    "dragan": {"loss": "non_saturating", "penalty.name": "two_sided", "penalty.points": "perturbed_real"},
}
OWN = {"wgan": "clip", "wgan_gp": "penalty.weight", "dragan": "penalty.weight"}  # the number that a method alone has
WIDE = {
    "critic.beta1": (0.0, 0.9999),  # U[0, 1)
    "critic.learning_rate": (1e-5, 1e-2),  # this and the others: uniform in the logarithm
    "clip": (1e-3, 1.0),
    "penalty.weight": (0.1, 100.0),
}
# critic updates of paper=True, at batch 64: 20 epochs of 50,000; CIFAR-10 100; CelebA 40 of 162,000 (the authors' compare_gan)
PAPER = {"mnist": 15_625, "fashion_mnist": 15_625, "cifar10": 78_125, "faces64": 101_250}
FRESH = 100  # the first seed of the last stage

type Row = Mapping[str, Any]  # one evaluation of one point


class Sizes(NamedTuple):
    wide: int
    narrow: int
    seeds: int


def get_config(preset: str = "digits") -> ConfigDict:
    """Returns the base config; its steps, at n_critic 1, are the budget of critic updates."""
    config = points.laptop(gan.get_config(preset))
    _, name, paper = default.start("", preset)
    if paper:
        config.batch_size = 64
    if name == "digits" and not paper:
        config.model.width = 64
    config.update(points.length(PAPER.get(name, 100_000) if paper else 5 * config.steps))
    config.decay_steps = 0
    default.set_optimizers(config, optimizer="adam", beta2=0.999)
    return config


def get_sweep(preset: str = "digits") -> list[points.Point]:
    return [point for method in METHODS for point in _wide(preset, method)]


def get_next(preset: str = "digits", rows: Sequence[Row] = ()) -> list[points.Point]:
    """Returns the points of the stage after those of the rows, none after the last; a function of its arguments alone."""
    if any(row["seed"] >= FRESH for row in rows):
        return []
    curves = {method: [row for row in rows if (row["method"], row["split"]) == (method, "validation")] for method in METHODS}
    wide = {method: _ranked(_wide(preset, method), curves[method]) for method in METHODS}
    narrow = {method: _narrow(preset, method, ranked) for method, ranked in wide.items()}
    if not all(_rows_of(point, curves[method]) for method in METHODS for point in narrow[method]):
        return [point for method in METHODS for point in narrow[method]]
    best = [_ranked([*wide[method], *narrow[method]], curves[method])[0] for method in METHODS]
    return points.cross(best, points.product({"seed": range(FRESH, FRESH + _sizes(preset).seeds)}))


def _sizes(preset: str) -> Sizes:
    return Sizes(100, 50, 50) if default.start("", preset)[2] else Sizes(20, 10, 10)


def _wide(preset: str, method: str) -> list[points.Point]:
    rng = Random(f"wide {method}")  # noqa: S311 - no cryptography
    norms = ["none"] if "penalty.name" in METHODS[method] else ["none", "batch"]

    def choices() -> points.Point:
        return {"n_critic": rng.choice([1, 5]), "model.critic_normalization": rng.choice(norms)}

    ranges = {key: WIDE[key] for key in _numbers(method)}
    budget = get_config(preset).steps
    return [_point(method, budget, {**choices(), **_draw(rng, ranges)}, seed=0) for _ in range(_sizes(preset).wide)]


def _narrow(preset: str, method: str, ranked: Sequence[points.Point]) -> list[points.Point]:
    rng = Random(f"narrow {method}")  # noqa: S311 - no cryptography
    best = ranked[: max(2, len(ranked) // 5)]
    choices = {key: best[0][key] for key in ("n_critic", "model.critic_normalization")}
    ranges = {key: (min(point[key] for point in best), max(point[key] for point in best)) for key in _numbers(method)}
    budget = get_config(preset).steps
    return [_point(method, budget, {**choices, **_draw(rng, ranges)}, seed=1) for _ in range(_sizes(preset).narrow)]


def _numbers(method: str) -> list[str]:
    return ["critic.beta1", "critic.learning_rate", *([OWN[method]] if method in OWN else [])]


def _draw(rng: Random, ranges: Mapping[str, tuple[float, float]]) -> points.Point:
    laws = {key: points.uniform if key == "critic.beta1" else points.log_uniform for key in ranges}
    return {key: laws[key](rng, low, high) for key, (low, high) in ranges.items()}


def _point(method: str, budget: int, drawn: points.Point, seed: int) -> points.Point:
    generator = {f"generator.{key}": drawn[f"critic.{key}"] for key in ("beta1", "learning_rate")}
    length = points.length(budget // drawn["n_critic"])
    return {"method": method, **METHODS[method], **drawn, **generator, **length, "seed": seed}


def _rows_of(point: points.Point, rows: Sequence[Row]) -> list[Row]:
    """Returns the rows of a point's setting."""
    setting = {key: value for key, value in point.items() if key != "seed"}
    return [row for row in rows if all(row[key] == value for key, value in setting.items())]


def _ranked(drawn: Sequence[points.Point], rows: Sequence[Row]) -> list[points.Point]:
    """Returns points by the excess of their settings in validation rows; of equals, the one drawn first is first."""

    def excess(point: points.Point) -> float:
        own = _rows_of(point, rows)
        if not own or any(row["status"] != "ok" for row in own):
            return math.inf
        value = max(own, key=lambda row: row["step"]).get("wasserstein_excess")
        return value if value is not None and math.isfinite(value) else math.inf

    return sorted(drawn, key=excess)
