"""Does momentum in the critic's optimizer make training unstable?

Paper: Arjovsky 2017 (arXiv 1701.07875), section 4: with clipping, training becomes unstable at times when the critic has Adam
with beta1 > 0, and the paper turns to RMSProp. Gulrajani 2017 (arXiv 1704.00028), section 4 and figure 3: with the penalty
Adam works, with beta1 = 0. Here the critic's optimizer varies under both methods; the generator's, the learning rates and
beta2 (RMSProp's decay) are the method's own, so that Adam at beta1 = 0 is RMSProp with its bias corrected, and beta1 alone is
momentum.
Command: python -m experiments.sweep --config=configs/ablations/momentum.py[:preset[,paper=True]]
Measured on two cores: digits, 80 runs, 4 minutes; the results are in docs/ablations.md.
"""

from ml_collections import ConfigDict

from configs import wgan, wgan_gp
from configs.ablations import points

OPTIMIZERS: list[points.Point] = [
    {"critic.optimizer": "rmsprop", "critic.beta1": 0.0},  # reads no beta1
    {"critic.optimizer": "adam", "critic.beta1": 0.0},
    {"critic.optimizer": "adam", "critic.beta1": 0.5},
    {"critic.optimizer": "adam", "critic.beta1": 0.9},
]


def get_config(preset: str = "ring8") -> ConfigDict:
    return points.laptop(wgan_gp.get_config(preset))


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    methods = points.methods([wgan_gp.get_config(preset), wgan.get_config(preset)])
    return points.with_seeds(points.cross(methods, OPTIMIZERS), preset)
