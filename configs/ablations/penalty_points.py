"""Where should the critic's gradient be penalised?

Papers: Gulrajani 2017 (arXiv 1704.00028), section 4: on the lines between real and generated examples, where an optimal
critic has slope one. Kodali 2017 (arXiv 1705.07215), section 2.3: around the data, where the game is to be stable. Petzka
2017 (arXiv 1709.08894): around the real and the generated examples; the lines are not those of an optimal coupling. `real`
and `generated` are the two ends of the lines. `perturbed_both` penalises twice as many points as the others.
Command: python -m experiments.sweep --config=configs/ablations/penalty_points.py[:preset[,paper=True]]
Measured on two cores: digits, 50 runs, 3 minutes; the results are in docs/ablations.md.
"""

from ml_collections import ConfigDict

from configs import wgan_gp
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    return points.laptop(wgan_gp.get_config(preset))


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    places = ["interpolates", "real", "generated", "perturbed_real", "perturbed_both"]
    return points.with_seeds(points.product({"penalty.points": places}), preset)
