"""Datasets by name. A loader takes config.data and returns a Dataset."""

from collections.abc import Callable

from ml_collections import ConfigDict

from wgan_jax.data import digits, folder, synthetic, tfds
from wgan_jax.data.dataset import Dataset

DATASETS: dict[str, Callable[[ConfigDict], Dataset]] = {
    "digits": digits.load,
    "tfds": tfds.load,
    "folder": folder.load,
    "gaussian": synthetic.gaussian,
    "ring8": synthetic.ring8,
    "grid25": synthetic.grid25,
    "swiss_roll": synthetic.swiss_roll,
    "parallel_lines": synthetic.parallel_lines,
}


def load_dataset(config: ConfigDict) -> Dataset:
    """Returns the dataset that config.data names; its training images are augmented as config.data says."""
    dataset = DATASETS[config.data.name](config.data)
    return dataset._replace(flip=config.data.flip, dequantise=config.data.dequantise) if dataset.train else dataset
