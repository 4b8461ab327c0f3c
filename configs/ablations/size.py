"""How wide and how deep must both networks be?

Papers: Gulrajani 2017 (arXiv 1704.00028) takes 3 x 512 for its toys, and in section 5.1 trains random architectures of depth
4 to 20 and width 32 to 128 (architectures.py); Arjovsky 2017 (arXiv 1701.07875), section 4.3: WGAN learns with an MLP
generator of 4 x 512, where a GAN collapses. Widths are 1/4 to 2 of the base config's, of MLPs also on images.
Command: python -m experiments.sweep --config=configs/ablations/size.py[:preset[,paper=True]]
Measured on two cores: digits, 80 runs, 4 minutes; the results are in docs/ablations.md.
"""

from ml_collections import ConfigDict

from configs import wgan_gp
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    config = points.laptop(wgan_gp.get_config(preset))
    config.model.name = "mlp"
    return config


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    width = get_config(preset).model.width
    axes = {"model.width": [width // 4, width // 2, width, 2 * width], "model.depth": [1, 3]}
    return points.with_seeds(points.product(axes), preset)
