"""WGAN: a critic kept Lipschitz by clipping its parameters to [-c, c].

Paper: Arjovsky, Chintala, Bottou 2017, "Wasserstein GAN", arXiv 1701.07875, algorithm 1.
Command: python -m experiments.run --config=configs/wgan.py[:preset[,paper=True]]
Presets, run times and results: the tables of README.md. `paper=True` has the paper's RMSProp at 5e-5, c = 0.01 and the warm-up
of the authors' code.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, _, paper = default.start("wgan", preset)
    config.loss = "wasserstein"
    config.clip = 0.05
    default.set_optimizers(config, optimizer="rmsprop", learning_rate=2e-4, beta2=0.99)
    if config.model.name == "dcgan":
        config.model.critic_normalization = "batch"  # as the authors' DCGAN critic
    if paper:
        default.paper(config)
        config.clip = 0.01
        config.warmup.critic_steps = 100
        default.set_optimizers(config, optimizer="rmsprop", learning_rate=5e-5, beta2=0.99)
    return config
