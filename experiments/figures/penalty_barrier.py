"""The wrong-sign optimum of the two-sided penalty: a critic that scores real examples below generated ones, and stays there.

In one dimension a critic of slope s has the loss -s D + lambda (|s| - 1)^2, D the gap between the means. While D < 2 lambda it
has a strict local optimum at s = -(1 - D / 2 lambda); the one-sided penalty has none, and in two dimensions a slope can turn.
Trained: N(2, 1) in each dimension from U[0, 5], many seeds and all lambdas as one program.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from ml_collections import ConfigDict

from configs import wgan_gp, wgan_lp
from wgan_jax.batching import example_keys
from wgan_jax.data.dataset import Law
from wgan_jax.data.source import Feed
from wgan_jax.data.synthetic import gaussian
from wgan_jax.metrics.transport import empirical_wasserstein, quantile_wasserstein
from wgan_jax.models import make_sampler
from wgan_jax.report.drawing import MARKERS, PLAIN, colour, legend_below
from wgan_jax.training.program import make_members
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch, TrainState

METHODS = {"two-sided": wgan_gp, "one-sided": wgan_lp}
DIMENSIONS = (1, 2)
WEIGHTS = np.array([0.1, 0.3, 1, 3, 10])
RATIOS = np.array([0.0, 0.25, 0.5, 1.0, 2.0])  # D / 2 lambda
SETTINGS = {
    "model.width": 32,
    "batch_size": 64,
    "ema_decay": 0.99,
    "critic.learning_rate": 1e-3,
    "generator.learning_rate": 1e-3,
}
WRONG = -0.1  # an estimate below it is no noise of sampling
EXAMPLES = 1000  # of a side, judged
CALLS = 10  # in whose second half the critic's estimates are averaged


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns the ideal loss over slopes, and [method, dimension, lambda, seed] estimates and final W1."""
    weights, seeds, updates = (WEIGHTS[[0, -1]], 3, 200) if quick else (WEIGHTS, 10, 800)
    dimensions = DIMENSIONS[:1] if quick else DIMENSIONS  # each is a program to compile
    slopes = np.linspace(-1.6, 2.6, 85)
    ideal = [-2 * ratio * slopes + (np.abs(slopes) - 1) ** 2 for ratio in RATIOS]  # over lambda
    estimates, distances = [], []
    for method in METHODS.values():
        for dimension in dimensions:
            config = method.get_config("gaussian")
            config.update_from_flattened_dict(SETTINGS | {"data.dim": dimension, "latent.dim": dimension})
            found = train(config, np.repeat(weights, seeds), updates)
            estimates.append(found[0])
            distances.append(found[1])
    shape = (len(METHODS), len(dimensions), len(weights), seeds)
    return {
        "slopes": slopes,
        "ratios": RATIOS,
        "ideal": np.array(ideal),
        "methods": np.array(list(METHODS)),
        "dimensions": np.array(dimensions),
        "weights": weights,
        "estimates": np.reshape(estimates, shape),
        "distances": np.reshape(distances, shape),
    }


def train(config: ConfigDict, weights: np.ndarray, updates: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a member per penalty weight: its critic's estimates, averaged over the second half of training, and final W1."""
    count, law = len(weights), gaussian(config.data)
    config.devices = math.gcd(count, len(jax.local_devices()))
    members = make_members(config, law, count)
    hypers = []
    for weight in weights.tolist():
        config.penalty.weight = weight
        hypers.append(make_hyperparameters(config))
    hyper = members.spread(jax.tree.map(lambda *values: np.stack(values), *hypers))
    keys, run_keys = (members.spread(example_keys(jax.random.key(seed), count)) for seed in (0, 1))
    real, no_labels = law.draw(jax.random.key(2), EXAMPLES), jnp.zeros(EXAMPLES, jnp.int32)
    sample = make_sampler(members.networks)

    @jax.jit
    def estimate(states: TrainState) -> jax.Array:
        def one(state: TrainState) -> jax.Array:
            generated = sample(state.generator.variables, jax.random.key(3), no_labels, 0)[1]
            real_score, generated_score = (
                members.networks.score(state.critic.variables, Batch(x, no_labels)) for x in (real, generated)
            )
            return jnp.mean(real_score) - jnp.mean(generated_score)

        return jax.vmap(one)(states)

    states, n, estimates = members.init_state(keys), members.spread(np.full(count, updates // CALLS, np.int32)), []
    for _ in range(CALLS):
        states, *_ = members.run_updates(states, n, hyper, run_keys, members.shard(Feed()))
        estimates.append(np.asarray(estimate(states)))
    samples = np.asarray(jax.jit(jax.vmap(lambda ema: sample(ema, jax.random.key(4), no_labels, 0)[1]))(states.ema))
    return np.mean(estimates[CALLS // 2 :], axis=0), np.array([_distance(law, x) for x in samples])


def _distance(law: Law, x: np.ndarray) -> float:
    """Returns W1 of generated examples [n, D] to the law: to its quantiles in one dimension, else to its examples."""
    if law.quantile is not None:
        return quantile_wasserstein(x[:, 0], law.quantile)
    return empirical_wasserstein(x, np.asarray(law.draw(jax.random.key(5), len(x))))


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns the ideal loss with its optimum, the share of critics of the wrong sign, and every generator's W1."""
    figure = Figure(figsize=(13, 4.9), layout="constrained")
    ideal, share, distance = figure.subplots(1, 3)
    for index, (ratio, losses) in enumerate(zip(arrays["ratios"], arrays["ideal"], strict=True)):
        ideal.plot(arrays["slopes"], losses, color=colour(index), label=f"D / 2 lambda = {ratio:g}")
        if ratio < 1:
            wrong = ratio - 1
            ideal.plot(wrong, np.interp(wrong, arrays["slopes"], losses), MARKERS[index], color=colour(index), markersize=7)
    ideal.set(xlabel="critic's slope s", ylabel="loss / lambda", ylim=(-5, 5))
    ideal.set_title("in one dimension, two-sided: the optima\nof the wrong sign (markers), none from 1 on", fontsize=10)
    ideal.legend(fontsize=8, loc="upper right")
    rank = 0
    for row, method in enumerate(arrays["methods"]):
        for column, dimension in enumerate(arrays["dimensions"]):
            style = {"color": colour(rank), "marker": MARKERS[rank], "linestyle": ("-", "--")[column]}
            estimates, distances = arrays["estimates"][row, column], arrays["distances"][row, column]
            told = f"{method}, {dimension}-D"
            share.plot(arrays["weights"], (estimates < WRONG).mean(axis=1), label=told, **style)
            across = arrays["weights"] * 1.1 ** (rank - 1.5)  # side by side
            distance.plot(np.repeat(across, distances.shape[1]), distances.ravel(), **(style | {"linestyle": "", "alpha": 0.4}))
            distance.plot(across, np.median(distances, axis=1), **(style | {"marker": "_", "markersize": 16, "linestyle": ""}))
            rank += 1
    share.set(ylabel=f"share of critics of the wrong sign: estimate < {WRONG:g}", ylim=(-0.03, 1.03))
    share.set_title(f"trained, {arrays['estimates'].shape[-1]} seeds: second half of training", fontsize=10)
    distance.plot(arrays["weights"], 2 * arrays["weights"], ":", color="0.3", label="2 lambda: no barrier above")
    distance.legend(fontsize=8, loc="upper left")
    distance.set(ylabel="W1 of the generator at the end", yscale="log", ylim=(0.06, 30))
    distance.set_title("every seed, and medians", fontsize=10)
    for panel in (share, distance):
        panel.set(xscale="log", xlabel="lambda")
        panel.set_xticks(arrays["weights"], [f"{weight:g}" for weight in arrays["weights"]])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(PLAIN)
    for panel in (ideal, share, distance):
        panel.grid(alpha=0.3)
    legend_below(figure, share.get_legend_handles_labels()[0])
    return figure
