"""A thousand modes: three digits as the channels of an image, and how many of the numbers from 000 to 999 a generator makes.

The protocol of VEEGAN (Srivastava 2017) and PacGAN (Lin 2018) with scikit-learn's 8x8 digits in MNIST's place: 128,000 stacks
to train on, 26,000 samples, each channel told by a classifier of single digits; modes reached, and KL of the samples' shares
to the data's; ten runs of each method. Of stacked MNIST DCGANs have 79 modes and KL 4.5, packed by two 1,000 and .06 (Lin
2018); unrolled by 5 and 10 with a discriminator of half the generator's size 732 and 817 (Metz 2016); R3GAN with a small
ResNet 1,000 and .078, with the GAN's loss in its place 693 and .93, and without R2 it diverges (Huang 2024). Of minibatch
discrimination there is no number. Here the number of generator updates is the same for all, and few, and so are the networks,
MLPs, but for the discriminator's inputs or last layer where packs or minibatches are what it sees; WGANs have five critic
updates to each. Optimizers are those of the methods' files: Adam at one rate, of the clipped WGAN RMSProp at a fifth of it. The
unrolled GAN has the minimax loss, the other GANs the non-saturating one.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from configs import gan, r3gan, unrolled, wgan, wgan_gp, wgan_lp
from experiments.figures.members import QUICK, examples, seeds, train
from wgan_jax.data import digits
from wgan_jax.data.dataset import Split, Stored, flatten, to_pixels
from wgan_jax.evaluation.sheets import image_grid
from wgan_jax.metrics.divergences import kullback_leibler
from wgan_jax.metrics.fidelity import class_shares, label_classifier
from wgan_jax.report.drawing import BLUE, PLAIN, legend_below, scale_scores

METHODS: dict[str, tuple[ModuleType, dict[str, Any]]] = {  # a file of configs/, and what is set on top
    "GAN": (gan, {}),
    "GAN, packed by 2": (gan, {"packing": 2}),
    "GAN, minibatch discrimination": (gan, {"model.critic_head": "minibatch_discrimination"}),
    "GAN, unrolled by 5": (unrolled, {}),
    "GAN, R1 + R2": (r3gan, {"loss": "non_saturating"}),
    "R3GAN: relativistic, R1 + R2": (r3gan, {}),
    "R3GAN without R2": (r3gan, {"penalty.points": "real"}),
    "WGAN, clipped": (wgan, {}),
    "WGAN-GP": (wgan_gp, {}),
    "WGAN-LP": (wgan_lp, {}),
}
MODES, PLACES = 1000, np.array([100, 10, 1])
STACKS, SAMPLES = 128_000, 26_000
SHOWN = 7  # samples
SHADES = ("0.75", "0.5", BLUE)  # of the stops


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns modes of 1,000 and KL [method, stop, seed], those of stacks of test digits, and samples [method, n, H, W, 3]."""
    updates, count, stacks, samples = (400, 1, 4000, 4000) if quick else (3200, 10, STACKS, SAMPLES)
    stops = updates * np.array([1, 2, 4]) // 4
    names = ["GAN", "WGAN-GP"] if quick else list(METHODS)
    single = digits.load(wgan_gp.get_config("digits").data)
    predict = label_classifier(single.train.images, single.train.labels, single.decode).predict
    shares = class_shares(single.train.labels, len(single.class_names))
    law = np.einsum("i,j,k->ijk", shares, shares, shares).ravel()
    data = Stored((8, 8, 3), stack(single.train, stacks), stack(single.validation, 500), stack(single.test, 500))
    told, shown = [], []
    for name in names:
        file, numbers = METHODS[name]
        config = file.get_config("digits")
        config.update_from_flattened_dict(
            {"model.width": 128, "steps": updates, "decay_steps": updates} | numbers | (QUICK if quick else {})
        )
        rows = []
        for moment in train(config, data, seeds(count), stops.tolist()):
            drawn = examples(moment.networks, moment.states.ema, samples, moment.step)
            rows.append([judge(np.asarray(images), predict, law) for images in drawn])
        told.append(rows)
        shown.append(to_pixels(np.asarray(examples(moment.networks, moment.states.ema, SHOWN, 7))[0]))
    modes, divergence = np.moveaxis(np.array(told, float), -1, 0)
    real = judge(data.decode(stack(single.test, samples).images), predict, law)
    return {
        "methods": np.array(names),
        "stops": stops,
        "modes": modes,
        "kl": divergence,
        "real": np.array(real),
        "samples": np.array(shown),
    }


def judge(images: np.ndarray, predict: Callable[[np.ndarray], np.ndarray], law: np.ndarray) -> tuple[int, float]:
    """Returns the modes of images [n, H, W, 3] in network units, and KL(their shares | the law's); 0, NaN of diverged ones."""
    if not np.isfinite(images).all():
        return 0, math.nan
    channels = np.moveaxis(images, -1, 1)  # [n, 3, H, W]
    told = predict(flatten(channels.reshape(-1, *channels.shape[2:]))).reshape(-1, 3) @ PLACES
    found = class_shares(told, MODES)
    return int((found > 0).sum()), kullback_leibler(found, law)


def stack(split: Split, count: int) -> Split:
    """Returns images [count, H, W, 3] of three random ones of a split, and the numbers that their labels spell."""
    rows = np.random.default_rng(0).integers(0, len(split.images), (count, 3))
    images = np.moveaxis(split.images[rows][..., 0], 1, -1)
    return Split(np.ascontiguousarray(images), (split.labels[rows] @ PLACES).astype(np.int32))


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns modes and KL of every run at three stops, and samples, whose channels are red, green and blue."""
    methods, stops = arrays["methods"], arrays["stops"]
    figure = Figure(figsize=(12, 1.2 + 0.5 * len(methods)), layout="constrained")
    reached, divergence, samples = figure.subplots(1, 3, sharey=True, width_ratios=[3, 3, 4.5])
    rows = np.arange(len(methods))[:, None]
    for axes, values, real in ((reached, arrays["modes"], arrays["real"][0]), (divergence, arrays["kl"], arrays["real"][1])):
        for index, (stop, shade) in enumerate(zip(stops, SHADES, strict=True)):
            own = values[:, index]
            height = np.broadcast_to(rows + 0.25 * (index - 1), own.shape)
            axes.plot(own.ravel(), height.ravel(), "o", color=shade, markersize=4, alpha=0.7, label=f"{stop:,} updates")
        axes.axvline(real, color="0.3", linestyle=":", label="stacks of test digits")
        axes.grid(axis="x", alpha=0.3)
    reached.set(xlabel=f"modes of {MODES:,}", xlim=(0, 1.05 * MODES), yticks=rows.ravel(), yticklabels=methods)
    reached.xaxis.set_major_formatter(PLAIN)
    diverged = int(np.isnan(arrays["kl"]).any(axis=1).sum())
    without = f", without {diverged} runs that diverged" if diverged else ""
    divergence.set(xlabel=f"KL of the modes' shares (nats){without}")
    divergence.tick_params(left=False)
    scale_scores(divergence, "x", arrays["kl"])
    sheet = np.concatenate([image_grid(images / 127.5 - 1, SHOWN) for images in arrays["samples"]])
    samples.imshow(sheet, interpolation="nearest", aspect="auto", extent=(0, SHOWN, len(methods) - 0.5, -0.5))
    samples.set(xticks=[], xlabel="samples of the first run")
    samples.tick_params(left=False)
    legend_below(figure, reached.get_legend_handles_labels()[0])
    return figure
