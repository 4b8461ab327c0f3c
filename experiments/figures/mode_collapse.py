"""Modes that generators find, lose and hop between: the ring of eight Gaussians under six methods, several seeds each.

Metz 2016, figure 2, has the GAN hop and the unrolled one cover; Lin 2018 (PacGAN) packs examples; Arjovsky 2017 and Gulrajani
2017 use a critic; Huang 2024 (R3GAN) pairs real and generated examples and penalises both slopes. Networks, optimizer and the
number of generator updates are the same for all, 3 x 64 and Adam at the rate of configs' ring8, which falls to 0.
"""

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import gan, r3gan, unrolled, wgan, wgan_gp
from experiments.figures.members import QUICK, examples, seeds, train
from wgan_jax.data.synthetic import ring8
from wgan_jax.metrics.modes import mode_statistics
from wgan_jax.report.drawing import MARKERS, PLAIN, UPDATES, colour


def _packed() -> ConfigDict:
    config = gan.get_config("ring8")
    config.packing = 2
    return config


METHODS = {
    "GAN": lambda: gan.get_config("ring8"),
    "unrolled, 5": lambda: unrolled.get_config("ring8"),
    "packed, 2": _packed,
    "WGAN, clipped": lambda: wgan.get_config("ring8"),
    "WGAN-GP": lambda: wgan_gp.get_config("ring8"),
    "R3GAN": lambda: r3gan.get_config("ring8"),
}
EXAMPLES = 2000  # of a generator, judged
HALF, CELLS = 2.0, 48  # of the density maps
SHOWN = (1, 3, 7, 19)  # stops whose maps are shown
MODES = 8


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns modes found, shares of good examples and the modes' total variation [method, stop, seed], and a seed's maps.

    Maps [method, stage, y, x] are shares of the examples in cells of a square.
    """
    updates, count = (600, 2) if quick else (2000, 5)
    stops = np.arange(1, 21) * (updates // 20)
    names = ["GAN", "WGAN-GP"] if quick else list(METHODS)
    found, maps = [], []
    for name in names:
        config = METHODS[name]()
        config.update_from_flattened_dict(
            {"batch_size": 128, "steps": updates, "decay_steps": updates} | (QUICK if quick else {})
        )
        law = ring8(config.data)
        assert law.modes is not None
        sigma = law.modes.sigma * (5 if quick else 1)  # few updates put no sample within three of its own
        told, shown = [], []
        for moment in train(config, law, seeds(count), stops.tolist()):
            points = np.asarray(examples(moment.networks, moment.states.generator.variables, EXAMPLES, moment.step))
            values = [mode_statistics(own, law.modes.centres, sigma) for own in points]
            told.append([[own[key] for own in values] for key in ("modes", "good_share", "mode_tv")])
            shown.append(np.histogram2d(points[0][:, 1], points[0][:, 0], CELLS, [[-HALF, HALF]] * 2)[0] / EXAMPLES)
        found.append(told)
        maps.append([shown[stop] for stop in SHOWN])
    modes, good, variation = np.moveaxis(np.array(found), 2, 0)
    return {
        "methods": np.array(names),
        "stops": stops,
        "modes": modes,
        "good_share": good,
        "mode_tv": variation,
        "stages": stops[list(SHOWN)],
        "maps": np.array(maps),
    }


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns density maps of one seed, a row per method, and beside them the modes of all seeds over training."""
    methods, stages = arrays["methods"], arrays["stages"]
    columns = len(stages) + 1
    figure = Figure(figsize=(1.75 * len(stages) + 4.6, 1.75 * len(methods) + 0.9), layout="constrained")
    panels = figure.subplots(len(methods), columns, width_ratios=[1] * len(stages) + [2.2])
    for row, method in enumerate(methods):
        for column, stage in enumerate(stages):
            axes = panels[row, column]
            share = arrays["maps"][row, column]
            axes.imshow(np.sqrt(share), cmap="Blues", origin="lower", extent=[-HALF, HALF] * 2, vmax=0.25)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"{stage:,.0f} updates", fontsize=10)
        panels[row, 0].set_ylabel(str(method), fontsize=10)
        over = panels[row, -1]
        modes, style = arrays["modes"][row], {"color": colour(row)}
        over.fill_between(arrays["stops"], modes.min(axis=1), modes.max(axis=1), alpha=0.25, linewidth=0, **style)
        over.plot(arrays["stops"], np.median(modes, axis=1), f"{MARKERS[row]}-", markersize=4, **style)
        over.set(ylim=(-0.4, MODES + 0.4), yticks=[0, 4, MODES], ylabel="modes of 8")
        over.yaxis.tick_right()
        over.yaxis.set_label_position("right")
        over.xaxis.set_major_formatter(PLAIN)
        over.tick_params(labelbottom=row == len(methods) - 1)
        over.grid(alpha=0.3)
    panels[0, -1].set_title(f"{arrays['modes'].shape[-1]} seeds: median, least and most", fontsize=10)
    panels[-1, -1].set_xlabel(UPDATES)
    return figure
