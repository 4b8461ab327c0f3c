"""What a second of training buys on Fashion-MNIST: the excess of every method against its own seconds, on one core.

As `budget` on digits, with MLPs of 3 x 256, half the preset's width, without normalisation, and each method's critic updates.
"""

import numpy as np

from configs import wgan_gp
from experiments.figures.budget import METHODS, draw, measure
from wgan_jax.data import load_dataset
from wgan_jax.errors import UserError
from wgan_jax.places import prepared_builder

__all__ = ["compute", "draw"]

NETWORKS = {"name": "mlp", "width": 256, "depth": 3, "generator_normalization": "none", "critic_normalization": "none"}
CHANGES = {f"model.{key}": value for key, value in NETWORKS.items()} | {"eval.features": "pixels", "eval.feature_samples": 1000}


def compute(quick: bool, folder: str) -> dict[str, np.ndarray]:
    """Returns what budget.measure does; folder: of prepared TensorFlow Datasets.

    Raises:
      UserError: Fashion-MNIST is not among them.
    """
    config = wgan_gp.get_config("fashion_mnist")
    config.data.update({"data_dir": folder, "download": True})  # with which what is not there is None; nothing is fetched
    if prepared_builder(config.data) is None:
        raise UserError(f"--data: {folder} has no {config.data.builder}/VERSION/, as TensorFlow Datasets prepares it")
    names = ["WGAN-GP", "GAN"] if quick else list(METHODS)
    updates = {name: 80 if quick else METHODS[name][1] for name in names}
    changes = CHANGES | ({"model.width": 32, "batch_size": 32} if quick else {})
    return measure("fashion_mnist", load_dataset(config), updates, 1 if quick else 2, changes)
