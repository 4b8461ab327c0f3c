"""How many modes does a GAN keep whose critic sees packs of samples?

Paper: Lin et al. 2018, "PacGAN: The power of two samples in generative adversarial networks" (arXiv 1712.04086), section 4.1:
packs of one to four on a ring of 8 and a grid of 25 Gaussians. Its latent of two dimensions, batch 100, Adam 1e-4 with beta1
.8, constant, a discriminator of 3 x 200 and batch normalisation in the generator are here. The generator is 3 x 200 for its
4 x 400, as both networks of a config have one size; packs hold examples of the one batch; and a laptop's 20,000 updates are a
twentieth of the paper's, which `paper=True` restores. A mode counts as evaluation counts it, by a share of good samples and
not by a single one.
Command: python -m experiments.sweep --config=configs/ablations/packing.py[:preset[,paper=True]]
Measured: the tables of docs/ablations.md.
"""

from ml_collections import ConfigDict

from configs import default, gan
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    config = points.laptop(gan.get_config(preset))
    _, name, paper = default.start("gan", preset)
    config.batch_size = 100
    if name in default.TOYS:
        config.latent.dim = 2
        config.model.update({"width": 200, "depth": 3, "generator_normalization": "batch"})
        config.update(points.length(400_000 if paper else 20_000))
        config.decay_steps = 0
        config.eval.draws = 1
        default.set_optimizers(config, learning_rate=1e-4, beta1=0.8, beta2=0.999)
    return config


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    return points.with_seeds([{"packing": packs} for packs in (1, 2, 4)], preset)
