"""Gradients that explode or vanish through a deep clipped critic, and where clipping leaves its weights.

Gulrajani 2017, figure 1: generator and critic are MLPs of 12 ReLU layers without normalisation, trained on the Swiss roll with
c = .1, .01, .001 and with the gradient penalty. Width 128 in place of the paper's 512.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import wgan, wgan_gp
from wgan_jax.data.source import Feed
from wgan_jax.data.synthetic import swiss_roll
from wgan_jax.report.drawing import MARKERS, colour
from wgan_jax.training.program import make_program
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch, Networks, Params

CLIPS = (0.1, 0.01, 0.001)
DEPTH = 12
SETTINGS = {"model.depth": DEPTH, "model.width": 128, "batch_size": 64, "decay_steps": 0, "devices": 1}
EXAMPLES = 256  # whose gradients are averaged
BINS = 41


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns the mean norm of d score / d pre-activation [setting, layer], and histograms of the weights [setting, bin].

    Layers are in the order of the data; bins divide [-bound, bound], where the bound is c, or holds 99.9 % of the weights.
    """
    norms, bounds, shares = [], [], []
    for method, clips in ((wgan, CLIPS), (wgan_gp, (0.0,))):
        config = method.get_config("swiss_roll")
        config.update_from_flattened_dict(SETTINGS)
        x = swiss_roll(config.data).draw(jax.random.key(2), EXAMPLES)
        for networks, variables in trained(config, clips, 60 if quick else 600):
            norms.append(layer_norms(networks, variables, x))
            weights = np.concatenate([np.ravel(leaf) for path, leaf in by_layer(variables["params"]) if path[-1] == "kernel"])
            bounds.append(config.clip or float(np.quantile(np.abs(weights), 0.999)))
            shares.append(np.histogram(weights, BINS, (-1.0001 * bounds[-1], 1.0001 * bounds[-1]))[0] / len(weights))
    return {
        "settings": np.array([*(f"c = {clip:g}" for clip in CLIPS), "gradient penalty"]),
        "norms": np.array(norms),
        "bounds": np.array(bounds),
        "weights": np.array(shares),
    }


def trained(config: ConfigDict, clips: Sequence[float], updates: int) -> Iterator[tuple[Networks, Params]]:
    """Yields the networks and the trained critic's variables at each c, an argument of one program; sets config.clip."""
    config.clip = clips[0]  # above 0 or not: that is the program's
    program = make_program(config, swiss_roll(config.data))
    n, key = program.place((np.int32(updates), jax.random.key(1)))
    for clip in clips:
        config.clip = clip
        state, hyper = program.init_state(jax.random.key(0)), program.place(make_hyperparameters(config))
        state, *_ = program.run_updates(state, n, hyper, key, program.shard(Feed()))
        yield program.networks, state.critic.variables


def by_layer(params: Params) -> list[tuple[tuple[str, ...], jax.Array]]:
    """Returns (path, parameter) of an MLP in the order of its layers: hidden ones are a module of their own."""
    return sorted(flatten_dict(params).items(), key=lambda item: (-len(item[0]), int(item[0][-2].rsplit("_", 1)[1])))


def layer_norms(networks: Networks, variables: Params, x: jax.Array) -> list[float]:
    """Returns the mean over examples x [n, 2] of |d score / d pre-activation|, [layer]: that by an example's own biases."""
    gradients = bias_gradients(networks, variables["params"], x)
    paths = [path for path, _ in by_layer(variables["params"]) if path[-1] == "bias"]
    return [np.linalg.norm(np.asarray(gradients[path], np.float64), axis=1).mean() for path in paths]  # squares underflow


@functools.partial(jax.jit, static_argnums=0)
def bias_gradients(networks: Networks, params: Params, x: jax.Array) -> dict[tuple[str, ...], jax.Array]:
    """Returns the gradients of each example's score by the biases, {path: [n, units]}."""
    flat = flatten_dict(params)
    biases = {path: leaf for path, leaf in flat.items() if path[-1] == "bias"}

    def score(biases: Params, x: jax.Array) -> jax.Array:
        return networks.score({"params": unflatten_dict(flat | biases)}, Batch(x[None], jnp.zeros(1, jnp.int32)))[0]

    return jax.vmap(jax.grad(score), in_axes=(None, 0))(biases, x)


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns the norms by layer, and the weights' histograms."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=[1.1, 1]))
    axes = left.subplots()
    for index, (name, norms) in enumerate(zip(arrays["settings"], arrays["norms"], strict=True)):
        axes.plot(np.arange(1, len(norms) + 1), norms, f"{MARKERS[index]}-", color=colour(index), label=name, markersize=5)
    axes.set(xlabel="critic's layer (13: the score)", ylabel="mean norm of d score / d pre-activation", yscale="log")
    axes.set_xticks(range(1, arrays["norms"].shape[1] + 1, 2))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    panels = right.subplots(2, 2)
    for index, panel in enumerate(panels.ravel()):
        bound, shares = arrays["bounds"][index], arrays["weights"][index]
        edges = np.linspace(-bound, bound, len(shares) + 1)
        panel.stairs(100 * shares, edges, fill=True, color=colour(index))
        panel.set_title(arrays["settings"][index], fontsize=10)
        panel.set_xticks([-bound, 0, bound], [f"{-bound:.2g}", "0", f"{bound:.2g}"])
        panel.set_ylim(0)
    for panel in panels[:, 0]:
        panel.set_ylabel("% of the weights")
    for panel in panels[1]:
        panel.set_xlabel("weight")
    return figure
