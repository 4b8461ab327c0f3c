"""WGAN-LP: the one-sided penalty lambda max(0, |grad| - 1)^2, which also allows slopes below one.

Paper: Petzka et al. 2017, "On the regularization of Wasserstein GANs", arXiv 1709.08894, equation 8.
Command: python -m experiments.run --config=configs/wgan_lp.py[:preset[,paper=True]]
Presets, run times and results: the tables of README.md. Presets penalise on the line between real and generated examples
(penalty.points=interpolates), the other of the paper's two rules. `paper=True` is the toy recipe of its experiments: 3 x 512
leaky ReLU, batch 256, RMSProp 5e-5, lambda 5, 10 critic updates, 20,000 steps, penalised around the real and the generated
examples (penalty.points=perturbed_both).
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, name, paper = default.start("wgan_lp", preset)
    config.loss = "wasserstein"
    config.penalty.name = "one_sided"
    if name == "gaussian":
        config.penalty.weight = 10.0
    if paper:
        default.paper(config)
        config.steps = 20_000
        config.n_critic = 10
        config.model.update({"generator_activation": "leaky_relu", "critic_activation": "leaky_relu"})
        config.penalty.update({"weight": 5.0, "points": "perturbed_both"})
        default.set_optimizers(config, optimizer="rmsprop", learning_rate=5e-5, beta2=0.99)
    return config
