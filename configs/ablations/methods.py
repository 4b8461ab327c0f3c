"""Which method of the family, at the same networks and budget?

Papers: those of the files of configs/, and Lin et al. 2018, "PacGAN" (arXiv 1712.04086): the GAN with packs of two.
Command: python -m experiments.sweep --config=configs/ablations/methods.py[:preset[,paper=True]] [--seeds=N]
Measured: the tables of docs/ablations.md.

Every method takes as many generator updates as the others, with the critic updates that its file has, at the preset's
learning rate; TTUR's critic keeps three times that of its generator. Those with fewer critic updates than WGAN-GP's are run
once more, to as many critic updates, which takes .8 to 1.7 times its seconds; the ones that an unrolled generator looks ahead
count. With paper=True each file keeps its paper's updates. None of the methods is tuned to the budget: the study of that is
configs/ablations/large_scale.py.
"""

from ml_collections import ConfigDict

from configs import dragan, gan, imle, r3gan, sngan, ttur, unrolled, wgan, wgan_gp, wgan_groupsort, wgan_lp
from configs.ablations import points

FILES = (wgan_gp, wgan_lp, wgan, wgan_groupsort, ttur, gan, dragan, sngan, r3gan, unrolled, imle)


def get_config(preset: str = "ring8") -> ConfigDict:
    return points.laptop(wgan_gp.get_config(preset))


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    packed = gan.get_config(preset)
    packed.update({"method": "pacgan", "packing": 2})
    configs = [*(file.get_config(preset) for file in FILES), packed]
    settings = points.methods(configs)
    counts = [config.n_critic + config.unroll for config in configs]  # critic updates per generator update
    critic_updates = counts[0] * get_config(preset).steps
    longer = [
        {**setting, **points.length(critic_updates // count)}
        for setting, count in zip(settings, counts, strict=True)
        if 0 < count < counts[0]
    ]
    return points.with_seeds([*settings, *longer], preset)
