"""MLPs or DCGANs, and how many critic updates, by the second?

Papers: Gulrajani 2017, "Improved Training of Wasserstein GANs" (arXiv 1704.00028), whose MNIST code is a DCGAN with five critic
updates; Arjovsky 2017 (arXiv 1701.07875), section 4.3, where WGAN learns with an MLP.
Command: python -m experiments.sweep --config=configs/ablations/networks.py[:preset[,paper=True]] [--seeds=N]
Measured on one core: Fashion-MNIST, one seed of three of the settings, 7 to 10 minutes each; docs/ablations.md has them.

On images a fifth of the preset's time, as an MLP takes it. Settings have fewer updates by what one costs more, see COST. On
other data only the critic updates differ, at the preset's networks.
`paper=True` has the paper's updates, of all settings as many.
"""

from ml_collections import ConfigDict

from configs import default, wgan_gp
from configs.ablations import points

MLP = {"model.name": "mlp", "model.width": 512}
DCGAN = {"model.name": "dcgan", "model.width": 32}
COST = {"mlp": 1, "dcgan": 4, 2: 1, 5: 2}  # of an update, by network and by n_critic, in that of the cheapest
SHARE = 5  # of the preset's length


def get_config(preset: str = "ring8") -> ConfigDict:
    config = points.laptop(wgan_gp.get_config(preset))
    _, name, paper = default.start("", preset)
    if name in default.IMAGES and not paper:
        config.update(points.length(COST[config.model.name] * config.steps // SHARE))
    return config


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    steps = get_config(preset).steps
    _, name, paper = default.start("", preset)
    settings = [
        {**network, "n_critic": n_critic, **({} if paper else points.length(steps // cost // COST[n_critic]))}
        for network, cost in ([(MLP, COST["mlp"]), (DCGAN, COST["dcgan"])] if name in default.IMAGES else [({}, 1)])
        for n_critic in (2, 5)
    ]
    return points.with_seeds(settings, preset)
