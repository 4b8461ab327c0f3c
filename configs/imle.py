"""IMLE: no critic; each real example pulls the generated one that is nearest to it.

Paper: Li & Malik 2018, "Implicit Maximum Likelihood Estimation", arXiv 1809.09087, algorithm 1.
Command: python -m experiments.run --config=configs/imle.py[:preset[,paper=True]] [--config.imle.samples=N]
Presets, run times and results: the tables of README.md. The comparison that is not adversarial: it leaves no real example
out, and has no reason to leave out what is between them. Of imle.samples generated examples per real one of a batch the nearest
is pulled; the paper draws them once for several updates and prints no numbers for toys, so that `paper=True` is a preset's
full size and budget.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, _, paper = default.start("imle", preset)
    config.objective = "imle"
    config.n_critic = 0
    if paper:
        default.paper(config)
    return config
