"""Which of the cited improvements help a plain GAN?

Papers: Salimans et al. 2016, "Improved Techniques for Training GANs", arXiv 1606.03498, section 3; Arjovsky & Bottou 2017,
arXiv 1701.04862, section 3 (instance noise); Chintala et al. 2016, "How to train a GAN?" (noisy and flipped labels, replay, SGD
for the discriminator, dropout); Zhao et al. 2020, arXiv 2006.10738 (DiffAugment, on images alone).
Command: python -m experiments.sweep --config=configs/ablations/improvements.py[:preset[,paper=True]] [--seeds=N]
Measured on two cores: digits, 130 runs, 6 minutes; the results are in docs/ablations.md.

The non-saturating GAN by itself and with one of them at a time. Where the papers give no number, it is a first choice
and not tuned.
"""

from ml_collections import ConfigDict

from configs import default, gan
from configs.ablations.points import Point, laptop, with_seeds


def get_config(preset: str = "ring8") -> ConfigDict:
    return laptop(gan.get_config(preset))


def get_sweep(preset: str = "ring8") -> list[Point]:
    config = get_config(preset)
    settings: list[Point] = [
        {},
        {"terms.feature_matching": 1.0},
        {"terms.historical_averaging": 0.1},
        {"targets.smoothing": 0.1},
        {"targets.noise": 0.3},
        {"targets.flip": 0.05},
        {"inputs.noise": 0.2, "inputs.noise_steps": config.steps},
        {"replay.capacity": 10 * config.batch_size},
        {"model.critic_head": "minibatch_discrimination"},
        {"model.generator_normalization": "virtual_batch"},
        {"model.generator_dropout": 0.5},
        {"critic.optimizer": "sgd", "critic.learning_rate": 10 * config.critic.learning_rate},
    ]
    _, name, _ = default.start("", preset)
    if name not in (*default.TOYS, "array", "table"):
        settings.append({"inputs.augment": "color,translation,cutout"})
    return with_seeds(settings, preset)
