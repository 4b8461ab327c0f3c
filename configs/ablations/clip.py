"""How much does WGAN depend on the clipping constant c?

Papers: Arjovsky 2017 (arXiv 1701.07875), section 3: a large c makes the critic slow to reach its optimum, a small one lets
gradients vanish in a deep critic; c = 0.01 is its algorithm's. Gulrajani 2017 (arXiv 1704.00028), section 3 and figure 1:
with c in {.1, .01, .001} a critic's gradients explode or vanish from layer to layer, and its parameters gather at -c and c.
Command: python -m experiments.sweep --config=configs/ablations/clip.py[:preset[,paper=True]]
Measured on two cores: ring8, 180 runs, 10 minutes of both; digits, 60 runs, 2 minutes.
"""

from ml_collections import ConfigDict

from configs import wgan
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    return points.laptop(wgan.get_config(preset))


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    return points.with_seeds(points.product({"clip": [0.001, 0.01, 0.05, 0.1, 0.3, 1.0]}), preset)
