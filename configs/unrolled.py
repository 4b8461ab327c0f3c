"""Unrolled GAN: the generator's loss is that of the discriminator some updates ahead, and its gradient goes through them.

Paper: Metz et al. 2016, "Unrolled Generative Adversarial Networks", arXiv 1611.02163, section 2.2. The updates ahead are those
of the discriminator's own optimizer, between the batch that the generator has, and are forgotten afterwards. Both losses are
one game's, as in the paper's equations: the generator descends what the discriminator ascends.
Command: python -m experiments.run --config=configs/unrolled.py[:preset[,paper=True]] [--config.unroll=10]
Presets, run times and results: the tables of README.md. `ring8,paper=True` is the recipe of the authors' notebook, which says
of itself that it is not the paper's; other presets have the budgets of default.paper.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, name, paper = default.start("unrolled", preset)
    config.loss = "minimax"
    config.unroll = 5
    default.set_optimizers(config, beta2=0.999)
    if paper:
        default.paper(config)
        default.set_optimizers(config, beta1=0.5, beta2=0.999)
        if name == "ring8":
            config.model.update({"width": 128, "depth": 2, "initializer": "orthogonal"})
            config.model.update({"generator_activation": "tanh", "critic_activation": "tanh"})
            config.latent.dim, config.batch_size, config.steps = 256, 512, 25_000
            config.generator.learning_rate = 1e-3
    config.n_critic = 1
    return config
