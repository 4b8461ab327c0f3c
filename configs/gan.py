"""GAN: the discriminator classifies real against generated; non-saturating by default.

Paper: Goodfellow et al. 2014, "Generative Adversarial Networks", arXiv 1406.2661, algorithm 1; the non-saturating generator
loss is the one its section 3 recommends.
Command: python -m experiments.run --config=configs/gan.py[:preset[,paper=True]] [--config.loss=minimax]
Presets, run times and results: the tables of README.md. `paper=True` has DCGAN's optimizer (Radford 2015: Adam 2e-4, betas .5,
.999), the common baseline, since the 2014 paper prints no learning rate.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, _, paper = default.start("gan", preset)
    config.loss = "non_saturating"
    config.n_critic = 1
    default.set_optimizers(config, beta2=0.999)
    if config.model.name == "dcgan":
        config.model.critic_normalization = "batch"  # DCGAN (Radford 2016)
    if paper:
        default.paper(config)
        config.n_critic = 1
        default.set_optimizers(config, learning_rate=2e-4, beta1=0.5, beta2=0.999)
    return config
