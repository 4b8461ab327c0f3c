"""Does normalisation in the generator or the critic help?

Papers: Arjovsky 2017 (arXiv 1701.07875), section 4.3: WGAN still learns with a generator without batch normalisation, where a
GAN fails. Gulrajani 2017 (arXiv 1704.00028), section 4: batch normalisation in the critic makes a per-example penalty
meaningless; layer normalisation takes its place, and most of its experiments have none. So the critic has none or batch under
clipping, and none or layer under the penalty.
Command: python -m experiments.sweep --config=configs/ablations/normalization.py[:preset[,paper=True]]
Measured on two cores: digits, 80 runs, 5 minutes; the results are in docs/ablations.md.
"""

from ml_collections import ConfigDict

from configs import wgan, wgan_gp
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    return points.laptop(wgan_gp.get_config(preset))


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    penalised, clipped = points.methods([wgan_gp.get_config(preset), wgan.get_config(preset)])
    critics = [
        *points.cross([penalised], points.product({"model.critic_normalization": ["none", "layer"]})),
        *points.cross([clipped], points.product({"model.critic_normalization": ["none", "batch"]})),
    ]
    generators = points.product({"model.generator_normalization": ["none", "batch"]})
    return points.with_seeds(points.cross(critics, generators), preset)
