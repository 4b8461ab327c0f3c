"""Nine hundred images: a critic learns them by heart, which held-out ones show, and differentiable augmentation delays it.

A sheet of 900 Pokemon at epochs 7, 21 and 49 is what the reports show; here it is as many 8x8 digits, and longer. Zhao 2020
(DiffAugment) and Karras 2020 (ADA) see the overfitting in the critic: its mean score of training images leaves that of
held-out ones, whose place between training and generated images is Karras's r_v. Whether generators copy is told by the
distances of their samples to the nearest training image (Meehan 2020), some of which are drawn.
"""

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import gan, wgan_gp
from experiments.figures.members import examples, one, seeds, train
from wgan_jax.data import digits
from wgan_jax.data.dataset import Split, to_pixels
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.evaluation.sampling import nearest_images
from wgan_jax.evaluation.sheets import image_grid
from wgan_jax.models import build_networks
from wgan_jax.report.drawing import BLUE, ORANGE, PLAIN

METHODS = {"GAN": gan, "WGAN-GP": wgan_gp}
AUGMENTATIONS = "color,translation,cutout"  # all that Zhao 2020 has
SUFFIX = ", augmented"
COLOURS = {"GAN": ORANGE, "WGAN-GP": BLUE}
EXAMPLES, BATCH = 900, 50
EPOCHS: tuple[int, ...] = (7, 21, 49, 147, 441, 1323)  # batches of critic and generator alike count
STAGES = (0, 1, 2, -1)  # of EPOCHS, of which samples are shown
SHOWN = 6  # samples of a stage
VALUES = ("estimate_train", "estimate_heldout", "wasserstein_excess", "copying_z")


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns VALUES on test [value, setting, stop, seed], the share that is overfitting, and samples with their neighbours.

    overfitting: 1 - estimate_heldout / estimate_train, of each seed; samples [setting, stage, side, n, H, W] and, as the second
    side, the training images nearest to them.
    """
    changes, epochs, count, size = {"model.width": 128}, EPOCHS, 2, EXAMPLES
    names = [name + suffix for name in METHODS for suffix in ("", SUFFIX)]
    if quick:
        changes, epochs, count, size, names = {"model.width": 64, "eval.samples": 200}, EPOCHS[1:-1], 1, 300, names[2:]
    data = digits.load(wgan_gp.get_config("digits").data)
    data = data._replace(train=Split(*(array[:size] for array in data.train)))
    told, shown = [], []
    for name in names:
        config = configured(name, changes)
        per_epoch = size // BATCH / (config.n_critic + 1)
        evaluator = make_evaluator(config, data, build_networks(config, data.shape))
        rows, sheets = [], []
        for moment in train(config, data, seeds(count), [round(per_epoch * epoch) for epoch in epochs]):
            states, networks = moment.states, moment.networks
            critics, generators = states.critic.variables, states.ema
            found = [evaluator.of_generator(one(generators, seed), one(critics, seed), "test", seed) for seed in range(count)]
            rows.append([[own[value] for value in VALUES] for own in found])
            drawn = np.asarray(examples(networks, generators, SHOWN, 7))[0]
            nearest, _ = nearest_images(drawn, data.train.images, 1)
            sheets.append([to_pixels(drawn)[..., 0], data.train.images[nearest[:, 0], ..., 0]])
        told.append(rows)
        shown.append([sheets[stage] for stage in STAGES])
    values = np.moveaxis(np.array(told), -1, 0)
    return {
        "settings": np.array(names),
        "epochs": np.array(epochs),
        "names": np.array(VALUES),
        "values": values,
        "overfitting": 1 - values[1] / values[0],
        "stages": np.array([epochs[stage] for stage in STAGES]),
        "samples": np.array(shown),
    }


def configured(name: str, changes: dict[str, int]) -> ConfigDict:
    """Returns a setting's config, at a constant rate."""
    config: ConfigDict = METHODS[name.removesuffix(SUFFIX)].get_config("digits")
    augment = AUGMENTATIONS if name.endswith(SUFFIX) else ""
    metrics = "wasserstein,copying"
    config.update_from_flattened_dict(
        {**changes, "batch_size": BATCH, "decay_steps": 0, "inputs.augment": augment, "eval.metrics": metrics}
    )
    return config


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns overfitting, excess and copying over epochs, and samples above the training images that are nearest to them."""
    settings, stages = arrays["settings"], arrays["stages"]
    figure = Figure(figsize=(11, 4.2 + 1.15 * len(settings)), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[4.2, 1.15 * len(settings)]))
    panels = upper.subplots(1, 3)
    series = (arrays["overfitting"], *arrays["values"][2:])
    labels = (
        "share of the critic's estimate\nthat held-out images lack",
        "excess (0 as real digits)",
        "copying z (below -3: copies)",
    )
    for axes, values, label in zip(panels, series, labels, strict=True):
        for setting, own in zip(settings, values, strict=True):
            augmented = str(setting).endswith(SUFFIX)
            style = {"color": COLOURS[str(setting).removesuffix(SUFFIX)], "linestyle": "--" if augmented else "-"}
            marker = "s" if augmented else "o"
            axes.plot(arrays["epochs"], own.mean(axis=1), marker=marker, markersize=5, label=str(setting), **style)
            for seed in own.T:
                axes.plot(arrays["epochs"], seed, marker, color=style["color"], markersize=2.5, alpha=0.6)
        axes.set(xscale="log", xlabel="epochs", ylabel=label, xticks=arrays["epochs"])
        axes.xaxis.set_major_formatter(PLAIN)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[2].axhline(-3, color="0.3", linestyle=":")
    upper.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    grids = lower.subplots(len(settings), len(stages), squeeze=False)
    for row, setting in enumerate(settings):
        for column, stage in enumerate(stages):
            axes, images = grids[row, column], arrays["samples"][row, column]
            sheet = image_grid(images.reshape(-1, *images.shape[2:], 1) / 127.5 - 1, SHOWN).convert("L")
            axes.imshow(sheet, cmap="gray", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"{stage:,.0f} epochs", fontsize=10)
        grids[row, 0].set_ylabel(str(setting).replace(", ", ",\n"), fontsize=9)
    lower.supxlabel("upper rows: samples; lower rows: the training images nearest to them", fontsize=10)
    return figure
