"""How many modes does a GAN keep whose critic sees packs of samples?

Paper: Lin et al. 2018, "PacGAN: The power of two samples in generative adversarial networks" (arXiv 1712.04086), section 4.1,
and its code: packs on a ring of 8 and a grid of 25 Gaussians. As there: a latent of two dimensions, 100 packs a batch, Adam
1e-4 with beta1 .8, constant, a discriminator of 3 x 200, batch normalisation in the generator, weights from N(0, .02^2), no
average of the generator. Other than there: the discriminator has ReLU for maxout; the generator is 3 x 200 for 4 x 400, as
both networks of a config have one size; 20,000 updates are a twentieth of the paper's, which `paper=True` restores; and a
mode counts as evaluation counts it, by a share of good samples and not by a single one.
Other data than toys has the presets' networks and budgets, and as many packs as the preset has examples.
Command: python -m experiments.sweep --config=configs/ablations/packing.py[:preset[,paper=True]] [--seeds=N]
Measured on one core: ring8 and grid25, ten seeds; the results are in docs/ablations.md.
"""

from ml_collections import ConfigDict

from configs import default, gan
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    config = points.laptop(gan.get_config(preset))
    _, name, paper = default.start("gan", preset)
    if name in default.TOYS:
        config.batch_size = 100
        config.latent.dim = 2
        config.model.update({"width": 200, "depth": 3, "generator_normalization": "batch", "initializer": "normal"})
        config.update(points.length(400_000 if paper else 20_000))
        config.decay_steps, config.ema_decay = 0, 0.0
        default.set_optimizers(config, learning_rate=1e-4, beta1=0.8, beta2=0.999)
    return config


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    packs = get_config(preset).batch_size
    return points.with_seeds([{"packing": size, "batch_size": size * packs} for size in (1, 2, 4)], preset)
