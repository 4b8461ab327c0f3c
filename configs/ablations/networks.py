"""MLPs or DCGANs, and how many critic updates, by the second?

Papers: Gulrajani 2017, "Improved Training of Wasserstein GANs" (arXiv 1704.00028), whose MNIST code is a DCGAN with five critic
updates; Arjovsky 2017 (arXiv 1701.07875), section 4.3, where WGAN learns with an MLP.
Command: python -m experiments.sweep --config=configs/ablations/networks.py[:preset[,paper=True]] [--seeds=N]
Measured on two cores: Fashion-MNIST, one seed each, 7 to 10 minutes of a core; the results are in docs/ablations.md.

On images a third of the preset's time, as an MLP takes it: a DCGAN's update takes about four times as long, and five critic
updates twice as long as two, so that these settings have as many fewer updates. On other data only the latter two differ.
`paper=True` has the paper's updates, of all settings as many.
"""

from ml_collections import ConfigDict

from configs import default, wgan_gp
from configs.ablations import points

MLP = {"model.name": "mlp", "model.width": 512}
DCGAN = {"model.name": "dcgan", "model.width": 32}
SHARE = 3  # of the preset's length


def get_config(preset: str = "ring8") -> ConfigDict:
    config = points.laptop(wgan_gp.get_config(preset))
    _, name, paper = default.start("", preset)
    if name in default.IMAGES and not paper:
        updates = config.steps if config.model.name == "mlp" else 4 * config.steps
        config.update(points.length(updates // SHARE))
    return config


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    steps = get_config(preset).steps
    _, name, paper = default.start("", preset)
    settings = [
        {**network, "n_critic": n_critic, **({} if paper else points.length(steps // slower // (1 if n_critic == 2 else 2)))}
        for network, slower in ([(MLP, 1), (DCGAN, 4)] if name in default.IMAGES else [({}, 1)])
        for n_critic in (2, 5)
    ]
    return points.with_seeds(settings, preset)
