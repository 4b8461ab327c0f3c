"""How much do unlabelled images help a classifier of few labels?

Paper: Salimans 2016 (arXiv 1606.03498), section 5: on MNIST a semi-supervised GAN with 20, 50 and 100 labels. Here digits: of
the 1,000 training images so many have a label, drawn anew by each seed; classifier_error is the critic's on the test split.
The supervised baseline is the same network in the same command at critic.loss_weight 0: of each batch it learns from the
labelled images alone.
Command: python -m experiments.sweep --config=configs/ablations/semi_supervised.py[:preset[,paper=True]]
Measured on two cores: digits, 60 runs, 1 minute; the results are in docs/ablations.md.
"""

from ml_collections import ConfigDict

from configs import default, semi_supervised
from configs.ablations import points

LABELS = [20, 50, 100]


def get_config(preset: str = "digits") -> ConfigDict:
    return points.laptop(semi_supervised.get_config(preset))


def get_sweep(preset: str = "digits") -> list[points.Point]:
    labels = [0] if default.start("", preset)[1] in default.TOYS else LABELS  # toys have none to hide
    return points.with_seeds(points.product({"data.labels": labels, "critic.loss_weight": [1.0, 0.0]}), preset)
