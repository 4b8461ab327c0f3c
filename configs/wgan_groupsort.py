"""WGAN with a critic that is 1-Lipschitz by construction: orthonormal layers and sorting activations.

Paper: Anil, Lucas, Grosse 2019, "Sorting Out Lipschitz Function Approximation", arXiv 1811.05381, section 4.
Command: python -m experiments.run --config=configs/wgan_groupsort.py[:preset[,paper=True]]
Presets, run times and results: the tables of README.md. The paper trains no generator; `paper=True` has the budgets of the
other methods.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, _, paper = default.start("wgan_groupsort", preset)
    config.loss = "wasserstein"
    if paper:
        default.paper(config)
    config.model.update({"critic_kernel": "orthogonal", "critic_activation": "maxmin", "critic_normalization": "none"})
    return config
