"""The critic as a measure: critics trained between two fixed sets of examples, and what they say of the distance."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.stats import t as student

from wgan_jax.batching import example_keys
from wgan_jax.data.dataset import decode, flatten
from wgan_jax.errors import NonFiniteError
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.evaluation.transport import empirical_wasserstein
from wgan_jax.models import Networks, build_networks, param_dtype
from wgan_jax.objectives import make_objective
from wgan_jax.training.update import make_hyperparameters, make_steps
from wgan_jax.types import Batch, Hyperparameters, Params, TrainState

UNITLESS = ("lipschitz_q99", "wasserstein_excess")  # the other values are lengths


class Halves(NamedTuple):
    """One side of a seed: what its critic is fitted to, and what it is judged on."""

    fitted: np.ndarray  # [n, *shape] in the critic's units
    heldout: np.ndarray  # [n, *shape]


def make_fit(config: ConfigDict, shape: tuple[int, ...]) -> tuple[Networks, Callable[..., Params]]:
    """Returns the networks of a config and fit(keys [S], real, generated, rows, generated_rows) -> critic variables [S, ...].

    real [N, *shape] and generated [M, *shape] are uint8 pixels or points. The critic of key s is trained for config.steps
    blocks of n_critic updates on real[rows[s]] and generated[generated_rows[s]], drawn with replacement, and sees nothing else.
    One compiled call fits one critic after the other: side by side, convolutions would lose their fast kernels on a CPU.
    """
    config = config.copy_and_resolve_references()
    config.latent.update({"name": "uniform", "dim": 1, "low": 0.0, "high": 1.0})
    networks, dtype = build_networks(config, shape), param_dtype(config)

    def units(x: jax.Array) -> jax.Array:
        return decode(x, dtype) if x.dtype == jnp.uint8 else x.astype(dtype)

    def fit_critic(
        hyper: Hyperparameters,
        key: jax.Array,
        real: jax.Array,
        generated: jax.Array,
        rows: jax.Array,
        generated_rows: jax.Array,
    ) -> Params:
        def generator(params: Params, model_state: Params, latent: jax.Array, label: jax.Array) -> tuple[jax.Array, Params]:
            """The generated examples as a generator: u in [0, 1) to the row floor(n u)."""
            del params, label
            row = (latent[:, 0] * len(generated_rows)).astype(jnp.int32)
            return units(generated[generated_rows[row]]), model_state

        fixed = networks._replace(init_generator=lambda key: {"params": {}}, generator=generator)
        steps = make_steps(config, fixed, make_objective(config, fixed.generator, fixed.critic, fixed.penalty_critic))

        def block(state: TrainState, key: jax.Array) -> tuple[TrainState, None]:
            key_rows, key_phase = jax.random.split(key)
            row = jax.random.randint(key_rows, (config.n_critic, config.batch_size), 0, len(rows))
            batches = Batch(units(real[rows[row]]), jnp.zeros(row.shape, jnp.int32))
            state, _ = steps.critic_phase(state, batches, key_phase, hyper, measure=False)
            return state.replace(step=state.step + jnp.int32(1)), None

        key_init, key_run = jax.random.split(key)
        state, _ = jax.lax.scan(block, steps.init_state(key_init), jax.random.split(key_run, config.steps))
        return {"params": state.critic.params, **state.critic.model_state}

    @jax.jit
    def fit_critics(
        hyper: Hyperparameters,
        keys: jax.Array,
        real: jax.Array,
        generated: jax.Array,
        rows: jax.Array,
        generated_rows: jax.Array,
    ) -> Params:
        seeds = (keys, rows, generated_rows)
        return jax.lax.map(lambda s: fit_critic(hyper, s[0], real, generated, *s[1:]), seeds)

    def fit(*arguments: Any) -> Params:
        variables = jax.device_get(fit_critics(make_hyperparameters(config), *arguments))
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
            raise NonFiniteError("a critic became non-finite; lower config.critic.learning_rate")
        return variables

    return networks, fit


def standardise(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns points [n, D] and [m, D] about their common mean in units of their spread, and the spread.

    The spread is the root of their mean squared distance from that mean. A penalty's weight is a length: in these units W1 is
    hardly above 2, so that the ideal estimate W (1 + W / (2 lambda)) of a penalised critic means the same for all points.
    """
    pooled = np.concatenate([real, generated]).astype(np.float64)
    mean = pooled.mean(axis=0)
    spread = math.sqrt(np.square(pooled - mean).sum(axis=1).mean()) or 1.0
    return ((real - mean) / spread).astype(np.float32), ((generated - mean) / spread).astype(np.float32), spread


def critic_values(
    statistics: Callable[..., dict[str, float]], variables: Params, real: Halves, generated: Halves
) -> dict[str, float]:
    """Returns a critic's CRITIC_VALUES; estimate_train is of the fitted examples on both sides, the others of the held-out."""
    values = statistics(variables, real.fitted, real.heldout, generated.heldout)
    return values | {"estimate_train": statistics(variables, real.fitted, real.fitted, generated.fitted)["estimate_train"]}


def empirical_values(real: Halves, generated: Halves) -> dict[str, float]:
    """Returns empirical W1 between the held-out examples, its floor, and the excess, as METRICS have them; NaN at floor 0."""
    real, generated = (Halves(*(flatten(x) for x in side)) for side in (real, generated))
    distance, floor = empirical_wasserstein(generated.heldout, real.heldout), empirical_wasserstein(real.heldout, real.fitted)
    own = empirical_wasserstein(generated.heldout, generated.fitted)
    excess = (distance - own / 2 - floor / 2) / floor if floor else math.nan
    return {"wasserstein_empirical": distance, "wasserstein_floor": floor, "wasserstein_excess": excess}


def measure(config: ConfigDict, real: np.ndarray, generated: np.ndarray, seeds: int) -> list[dict[str, float]]:
    """Returns what the critics of `seeds` seeds say of the distance between two sets, beside empirical W1; a dict per seed.

    real [N, H, W, C] and generated [M, H, W, C] are uint8 images, measured in [-1, 1], or points [N, D] and [M, D], in their
    own units. Each seed has its own halves of both sides, its own network and its own batches: a critic is trained on one half
    and judged on config.eval.samples of the other. All halves are of the same examples: the spread over seeds says how far
    fitting and splitting move a value, not how far another draw of the examples would.

    Raises:
      NonFiniteError: a critic became non-finite.
    """
    networks, fit = make_fit(config, real.shape[1:])
    images, scale = real.ndim == 4, 1.0
    if not images:
        real, generated, scale = standardise(real, generated)
    rows, generated_rows = (_halves((config.seed, side), seeds, len(x)) for side, x in enumerate((real, generated)))
    keys = example_keys(jax.random.key(config.seed), seeds)
    variables = fit(keys, real, generated, rows[:, 0], generated_rows[:, 0])
    n = heldout_size(config, real, generated)
    statistics = make_critic_statistics(networks.score)

    def judged(x: np.ndarray, rows: np.ndarray) -> Halves:
        chosen = x[rows[:, :n]]
        return Halves(*(decode(chosen) if images else chosen))

    results = []
    for seed in range(seeds):
        critic = jax.tree.map(lambda leaf, s=seed: leaf[s], variables)
        sides = judged(real, rows[seed]), judged(generated, generated_rows[seed])
        values = critic_values(statistics, critic, *sides) | empirical_values(*sides)
        results.append(in_units(values, scale))
    return results


def heldout_size(config: ConfigDict, real: np.ndarray, generated: np.ndarray) -> int:
    """Returns n, the number of held-out examples of each side that `measure` judges a critic on."""
    return min(config.eval.samples, len(real) // 2, len(generated) // 2)


def in_units(values: dict[str, float], scale: float) -> dict[str, float]:
    """Returns the values of points that were measured in units of `scale` in the points' own units."""
    return {name: value if name in UNITLESS else value * scale for name, value in values.items()}


def _halves(key: tuple[int, ...], seeds: int, count: int) -> np.ndarray:
    """Returns rows [seeds, 2, count // 2]: those that a critic is fitted to, and those that it is judged on."""
    half = count // 2
    orders = [np.random.default_rng((*key, seed)).permutation(count) for seed in range(seeds)]
    return np.stack([order[: 2 * half].reshape(2, half) for order in orders])


def t_interval(values: list[float]) -> tuple[float, float]:
    """Returns the mean of values and half the width of its 95 % t-interval; NaN of one value."""
    n = len(values)
    half = student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return float(np.mean(values)), float(half)
