"""DRAGAN: a discriminator whose gradient is penalised around the data.

Paper: Kodali et al. 2017, "On Convergence and Stability of GANs", arXiv 1705.07215, section 2.3.
Command: python -m experiments.run --config=configs/dragan.py[:preset[,paper=True]]
Presets, run times and results: the tables of README.md. The noise is x + 0.5 std(batch) U[0, 1] with lambda 10; the other
published variants are values of penalty.perturbation. `paper=True` has the paper's Adam at 1e-4, betas .5, .9.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, _, paper = default.start("dragan", preset)
    config.loss = "non_saturating"
    config.n_critic = 1
    config.penalty.update({"name": "two_sided", "weight": 10.0, "points": "perturbed_real"})
    if paper:
        default.paper(config)
        config.n_critic = 1
        default.set_optimizers(config, learning_rate=1e-4, beta1=0.5, beta2=0.9)
    return config
