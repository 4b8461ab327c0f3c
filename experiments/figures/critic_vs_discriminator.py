"""The generator's gradient between two Gaussians that part, from a discriminator and from a critic, closed form and trained.

Arjovsky 2017, figure 2: the discriminator saturates, the critic stays linear. Real is N(0, 1), generated N(shift, 1); the
optimal logit is log p_r / p_g = shift^2 / 2 - shift x, the critic's slope is -1. Trained ones are MLPs: the discriminator of
configs/gan.py, and the one-sided critic of configs/wgan_lp.py, whose ideal slope is 1 + shift / (2 lambda), lambda 10.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import norm

from configs import gan, wgan_lp
from wgan_jax.batching import example_keys
from wgan_jax.distance import make_fit
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.report.drawing import BLUE, GREEN, ORANGE
from wgan_jax.types import Batch, Networks, Params

type Curve = Callable[[jax.Array], jax.Array]  # x [n] -> score [n]

SHIFTS = np.array([1.0, 3.0, 6.0, 10.0])  # that critics are trained at
SHOWN = 2  # the shift of the left panel
LOSS = {"minimax": (gan, ORANGE, "s"), "non_saturating": (gan, GREEN, "^"), "wasserstein": (wgan_lp, BLUE, "o")}
SETTINGS = {"steps": 400, "decay_steps": 400, "batch_size": 256, "model.width": 64, "critic.learning_rate": 2e-3}
EXAMPLES = 4096  # of a side, at each shift


def optimum(loss: str, shift: float) -> Curve:
    """Returns the best discriminator's logit, or the best critic, of N(0, 1) against N(shift, 1)."""
    return (lambda x: -x) if loss == "wasserstein" else lambda x: shift**2 / 2 - shift * x


def mean_gradient(loss: str, shift: float, score: Curve) -> float:
    """Returns the mean over N(shift, 1) of |d loss(score(x)) / dx|, on a grid: a sample would miss what is rare and large."""
    x = np.linspace(shift / 2 - 9, shift + 9, 4001)
    at_real = jnp.zeros(len(x))  # which no loss of the generator here reads
    gradient = jax.grad(lambda x: jnp.sum(LOSSES[loss].generator(at_real, score(x))))(jnp.asarray(x))
    return float((np.abs(gradient) * norm.pdf(x, shift)).sum() * (x[1] - x[0]))


def trained(loss: str, quick: bool) -> list[Curve]:
    """Returns the score of a discriminator or a critic trained at each of SHIFTS."""
    config = LOSS[loss][0].get_config("gaussian")
    config.update_from_flattened_dict(SETTINGS | ({"steps": 100, "decay_steps": 100} if quick else {}))
    networks, fit = make_fit(config, (1,))
    noise = np.random.default_rng(0).normal(size=(2, len(SHIFTS), EXAMPLES, 1)).astype(np.float32)
    real, generated = noise[0].reshape(-1, 1), (noise[1] + SHIFTS[:, None, None]).astype(np.float32).reshape(-1, 1)
    rows = np.arange(len(real)).reshape(len(SHIFTS), -1)
    variables = fit(example_keys(jax.random.key(0), len(SHIFTS)), real, generated, rows, rows)
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], variables) for i in range(len(SHIFTS))]
    return [functools.partial(_score, networks, own) for own in each]


def _score(networks: Networks, variables: Params, x: jax.Array) -> jax.Array:
    return networks.score(variables, Batch(x[:, None], jnp.zeros(len(x), jnp.int32)))


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns the mean size of the generator's gradient [loss, shift], in closed form over shifts, and trained at some."""
    shifts, x = np.concatenate([SHIFTS, np.linspace(0.25, 10, 40)]), np.linspace(-4, SHIFTS[SHOWN] + 4, 101)
    shifts.sort()
    scores = {loss: trained(loss, quick) for loss in ("minimax", "wasserstein")}
    scores["non_saturating"] = scores["minimax"]  # only the generator's losses differ
    learned = [[mean_gradient(loss, *at) for at in zip(SHIFTS, scores[loss], strict=True)] for loss in LOSS]
    return {
        "losses": np.array(list(LOSS)),
        "shifts": shifts,
        "optimal": np.array([[mean_gradient(loss, shift, optimum(loss, shift)) for shift in shifts] for loss in LOSS]),
        "trained_shifts": SHIFTS,
        "optimal_there": np.array([[mean_gradient(loss, shift, optimum(loss, shift)) for shift in SHIFTS] for loss in LOSS]),
        "trained": np.array(learned),
        "x": x,
        "discriminator": np.asarray(jax.nn.sigmoid(scores["minimax"][SHOWN](jnp.asarray(x)))),
        "critic": np.asarray(scores["wasserstein"][SHOWN](jnp.asarray(x))),
    }


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns both laws with discriminator and critic at one shift, and the gradients' sizes over shifts."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    x, shift = arrays["x"], float(arrays["trained_shifts"][SHOWN])
    left.fill_between(x, norm.pdf(x), color="0.7", label="real, N(0, 1)")
    left.fill_between(x, norm.pdf(x, shift), color="0.9", label=f"generated, N({shift:g}, 1)")
    logit = np.asarray(optimum("minimax", shift)(jnp.asarray(x)))
    left.plot(x, 1 / (1 + np.exp(-logit)), color=ORANGE, label="best discriminator")
    left.plot(x, arrays["discriminator"], ":", color=ORANGE, linewidth=2.5, label="trained discriminator")
    twin = left.twinx()
    twin.plot(x, shift / 2 - x, color=BLUE, label="best critic (right)")
    twin.plot(x, arrays["critic"] - np.interp(shift / 2, x, arrays["critic"]), ":", color=BLUE, linewidth=2.5)
    twin.plot([], [], ":", color=BLUE, linewidth=2.5, label="trained critic (right)")
    twin.set_ylabel("critic's score (0 in the middle)", color=BLUE)
    left.set(xlabel="x", ylabel="density; discriminator's probability", ylim=(0, 1.05))
    left.set_title(f"shift {shift:g}", fontsize=10)
    handles = [*left.get_legend_handles_labels()[0], *twin.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    for row, (loss, (_, color, marker)) in enumerate(LOSS.items()):
        right.plot(arrays["shifts"], arrays["optimal"][row], color=color, label=f"{loss.replace('_', ' ')}, best")
        right.plot(arrays["trained_shifts"], arrays["trained"][row], marker, color=color, label="the same, trained")
    right.set(xlabel="shift", ylabel="mean size of the generator's gradient", yscale="log", ylim=(1e-7, 30))
    right.grid(alpha=0.3)
    right.set_title("what reaches the generator", fontsize=10)
    right.legend(fontsize=9, loc="lower left")
    return figure
