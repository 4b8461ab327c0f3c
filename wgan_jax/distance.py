"""The critic as a measure: critics trained between two fixed sets of examples, and what they say of the distance."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.stats import t as student

from wgan_jax.batching import example_keys, in_chunks
from wgan_jax.data.dataset import flatten, from_pixels
from wgan_jax.errors import NonFiniteError, UserError
from wgan_jax.evaluation.critic import POINT_VALUES, Score, make_critic_statistics
from wgan_jax.metrics.transport import empirical_wasserstein, wasserstein_excess
from wgan_jax.models import param_dtype
from wgan_jax.sizes import check_bytes, check_pairs
from wgan_jax.training.budget import check_fits
from wgan_jax.training.program import make_parts
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Array, Batch, Hyperparameters, Networks, Params, TrainState

LARGEST = 1e300  # spread of points, of which distances are multiples
UNITLESS = ("lipschitz_q99", "wasserstein_excess")  # the other values are lengths


class Halves(NamedTuple):
    """One side of a seed: what its critic is fitted to, and what it is judged on."""

    fitted: np.ndarray  # [n, *shape] in the critic's units
    heldout: np.ndarray  # [n, *shape]


# keys [S], real, generated, rows [S, n], generated_rows [S, m] -> critic variables [S, ...]
type Fit = Callable[[jax.Array, Array, Array, Array, Array], Params]


def make_fit(config: ConfigDict, shape: tuple[int, ...]) -> tuple[Networks, Fit]:
    """Returns the networks of a config and fit(keys, real, generated, rows, generated_rows) -> critic variables [S, ...].

    real [N, *shape] and generated [M, *shape] are uint8 pixels or points. The critic of key s is trained for config.steps
    blocks of n_critic updates on real[rows[s]] and generated[generated_rows[s]], drawn with replacement, and sees nothing else.
    One compiled call fits one critic after the other: side by side, convolutions would lose their fast kernels on a CPU.
    """
    (networks, steps), dtype = make_parts(config, shape), param_dtype(config)
    check_fits(config, shape, steps.init_state)
    check_bytes(f"config.steps={config.steps}: their random keys", 8 * config.steps)

    def fit_critic(
        hyper: Hyperparameters,
        key: jax.Array,
        real: jax.Array,
        generated: jax.Array,
        rows: jax.Array,
        generated_rows: jax.Array,
    ) -> Params:
        def draw(key: jax.Array, examples: jax.Array, rows: jax.Array) -> Batch:
            x = examples[jax.random.choice(key, rows, (config.batch_size,))]
            return Batch(from_pixels(x, dtype) if x.dtype == jnp.uint8 else x.astype(dtype), jnp.zeros(len(x), jnp.int32))

        def update(state: TrainState, key: jax.Array) -> tuple[TrainState, None]:
            key_real, key_generated, key_step = jax.random.split(key, 3)
            batches = draw(key_real, real, rows), draw(key_generated, generated, generated_rows)
            return steps.critic_step(state, *batches, key_step, hyper)[0], None

        def block(state: TrainState, key: jax.Array) -> tuple[TrainState, None]:
            state, _ = jax.lax.scan(update, state, jax.random.split(key, config.n_critic))
            return state.replace(step=state.step + jnp.int32(1)), None

        key_init, key_run = jax.random.split(key)
        state, _ = jax.lax.scan(block, steps.init_state(key_init), jax.random.split(key_run, config.steps))
        return state.critic.variables

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

    def fit(*arguments: Array) -> Params:
        variables = jax.device_get(fit_critics(make_hyperparameters(config), *arguments))
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
            raise NonFiniteError("a critic became non-finite; lower config.critic.learning_rate")
        return variables

    return networks, fit


def standardise(
    real: np.ndarray, generated: np.ndarray, rows: np.ndarray, generated_rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns points [n, D] and [m, D] about the mean of real[rows] and generated[generated_rows] in units of their spread.

    The spread, returned too, is the root of their mean squared distance from that mean. A penalty's weight is a length: in
    these units W1 is hardly above 2, so that the ideal estimate W (1 + W / (2 lambda)) of a penalised critic means the same for
    all points.

    Raises:
      UserError: the spread is no float64, which distances are multiples of.
    """
    pooled = np.concatenate([real[rows], generated[generated_rows]]).astype(np.float64)
    # By a power of two, so that no bit changes, to sizes whose squares neither vanish nor overflow.
    reach = np.abs(pooled).max()
    _, exponent = np.frexp(reach)
    real, generated, pooled = (np.ldexp(x.astype(np.float64), -exponent) for x in (real, generated, pooled))
    mean = pooled.mean(axis=0)
    spread = math.sqrt(np.square(pooled - mean).sum(axis=1).mean()) or 1.0
    with np.errstate(over="ignore", under="ignore"):
        whole = float(np.ldexp(spread, exponent))
    if not np.finfo(np.float64).tiny <= whole <= LARGEST:
        raise UserError(f"points of up to {reach:.1e}: give them in units in which they are nearer to 1")
    return ((real - mean) / spread).astype(np.float32), ((generated - mean) / spread).astype(np.float32), whole


def make_critic_values(score: Score) -> Callable[[Params, Halves, Halves], dict[str, float]]:
    """Returns a function of (variables, real, generated) that judges a critic; everything is compiled once.

    It gives CRITIC_VALUES of the held-out examples, but in place of estimate_train, which has fresh generated examples,
    estimate_fitted: mean score of fitted real minus fitted generated.
    """
    statistics, compiled = make_critic_statistics(score), jax.jit(score)

    def values(variables: Params, real: Halves, generated: Halves) -> dict[str, float]:
        judged = statistics(variables, *map(_unlabelled, (real.fitted, real.heldout, generated.heldout)))
        del judged["estimate_train"]
        fitted = np.concatenate([real.fitted, generated.fitted])
        size = POINT_VALUES // fitted[0].size
        (scores,) = in_chunks(lambda chunk: (compiled(variables, chunk),), _unlabelled(fitted), size)
        on_real, on_generated = np.split(scores, [len(real.fitted)])
        return {"estimate_fitted": float(on_real.mean() - on_generated.mean()), **judged}

    return values


def _unlabelled(x: np.ndarray) -> Batch:
    return Batch(x, np.zeros(len(x), np.int32))


def empirical_values(real: Halves, generated: Halves) -> dict[str, float]:
    """Returns empirical W1 between the held-out examples, its floor, and the excess, as METRICS have them.

    The excess takes W(G, T) between held-out generated and fitted real examples: were some in both sets, held-out ones would
    not be independent of each other.
    """
    real, generated = (Halves(*(flatten(x) for x in side)) for side in (real, generated))
    floor = empirical_wasserstein(real.heldout, real.fitted)
    apart, own = (empirical_wasserstein(generated.heldout, side.fitted) for side in (real, generated))
    return {
        "wasserstein_empirical": empirical_wasserstein(generated.heldout, real.heldout),
        "wasserstein_floor": floor,
        "wasserstein_excess": wasserstein_excess(apart, own, floor),
    }


def shared_rows(real: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Returns rows [2, k] of two sets that hold equal examples, each row once at most and k as large as can be."""
    wide = np.promote_types(real.dtype, generated.dtype)
    # a collision of hashes ties two unequal examples to one half, which does no harm
    digests = [[hash(example.tobytes()) for example in x.astype(wide, copy=False)] for x in (real, generated)]
    places: dict[int, list[int]] = {}
    for row, digest in enumerate(digests[1]):
        places.setdefault(digest, []).append(row)
    pairs = [(row, places[digest].pop()) for row, digest in enumerate(digests[0]) if places.get(digest)]
    return np.array(pairs, np.int64).reshape(-1, 2).T


def measure(config: ConfigDict, real: np.ndarray, generated: np.ndarray, seeds: int) -> list[dict[str, float]]:
    """Returns what the critics of `seeds` seeds say of the distance between two sets, beside empirical W1; a dict per seed.

    real [N, H, W, C] and generated [M, H, W, C] are uint8 images, measured in [-1, 1], or points [N, D] and [M, D], in their
    own units. Each seed has its own halves of both sides, its own network and its own batches: a critic is trained on one half
    and judged on config.eval.samples of the other. An example of both sets is in the same half of both, so that no critic has
    seen as generated what it is judged on as real. All halves are of the same examples: the spread over seeds says how far
    fitting and splitting move a value, not how far another draw of the examples would.

    Raises:
      NonFiniteError: a critic became non-finite.
      UserError: the points are too large or too small, or all this does not fit into memory.
    """
    networks, fit = make_fit(config, real.shape[1:])
    n, images, scales = heldout_size(config, real, generated), real.ndim == 4, (1.0,) * seeds
    check_pairs("eval.samples", n)
    counts, shared = (len(real), len(generated)), shared_rows(real, generated)
    splits = [_halves((config.seed, seed), counts, shared) for seed in range(seeds)]
    rows, generated_rows = (np.stack(side) for side in zip(*splits, strict=True))
    if not images:  # each seed has points of its own, in units of what its critic is fitted to
        scaled = [standardise(real, generated, own[0], other[0]) for own, other in splits]
        reals, generateds, scales = zip(*scaled, strict=True)
        real, generated = np.concatenate(reals), np.concatenate(generateds)
        first = np.arange(seeds)[:, None, None]
        rows, generated_rows = rows + counts[0] * first, generated_rows + counts[1] * first
    keys = example_keys(jax.random.key(config.seed), seeds)
    variables = fit(keys, real, generated, rows[:, 0], generated_rows[:, 0])
    values = make_critic_values(networks.score)

    def judged(x: np.ndarray, rows: np.ndarray) -> Halves:
        chosen = x[rows[:, :n]]
        return Halves(*(from_pixels(chosen) if images else chosen))

    results = []
    for seed in range(seeds):
        critic = jax.tree.map(lambda leaf, s=seed: leaf[s], variables)
        sides = judged(real, rows[seed]), judged(generated, generated_rows[seed])
        results.append(in_units(values(critic, *sides) | empirical_values(*sides), scales[seed]))
    return results


def heldout_size(config: ConfigDict, real: np.ndarray, generated: np.ndarray) -> int:
    """Returns n, the number of held-out examples of each side that `measure` judges a critic on."""
    return min(config.eval.samples, len(real) // 2, len(generated) // 2)


def in_units(values: dict[str, float], scale: float) -> dict[str, float]:
    """Returns the values of points that were measured in units of `scale` in the points' own units."""
    return {name: value if name in UNITLESS else value * scale for name, value in values.items()}


def _halves(seed: tuple[int, int], counts: tuple[int, int], shared: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns rows [2, count // 2] of both sides: those that a critic is fitted to, and those that it is judged on.

    The rows of a pair of `shared` [2, k], as `shared_rows` has them, are in the same half of both sides.
    """
    rng = np.random.default_rng(seed)

    def halved(count: int, tied: np.ndarray) -> np.ndarray:
        free = rng.permutation(np.setdiff1d(np.arange(count), tied))
        order = np.concatenate([tied, free])[: count // 2 * 2]
        return rng.permuted(order.reshape(-1, 2).T, axis=1)  # every second one is held out

    return tuple(map(halved, counts, rng.permutation(shared, axis=1)))


def t_interval(values: list[float]) -> tuple[float, float]:
    """Returns the mean of values and half the width of its 95 % t-interval; NaN of one value."""
    n = len(values)
    half = student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return float(np.mean(values)), float(half)
