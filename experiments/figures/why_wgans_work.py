"""A generator that minimises empirical W1 exactly is not a better one: WGANs work without the Wasserstein distance.

Stanczuk 2021, "Wasserstein GANs Work Because They Fail", and Mallasto 2019, "How Well Do WGANs Estimate the Wasserstein
Metric?", on 8x8 digits. First reference generators: a few k-means centroids lie nearer to held-out digits, in empirical W1,
than real digits do. Then two generators of one network: WGAN-GP's, and one that descends the exact W1 of each batch, whose
potentials are each other's c-transforms (by the optimal assignment). The second has the lower W1, and averages of digits.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import wgan_gp
from experiments.figures.members import QUICK, one, seeds, train
from wgan_jax.data import digits
from wgan_jax.data.dataset import Stored, to_pixels
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.evaluation.sheets import image_grid
from wgan_jax.models import build_networks, make_sampler
from wgan_jax.report.drawing import MARKERS, colour
from wgan_jax.types import Networks, Params

VALUES = ("wasserstein_ratio", "wasserstein_excess", "precision", "recall")
BATCHES = (64, 256)  # of the exact W1
SHOWN = 36  # samples


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns VALUES of every generator [generator, draw or seed, value], and samples [shown, n, H, W] as uint8."""
    from wgan_jax.evaluation.references import GENERATORS  # k-means takes a second to import

    updates, count = (60, 1) if quick else (1200, 2)
    config = wgan_gp.get_config("digits")
    changes = {"model.width": 128, "steps": updates, "decay_steps": updates, "eval.metrics": "wasserstein,precision_recall"}
    config.update_from_flattened_dict(changes | (QUICK if quick else {}))
    data = digits.load(config.data)
    evaluator = make_evaluator(config, data, build_networks(config, data.shape))
    rows = {"real digits": [evaluator.of_real("test", draw) for draw in range(count)]}
    for name, (generate, _) in GENERATORS.items():
        if name != "training images, copied":
            rows[name] = [evaluator.of_examples(_examples(data, generate, draw), "test", draw) for draw in range(count)]
    (moment,) = train(config, data, seeds(count), [updates])
    networks, shown = moment.networks, {}
    trained: dict[str, list[Params]] = {"WGAN-GP": [one(moment.states.ema, seed) for seed in range(count)]}
    for batch in BATCHES[:1] if quick else BATCHES:
        told = f"exact W1 of {batch}"
        trained[told] = [descend_exactly(config, networks, data, batch, seed) for seed in range(count)]
    sample = make_sampler(networks)
    for name, variables in trained.items():
        rows[name] = [
            evaluator.of_examples(_drawn(data, sample, own, draw), "test", draw) for draw, own in enumerate(variables)
        ]
        images = sample(variables[0], jax.random.key(7), jnp.zeros(SHOWN, jnp.int32), 0)[1]
        shown[name] = to_pixels(images)[..., 0]
    return {
        "methods": np.array(list(rows)),
        "names": np.array(VALUES),
        "values": np.array([[[draw[value] for value in VALUES] for draw in draws] for draws in rows.values()]),
        "settings": np.array(list(shown)),
        "samples": np.array(list(shown.values())),
    }


def _examples(data: Stored, generate: Callable, draw: int) -> Callable[[int], np.ndarray]:
    return lambda n: data.encode(generate(data, np.random.default_rng(draw), n).reshape(-1, *data.shape))


def _drawn(data: Stored, sample: Callable, variables: Params, draw: int) -> Callable[[int], np.ndarray]:
    return lambda n: data.encode(sample(variables, jax.random.key(50 + draw), jnp.zeros(n, jnp.int32), 0)[1])


def descend_exactly(config: ConfigDict, networks: Networks, data: Stored, batch: int, seed: int) -> Params:
    """Returns a generator after config.steps updates down the exact W1 between batches, with the optimizer of config."""
    images, labels = data.decode(data.train.images), jnp.zeros(batch, jnp.int32)
    rate = optax.linear_schedule(config.generator.learning_rate, 0.0, config.steps)
    optimizer = optax.adam(rate, config.generator.beta1, config.generator.beta2)
    variables = networks.init_generator(jax.random.key(seed))
    state, rng = optimizer.init(variables), np.random.default_rng(seed)

    @jax.jit
    def generate(variables: Params, key: jax.Array) -> jax.Array:
        return networks.generate(variables, networks.latents(jax.random.split(key, batch), labels))

    @jax.jit
    def step(variables: Params, state: Params, key: jax.Array, nearest: jax.Array) -> tuple[Params, Params]:
        def cost(variables: Params) -> jax.Array:
            return jnp.mean(jnp.linalg.norm((generate(variables, key) - nearest).reshape(batch, -1), axis=1))

        updates, state = optimizer.update(jax.grad(cost)(variables), state, variables)
        return optax.apply_updates(variables, updates), state

    for index in range(config.steps):
        key = jax.random.fold_in(jax.random.key(seed + 100), index)
        real = images[rng.choice(len(images), batch, replace=False)]
        x, y = (np.asarray(side).reshape(batch, -1) for side in (generate(variables, key), real))
        _, assigned = scipy.optimize.linear_sum_assignment(scipy.spatial.distance.cdist(x, y))
        variables, state = step(variables, state, key, real[assigned])
    return variables


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns every generator's ratio against its excess, precision and recall, and samples of the trained ones."""
    methods, values, names = arrays["methods"], arrays["values"], list(arrays["names"])
    figure = Figure(figsize=(10.5, 5.8), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[1.8, 1]))
    panels = upper.subplots(1, 3)
    for axes, value, told in zip(
        panels,
        names[1:],
        ("excess (lower is better)", "precision (higher is better)", "recall (higher is better)"),
        strict=True,
    ):
        for index, method in enumerate(methods):
            x, y = values[index, :, 0], values[index, :, names.index(value)]
            axes.plot(x, y, MARKERS[index % len(MARKERS)], color=colour(index), markersize=8, alpha=0.8, label=str(method))
        axes.axvline(values[0, :, 0].mean(), color="0.4", linestyle=":", linewidth=1)
        axes.set(xlabel="ratio: W1 / W1 of training digits", ylabel=told)
        axes.grid(alpha=0.3)
    upper.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    grids = lower.subplots(1, len(arrays["settings"]))
    for axes, name, images in zip(grids, arrays["settings"], arrays["samples"], strict=True):
        axes.imshow(image_grid(images[..., None] / 127.5 - 1, 9).convert("L"), cmap="gray", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        ratio = values[list(methods).index(name), :, 0].mean()
        axes.set_title(f"{name}: ratio {ratio:.3f}", fontsize=10)
    return figure
