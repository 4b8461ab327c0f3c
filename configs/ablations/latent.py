"""Which law and dimension should the latent have?

Paper: Arjovsky & Bottou 2017, "Towards Principled Methods for Training Generative Adversarial Networks" (arXiv 1701.04862),
section 2.1, lemma 1: a generator's images lie on manifolds of at most the latent's dimension, so that a smaller one than the
data's leaves its law without a density. More dimensions than the data needs cost little. DCGAN (Radford 2016) draws them from
a uniform, Gulrajani 2017's code from a normal law.
Command: python -m experiments.sweep --config=configs/ablations/latent.py[:preset[,paper=True]]
Measured on two cores: digits, 80 runs, 5 minutes; the results are in docs/ablations.md.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import wgan_gp
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    return points.laptop(wgan_gp.get_config(preset))


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    axes: dict[str, list[Any]] = {"latent.name": ["normal", "uniform"], "latent.dim": [1, 2, 8, 32]}
    return points.with_seeds(points.product(axes), preset)
