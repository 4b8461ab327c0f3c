"""A thousand modes: three digits as the channels of an image, and how many of the numbers from 000 to 999 a generator makes.

The protocol of VEEGAN (Srivastava 2017) and PacGAN (Lin 2018) with scikit-learn's 8x8 digits in MNIST's place: 128,000 stacks
to train on, 26,000 samples, each channel told by a classifier of single digits; modes reached, and KL of the samples' shares
to the data's. Of stacked MNIST DCGANs have 79 modes and KL 4.5, packed by two 1,000 and .06 (Lin 2018), R3GAN with a small
ResNet 1,000 and .078 (Huang 2024). Here networks and the number of generator updates are the same for all, MLPs and few.
"""

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import gan, r3gan, wgan_gp
from experiments.figures.members import QUICK, examples, seeds, train
from wgan_jax.data import digits
from wgan_jax.data.dataset import Split, Stored, flatten, to_pixels
from wgan_jax.evaluation.sheets import image_grid
from wgan_jax.metrics.divergences import kullback_leibler
from wgan_jax.metrics.fidelity import class_shares, label_classifier
from wgan_jax.report.drawing import MARKERS, PLAIN, UPDATES, colour, scale_scores


def _packed() -> ConfigDict:
    config = gan.get_config("digits")
    config.packing = 2
    return config


METHODS = {
    "GAN": lambda: gan.get_config("digits"),
    "packed, 2": _packed,
    "WGAN-GP": lambda: wgan_gp.get_config("digits"),
    "R3GAN": lambda: r3gan.get_config("digits"),
}
MODES, PLACES = 1000, np.array([100, 10, 1])
STACKS, SAMPLES = 128_000, 26_000
SHOWN = 20  # samples


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns modes of 1,000 and KL [method, stop, seed], those of stacks of test digits, and samples [method, n, H, W, 3]."""
    updates, count, stacks, samples = (400, 1, 4000, 4000) if quick else (3200, 2, STACKS, SAMPLES)
    stops = updates * np.array([1, 2, 4]) // 4
    names = ["GAN", "WGAN-GP"] if quick else list(METHODS)
    single = digits.load(wgan_gp.get_config("digits").data)
    machine = label_classifier(single.train.images, single.train.labels, single.decode)
    shares = class_shares(single.train.labels, len(single.class_names))
    law = np.einsum("i,j,k->ijk", shares, shares, shares).ravel()

    def judge(images: np.ndarray) -> tuple[int, float]:
        """Returns the modes of images [n, H, W, 3] in network units, and KL(their shares | the law's)."""
        channels = np.moveaxis(images, -1, 1)  # [n, 3, H, W]
        told = machine.predict(flatten(channels.reshape(-1, *channels.shape[2:]))).reshape(-1, 3) @ PLACES
        found = class_shares(told, MODES)
        return int((found > 0).sum()), kullback_leibler(found, law)

    data = Stored((8, 8, 3), stack(single.train, stacks), stack(single.validation, 500), stack(single.test, 500))
    told, shown = [], []
    for name in names:
        config = METHODS[name]()
        config.update_from_flattened_dict(
            {"model.width": 128, "steps": updates, "decay_steps": updates} | (QUICK if quick else {})
        )
        rows = []
        for moment in train(config, data, seeds(count), stops.tolist()):
            drawn = (examples(moment.networks, moment.states.ema, samples, moment.step)[seed] for seed in range(count))
            rows.append([judge(np.asarray(images)) for images in drawn])
        told.append(rows)
        shown.append(to_pixels(np.asarray(examples(moment.networks, moment.states.ema, SHOWN, 7))[0]))
    modes, divergence = np.moveaxis(np.array(told, float), -1, 0)
    real = judge(data.decode(stack(single.test, samples).images))
    return {
        "methods": np.array(names),
        "stops": stops,
        "modes": modes,
        "kl": divergence,
        "real": np.array(real),
        "samples": np.array(shown),
    }


def stack(split: Split, count: int) -> Split:
    """Returns images [count, H, W, 3] of three random ones of a split, and the numbers that their labels spell."""
    rows = np.random.default_rng(0).integers(0, len(split.images), (count, 3))
    images = np.moveaxis(split.images[rows][..., 0], 1, -1)
    return Split(np.ascontiguousarray(images), (split.labels[rows] @ PLACES).astype(np.int32))


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns modes and KL over updates, and samples, whose channels are red, green and blue."""
    methods = arrays["methods"]
    figure = Figure(figsize=(10.5, 4 + 0.75 * len(methods)), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[4, 0.75 * len(methods)]))
    reached, divergence = upper.subplots(1, 2)
    for axes, values, real in ((reached, arrays["modes"], arrays["real"][0]), (divergence, arrays["kl"], arrays["real"][1])):
        for index, (method, own) in enumerate(zip(methods, values, strict=True)):
            style = {"color": colour(index), "marker": MARKERS[index]}
            size = 10 - 2 * index  # of those that lie on each other all are seen
            axes.plot(arrays["stops"], own.mean(axis=1), label=str(method), markersize=size, **style)
            axes.plot(arrays["stops"], own, linestyle="", markersize=3, alpha=0.6, **style)
        axes.axhline(real, color="0.3", linestyle=":", label="stacks of test digits")
        axes.set(xscale="log", xlabel=UPDATES, xticks=arrays["stops"])
        axes.xaxis.set_major_formatter(PLAIN)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    reached.set(ylabel=f"modes of {MODES:,}", ylim=(0, 1.05 * MODES))
    divergence.set(ylabel="KL of the modes' shares (nats)")
    scale_scores(divergence, "y", arrays["kl"])
    divergence.legend(fontsize=9)
    for axes, method, images in zip(np.ravel(lower.subplots(len(methods), 1)), methods, arrays["samples"], strict=True):
        axes.imshow(image_grid(images / 127.5 - 1, SHOWN), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(str(method), fontsize=9, rotation=0, ha="right", va="center")
    return figure
