"""The update: against numbers computed by hand, and its rules about what moves when and what is used once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from wgan_jax.batching import warmup_phases
from wgan_jax.models import build_networks
from wgan_jax.objectives import make_objective
from wgan_jax.objectives.penalties import POINTS, make_points
from wgan_jax.training.update import DECAYS, OPTIMIZERS, make_hyperparameters, make_steps
from wgan_jax.types import Batch, CriticOutput

WEIGHT = np.array([0.5, -1.0, 2.0, 0.0])
# gradients of three updates: ordinary, zero, and so small that the place of epsilon shows
GRADIENTS = np.array([[1.0, -2.0, 0.5, 1e-8], [-0.5, 1.0, 0.0, 3e-8], [2.0, 1.0, -1.0, -2e-8]])


@pytest.fixture(autouse=True)
def _float64():
    jax.config.update("jax_enable_x64", True)  # everywhere: the thread of a callback does not see `with jax.enable_x64`
    yield
    jax.config.update("jax_enable_x64", False)


def make_config(**changes):
    """A tiny float64 config; changes are {dotted key: value} with __ for the dot."""
    config = default.default_config()
    config.update({"batch_size": 4, "n_critic": 3, "dtype": "float64"})
    config.data.update({"name": "gaussian", "dim": 2})
    config.latent.dim = 2
    config.model.update({"width": 5, "depth": 2, "critic_activation": "tanh", "generator_activation": "tanh"})
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return config


def build(config, shape=(2,)):
    networks = build_networks(config, shape)
    return networks, make_objective(config, networks)


def toy_steps(config, axis_name=None):
    """Steps of two players with one weight vector w each and the loss <w, mean x>: their gradient is the mean of the batch."""

    def linear(params, real):
        return jnp.sum(params["w"] * jnp.mean(real.x, axis=0))

    def critic(params, state, real, generated, key, hyper):
        value = linear(params, real)
        return value, (state.critic.model_state, state.memory, {"critic_loss": value})

    def generator(params, state, latents, real, key, hyper):
        value = linear(params, real)
        return value, (state.generator.model_state, state.memory, {"generator_loss": value})

    networks, objective = build(config)
    networks = networks._replace(
        init_critic=lambda key: {"params": {"w": jnp.array(WEIGHT)}},
        init_generator=lambda key: {"params": {"w": jnp.array(WEIGHT)}},
        generator=lambda params, model_state, latents, label: (latents, model_state),
    )
    return make_steps(config, networks, objective._replace(critic=critic, generator=generator, penalised=True), axis_name)


def batches_of(gradients):
    """Stacked batches [n, 2, 4] whose means are the gradients [n, 4]."""
    spread = np.array([0.5, 1.5])[None, :, None]
    x = jnp.asarray(gradients[:, None, :] * spread)
    return Batch(x, jnp.zeros(x.shape[:2], jnp.int32))


def take_gradients(position, key, count):
    """A take whose batch at position p has the mean sin(p + 1, ..., p + 4)."""
    p = position + jnp.arange(count)
    means = jnp.sin(p[:, None] + jnp.arange(1.0, 5.0)[None])
    return Batch(jnp.repeat(means[:, None], 2, axis=1), jnp.zeros((count, 2), jnp.int32))


def equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def close(tree, other, tolerance=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), tree, other)


def moved(tree, other):
    return any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))


# --- optimizers, by hand ---


def adam(w, gradients, rates, beta1, beta2):
    """Kingma & Ba 2015, algorithm 1."""
    m = v = 0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        w = w - rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)
    return w


def rmsprop(w, gradients, rates, beta1, beta2):
    """PyTorch's: v starts at 0, epsilon is outside the root."""
    v = 0
    for g, rate in zip(gradients, rates, strict=True):
        v = beta2 * v + (1 - beta2) * g**2
        w = w - rate * g / (np.sqrt(v) + 1e-8)
    return w


def sgd(w, gradients, rates, beta1, beta2):
    return w - np.sum(np.asarray(rates)[:, None] * gradients, axis=0)


def lion(w, gradients, rates, beta1, beta2):
    """Chen 2023, algorithm 2, without decay."""
    m = 0
    for g, rate in zip(gradients, rates, strict=True):
        w = w - rate * np.sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g
    return w


@pytest.mark.parametrize("player", ["critic", "generator"])
@pytest.mark.parametrize(
    ("by_hand", "beta1", "beta2"),
    [(adam, 0.0, 0.9), (adam, 0.5, 0.999), (rmsprop, 0.0, 0.99), (rmsprop, 0.5, 0.9), (sgd, 0.5, 0.9), (lion, 0.9, 0.99)],
)
def test_an_optimizer_takes_three_steps_as_by_hand(player, by_hand, beta1, beta2):
    settings = {"optimizer": by_hand.__name__, "learning_rate": 0.1, "beta1": beta1, "beta2": beta2}
    other = {"critic": "generator", "generator": "critic"}[player]
    config = make_config(**{f"{player}__{name}": value for name, value in settings.items()}, **{f"{other}__optimizer": "sgd"})
    steps, hyper = toy_steps(config), make_hyperparameters(config)
    state, key = jax.jit(steps.init_state)(jax.random.key(0)), jax.random.key(1)
    batches = batches_of(GRADIENTS)
    if player == "critic":
        state, _ = steps.critic_phase(state, batches, key, hyper)
    else:
        for x, label in zip(*batches, strict=True):
            state, _ = steps.generator_update(state, Batch(x, label), key, hyper)
    expected = by_hand(WEIGHT, GRADIENTS, [0.1] * 3, beta1, beta2)
    np.testing.assert_allclose(getattr(state, player).params["w"], expected, rtol=1e-12)
    assert state.critic_step == 3 * (player == "critic")
    assert state.step == 3 * (player == "generator")


def test_every_optimizer_is_computed_by_hand_here():
    assert set(OPTIMIZERS) == {"adam", "rmsprop", "sgd", "lion"}


def test_numbers_of_a_config_become_arguments():
    hyper = make_hyperparameters(make_config(decay_steps=7, penalty__weight=3.0, clip=0.25, generator__beta1=0.125))
    numbers = {"decay_steps": 7, "penalty.weight": 3, "clip": 0.25, "generator.beta1": 0.125}
    assert {key: hyper[key] for key in numbers} == numbers
    assert make_hyperparameters(make_config(decay_steps=0))["decay_steps"] == np.inf
    assert {leaf.dtype.name for leaf in jax.tree.leaves(hyper)} == {"float64"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(make_hyperparameters(make_config(dtype="bfloat16")))} == {"float32"}


HALF = np.sqrt(0.5)  # cos(pi / 4)
FALLS = {"linear": (1, 0.75, 0.5, 0.25, 0, 0), "cosine": (1, (1 + HALF) / 2, 0.5, (1 - HALF) / 2, 0, 0)}


@pytest.mark.parametrize("decay", DECAYS)
def test_learning_rates_fall_over_a_horizon_of_their_own(decay):
    """To 0 over 4 generator updates, whatever config.steps; critic updates do not count."""
    config = make_config(decay=decay, steps=1000, decay_steps=4, critic__optimizer="sgd", generator__optimizer="sgd")
    config.critic.learning_rate, config.generator.learning_rate = 0.1, 0.2
    steps, hyper = toy_steps(config), make_hyperparameters(config)
    update = jax.jit(lambda state: steps.update(state, take_gradients, jax.random.key(0), hyper)[0])
    state = jax.jit(steps.init_state)(jax.random.key(0))
    critic, generator, position = WEIGHT, WEIGHT, 0
    for fraction in FALLS[decay]:
        gradients = np.sin(position + np.arange(4)[:, None] + np.arange(1, 5))
        critic = critic - 0.1 * fraction * gradients[:3].sum(axis=0)
        generator = generator - 0.2 * fraction * gradients[3]
        position += 4
        state = update(state)
        np.testing.assert_allclose(state.critic.params["w"], critic, rtol=1e-12)
        np.testing.assert_allclose(state.generator.params["w"], generator, rtol=1e-12)


@pytest.mark.parametrize("by_hand", [adam, rmsprop, sgd, lion])
def test_parameters_decay_by_the_learning_rate_apart_from_the_gradients(by_hand):
    """Loshchilov & Hutter 2019, algorithm 2: the optimizer's step is the one without decay; rates halve at the second step."""
    config = make_config(critic__optimizer=by_hand.__name__, critic__weight_decay=0.25, critic__learning_rate=0.1)
    config.decay_steps = 2
    steps, hyper = toy_steps(config), make_hyperparameters(config)
    state, w = jax.jit(steps.init_state)(jax.random.key(0)), WEIGHT
    for count, rate in enumerate((0.1, 0.05), 1):
        batch = jax.tree.map(lambda x, i=count - 1: x[i : i + 1], batches_of(GRADIENTS))
        state, _ = steps.critic_phase(state.replace(step=jnp.int32(count - 1)), batch, jax.random.key(1), hyper)
        paths = [
            by_hand(WEIGHT, GRADIENTS[:n], [0.1, 0.05][:n], config.critic.beta1, config.critic.beta2)
            for n in (count - 1, count)
        ]
        w = w * (1 - 0.25 * rate) + paths[1] - paths[0]
        np.testing.assert_allclose(state.critic.params["w"], w, rtol=1e-12)


def test_adam_with_decay_is_adamw():
    config = make_config(generator__weight_decay=0.25, generator__learning_rate=0.1, generator__beta1=0.5)
    steps, hyper = toy_steps(config), make_hyperparameters(config)
    state, optimizer = jax.jit(steps.init_state)(jax.random.key(0)), optax.adamw(0.1, b1=0.5, b2=0.9, weight_decay=0.25)
    params = state.generator.params
    opt_state = optimizer.init(params)
    for g, batch in zip(GRADIENTS, zip(*batches_of(GRADIENTS), strict=True), strict=True):
        state, _ = steps.generator_update(state, Batch(*batch), jax.random.key(1), hyper)
        updates, opt_state = optimizer.update({"w": jnp.asarray(g)}, opt_state, params)
        params = optax.apply_updates(params, updates)
    close(state.generator.params, params)


@pytest.mark.parametrize("player", ["critic", "generator"])
def test_gradients_are_scaled_down_to_a_norm_of_the_mean_over_devices(player):
    """Of two devices with (3, 0, 0, 0) and (3, 8, 0, 0) the mean (3, 4, 0, 0) has norm 5 > 2: half of (1.2, 1.6, 0, 0).

    Clipped apart they would be (2, 0, 0, 0) and about (.70, 1.87, 0, 0). The norm that is logged is the one before.
    """
    config = make_config(
        **{f"{player}__max_gradient_norm": 2.0, f"{player}__optimizer": "sgd", f"{player}__learning_rate": 0.5}
    )
    steps, hyper = toy_steps(config, "data"), make_hyperparameters(config)
    start, other = toy_steps(config).init_state(jax.random.key(0)), {"critic": "generator", "generator": "critic"}[player]

    def step(gradient):
        batch = batches_of(gradient[None])
        if player == "critic":
            return steps.critic_phase(start, batch, jax.random.key(1), hyper)
        return steps.generator_update(start, jax.tree.map(lambda x: x[0], batch), jax.random.key(1), hyper)

    shares = jnp.array([[3.0, 0, 0, 0], [3, 8, 0, 0]])
    state, metrics = jax.vmap(step, axis_name="data")(shares)
    for device in range(2):
        close(getattr(state, player).params["w"][device], WEIGHT - [0.6, 0.8, 0, 0])
        close(getattr(state, other).params["w"][device], WEIGHT)
    close(metrics[f"{player}_gradient_norm"], [5.0, 5.0])
    small, _ = jax.vmap(step, axis_name="data")(shares / 3)  # norm 5/3
    close(getattr(small, player).params["w"][0], WEIGHT - [1 / 2, 2 / 3, 0, 0])


@pytest.mark.parametrize("c", [0.25, 1.0])
def test_parameters_are_clipped_after_every_critic_update(c):
    config = make_config(clip=c, critic__optimizer="sgd", critic__learning_rate=1.0)
    steps, hyper = toy_steps(config), make_hyperparameters(config)
    gradients = np.array([[-3.0, 3.0, 0.1, -0.2], [1.5, -0.4, 0.1, -0.2], [-0.125, 0.125, 0.1, -0.2]])
    state, _ = steps.critic_phase(steps.init_state(jax.random.key(0)), batches_of(gradients), jax.random.key(0), hyper)
    w = WEIGHT
    for g in gradients:
        w = np.clip(w - g, -c, c)
    np.testing.assert_allclose(state.critic.params["w"], w, rtol=1e-12)
    once = np.clip(WEIGHT - gradients.sum(axis=0), -c, c)
    assert not np.allclose(w, once), "the example does not tell clipping once from clipping always"


def test_without_clipping_parameters_are_free():
    config = make_config(clip=0.0, critic__optimizer="sgd", critic__learning_rate=1.0)
    steps = toy_steps(config)
    gradients = np.full((1, 4), -30.0)
    state, _ = steps.critic_phase(
        steps.init_state(jax.random.key(0)), batches_of(gradients), jax.random.key(0), make_hyperparameters(config)
    )
    np.testing.assert_allclose(state.critic.params["w"], WEIGHT + 30)


# --- the average of the generator ---


def test_the_average_warms_up():
    """min(d, (1 + t) / (10 + t)), t updates done before; with d = 0.4 the warm-up ends at t = 5."""
    config = make_config(ema_decay=0.4, model__generator_normalization="batch")
    networks, objective = build(config)
    steps, hyper = make_steps(config, networks, objective), make_hyperparameters(config)
    update = jax.jit(steps.generator_update)
    state = jax.jit(steps.init_state)(jax.random.key(0))
    ema = jax.device_get(state.ema)
    assert set(ema) == {"params", "batch_stats"}
    for t in range(9):
        state, _ = update(state, batch_at(t), jax.random.key(t), hyper)
        decay = min(0.4, (1 + t) / (10 + t))
        new = state.generator.variables
        ema = jax.tree.map(lambda average, leaf, d=decay: d * average + (1 - d) * leaf, ema, new)
        close(state.ema, ema)
    assert moved(state.ema["params"], state.generator.params)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_average_starts_as_a_copy(compiled):
    """A copy and not the same buffers: a state is donated, and no buffer can be donated twice."""
    config = make_config(model__generator_normalization="batch")
    steps = make_steps(config, *build(config))
    state = (jax.jit(steps.init_state) if compiled else steps.init_state)(jax.random.key(0))
    equal(state.ema, {"params": state.generator.params, **state.generator.model_state})
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(buffers)) == len(buffers)


def test_a_fresh_state_counts_from_zero_and_follows_from_its_key():
    config = make_config()
    steps = make_steps(config, *build(config))
    init = jax.jit(steps.init_state)
    state = init(jax.random.key(0))
    assert (state.step, state.critic_step) == (0, 0)
    assert (state.step.dtype, state.critic_step.dtype) == (jnp.int32, jnp.int32)
    equal(state, init(jax.random.key(0)))
    other = init(jax.random.key(1))
    assert moved(state.critic.params, other.critic.params)
    assert moved(state.generator.params, other.generator.params)
    first = [jax.tree.leaves(player.params["Hidden_0"]["Dense_0"]["kernel"])[0] for player in (state.critic, state.generator)]
    assert moved(*first), "critic and generator start from different keys"


# --- warm-up ---

WARM = {0: 20, 1: 20, 24: 20, 25: 1, 26: 1, 499: 1, 500: 20, 501: 1, 1000: 20}  # step -> phases of n_critic = 5


def test_warmup_asks_for_100_critic_updates():
    config = make_config(n_critic=5, warmup__critic_steps=100)
    assert {step: warmup_phases(config, step) for step in WARM} == WARM
    assert {step: int(warmup_phases(config, jnp.int32(step))) for step in WARM} == WARM
    assert {step: warmup_phases(make_config(n_critic=5), step) for step in WARM} == dict.fromkeys(WARM, 1)


def test_warmup_equals_as_many_critic_phases():
    config = make_config(n_critic=5, warmup__critic_steps=100, clip=0.5)
    steps, hyper, key = toy_steps(config), make_hyperparameters(config), jax.random.key(0)
    update = jax.jit(lambda state: steps.update(state, take_gradients, key, hyper))
    phase = jax.jit(lambda state, position: steps.critic_phase(state, take_gradients(position, key, 5), key, hyper))
    generator_update = jax.jit(steps.generator_update)
    start = jax.jit(steps.init_state)(jax.random.key(0))
    for step, phases in WARM.items():
        state = expected = start.replace(step=jnp.int32(step), critic_step=jnp.int32(7))
        state, metrics = update(state)
        for i in range(phases):
            expected, critic_metrics = phase(expected, step + 7 + 5 * i)
        last = jax.tree.map(lambda leaf: leaf[0], take_gradients(step + 7 + 5 * phases, key, 1))
        expected, generator_metrics = generator_update(expected, last, key, hyper)
        assert (state.step, state.critic_step) == (step + 1, 7 + 5 * phases)
        close(state, expected)
        close(metrics, {**critic_metrics, **generator_metrics})


# --- what is used once, and what stays ---


class Spy:
    """Steps whose networks and objective write down what they are given.

    The generated examples are [G(z), z], so that the latents of each minibatch are seen.
    """

    def __init__(self, config):
        self.networks, self.objective = build(config)
        self.critic, self.generator, self.keys = [], [], []

        def with_latents(params, model_state, latents, label):
            x, new_state = self.networks.generator(params, model_state, latents, label)
            return jnp.concatenate([x, latents], axis=1), new_state

        def critic(params, state, real, generated, key, hyper):
            generated, latents = generated._replace(x=generated.x[:, :2]), generated.x[:, 2:]
            self.note(self.critic, real=real.x, generated=generated, latents=latents, key=key)
            return self.objective.critic(params, state, real, generated, key, hyper)

        def generator(params, state, latents, real, key, hyper):
            self.note(self.generator, latents=latents.z, real=real.x, key=key)
            return self.objective.generator(params, state, latents, real, key, hyper)

        networks = self.networks._replace(generator=with_latents)
        objective = self.objective._replace(critic=critic, generator=generator)
        self.steps = make_steps(config, networks, objective)

    def note(self, log, *, key, **arrays):
        def write(**values):
            log.append(jax.tree.map(np.asarray, values))

        jax.debug.callback(write, key=jax.random.key_data(key), **arrays, ordered=True)

    def take(self, position, key, count):
        """Batches that hold their own position."""
        jax.debug.callback(lambda key: self.keys.append(np.asarray(key)), key=jax.random.key_data(key), ordered=True)
        return jax.vmap(batch_at)(position + jnp.arange(count))


def batch_at(position):
    """The batch of a position, [4, 2]: the position and the index of the example."""
    x = jnp.stack([jnp.full(4, position, float), jnp.arange(4.0)], axis=1)
    return Batch(x, jnp.arange(4, dtype=jnp.int32))


def stacked_batches(count, seed=0):
    x = np.random.default_rng(seed).normal(size=(count, 4, 2))
    return Batch(jnp.asarray(x), jnp.tile(jnp.arange(4, dtype=jnp.int32), (count, 1)))


GP = {"penalty__name": "two_sided", "penalty__points": "interpolates"}


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [0, 6])
def test_no_batch_latent_or_epsilon_is_used_twice(warmup):
    config = make_config(**GP, warmup__critic_steps=warmup, warmup__first=1)
    spy, hyper = Spy(config), make_hyperparameters(config)
    update = jax.jit(lambda state, key: spy.steps.update(state, spy.take, key, hyper)[0])
    state = spy.steps.init_state(jax.random.key(0))
    for step in range(3):
        state = update(state, jax.random.fold_in(jax.random.key(1), step))
    jax.effects_barrier()

    phases = [6, 3, 3] if warmup else [3, 3, 3]
    real = [int(entry["real"][0, 0]) for entry in spy.critic]
    generator_real = [int(entry["real"][0, 0]) for entry in spy.generator]
    positions = list(range(sum(phases) + 3))
    expected = np.cumsum(np.array(phases) + 1) - 1  # the generator's batch comes after its critic phases
    assert generator_real == expected.tolist()
    assert real == [p for p in positions if p not in expected]
    assert state.critic_step == sum(phases)

    latents = np.concatenate([entry["latents"] for entry in spy.critic + spy.generator])
    assert len(latents) == 4 * len(positions)
    assert len(np.unique(latents)) == latents.size

    ones, zeros = jnp.ones((4, 1)), jnp.zeros((4, 1))  # eps * 1 + (1 - eps) * 0 = eps
    keys = [jax.random.wrap_key_data(jnp.asarray(entry["key"])) for entry in spy.critic]
    sides = [Batch(x, jnp.zeros(4, jnp.int32)) for x in (ones, zeros)]
    epsilon = np.concatenate([make_points("interpolates", "")(k, *sides, hyper["penalty.noise_scale"]).x for k in keys])
    assert epsilon.shape == (4 * sum(phases), 1)
    assert len(np.unique(epsilon)) == epsilon.size

    every_key = [entry["key"] for entry in spy.critic + spy.generator] + spy.keys
    assert len(np.unique(every_key, axis=0)) == len(every_key)


def test_a_phase_of_n_critic_batches_takes_n_critic_updates():
    config = make_config(**GP)
    spy = Spy(config)
    state = spy.steps.init_state(jax.random.key(0))
    state, _ = jax.jit(spy.steps.critic_phase)(state, stacked_batches(5), jax.random.key(1), make_hyperparameters(config))
    jax.effects_barrier()
    assert state.critic_step == len(spy.critic) == 5
    equal(np.stack([entry["real"] for entry in spy.critic]), stacked_batches(5).x)


NORMALIZED = {"loss": "non_saturating", "model__generator_normalization": "batch", "model__critic_normalization": "batch"}


def test_a_critic_phase_leaves_the_generator_and_its_update_leaves_the_critic():
    config = make_config(**NORMALIZED)
    steps, hyper = make_steps(config, *build(config)), make_hyperparameters(config)
    start = jax.jit(steps.init_state)(jax.random.key(0))
    state, _ = jax.jit(steps.critic_phase)(start, stacked_batches(3), jax.random.key(1), hyper)
    equal((state.generator, state.ema, state.step), (start.generator, start.ema, start.step))
    for part in ("params", "model_state", "opt_state"):
        assert moved(getattr(state.critic, part), getattr(start.critic, part)), part

    after, _ = jax.jit(steps.generator_update)(state, batch_at(0), jax.random.key(2), hyper)
    equal((after.critic, after.critic_step), (state.critic, state.critic_step))
    for part in ("params", "model_state", "opt_state"):
        assert moved(getattr(after.generator, part), getattr(state.generator, part)), part
    assert after.step == state.step + 1


# --- fused against plain ---

CELLS = {
    "wgan_gp": {**GP, "critic__beta1": 0.0, "model__critic_normalization": "layer"},
    "wgan_gp, batch norm in the generator": {**GP, "model__generator_normalization": "batch"},
    "wgan": {"clip": 0.1, "critic__optimizer": "rmsprop"},
    "gan, batch norm in both": NORMALIZED,
    "dragan": {"loss": "non_saturating", "penalty__name": "two_sided", "penalty__points": "perturbed_real"},
}


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_the_fused_phase_equals_single_updates(cell):
    """Against a plain loop of value_and_grad, given the same generated examples and keys; metrics are the last update's."""
    config = make_config(critic__learning_rate=0.01, **CELLS[cell])
    spy, hyper, batches = Spy(config), make_hyperparameters(config), stacked_batches(4)
    start = jax.jit(spy.steps.init_state)(jax.random.key(0))
    state, metrics = jax.jit(spy.steps.critic_phase)(start, batches, jax.random.key(1), hyper)
    jax.effects_barrier()

    chosen = config.critic
    optimizer = OPTIMIZERS[chosen.optimizer](chosen.learning_rate, chosen.beta1, chosen.beta2)
    loss = jax.jit(jax.value_and_grad(spy.objective.critic, has_aux=True))
    params, model_state, opt_state = start.critic.params, start.critic.model_state, start.critic.opt_state
    for real, label, entry in zip(*batches, spy.critic, strict=True):
        key = jax.random.wrap_key_data(jnp.asarray(entry["key"]))
        now = start.replace(critic=start.critic.replace(model_state=model_state))
        (_, (model_state, _, expected)), gradients = loss(params, now, Batch(real, label), entry["generated"], key, hyper)
        updates, opt_state = optimizer.update(gradients, opt_state)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        if config.clip:
            params = jax.tree.map(lambda p: np.clip(p, -config.clip, config.clip), params)
    close((state.critic.params, state.critic.model_state), (params, model_state))
    close(state.critic.opt_state, opt_state)
    expected["critic_gradient_norm"] = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradients)))
    close({name: metrics[name] for name in expected}, expected)
    assert set(metrics) == set(expected)


def test_the_generators_update_descends_on_its_own_latents():
    config = make_config(generator__optimizer="sgd", generator__learning_rate=0.5, clip=1.0)
    spy, hyper = Spy(config), make_hyperparameters(config)
    start = jax.jit(spy.steps.init_state)(jax.random.key(0))
    state, metrics = jax.jit(spy.steps.generator_update)(start, batch_at(0), jax.random.key(1), hyper)
    jax.effects_barrier()
    latents, label = spy.generator[0]["latents"], jnp.zeros(4, jnp.int32)

    def loss(params):
        generated, _ = spy.networks.generator(params, {}, latents, label)
        return -jnp.mean(spy.networks.critic(start.critic.params, {}, generated, label)[0].score)

    value, gradients = jax.value_and_grad(loss)(start.generator.params)
    close(state.generator.params, jax.tree.map(lambda p, g: p - 0.5 * g, start.generator.params, gradients))
    close(metrics["generator_loss"], value)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradients)))
    close(metrics["generator_gradient_norm"], norm)


# --- batch norm ---


def test_generated_examples_are_normalised_per_minibatch():
    config = make_config(**GP, model__generator_normalization="batch")
    spy = Spy(config)
    state = jax.jit(spy.steps.init_state)(jax.random.key(0))
    jax.jit(spy.steps.critic_phase)(state, stacked_batches(3), jax.random.key(1), make_hyperparameters(config))
    jax.effects_barrier()

    def generate(latents):
        return spy.networks.generator(state.generator.params, state.generator.model_state, latents, None)[0]

    for entry in spy.critic:
        close(entry["generated"].x, generate(entry["latents"]))
    together = generate(np.concatenate([entry["latents"] for entry in spy.critic]))
    assert not np.allclose(together[:4], spy.critic[0]["generated"].x, rtol=1e-3)


def test_only_the_generators_own_update_moves_its_running_statistics():
    config = make_config(**GP, model__generator_normalization="batch", model__depth=1, latent__name="uniform")
    spy, hyper = Spy(config), make_hyperparameters(config)
    start = jax.jit(spy.steps.init_state)(jax.random.key(0))
    state, _ = jax.jit(spy.steps.critic_phase)(start, stacked_batches(3), jax.random.key(1), hyper)
    equal(state.generator.model_state, start.generator.model_state)

    state, _ = jax.jit(spy.steps.generator_update)(state, batch_at(0), jax.random.key(2), hyper)
    jax.effects_barrier()
    hidden = spy.generator[0]["latents"] @ np.asarray(start.generator.params["Hidden_0"]["Dense_0"]["kernel"])
    statistics = state.generator.model_state["batch_stats"]["Hidden_0"]["BatchNorm_0"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * hidden.mean(axis=0), rtol=1e-12)  # 0.9 * 0 + 0.1 * mean
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * hidden.var(axis=0), rtol=1e-12)


# --- critic steps, memory, and what is only looked at ---


def test_a_critic_step_counts_itself_and_leaves_the_generator():
    config = make_config(**NORMALIZED)
    steps, hyper = make_steps(config, *build(config)), make_hyperparameters(config)
    start = jax.jit(steps.init_state)(jax.random.key(0)).replace(critic_step=jnp.int32(7))
    state, metrics = jax.jit(steps.critic_step)(start, batch_at(0), batch_at(1), jax.random.key(1), hyper)
    assert state.critic_step == 8
    equal((state.generator, state.ema, state.step), (start.generator, start.ema, start.step))
    assert moved(state.critic.params, start.critic.params)
    assert metrics.keys() == {"critic_loss", "wasserstein_estimate", "critic_gradient_norm"}


@pytest.mark.slow
def test_memory_reaches_every_objective_and_is_not_averaged_over_devices():
    """Of two devices, each with a batch and an integer of its own: a mean would be neither."""
    config = make_config(**GP)
    networks = build_networks(config, (2,))
    objective = make_objective(config, networks, "data")

    def remembering(function, base):
        def remember(params, state, *rest):
            value, (model_state, memory, metrics) = function(params, state, *rest)
            return value, (model_state, {"seen": base * memory["seen"] + state.critic_step}, metrics)

        return remember

    objective = objective._replace(
        init_memory=lambda critic, generator: {"seen": jnp.int32(1)},
        critic=remembering(objective.critic, 10),
        generator=remembering(objective.generator, 100),
    )
    steps, hyper = make_steps(config, networks, objective, "data"), make_hyperparameters(config)
    start = jax.jit(steps.init_state)(jax.random.key(0))
    assert start.memory == {"seen": 1}

    def both(seen, batches):
        state, _ = steps.critic_phase(start.replace(memory={"seen": seen}), batches, jax.random.key(1), hyper)
        state, _ = steps.generator_update(state, jax.tree.map(lambda x: x[0], batches), jax.random.key(2), hyper)
        return state

    batches = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), stacked_batches(3))
    state = jax.jit(jax.vmap(both, axis_name="data"))(jnp.array([1, 4], jnp.int32), batches)
    # three critic updates see their own count: 10 (10 (10 m + 0) + 1) + 2; the generator's sees 3
    assert state.memory["seen"].tolist() == [101203, 401203]
    equal(*(jax.tree.map(lambda leaf, i=i: leaf[i], state.critic.params) for i in range(2)))


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_what_is_looked_at_is_the_critic_on_the_given_batch(monkeypatch, normalization):
    """Unpenalised, at interpolates: here with epsilon 1, the real examples, so that the mean norm is computed by hand.

    One by one, as evaluation scores them: by its batch's own statistics a critic would have a slope of hardly anything.
    """
    monkeypatch.setitem(POINTS, "interpolates", lambda keys, real, generated, perturb: real)
    config = make_config(clip=0.5, critic__learning_rate=0.05, model__critic_normalization=normalization)
    networks, objective = build(config)
    steps, batches, hyper = make_steps(config, networks, objective), stacked_batches(3), make_hyperparameters(config)
    start = jax.jit(steps.init_state)(jax.random.key(0))
    state, _ = jax.jit(steps.critic_phase)(start, batches, jax.random.key(1), hyper)
    last = jax.tree.map(lambda x: x[-1], batches)
    seen = jax.jit(steps.look)(state, last, jax.random.key(2), hyper)

    def score(x):
        return networks.score(state.critic.variables, Batch(x[None], None))[0]

    norms = [np.linalg.norm(jax.grad(score)(x)) for x in last.x]
    close(seen["critic_input_gradient_norm"], np.mean(norms))


def test_what_is_looked_at_is_between_real_and_new_examples_of_this_generator(monkeypatch):
    """Here at the generated examples: f(x) = <w, x>^2 / 2 has the slope |<w, x>| |w|, and x is the generator's."""
    monkeypatch.setitem(POINTS, "interpolates", lambda keys, real, generated, perturb: generated)
    config = make_config(clip=0.5)
    networks = build_networks(config, (2,))

    def critic(params, model_state, x, label):
        return CriticOutput(jnp.square(x @ jnp.array([3.0, 4.0])) / 2, x, None), model_state

    def generator(params, model_state, latents, label):
        return jnp.broadcast_to(params["x"], latents.shape), model_state

    networks = networks._replace(
        penalty_critic=critic, generator=generator, init_generator=lambda key: {"params": {"x": jnp.array([1.0, 2.0])}}
    )
    steps = make_steps(config, networks, make_objective(config, networks))
    state = jax.jit(steps.init_state)(jax.random.key(0))
    values = steps.look(state, batch_at(0), jax.random.key(2), make_hyperparameters(config))
    close(values["critic_input_gradient_norm"], 11 * 5)  # <w, (1, 2)> = 11


def test_a_lazily_penalised_critic_is_looked_at_where_it_is_penalised():
    """The program's metrics are those of a penalty in every update, though the last update had none."""
    config = make_config(**GP, penalty__every=4)
    steps, hyper = make_steps(config, *build(config)), make_hyperparameters(config)
    state = jax.jit(steps.init_state)(jax.random.key(0))
    state, metrics = jax.jit(steps.critic_phase)(state, stacked_batches(3), jax.random.key(1), hyper)
    assert metrics.keys() == {"critic_loss", "wasserstein_estimate", "critic_gradient_norm"}
    seen = steps.look(state, batch_at(0), jax.random.key(1), hyper)
    assert seen.keys() == {"penalty", "critic_input_gradient_norm"}
    assert seen["penalty"] > 0


def test_a_penalised_critic_is_not_looked_at_again():
    config = make_config(**GP)
    steps, hyper = make_steps(config, *build(config)), make_hyperparameters(config)
    state = jax.jit(steps.init_state)(jax.random.key(0))
    assert steps.look(state, batch_at(0), jax.random.key(1), hyper) == {}
    _, metrics = jax.jit(steps.critic_phase)(state, stacked_batches(3), jax.random.key(1), hyper)
    assert metrics["critic_input_gradient_norm"] > 0
