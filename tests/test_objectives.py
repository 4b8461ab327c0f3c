"""The composer: every loss with every penalty where it may look, signs, labels, batch statistics and clipping."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.models import build_networks
from wgan_jax.objectives import make_objective
from wgan_jax.objectives.constraints import CLIP_SCOPES, clip_parameters
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.objectives.penalties import PENALTIES, POINTS
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch, CriticOutput, Latents, Networks, Player, TrainState

pytestmark = pytest.mark.usefixtures("strict_dtypes")

KEY = jax.random.key(0)
BATCH = 6


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


REAL, GENERATED = normal(0, BATCH, 2), 0.5 * normal(1, BATCH, 2) + 1
NO_LABELS = jnp.zeros(BATCH, jnp.int32)


def linear(params, state, x, label):
    """f(x) = <w, x>, whose slope is |w| everywhere."""
    return CriticOutput(x @ params["w"], x, None), state


def network(params, state, x, label):
    """A critic with slopes well above one, so that every penalty works on it."""
    h = jnp.tanh(x @ params["kernel"] + params["bias"][None])
    return CriticOutput(h @ params["last"], h, None), state


NETWORK = {"kernel": normal(2, 2, 5), "bias": 0.1 * normal(3, 5), "last": 2 * normal(4, 5)}


def shift(params, state, latents, label):
    """G(z) = z + shift."""
    return latents + params["shift"][None], state


@pytest.fixture
def compose(make_config):
    """Returns ({dotted key: value}, critic, ...) -> an objective and its hyperparameters; non-saturating by default."""

    def make(changes=None, critic=linear, penalty_critic=None, generator=shift, axis_name=None, mixes_examples=False):
        config = make_config("gan.py:ring8", {"loss": "non_saturating", **(changes or {})})
        networks = Networks(
            init_generator=None,
            init_critic=None,
            generator=generator,
            critic=critic,
            penalty_critic=penalty_critic or critic,
            example=jax.ShapeDtypeStruct((2,), jnp.float32),
            mixes_examples=mixes_examples,
            refresh_critic=lambda variables: variables,
            latents=None,
            generate=None,
            score=None,
        )
        return make_objective(config, networks, axis_name), make_hyperparameters(config)

    return make


def of_critic(objective, hyper, params, real=REAL, generated=GENERATED, labels=NO_LABELS, state=None, key=KEY, made=None):
    """Returns loss, (model_state, memory, metrics) of the critic; made: the generated examples' labels, else the real ones'."""
    train_state = state_of(Player(None, state or {}, None))  # whose parameters nobody reads: they are given apart
    return objective.critic(
        params, train_state, Batch(real, labels), Batch(generated, labels if made is None else made), key, hyper
    )


def of_generator(objective, hyper, params, critic_params, latents=REAL, labels=NO_LABELS, state=None):
    train_state = state_of(Player(critic_params, {"critic": jnp.int32(7)}, None), Player(None, state or {}, None))
    return objective.generator(params, train_state, Latents(latents, labels), Batch(REAL, labels), KEY, hyper)


def norm_of(objective, hyper, params):
    batches = Batch(REAL, NO_LABELS), Batch(GENERATED, NO_LABELS)
    return objective.look(state_of(Player(params, {}, None)), *batches, KEY, hyper)["critic_input_gradient_norm"]


def state_of(critic, generator=None):
    return TrainState(jnp.int32(0), jnp.int32(0), critic, generator, None, {"memory": jnp.int32(3)})


# Every combination, on the gradients of the losses


def length(tree):
    return float(np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(tree))))


# Without a penalty it looks nowhere.
LOOKS = [("none", "interpolates"), *itertools.product(sorted(PENALTIES.keys() - {"none"}), sorted(POINTS))]


@pytest.mark.parametrize(("penalty", "points"), LOOKS)
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_combination_has_finite_gradients_that_are_not_zero(compose, loss, penalty, points):
    penalised = PENALTIES[penalty] is not None
    changes = {"loss": loss, "penalty.name": penalty, "penalty.points": points, "clip": 0.0 if penalised else 0.1}
    objective, hyper = compose(changes, network)
    assert objective.penalised == penalised
    gradient = jax.grad(lambda params, hyper: of_critic(objective, hyper, params)[0])
    whole = gradient(NETWORK, hyper)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(whole))
    assert length(whole) > 1e-3
    score_alone = gradient(NETWORK, hyper | {"penalty.weight": jnp.float32(0)})
    share = length(jax.tree.map(jnp.subtract, whole, score_alone))
    assert (share > 1e-3) == penalised


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_generator_loss_has_a_gradient(compose, loss):
    objective, hyper = compose({"loss": loss, "clip": 0.1}, network)
    gradient = jax.grad(lambda params: of_generator(objective, hyper, params, NETWORK)[0])({"shift": jnp.ones(2)})
    assert np.all(np.isfinite(gradient["shift"]))
    assert length(gradient) > 1e-3


# Values and signs by hand


W = {"w": jnp.array([3.0, 4.0])}  # |w| = 5: (5 - 1)^2 = 16
HAND_REAL = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # scores 3, 4: mean 3.5
HAND_GENERATED = jnp.array([[-1.0, 0.0], [0.0, 0.0]])  # scores -3, 0: mean -1.5
PAIR = {"real": HAND_REAL, "generated": HAND_GENERATED, "labels": jnp.zeros(2, jnp.int32)}


@pytest.mark.parametrize("points", sorted(POINTS))
def test_a_wasserstein_critic_by_hand(compose, points):
    """-(3.5 + 1.5) + 2 * 16 = 27; penalties at both sides that add up are 2 * 16."""
    changes = {"loss": "wasserstein", "penalty.name": "two_sided", "penalty.weight": 2.0, "penalty.points": points}
    objective, hyper = compose(changes)
    value, (state, memory, metrics) = of_critic(objective, hyper, W, **PAIR)
    wanted = {"critic_loss": 27.0, "wasserstein_estimate": 5.0, "penalty": 16.0, "critic_input_gradient_norm": 5.0}
    if points == "real_and_generated":
        wanted |= {"critic_loss": 59.0, "penalty": 32.0}
    assert metrics.keys() == wanted.keys()
    for name, number in wanted.items():
        np.testing.assert_allclose(metrics[name], number, rtol=1e-6)
        assert (metrics[name].shape, metrics[name].dtype) == ((), jnp.float32)
    assert value == metrics["critic_loss"]
    assert (state, memory) == ({}, {"memory": 3})


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_wasserstein_estimate_is_signed_and_without_the_penalty(compose, loss, penalty):
    objective, hyper = compose({"loss": loss, "penalty.name": penalty, "clip": 0.1 if penalty == "none" else 0.0})
    swapped = PAIR | {"real": HAND_GENERATED, "generated": HAND_REAL}
    assert of_critic(objective, hyper, W, **PAIR)[1][2]["wasserstein_estimate"] == 5
    assert of_critic(objective, hyper, W, **swapped)[1][2]["wasserstein_estimate"] == -5
    assert ("penalty" in of_critic(objective, hyper, W, **PAIR)[1][2]) == (penalty != "none")


def curved(params, state, x, label):
    """f(x) = s |x|^2 / 2, of which |grad f|^2 = s^2 |x|^2."""
    return CriticOutput(params["s"] * jnp.sum(jnp.square(x), axis=1) / 2, x, None), state


R1_AND_R2 = {"penalty.name": "zero_centred", "penalty.points": "real_and_generated", "penalty.weight": 0.25}


def test_r1_and_r2_are_added_by_hand(compose):
    """Mean |x|^2 is 1 at real and 1/2 at generated examples: gamma / 2 (R1 + R2) = 1/4 * 3^2 * 1.5; alone 9 and 4.5."""
    params = {"s": jnp.array(3.0)}
    for points, value in (("real_and_generated", 13.5), ("real", 9.0), ("generated", 4.5)):
        objective, hyper = compose({**R1_AND_R2, "penalty.points": points}, curved)
        loss, (_, _, metrics) = of_critic(objective, hyper, params, **PAIR)
        assert metrics["penalty"] == value
        adversarial, _ = of_critic(objective, hyper | {"penalty.weight": jnp.float32(0)}, params, **PAIR)
        np.testing.assert_allclose(loss - adversarial, 0.25 * value, rtol=1e-5)


def test_a_lazy_penalty_comes_every_kth_critic_update_with_k_times_the_weight(compose):
    """Its gradient in s: the penalty's is 2 s * 1.5 = 9 at weight 1/4, so every third time 3 / 4 * 9 more than no penalty's."""
    params = {"s": jnp.array(3.0)}
    lazy, hyper = compose({**R1_AND_R2, "penalty.every": 3}, curved)
    free, _ = compose({}, curved)

    def gradient(objective, step):
        state = state_of(Player(None, {}, None)).replace(critic_step=jnp.int32(step))
        batches = Batch(HAND_REAL, PAIR["labels"]), Batch(HAND_GENERATED, PAIR["labels"])
        loss = lambda params: objective.critic(params, state, *batches, KEY, hyper)  # noqa: E731
        (value, (_, _, metrics)), slope = jax.value_and_grad(loss, has_aux=True)(params)
        return float(value), metrics, float(slope["s"])

    value, metrics, slope = gradient(free, 0)
    for step in range(7):
        lazy_value, lazy_metrics, lazy_slope = gradient(lazy, step)
        due = step % 3 == 0
        np.testing.assert_allclose(lazy_slope - slope, 6.75 * due, atol=1e-5)
        np.testing.assert_allclose(lazy_value - value, 10.125 * due, atol=1e-5)
        assert lazy_metrics == metrics  # the same at every update: without the penalty
    batches = Batch(HAND_REAL, PAIR["labels"]), Batch(HAND_GENERATED, PAIR["labels"])
    seen = lazy.look(state_of(Player(params, {}, None)), *batches, KEY, hyper)
    assert (lazy.penalised, free.penalised) == (False, False)
    assert seen["penalty"] == 13.5
    np.testing.assert_allclose(seen["critic_input_gradient_norm"], 3 * (1 + 1 + 1 + 0) / 4)


def test_the_penalty_is_of_the_logits(compose):
    """The slope of f is 5 and not that of sigmoid(f), which is at most 5/4."""
    objective, hyper = compose({"loss": "non_saturating", "penalty.name": "two_sided", "penalty.weight": 10.0})
    _, (_, _, metrics) = of_critic(objective, hyper, W, **PAIR)
    np.testing.assert_allclose([metrics["penalty"], metrics["critic_input_gradient_norm"]], [16, 5], rtol=1e-6)
    # softplus(-3), softplus(-4) and softplus(-3), softplus(0), and lambda 10
    loss = (0.0485874 + 0.0181499 + 0.0485874 + 0.6931472) / 2 + 160
    np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-6)


def test_the_noise_scale_and_the_weight_are_arguments(compose):
    """Without noise perturbed_real is real; the loss is linear in the weight."""
    noisy, hyper = compose({"penalty.name": "two_sided", "penalty.points": "perturbed_real"}, network)
    plain, _ = compose({"penalty.name": "two_sided", "penalty.points": "real"}, network)
    penalty = lambda objective, scale: float(  # noqa: E731
        of_critic(objective, hyper | {"penalty.noise_scale": jnp.float32(scale)}, NETWORK)[1][2]["penalty"]
    )
    assert penalty(noisy, 0.0) == penalty(plain, 0.5)
    assert abs(penalty(noisy, 0.5) - penalty(plain, 0.5)) > 1e-3
    values = [float(of_critic(plain, hyper | {"penalty.weight": jnp.float32(w)}, NETWORK)[0]) for w in (0.0, 1.0, 3.0)]
    np.testing.assert_allclose(values[1] - values[0], penalty(plain, 0.5), rtol=1e-5)
    np.testing.assert_allclose(values[2] - values[0], 3 * (values[1] - values[0]), rtol=1e-5)


def test_the_generator_follows_the_critic(compose):
    """-mean f(z + shift) falls along w: its gradient is -w. The critic's state is left alone, the generator's returned."""

    def counting(params, state, latents, label):
        return shift(params, state, latents, label)[0], {"generator": state["generator"] + 1}

    objective, hyper = compose({"loss": "wasserstein", "clip": 0.1}, generator=counting)
    loss = functools.partial(of_generator, objective, hyper, critic_params=W, state={"generator": jnp.int32(2)})
    value, (state, memory, metrics) = loss({"shift": jnp.zeros(2)}, latents=HAND_REAL, labels=jnp.zeros(2, jnp.int32))
    assert value == metrics["generator_loss"] == -3.5
    assert (state, memory) == ({"generator": 3}, {"memory": 3})
    gradient, _ = jax.grad(loss, has_aux=True)({"shift": jnp.zeros(2)})
    np.testing.assert_allclose(gradient["shift"], [-3, -4], rtol=1e-6)


def test_a_term_is_added_to_its_players_loss_times_its_weight(compose):
    """A linear critic's features are the examples: shifted by (1, 2), their means are 1 + 4 apart; its scores are by hand."""
    plain, hyper = compose()
    matching, weighted = compose({"terms.feature_matching": 3.0})
    shifted = {"shift": jnp.array([1.0, 2.0])}
    values = [of_generator(objective, h, shifted, W)[0] for objective, h in ((plain, hyper), (matching, weighted))]
    np.testing.assert_allclose(values[1] - values[0], 3 * 5, rtol=1e-5)
    drifting, weighted = compose({"terms.drift": 2.0})
    values = [of_critic(objective, h, W, **PAIR)[0] for objective, h in ((plain, hyper), (drifting, weighted))]
    np.testing.assert_allclose(values[1] - values[0], 2 * (9 + 16) / 2, rtol=1e-5)


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
def test_the_gradient_norm_where_the_penalty_looks(compose, penalty):
    changes = {"penalty.name": penalty, "penalty.points": "interpolates"}
    objective, hyper = compose(changes, network)
    norm = norm_of(objective, hyper, NETWORK)
    if objective.penalised:
        assert norm == of_critic(objective, hyper, NETWORK)[1][2]["critic_input_gradient_norm"]
    else:  # nothing looks anywhere: between the examples, whatever config.penalty.points says
        elsewhere, _ = compose(changes | {"penalty.points": "real"}, network)
        assert norm == norm_of(elsewhere, hyper, NETWORK)
    straight, _ = compose(changes)
    np.testing.assert_allclose(norm_of(straight, hyper, W), 5, rtol=1e-6)
    assert norm.shape == ()


# Passes through the critic, and its state


def counting(step):
    """The linear critic, which counts its passes in steps and notes how many examples it saw."""

    def critic(params, state, x, label):
        assert label.shape == (len(x),)
        return linear(params, state, x, label)[0], {"passes": state["passes"] + step, "seen": jnp.int32(len(x))}

    return critic


@pytest.mark.parametrize(("penalty", "points"), LOOKS)
def test_one_pass_serves_both_and_the_penalty_leaves_the_state(compose, penalty, points):
    changes = {"penalty.name": penalty, "penalty.points": points}
    objective, hyper = compose(changes, counting(1), counting(100))
    state = {"passes": jnp.int32(0), "seen": jnp.int32(0)}
    _, (new_state, _, _) = of_critic(objective, hyper, W, state=state)
    assert new_state == {"passes": 1, "seen": 2 * BATCH}


def test_a_critic_that_mixes_examples_sees_real_and_generated_apart(compose):
    objective, hyper = compose(critic=counting(1), mixes_examples=True)
    _, (new_state, _, _) = of_critic(objective, hyper, W, state={"passes": jnp.int32(0), "seen": jnp.int32(0)})
    assert new_state == {"passes": 2, "seen": BATCH}


def test_a_batch_normalised_critic_equals_two_passes_and_not_one(make_config):
    config = make_config("gan.py:ring8", {"model.critic_normalization": "batch", "model.width": 8, "model.depth": 1})
    networks = build_networks(config, (2,))
    objective = make_objective(config, networks)
    variables = jax.jit(networks.init_critic)(KEY)
    params, state = variables["params"], {"batch_stats": variables["batch_stats"]}
    critic = jax.jit(networks.critic)
    real, first = critic(params, state, REAL, NO_LABELS)
    generated, second = critic(params, first, GENERATED, NO_LABELS)
    both, _ = critic(params, state, jnp.concatenate([REAL, GENERATED]), jnp.concatenate([NO_LABELS, NO_LABELS]))
    two = real.score.mean() - generated.score.mean()
    one = both.score[:BATCH].mean() - both.score[BATCH:].mean()
    run = jax.jit(functools.partial(of_critic, objective, make_hyperparameters(config)))
    _, (new_state, _, metrics) = run(params, state=state)
    np.testing.assert_allclose(metrics["wasserstein_estimate"], two, atol=1e-5)
    assert abs(one - two) > 0.05
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), new_state, second)


def test_the_penalty_pass_is_not_rounded_unless_asked(make_config):
    """Under bfloat16 the scores are rounded, the penalty and its parameter gradient only where it has that dtype too."""
    changes = {"model.width": 8, "model.depth": 2, "model.critic_activation": "tanh"}

    params = jax.jit(build_networks(make_config("wgan_gp.py:ring8", changes), (2,)).init_critic)(KEY)["params"]

    def penalty_and_estimate(dtype, of_penalty="parameters"):
        config = make_config("wgan_gp.py:ring8", changes | {"dtype": dtype, "penalty.dtype": of_penalty})
        networks = build_networks(config, (2,))
        objective = make_objective(config, networks)

        def penalty(params):
            metrics = of_critic(objective, make_hyperparameters(config), params)[1][2]
            return metrics["penalty"], metrics["wasserstein_estimate"]

        return jax.jit(jax.value_and_grad(penalty, has_aux=True))(params)

    (narrow, rounded), narrow_gradient = penalty_and_estimate("bfloat16")
    (wide, exact), wide_gradient = penalty_and_estimate("float32")
    assert abs(rounded - exact) > 1e-6
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, (narrow, narrow_gradient), (wide, wide_gradient))
    (rough, as_rounded), rough_gradient = penalty_and_estimate("bfloat16", "bfloat16")
    assert as_rounded == rounded
    assert 1e-4 * wide < abs(rough - wide) < 0.05 * wide  # a rounding of 2^-8
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=0.05), rough_gradient, wide_gradient)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((rough, rough_gradient))} == {"float32"}


# Labels: a conditional critic f(x, y) = s_y |x|^2 / 2, whose gradient is s_y x, and a conditional generator


def conditional(params, state, x, label):
    return CriticOutput(params["s"][label] * jnp.sum(x**2, axis=1) / 2, x, None), state


def conditional_shift(params, state, latents, label):
    return latents + params["shift"][label][:, None], state


S = {"s": jnp.array([1.0, -3.0])}
LABELS = jnp.array([0, 1, 1, 0, 1, 0], jnp.int32)
OTHERS = jnp.array([1, 1, 0, 1, 1, 0], jnp.int32)  # of generated examples


@pytest.mark.parametrize("points", ["real", "generated", "perturbed_both", "real_and_generated"])
def test_the_penalty_keeps_each_examples_label(compose, points):
    objective, hyper = compose(
        {"penalty.name": "zero_centred", "penalty.points": points, "penalty.noise_scale": 0.0}, conditional
    )
    both = np.concatenate([REAL, GENERATED]), np.concatenate([LABELS, OTHERS])
    where, labels = {"real": (REAL, LABELS), "generated": (GENERATED, OTHERS)}.get(points, both)
    sides = 2 if points == "real_and_generated" else 1
    wanted = sides * np.mean(np.asarray(S["s"])[labels] ** 2 * np.sum(np.square(where, dtype=np.float64), axis=1))
    penalty = of_critic(objective, hyper, S, labels=LABELS, made=OTHERS)[1][2]["penalty"]
    np.testing.assert_allclose(penalty, wanted, rtol=1e-5)


@pytest.mark.parametrize("mixes_examples", [False, True])
def test_generated_examples_are_scored_with_their_own_labels(compose, mixes_examples):
    objective, hyper = compose({"clip": 0.1}, conditional, mixes_examples=mixes_examples)
    on_real, on_generated = (
        np.mean(np.asarray(S["s"])[label] * np.sum(np.square(x, dtype=np.float64), axis=1) / 2)
        for x, label in ((REAL, LABELS), (GENERATED, OTHERS))
    )
    estimate = of_critic(objective, hyper, S, labels=LABELS, made=OTHERS)[1][2]["wasserstein_estimate"]
    np.testing.assert_allclose(estimate, on_real - on_generated, rtol=1e-5)


@pytest.mark.parametrize("points", sorted(POINTS))
def test_the_penalty_and_the_scores_change_with_the_labels(compose, points):
    objective, hyper = compose({"penalty.name": "two_sided", "penalty.points": points}, conditional)
    first, second = (of_critic(objective, hyper, S, labels=labels)[1][2] for labels in (LABELS, 1 - LABELS))
    for name in ("penalty", "critic_input_gradient_norm", "wasserstein_estimate", "critic_loss"):
        assert abs(first[name] - second[name]) > 1e-2


def test_the_generators_gradient_changes_with_the_labels(compose):
    """Labels reach both networks: d(-mean f)/d shift_y = -1/B sum over examples of label y of s_y sum(z)."""
    objective, hyper = compose({"loss": "wasserstein", "clip": 0.1}, conditional, generator=conditional_shift)
    gradient = jax.grad(lambda params, labels: of_generator(objective, hyper, params, S, labels=labels)[0])
    for labels in (LABELS, 1 - LABELS):
        sums = np.asarray(REAL, np.float64).sum(axis=1)
        wanted = [-np.sum(sums[np.asarray(labels) == y]) * float(S["s"][y]) / BATCH for y in (0, 1)]
        np.testing.assert_allclose(gradient({"shift": jnp.zeros(2)}, labels)["shift"], wanted, rtol=1e-5)


# Devices


@pytest.mark.parametrize("points", ["interpolates", "perturbed_real"])
def test_the_mean_over_devices_is_the_loss_of_the_batch(compose, points):
    changes = {"penalty.name": "two_sided", "penalty.points": points}
    alone, hyper = compose(changes, network)
    shared, _ = compose(changes, network, axis_name="data")
    whole = of_critic(alone, hyper, NETWORK)[1][2]
    share = lambda real, generated, labels: of_critic(shared, hyper, NETWORK, real, generated, labels)[1][2]  # noqa: E731
    parts = jax.vmap(share, axis_name="data")(*(x.reshape(3, 2, *x.shape[1:]) for x in (REAL, GENERATED, NO_LABELS)))
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name].mean(), value, rtol=1e-5)
        assert parts[name].shape == (3,)


# Clipping


PARAMS = {"kernel": jnp.array([[0.5, -0.02, 0.3], [-7.0, 0.3, 0.1]]), "bias": jnp.array([1.0, -1.0, 0.05])}


@pytest.mark.parametrize("scope", sorted(CLIP_SCOPES))
def test_clipping_by_hand(compose, scope):
    """To [-.3, .3] exactly; the bound is the hyperparameter, config.clip only says that there is one."""
    objective, hyper = compose({"clip": 0.01, "clip_scope": scope})
    clipped = objective.constrain(Player(PARAMS, {}, None), hyper | {"clip": jnp.float32(0.3)}).params
    c = np.float32(0.3)
    np.testing.assert_array_equal(clipped["kernel"], np.array([[c, -0.02, c], [-c, c, 0.1]], np.float32))
    bias = {"all": [c, -c, 0.05], "kernels": [1.0, -1.0, 0.05]}[scope]
    np.testing.assert_array_equal(clipped["bias"], np.array(bias, np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(clipped)} == {jnp.dtype("float32")}


def test_without_a_clip_the_parameters_are_left_alone(compose):
    objective, hyper = compose({"clip": 0.0})
    assert objective.constrain(Player(PARAMS, {}, None), hyper).params is PARAMS


def test_scopes_on_a_network_with_normalisation(make_config):
    """Kernels have two axes; a normalisation's scale and every bias have one."""
    config = make_config("gan.py:ring8", {"model.critic_normalization": "layer", "model.width": 4})
    shapes = jax.eval_shape(build_networks(config, (2,)).init_critic, KEY)["params"]
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), shapes)
    for path, leaf in jax.tree.leaves_with_path(clip_parameters(params, jnp.float32(0.5), "kernels")):
        assert set(np.asarray(leaf).ravel()) == ({0.5} if path[-1].key == "kernel" else {2.0})
    for leaf in jax.tree.leaves(clip_parameters(params, jnp.float32(0.5), "all")):
        assert set(np.asarray(leaf).ravel()) == {0.5}
