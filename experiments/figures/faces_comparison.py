"""Faces from a folder by DCGAN, WGAN and WGAN-GP: samples at three stages on one sheet, and precision and recall beside them.

The comparison of the anime-face report: WGAN with 1, 2 and 4 critic updates, WGAN-GP with lambda .5 and 5 and 1 and 2 critic
updates, of 64 x 64 images at epochs 10, 30 and 50, and a DCGAN that collapses in the end. Here images of 32 x 32, if nothing
else is asked for, a quarter of the width and fewer epochs, in which the batches of critic and generator alike count, so that
all have seen as much data. What the report calls yield, the share of samples that look like faces, is precision, of pixels.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import gan, wgan, wgan_gp
from experiments.figures.members import examples, one, seeds, train
from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import Split, Stored, to_pixels
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.evaluation.sheets import image_grid
from wgan_jax.models import build_networks

METHODS: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "DCGAN": (gan, {}),
    "WGAN, n_critic 1": (wgan, {"n_critic": 1}),
    "WGAN, n_critic 2": (wgan, {"n_critic": 2}),
    "WGAN, n_critic 4": (wgan, {"n_critic": 4}),
    "WGAN-GP, lambda .5, n_critic 1": (wgan_gp, {"n_critic": 1, "penalty.weight": 0.5}),
    "WGAN-GP, lambda 5, n_critic 1": (wgan_gp, {"n_critic": 1, "penalty.weight": 5.0}),
    "WGAN-GP, lambda 5, n_critic 2": (wgan_gp, {"n_critic": 2, "penalty.weight": 5.0}),
}
SETTINGS = {"data.label": "none", "model.width": 16, "batch_size": 32, "decay_steps": 0}
STAGES, LONG = (5, 15, 30), 100  # epochs; the last is of the DCGAN alone, which is said to collapse
SHOWN = 8  # samples of a stage
VALUES = ("precision", "recall", "wasserstein_excess")


def compute(quick: bool, folder: str, size: int) -> dict[str, np.ndarray]:
    """Returns VALUES on test [value, method, stage] and samples [method, stage, n, H, W, C] of one seed; the DCGAN's at LONG.

    of_real and real are the values and examples of the images themselves.

    Raises:
      UserError: the folder has no images, or too few.
    """
    names, stages, long, changes = list(METHODS), STAGES, LONG, {"data.image_size": size}
    if quick:
        names, stages, long = ["DCGAN", "WGAN-GP, lambda 5, n_critic 1"], (1, 2, 3), 4
        changes |= {"data.image_size": min(size, 16), "model.width": 4, "batch_size": 16}
    data = load_dataset(configured(names[0], folder, changes))
    assert isinstance(data, Stored)
    if quick:
        data = data._replace(train=Split(*(array[:320] for array in data.train)))
    told, shown = [], []
    for name in names:
        config = configured(name, folder, changes)
        evaluator = make_evaluator(config, data, build_networks(config, data.shape))
        per_epoch = len(data.train.images) / config.batch_size / (config.n_critic + 1)
        first = max(1, round(per_epoch * stages[0]))
        stops = [first * epoch // stages[0] for epoch in (*stages, *[long][: name == "DCGAN"])]
        for moment in train(config, data, seeds(1), stops):
            generators, critics = moment.states.ema, moment.states.critic.variables
            found = evaluator.of_generator(one(generators, 0), one(critics, 0), "test", 0)
            told.append([found[value] for value in VALUES])
            shown.append(to_pixels(np.asarray(examples(moment.networks, generators, SHOWN, 7))[0]))
    real, last = evaluator.of_real("test", 0), len(stages)  # the DCGAN is the first method
    values, samples = np.array(told), np.array(shown)
    return {
        "methods": np.array(names),
        "stages": np.array(stages),
        "long": np.array(long),
        "names": np.array(VALUES),
        "values": np.moveaxis(np.delete(values, last, axis=0).reshape(len(names), last, -1), -1, 0),
        "at_long": values[last],
        "of_real": np.array([real[value] for value in VALUES]),
        "samples": np.delete(samples, last, axis=0).reshape(len(names), last, *samples.shape[1:]),
        "samples_at_long": samples[last],
        "real": data.test.images[:SHOWN],
    }


def configured(name: str, folder: str, changes: Mapping[str, Any]) -> ConfigDict:
    """Returns a method's config for a folder of images, at a constant rate."""
    method, own = METHODS[name]
    config: ConfigDict = method.get_config("folder")
    metrics = "wasserstein,precision_recall"
    config.update_from_flattened_dict({**SETTINGS, **own, **changes, "data.path": folder, "eval.metrics": metrics})
    return config


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns the sheet: a row of samples per method, stages beside each other, what they are worth above each."""
    methods, stages, names = arrays["methods"], arrays["stages"], list(arrays["names"])
    precision, recall = (arrays["values"][names.index(name)] for name in ("precision", "recall"))
    figure = Figure(figsize=(13.5, 0.85 * (len(methods) + 1) + 0.5), layout="constrained")
    panels = figure.subplots(len(methods) + 1, len(stages))
    for row, method in enumerate(methods):
        for column, stage in enumerate(stages):
            axes = panels[row, column]
            axes.imshow(image_grid(arrays["samples"][row, column] / 127.5 - 1, SHOWN), interpolation="nearest")
            told = f"precision {precision[row, column]:.2f}, recall {recall[row, column]:.2f}"
            axes.set_title(f"{stage:.0f} epochs: {told}" if row == 0 else told, fontsize=9)
        panels[row, 0].set_ylabel(str(method).replace(", ", "\n"), fontsize=8, rotation=0, ha="right", va="center")
    ends = {0: ("test images", "of_real", "real"), -1: (f"DCGAN, {arrays['long']:.0f} epochs", "at_long", "samples_at_long")}
    for column, (told, of, images) in ends.items():
        found = dict(zip(names, arrays[of], strict=True))
        panels[-1, column].imshow(image_grid(arrays[images] / 127.5 - 1, SHOWN), interpolation="nearest")
        panels[-1, column].set_title(f"{told}: precision {found['precision']:.2f}, recall {found['recall']:.2f}", fontsize=9)
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
    for axes in panels[-1, 1:-1]:
        axes.set_axis_off()
    return figure
