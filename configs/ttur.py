"""TTUR: WGAN-GP with one critic update per generator update, at three times the generator's learning rate.

Paper: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", arXiv
1706.08500, table 1: WGAN-GP on CIFAR-10 and LSUN bedrooms, compared at equal wall-clock time.
Command: python -m experiments.run --config=configs/ttur.py[:preset[,paper=True]]
Presets, run times and results: the tables of README.md. Presets keep WGAN-GP's learning rate for the generator, `paper=True`
has the paper's 3e-4 and 1e-4.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, name, paper = default.start("ttur", preset)
    config.loss = "wasserstein"
    config.n_critic = 1
    config.penalty.name = "two_sided"
    if name == "gaussian":
        config.penalty.weight = 0.1  # as configs/wgan_gp.py says
    if paper:
        default.paper(config)
        default.set_optimizers(config, learning_rate=1e-4)
    config.critic.learning_rate = 3e-4 if paper else 3 * config.generator.learning_rate
    return config
