"""SN-GAN: a discriminator with the hinge loss, every kernel divided by its largest singular value.

Paper: Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", arXiv 1802.05957, algorithm 1.
Command: python -m experiments.run --config=configs/sngan.py[:preset[,paper=True]]
Presets, run times and results: the tables of README.md. As in the paper's code a kernel is normalised as a matrix; that a
strided convolution has slope 1 takes --config.model.critic_kernel=spectral_operator. `paper=True` has the paper's Adam at 2e-4,
betas 0, .9.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, _, paper = default.start("sngan", preset)
    config.loss = "hinge"
    config.model.update({"critic_kernel": "spectral_kernel", "critic_activation": "leaky_relu"})
    default.set_optimizers(config, beta1=0.0, beta2=0.9)
    if paper:
        default.paper(config)
        config.n_critic = 5
        default.set_optimizers(config, learning_rate=2e-4, beta1=0.0, beta2=0.9)
    return config
