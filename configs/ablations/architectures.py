"""In how many random architectures does WGAN-GP learn, and in how many a GAN?

Paper: Gulrajani 2017, "Improved Training of Wasserstein GANs" (arXiv 1704.00028), section 5.1, tables 1 and 2: of 200 random
variants of a DCGAN on 32x32 ImageNet, at an Inception score above 5, only GAN succeeds in 0, only WGAN-GP in 147, both in 42,
none in 11.
Command: python -m experiments.sweep --config=configs/ablations/architectures.py[:preset[,paper=True]]
Measured on two cores: digits, 40 programs, 7 minutes.

20 architectures of 2 to 8 layers, 500 updates. Each is trained once by either method, both at the same seed, which is the
architecture's number: the sample is of architectures. They are MLPs, also on images; nonlinearities and normalisations of
the two players are drawn apart, as in the paper, but depth and width together. Success is the opposite of eval.fail.
paper=True: 200 architectures of the paper's 4 to 20 layers, and the methods' full budgets.
"""

from random import Random

from ml_collections import ConfigDict

from configs import default, gan, wgan_gp
from configs.ablations import points


def get_config(preset: str = "digits") -> ConfigDict:
    config = points.laptop(wgan_gp.get_config(preset))
    config.model.name = "mlp"
    if not default.start("", preset)[2]:
        config.update(points.length(500))
    return config


def get_sweep(preset: str = "digits") -> list[points.Point]:
    _, _, paper = default.start("", preset)
    count, depths = (200, [4, 8, 12, 20]) if paper else (20, [2, 4, 6, 8])
    penalised, plain = points.methods([wgan_gp.get_config(preset), gan.get_config(preset)])
    norms = [{**penalised, "model.critic_normalization": "layer"}, {**plain, "model.critic_normalization": "batch"}]
    bare = [{**method, "model.critic_normalization": "none"} for method in (penalised, plain)]
    drawn = _architectures(count, depths)
    return [
        {**method, **architecture, "seed": seed}
        for seed, (architecture, normalised) in enumerate(drawn)
        for method in (norms if normalised else bare)
    ]


def _architectures(count: int, depths: list[int]) -> list[tuple[points.Point, bool]]:
    """Returns distinct architectures, drawn uniformly, each with whether its critic is normalised."""
    activations = ["relu", "leaky_relu", "tanh", "shifted_softplus"]
    networks = points.product(
        {
            "model.generator_activation": activations,
            "model.critic_activation": activations,
            "model.depth": depths,
            "model.width": [32, 64, 128],
            "model.generator_normalization": ["none", "batch"],
        }
    )
    both = [(network, normalised) for network in networks for normalised in (False, True)]
    return Random(0).sample(both, count)  # noqa: S311 - no cryptography
