"""How steep trained critics are: the gradient's norm on real, on generated examples and between, by what bounds it.

Between real 8x8 digits and a Gaussian with their mean and covariance; the critic is a convolution and a dense layer, so that
the norm of a reshaped kernel (Miyato 2018) and that of the layer as an operator differ. Beside each: the held-out estimate
over the empirical W1 of the same examples. Clip: Arjovsky 2017; GP: Gulrajani 2017; LP: Petzka 2017; GroupSort: Anil 2019.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import sngan, wgan, wgan_gp, wgan_groupsort, wgan_lp
from wgan_jax.batching import example_keys
from wgan_jax.data import digits
from wgan_jax.data.dataset import from_pixels
from wgan_jax.distance import make_fit
from wgan_jax.metrics.transport import empirical_wasserstein
from wgan_jax.report.drawing import BLUE, GREEN, ORANGE
from wgan_jax.types import Batch, Networks, Params

METHODS = {
    "none": (wgan_gp, {"penalty.name": "none"}),
    "clipped at .05": (wgan, {}),
    "two-sided (GP)": (wgan_gp, {}),
    "one-sided (LP)": (wgan_lp, {}),
    "SN of kernels": (sngan, {"loss": "wasserstein"}),
    "SN of operators": (sngan, {"loss": "wasserstein", "model.critic_kernel": "spectral_operator"}),
    "GroupSort": (wgan_groupsort, {}),
}
SETTINGS = {
    "model.name": "dcgan",
    "model.width": 16,
    "batch_size": 64,
    "n_critic": 5,
    "critic.optimizer": "adam",
    "critic.beta1": 0.5,
    "critic.beta2": 0.9,
    "critic.learning_rate": 2e-3,
}
SIDES = ("real", "between", "generated")
COLOURS = (BLUE, GREEN, ORANGE)
LEVELS = (0.01, 0.25, 0.5, 0.75, 0.99)  # quantiles that are shown


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns gradient norms [method, seed, side, n] of held-out examples, and held-out estimates over W1 [method, seed]."""
    updates, count = (20, 1) if quick else (120, 2)
    data = digits.load(wgan_gp.get_config("digits").data)
    fitted, heldout = from_pixels(data.train.images), from_pixels(np.concatenate([data.validation.images, data.test.images]))
    rng, flat = np.random.default_rng(0), fitted.reshape(len(fitted), -1)
    drawn = rng.multivariate_normal(flat.mean(0), np.cov(flat.T), len(fitted) + len(heldout), method="svd").astype(np.float32)
    generated = np.clip(drawn, -1, 1).reshape(-1, *data.shape)
    judged = generated[len(fitted) :]
    share = rng.random((len(heldout), 1, 1, 1)).astype(np.float32)
    sides = np.stack([heldout, share * heldout + (1 - share) * judged, judged])
    distance = empirical_wasserstein(*(x.reshape(len(x), -1) for x in (heldout, judged)))
    rows = np.tile(np.arange(len(fitted)), (count, 1))
    names = ["none", "SN of kernels", "SN of operators"] if quick else list(METHODS)
    norms, shares = [], []
    for method, changes in map(METHODS.__getitem__, names):
        config: ConfigDict = method.get_config("digits")
        config.update_from_flattened_dict({**SETTINGS, **changes, "steps": updates, "decay_steps": updates})
        networks, fit = make_fit(config, data.shape)
        variables = fit(example_keys(jax.random.key(0), count), fitted, generated[: len(fitted)], rows, rows)
        found = [judge(networks, jax.tree.map(lambda leaf, s=seed: leaf[s], variables), sides) for seed in range(count)]
        norms.append([own for own, _ in found])
        shares.append([estimate / distance for _, estimate in found])
    return {
        "methods": np.array(names),
        "sides": np.array(SIDES),
        "norms": np.array(norms),
        "share": np.array(shares),
        "wasserstein": np.array(distance),
    }


def judge(networks: Networks, critic: Params, sides: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns |d score / dx| [side, n] of examples [side, n, H, W, C], and the critic's estimate between the outer two."""

    def scores(x: jax.Array) -> jax.Array:
        return networks.score(critic, Batch(x, jnp.zeros(len(x), jnp.int32)))

    flat = sides.reshape(-1, *sides.shape[2:])
    values, pull = jax.vjp(jax.jit(scores), jnp.asarray(flat))
    norms = np.sqrt(np.square(np.asarray(pull(jnp.ones_like(values))[0])).sum(axis=(1, 2, 3)))
    on_real, _, on_generated = np.asarray(values).reshape(len(sides), -1).mean(axis=1)
    return norms.reshape(len(sides), -1), float(on_real - on_generated)


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns boxes of the norms, three per method, from the first to the 99th percentile over all seeds."""
    methods, norms = arrays["methods"], arrays["norms"]
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    for side, name in enumerate(arrays["sides"]):
        stats = []
        for own in norms:
            low, lower, middle, upper, high = np.quantile(own[:, side], LEVELS)
            stats.append({"med": middle, "q1": lower, "q3": upper, "whislo": low, "whishi": high, "fliers": []})
        places = np.arange(len(methods)) + 0.26 * (side - 1)
        boxes = axes.bxp(stats, places, widths=0.22, showfliers=False, patch_artist=True, medianprops={"color": "black"})
        for box in boxes["boxes"]:
            box.set_facecolor(COLOURS[side])
        axes.plot([], [], "s", color=COLOURS[side], markersize=9, label=str(name))
    axes.axhline(1, color="0.3", linestyle=":", label="slope 1")
    told = [f"{method}\n{share:.2f} W1" for method, share in zip(methods, arrays["share"].mean(axis=1), strict=True)]
    axes.set_xticks(range(len(methods)), told, fontsize=9)
    axes.set(yscale="log", ylabel="norm of the critic's gradient by its input")
    axes.set_title("boxes hold half of the examples, whiskers 98 %; below each method: its held-out estimate", fontsize=10)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=9, ncols=4, loc="upper right")
    return figure
