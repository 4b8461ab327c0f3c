"""WGAN-GP: a critic kept near slope one by a gradient penalty.

Paper: Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv 1704.00028, algorithm 1.
Command: python -m experiments.run --config=configs/wgan_gp.py[:preset[,paper=True]]
Presets, run times and results: the tables of README.md.

`gaussian` uses lambda 0.1 and not the paper's 10: in one dimension the loss -s D + lambda (|s| - 1)^2 of a critic with slope s
has a strict local optimum of the wrong sign wherever the gap D between the means is below 2 lambda, and at lambda 10 the
generator stays there. The other toys use 0.1 as the paper's own code does.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, name, paper = default.start("wgan_gp", preset)
    config.loss = "wasserstein"
    config.penalty.name = "two_sided"
    if name == "gaussian":
        config.penalty.weight = 0.1
    if paper:
        default.paper(config)
    return config
