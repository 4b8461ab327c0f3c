"""Ten digits, ten modes: which of them a generator makes over training, and where its loss is flat, by cross-entropy or W1.

Arjovsky 2017 and Gulrajani 2017: the cross-entropy saturates where real and generated examples are told apart, a critic's loss
does not, and modes are kept. A penalty may do as much for a discriminator (Fedus 2017), so it stands beside both. The loss is
looked at on straight lines from generated digits to the real ones that the optimal plan pairs them with, where the potential of
W1 has slope 1 (Gulrajani 2017, proposition 1).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from matplotlib.figure import Figure

from configs import gan, wgan_gp
from experiments.figures.members import QUICK, examples, one, seeds, train
from wgan_jax.data import digits
from wgan_jax.data.dataset import Stored
from wgan_jax.metrics.fidelity import class_balance, class_shares, label_classifier
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.report.drawing import MARKERS, PLAIN, UPDATES, colour
from wgan_jax.types import Batch, Networks, Params

PENALTY = {"penalty.name": "two_sided", "penalty.weight": 10.0}
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "cross-entropy": (gan, {}),
    "cross-entropy, GP": (gan, PENALTY),
    "Wasserstein, GP": (wgan_gp, PENALTY),
}
# The generator's losses that a method's critic gives; the first is the one it is trained by.
GIVEN = {
    "cross-entropy": ("non_saturating", "minimax"),
    "cross-entropy, GP": ("non_saturating", "minimax"),
    "Wasserstein, GP": ("wasserstein",),
}
SETTINGS = {"n_critic": 5, "model.width": 128, "decay_steps": 0}
STOPS = (25, 50, 100, 200, 400, 800, 1600)
SHOWN = 2  # the stop whose lines are drawn
CLASSES, EXAMPLES = 10, 1000  # generated and judged, of a seed
PAIRS, PARTS = 200, 40  # lines of a seed, and parts of each
FLAT = 0.1  # of a line's mean slope: less is flat


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns shares of the digits [method, stop, seed, class], and what `losses` are on lines.

    flat [loss, stop, seed]: the share of the way from generated to real that a loss is flat on. falls [loss, stop, seed, part]:
    the mean loss on the way, as a share of its fall, from 1 at the generated example to 0 at the real one.
    """
    stops, count, changes = ((50, 100, 200), 2, SETTINGS | QUICK) if quick else (STOPS, 5, SETTINGS)
    data = digits.load(gan.get_config("digits").data)
    classifier = label_classifier(data.train.images, data.train.labels, data.decode)
    names, shares, flat, falls = list(METHODS)[:: 2 if quick else 1], [], [], []
    for name, (method, own) in ((name, METHODS[name]) for name in names):
        config = method.get_config("digits")
        config.update_from_flattened_dict(changes | own)
        told, along = [], []
        for moment in train(config, data, seeds(count), stops):
            drawn = np.asarray(examples(moment.networks, moment.states.generator.variables, EXAMPLES, moment.step))
            told.append([class_shares(classifier.predict(x.reshape(EXAMPLES, -1)), CLASSES) for x in drawn])
            critics = moment.states.critic.variables
            along.append([scores_between(moment.networks, one(critics, seed), data, drawn[seed]) for seed in range(count)])
        shares.append(told)
        for loss in GIVEN[name]:
            values = np.asarray(LOSSES[loss].generator(*[jnp.asarray(along)] * 2))  # [stop, seed, pair, part]
            flat.append(flatness(values).mean(axis=-1))
            mean = values.mean(axis=2)
            falls.append((mean - mean[..., -1:]) / (mean[..., :1] - mean[..., -1:]))
    return {
        "methods": np.array(names),
        "losses": np.array([f"{name} / {loss}" for name in names for loss in GIVEN[name]]),
        "stops": np.array(stops),
        "shares": np.array(shares),
        "real": class_shares(data.train.labels, CLASSES),
        "flat": np.array(flat),
        "falls": np.array(falls),
    }


def scores_between(networks: Networks, critic: Params, data: Stored, generated: np.ndarray) -> np.ndarray:
    """Returns a critic's scores [pair, part] on lines from generated digits to the real ones of the optimal plan."""
    x, y = generated[:PAIRS], data.decode(data.test.images[:PAIRS])
    distances = scipy.spatial.distance.cdist(x.reshape(PAIRS, -1), y.reshape(PAIRS, -1))
    y = y[scipy.optimize.linear_sum_assignment(distances)[1]]
    at = np.linspace(0, 1, PARTS + 1, dtype=np.float32)[:, None, None, None]
    points = x[:, None] + at * (y - x)[:, None]
    labels = np.zeros(PAIRS * (PARTS + 1), np.int32)
    return np.asarray(_score(networks, critic, Batch(points.reshape(-1, *data.shape), labels))).reshape(PAIRS, PARTS + 1)


_score = jax.jit(lambda networks, critic, batch: networks.score(critic, batch), static_argnums=0)


def flatness(values: np.ndarray) -> np.ndarray:
    """Returns which share of each line [..., part] is flat: of less than FLAT of the line's own mean slope."""
    slopes = np.abs(np.diff(values, axis=-1))
    return (slopes < FLAT * slopes.mean(axis=-1, keepdims=True)).mean(axis=-1)


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns a seed's digits over training, a panel per method; and balance, flatness and the loss between examples."""
    methods, stops, shares = arrays["methods"], arrays["stops"], arrays["shares"]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1))
    maps, (balance, flat, falls) = upper.subplots(1, len(methods)), lower.subplots(1, 3)
    for index, (axes, method) in enumerate(zip(maps, methods, strict=True)):
        beside = np.column_stack([*shares[index, :, 0], arrays["real"]])  # [class, stop and real]
        image = axes.imshow(100 * beside, cmap="Blues", vmin=0, vmax=30, aspect="auto")
        axes.axvline(len(stops) - 0.5, color="black", linewidth=1)
        axes.set_xticks(range(len(stops) + 1), [*(f"{stop:,.0f}" for stop in stops), "real"], fontsize=9, rotation=40)
        axes.set(yticks=range(CLASSES), xlabel=UPDATES)
        axes.set_title(f"{method}: one seed", fontsize=10)
        even = np.array([[class_balance(own).balance for own in stop] for stop in shares[index]])
        style = {"color": colour(index)}
        balance.plot(stops, np.median(even, axis=1), f"{MARKERS[index]}-", markersize=4, label=str(method), **style)
        balance.fill_between(stops, even.min(axis=1), even.max(axis=1), alpha=0.2, linewidth=0, **style)
    maps[0].set_ylabel("digit that a classifier tells")
    upper.colorbar(image, ax=maps.tolist(), label="share of the samples (%)", extend="max")
    balance.set(ylabel="entropy of the digits / log 10")
    balance.set_title(f"{shares.shape[2]} seeds: median, least and most", fontsize=10)
    for index, told in enumerate(arrays["losses"]):
        method, loss = str(told).split(" / ")
        color, dash = colour(list(methods).index(method)), ":" if loss == "minimax" else "-"
        words = method if loss == "wasserstein" else f"{method}: {loss.replace('_', '-')}"
        flat.plot(stops, 100 * np.median(arrays["flat"][index], axis=1), dash, marker=".", color=color, label=words)
        found = np.median(arrays["falls"][index, min(SHOWN, len(stops) - 1)], axis=0)
        falls.plot(np.linspace(0, 100, len(found)), found, dash, color=color, label=words)
    flat.set(ylabel="flat part of the way (%)", ylim=0)
    flat.set_title(f"slope below {FLAT:g} of the line's mean", fontsize=10)
    falls.set(xlabel="way to the real digit (%)", ylabel="loss (share of its fall)")
    falls.set_title(f"after {stops[min(SHOWN, len(stops) - 1)]:,.0f} updates, mean over lines", fontsize=10)
    for axes in (balance, flat):
        axes.set(xscale="log", xlabel=UPDATES)
        axes.set_xticks(stops)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.tick_params(axis="x", rotation=40)
        axes.minorticks_off()
    lower.legend(*flat.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    balance.legend(fontsize=8)
    for axes in (balance, flat, falls):
        axes.grid(alpha=0.3)
    return figure
