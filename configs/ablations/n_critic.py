"""How many critic updates per generator update?

Papers: Arjovsky 2017 (arXiv 1701.07875), section 3 and algorithm 1: the critic should be trained to optimality; 5. Gulrajani
2017 (arXiv 1704.00028), algorithm 1: 5. An anime-face report compares 1, 2 and 4 under clipping and 1 and 2 under the
penalty. Every setting gets the preset's generator updates and, where that takes more, the critic updates of 5 per generator
update: 1,000 here. So all of them can be compared at equal generator updates and at equal critic updates, within their curves.
Learning rates are constant, as in both papers: with a decay, a point inside a curve would not be a run of that length.
Command: python -m experiments.sweep --config=configs/ablations/n_critic.py[:preset[,paper=True]]
Measured on two cores: ring8, 240 runs, 15 minutes of both; digits, 80 runs, 4 minutes.
"""

from ml_collections import ConfigDict

from configs import default, wgan, wgan_gp
from configs.ablations import points


def get_config(preset: str = "ring8") -> ConfigDict:
    config = points.laptop(wgan_gp.get_config(preset))
    _, name, paper = default.start("", preset)
    if not paper and name not in default.IMAGES:
        config.update(points.length(1000))
    config.decay_steps = 0
    return config


def get_sweep(preset: str = "ring8") -> list[points.Point]:
    steps = get_config(preset).steps
    methods = points.methods([wgan_gp.get_config(preset), wgan.get_config(preset)])
    counts = [{"n_critic": n, "steps": max(steps, 5 * steps // n)} for n in (1, 2, 5, 10)]
    return points.with_seeds(points.cross(methods, counts), preset)
