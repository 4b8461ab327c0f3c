"""Level sets of critics trained to the end between toy data and the same with noise, clipped or with the gradient penalty.

Gulrajani 2017, figure 1: the generator is held at real data plus N(0, 1), and clipped critics miss the data's higher moments.
Beside each: the held-out estimate over the 99 % quantile of the critic's slope, as a share of the empirical W1.
"""

import jax
import numpy as np
from matplotlib.figure import Figure

from configs import wgan, wgan_gp
from wgan_jax.batching import example_keys
from wgan_jax.data.synthetic import grid25, ring8, swiss_roll
from wgan_jax.distance import make_fit
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.metrics.transport import empirical_wasserstein
from wgan_jax.report.drawing import VERMILLION
from wgan_jax.types import Batch

LAWS = {"ring8": ring8, "grid25": grid25, "swiss_roll": swiss_roll}
METHODS = {"weight clipping": wgan, "gradient penalty": wgan_gp}
HALF = 2.2  # of the square that is shown
SETTINGS = {"model.width": 128, "batch_size": 256, "n_critic": 5, "decay_steps": 0, "clip_scope": "all"}


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns scores [method, law, y, x] on a square, points [law, n, 2], empirical W1 [law] and shares of it [method, law]."""
    points, shown, side = (500, 200, 40) if quick else (20_000, 500, 80)
    judged = min(points, 2000)
    at = np.linspace(-HALF, HALF, side)
    plane = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2).astype(np.float32)
    data = wgan_gp.get_config("swiss_roll").data
    real = np.stack([np.asarray(law(data).draw(jax.random.key(1), 2 * points)) for law in LAWS.values()])
    generated = real[:, ::-1] + np.random.default_rng(0).normal(size=real.shape).astype(np.float32)  # of other examples
    distances = [empirical_wasserstein(x[:judged], y[:judged]) for x, y in zip(real, generated, strict=True)]
    rows = np.arange(len(LAWS))[:, None] * 2 * points + np.arange(points, 2 * points)  # the first half is held out
    surfaces, shares = [], []
    for method in METHODS.values():
        config = method.get_config("swiss_roll")
        config.update_from_flattened_dict(SETTINGS | {"steps": 60 if quick else 600})
        networks, fit = make_fit(config, (2,))
        keys = example_keys(jax.random.key(0), len(LAWS))
        fitted = fit(keys, real.reshape(-1, 2), generated.reshape(-1, 2), rows, rows)
        statistics, score = make_critic_statistics(networks.score), jax.jit(networks.score)
        for index in range(len(LAWS)):
            critic = jax.tree.map(lambda leaf, i=index: leaf[i], fitted)
            sides = (real[index, -judged:], real[index, :judged], generated[index, :judged])
            told = statistics(critic, *map(unlabelled, sides))
            shares.append(told["estimate_normalised"] / distances[index])
            surfaces.append(np.asarray(score(critic, unlabelled(plane))).reshape(side, side))
    shape = (len(METHODS), len(LAWS))
    return {
        "methods": np.array(list(METHODS)),
        "laws": np.array(list(LAWS)),
        "at": at,
        "scores": np.reshape(surfaces, (*shape, side, side)),
        "real": real[:, :shown],
        "wasserstein": np.array(distances),
        "share": np.reshape(shares, shape),
    }


def unlabelled(x: np.ndarray) -> Batch:
    """Returns examples of laws, which have no labels."""
    return Batch(x, np.zeros(len(x), np.int32))


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns level sets over the real points, a row per method and a column per law."""
    methods, laws = arrays["methods"], arrays["laws"]
    figure = Figure(figsize=(3.5 * len(laws) + 0.6, 3.7 * len(methods) + 0.2), layout="constrained")
    panels = figure.subplots(len(methods), len(laws), sharex=True, sharey=True)
    for row, method in enumerate(methods):
        for column, law in enumerate(laws):
            axes, values = panels[row, column], arrays["scores"][row, column]
            axes.contourf(arrays["at"], arrays["at"], values, 16, cmap="Blues", alpha=0.7)
            axes.contour(arrays["at"], arrays["at"], values, 16, colors="0.25", linewidths=0.5, linestyles="solid")
            axes.plot(*arrays["real"][column].T, ".", color=VERMILLION, markersize=2.5, alpha=0.7)
            told = f"{100 * arrays['share'][row, column]:.0f} % of W1 = {arrays['wasserstein'][column]:.2f}"
            axes.set_title(f"{law.replace('_', ' ')}: {told}", fontsize=10)
            axes.set(aspect="equal", xlim=(-HALF, HALF), ylim=(-HALF, HALF))
        panels[row, 0].set_ylabel(f"{method}\n\nx2 (data units)")
    for axes in panels[-1]:
        axes.set_xlabel("x1 (data units)")
    figure.suptitle("critics' level sets, darker is higher; real points red, generated ones are real + N(0, 1)", fontsize=10)
    return figure
