"""How much do the two-sided and the one-sided penalty depend on their weight lambda?

Papers: Gulrajani 2017 (arXiv 1704.00028), section 4: lambda = 10 works across architectures and data sets (its code for toys
has 0.1). Petzka 2017 (arXiv 1709.08894): the one-sided penalty, WGAN-LP, is less sensitive to lambda, and the two-sided one
is unstable on toys where lambda is large.
Command: python -m experiments.sweep --config=configs/ablations/penalty_weight.py[:preset[,paper=True]]
Measured on two cores: ring8, 300 runs, 23 minutes of both; digits, 100 runs, 4 minutes.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import wgan_gp
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    return points.laptop(wgan_gp.get_config(preset))


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    axes: dict[str, list[Any]] = {"penalty.name": ["two_sided", "one_sided"], "penalty.weight": [0.1, 1.0, 5.0, 10.0, 100.0]}
    return points.with_seeds(points.product(axes), preset)
