"""The compiled program: the same numbers on any number of devices, mapped over members, and however its calls are cut.

Correct float32 code does not agree between device counts after many updates, as Adam turns rounding into moves of size lr. So
trajectories are compared in float64, 20 updates, to 1e-9 of each array's largest entry. Entry by entry would be too much to
ask: a bias that cannot matter has a gradient of rounding noise, which Adam makes into noise of 1e-12 where nothing else is.
"""

import functools
import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from wgan_jax.config import UserError, check
from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import Dataset, Stored
from wgan_jax.data.source import Feed, make_feed
from wgan_jax.training.program import Program, make_program, make_run_updates
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Hyperparameters

N = 20
BATCH = 16
POSITIONS = 3 * N * 6  # of a feed: three runs of N updates with up to 5 critic updates each

BOTH = ("critic", "generator")
LAYER, BATCH_NORM = {"model.critic_normalization": "layer"}, {"model.generator_normalization": "batch"}

# name -> (configs/<file>, preset, changes). Each has something that devices share, or that an update carries to the next.
# What is of the losses alone has its gradients compared in test_matrix.py, every choice at least once, by shares of vmap.
CELLS = {
    "wgan_gp": ("wgan_gp", "ring8", {}),
    "dragan": ("dragan", "digits", {**LAYER, **BATCH_NORM, "critic.beta1": 0.0, "decay_steps": 30}),
    "wgan": ("wgan", "digits", {"warmup.critic_steps": 6, "warmup.first": 2, "warmup.every": 7}),
    "gan": ("gan", "digits", {**BATCH_NORM, "model.critic_normalization": "batch"}),
    # a penalty at every third critic update, and labels of which half are wrong
    "lazy": (
        "wgan_gp",
        "digits",
        {
            "penalty.points": "perturbed_both",
            "penalty.every": 3,
            "conditioning.name": "projection",
            "conditioning.mismatch": 0.5,
        },
    ),
    "unrolled": ("gan", "digits", {"unroll": 2, "penalty.name": "two_sided", **BATCH_NORM}),
    # vectors of the power iteration, which an update carries on, and a clip by the whole gradient's norm
    "spectral": (
        "sngan",
        "ring8",
        {"critic.max_gradient_norm": 0.1, "generator.weight_decay": 0.1, "decay": "cosine", "decay_steps": 30},
    ),
    "packed": ("wgan_gp", "digits", {"packing": 2, **BATCH_NORM}),
    # convolutions, four-dimensional batch statistics over the devices, and flips that belong to the global example
    "dcgan": (
        "wgan_gp",
        "digits",
        {"model.name": "dcgan", "model.width": 2, "data.flip": True, "data.dequantise": True, **BATCH_NORM, **LAYER},
    ),
    # noise of each example's own, statistics of the whole batch's distances and of a batch kept from the start
    "Salimans": (
        "gan",
        "digits",
        {
            "inputs.noise": 0.1,
            "inputs.noise_steps": 30,
            "inputs.augment": "color,translation,cutout",
            "targets.smoothing": 0.1,
            "targets.noise": 0.2,
            "targets.flip": 0.1,
            "terms.historical_averaging": 0.1,
            "model.critic_head": "minibatch_discrimination",
            "model.generator_normalization": "virtual_batch",
            "model.generator_dropout": 0.3,
        },
    ),
    # without a critic: each real example finds its nearest among the generated ones of all devices
    "imle": ("imle", "digits", {"n_critic": 0, "imle.samples": 3, **BATCH_NORM}),
    # labels that training does not see: devices have shares of them of their own
    "semi_supervised": ("semi_supervised", "digits", {"data.labels": 500, **BATCH_NORM}),
}
TWINS = ["dragan", "dcgan"]


def make_config(cell, devices=1, dtype="float64"):
    method, preset, changes = CELLS[cell]
    config = importlib.import_module(f"configs.{method}").get_config(preset)
    config.update({"batch_size": BATCH, "n_critic": 2, "dtype": dtype, "devices": devices})
    config.model.update({"width": 8, "depth": 2})
    config.latent.dim = 3
    for player in BOTH:  # a rate of the tests' own: rounding grows with it, and the presets' are tuned for other ends
        config[player].learning_rate = 5e-4
    config.update_from_flattened_dict(changes)
    return check(config)


class Case(NamedTuple):
    """A cell's program and what it is called with."""

    program: Program
    dataset: Dataset
    start: Any  # the state it starts from, on the host
    hyper: Hyperparameters
    key: jax.Array
    feed: Feed


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def build(cell, devices=1, mapping="auto", dtype="float64"):
    config = make_config(cell, devices, dtype)
    dataset = load_dataset(config)
    program = make_program(config, dataset, mapping)
    feed = Feed()
    if isinstance(dataset, Stored):
        feed = make_feed(dataset, program.place(dataset.train), config.seed, 0, POSITIONS, BATCH)
    feed = program.shard(feed)
    if (devices, mapping) == (1, "auto"):
        start = jax.device_get(program.init_state(jax.random.key(0)))
    else:
        start = build(cell, dtype=dtype).start
    hyper, key = program.place((make_hyperparameters(config), jax.random.key(1)))
    return Case(program, dataset, start, hyper, key, feed)


def run(case, n=N, state=None, feed=None, key=None, hyper=None):
    """Returns the state, the metrics, the updates done and whether all is finite, after n updates from a state on the host."""
    numbers = {name: np.asarray(value, case.hyper[name].dtype) for name, value in (hyper or {}).items()}
    results = case.program.run_updates(
        case.program.place(case.start if state is None else state),
        case.program.place(np.int32(n)),
        case.program.place(case.hyper | numbers),
        case.key if key is None else case.program.place(key),
        case.feed if feed is None else feed,
    )
    for leaf in jax.tree.leaves(results):  # what is called replicated is so: no device has numbers of its own
        for shard in leaf.addressable_shards[1:]:
            np.testing.assert_array_equal(shard.data, leaf.addressable_shards[0].data)
    return jax.device_get(results)


@functools.cache
def run_once(cell, devices=1, mapping="auto"):
    return run(build(cell, devices, mapping))


def close(tree, other, tolerance=1e-9):
    """Compares to `tolerance` of each array's largest entry; an array of zeros is compared exactly."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(other)
    for (path, b), a in zip(leaves, structure.flatten_up_to(tree), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        difference, scale = np.max(np.abs(a - b)), np.max(np.abs(b))
        assert difference <= tolerance * scale, f"{jax.tree_util.keystr(path)}: {difference:.2e} where entries are {scale:.2e}"


def equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


# --- devices ---


def equations(jaxpr):
    """All equations, those of inner jaxprs included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def collectives(jaxpr):
    return [eqn for eqn in equations(jaxpr) if "data" in eqn.params.get("axes", ()) or eqn.primitive.name == "all_gather"]


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_eight_devices_equal_one(cell):
    state, metrics, done, finite = run_once(cell)
    assert done == N == state.step
    assert finite
    assert np.all(np.isfinite(list(metrics.values())))
    close(run_once(cell, 8)[:3], (state, metrics, done))


@pytest.mark.slow
@pytest.mark.parametrize("cell", TWINS)
def test_pmap_equals_its_twin(cell):
    close(run_once(cell, 8, "shard_map")[:3], run_once(cell, 8)[:3])


@pytest.mark.parametrize("cell", ["wgan", "gan", "lazy"])
def test_nothing_waits_inside_a_cond(cell):
    """XLA runs a branch beside other collectives, which meet the wrong partners there: a crash, now and then, on CPUs."""
    case = build(cell)
    pure = make_run_updates(make_config(cell), case.dataset, "data", 8)
    shard = case.feed._replace(rows=case.feed.rows[:, : BATCH // 8])
    arguments = (case.start, np.int32(N), case.hyper, case.key, shard)
    jaxpr = jax.make_jaxpr(pure, axis_env=[("data", 8)])(*arguments).jaxpr
    assert collectives(jaxpr)
    conds = [eqn for eqn in equations(jaxpr) if eqn.primitive.name == "cond"]
    assert (conds != []) == (cell == "lazy")
    assert [each for cond in conds for branch in cond.params["branches"] for each in collectives(branch.jaxpr)] == []


@pytest.mark.slow
def test_float32_gradients_of_eight_devices_equal_one():
    """With learning rate 0 and beta1 = 0 Adam's first moment is the last gradient. Sums of about 100 terms in float32 lose a
    hundred times 6e-8 of the largest at worst."""
    still = {f"{player}.{name}": 0.0 for player in BOTH for name in ("learning_rate", "beta1")}
    with jax.enable_x64(False):
        one, eight = (run(build("dragan", devices, dtype="float32"), 1, hyper=still)[0] for devices in (1, 8))
    for player in BOTH:
        gradients = [getattr(state, player).opt_state[0].mu for state in (one, eight)]
        assert all(np.any(leaf != 0) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(gradients[0]["Hidden_0"]))
        close(*gradients, tolerance=1e-5)


@pytest.mark.slow
def test_a_streamed_program_equals_the_resident_one():
    case = build("dragan", 8)
    pixels = case.program.shard(make_feed(case.dataset, None, 0, 0, POSITIONS, BATCH))
    assert pixels.resident is None
    equal(run(case, feed=pixels), run(case))


@pytest.mark.parametrize(("devices", "batch", "mistake"), [(9, 18, "9 asked for"), (0, 12, "not divisible by the 8 devices")])
def test_a_program_refuses_devices_that_do_not_fit(devices, batch, mistake):
    config = make_config("wgan_gp")
    config.devices, config.batch_size = devices, batch
    with pytest.raises(UserError, match=mistake):
        make_program(config, load_dataset(config))


# --- members ---

SEEDS, LAMBDAS = range(8), (0.1, 1.0, 10.0)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@functools.cache
def grid():
    """run_updates over lambdas and, inside, over seeds; the seeds' states and keys."""
    case, config = build("wgan_gp"), make_config("wgan_gp")
    over_seeds = jax.vmap(make_run_updates(config, case.dataset), in_axes=(0, None, None, 0, None))
    over_lambdas = jax.vmap(over_seeds, in_axes=(None, None, 0, None, None))
    states = jax.device_get([case.program.init_state(jax.random.key(seed)) for seed in SEEDS])
    return jax.jit(over_lambdas), states, [jax.random.key(100 + seed) for seed in SEEDS]


def run_grid(lambdas):
    mapped, states, keys = grid()
    hyper = build("wgan_gp").hyper
    hypers = stack([hyper | {"penalty.weight": jnp.asarray(weight, float)} for weight in lambdas])
    return jax.device_get(mapped(stack(states), N, hypers, jnp.stack(keys), Feed()))


@pytest.mark.slow
def test_a_grid_equals_its_members_run_alone():
    together = run_grid(LAMBDAS)
    _, states, keys = grid()
    np.testing.assert_array_equal(together[2], np.full((3, 8), N))
    for i, weight in enumerate(LAMBDAS):
        for j in SEEDS:
            alone = run(build("wgan_gp"), state=states[j], key=keys[j], hyper={"penalty.weight": weight})
            close(jax.tree.map(lambda leaf, at=(i, j): leaf[at], together[:3]), alone[:3])


def test_a_bad_member_stops_alone():
    state, metrics, done, finite = run_grid((0.1, np.inf, 10.0))
    np.testing.assert_array_equal(finite, [[True] * 8, [False] * 8, [True] * 8])
    np.testing.assert_array_equal(done, [[N] * 8, [1] * 8, [N] * 8])
    np.testing.assert_array_equal(state.step, done)
    assert not np.any(np.isfinite(metrics["critic_loss"][1]))
    good = np.array([0, 2])
    equal(*(jax.tree.map(lambda leaf: leaf[good], result) for result in ((state, metrics), run_grid(LAMBDAS)[:2])))


def test_members_with_a_warm_up_clip_and_steps_of_their_own():
    """What a member decides for itself is a select under vmap: the phases of its warm-up."""
    case, config = build("wgan"), make_config("wgan")
    begun = run(case, 1)[0]  # at step 1 is warm, at step 5 is not
    states, clips, n = [case.start, begun, begun.replace(step=np.int32(5))], [0.05, 0.1, 0.2], 6
    mapped = jax.jit(jax.vmap(make_run_updates(config, case.dataset), in_axes=(0, None, 0, None, None)))
    hypers = stack([case.hyper | {"clip": jnp.asarray(clip, float)} for clip in clips])
    together = jax.device_get(mapped(stack(states), n, hypers, case.key, case.feed))
    for i, (state, clip) in enumerate(zip(states, clips, strict=True)):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], together[:3]), run(case, n, state=state, hyper={"clip": clip})[:3])


# --- calls ---

MAPPINGS = pytest.mark.parametrize(("devices", "mapping"), [(1, "auto"), (8, "auto"), (8, "shard_map")])


@pytest.mark.parametrize(
    ("cell", "devices", "mapping"),
    [("dragan", 1, "auto"), ("dragan", 8, "auto"), ("dragan", 8, "shard_map"), ("wgan", 1, "auto"), ("wgan", 8, "auto")],
)
def test_how_calls_are_cut_does_not_show(cell, devices, mapping):
    """Equal bits; the second call's feed begins where the first one's batches end."""
    case = build(cell, devices, mapping)
    whole = run(case)
    state, _, done, _ = run(case, 7)
    assert done == state.step == 7
    used = int(state.step + state.critic_step)
    later = case.program.shard(make_feed(case.dataset, case.feed.resident, 0, used, POSITIONS, BATCH))
    for feed in (case.feed, later):
        rest, metrics, done, _ = run(case, 13, state=state, feed=feed)
        assert done == 13
        equal((rest, metrics), whole[:2])


def test_every_update_draws_latents_of_its_own():
    """At rate 0 and of one batch alone metrics differ by the latents only, which are a function of the key and the step."""
    case = build("wgan")
    feed = case.feed._replace(rows=case.program.place(np.repeat(np.asarray(case.feed.rows)[:1], POSITIONS, axis=0)))
    still = {"critic.learning_rate": 0.0, "generator.learning_rate": 0.0, "clip": 100.0}
    found = [run(case, n, feed=feed, hyper=still)[:2] for n in range(1, 6)]
    equal(found[-1][0].critic.params, case.start.critic.params)
    for name in ("generator_loss", "wasserstein_estimate"):
        values = np.sort([metrics[name] for _, metrics in found])
        assert np.diff(values).min() > 1e-3 * np.ptp(values)
    state, metrics = run(case, 2, state=found[2][0], feed=feed, hyper=still)[:2]  # the fourth and the fifth
    assert state.step == 5
    equal(metrics, found[-1][1])


def test_no_update_is_no_change():
    case = build("dragan")
    state, metrics, done, finite = run(case, 0)
    assert (done, finite) == (0, True)
    equal(state, case.start)
    for player in BOTH:
        squares = [np.sum(np.square(leaf)) for leaf in jax.tree.leaves(getattr(state, player).params)]
        np.testing.assert_allclose(metrics[f"{player}_parameter_norm"], np.sqrt(np.sum(squares)), rtol=1e-12)


@pytest.fixture
def compilations():
    """The names of the programs compiled since the test began."""
    names = []

    def listen(event, seconds, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@MAPPINGS
def test_one_compilation_serves_all_calls(compilations, devices, mapping):
    case = build("dragan", devices, mapping)
    program, hyper = case.program, case.hyper
    state, two = program.init_state(jax.random.key(5)), program.place(np.int32(2))
    changed = program.place(hyper | {"critic.learning_rate": np.float64(1e-3), "penalty.weight": np.float64(1)})
    other_feed = program.shard(make_feed(case.dataset, case.feed.resident, 1, 6, POSITIONS, BATCH))
    other_n, other_key = program.place((np.int32(5), jax.random.key(9)))
    state, *_ = program.run_updates(state, two, hyper, case.key, case.feed)  # compiles, unless a test before did
    restored = program.place(jax.device_get(state))

    compilations.clear()
    for arguments in [
        (two, hyper, case.key, case.feed),  # the same again
        (two, changed, case.key, case.feed),
        (two, hyper, other_key, case.feed),
        (two, hyper, case.key, other_feed),
        (other_n, hyper, case.key, case.feed),
    ]:
        state, *_ = program.run_updates(state, *arguments)
    program.run_updates(restored, two, hyper, case.key, case.feed)
    program.run_updates(program.init_state(jax.random.key(6)), two, hyper, case.key, case.feed)
    assert compilations == []
    jax.jit(lambda x: x + devices)(1.0)
    assert len(compilations) == 1, "the listener hears nothing"


@MAPPINGS
def test_the_state_is_donated_and_nothing_else(devices, mapping):
    case = build("dragan", devices, mapping)
    state = case.program.init_state(jax.random.key(0))
    one = case.program.place(np.int32(1))
    after, *_ = case.program.run_updates(state, one, case.hyper, case.key, case.feed)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    kept = jax.tree.leaves((after, one, case.hyper, case.key, case.feed.resident))
    assert not any(leaf.is_deleted() for leaf in kept)


@MAPPINGS
def test_a_program_compiled_ahead_is_the_same(devices, mapping):
    """As the loop does, to know the seconds that it took; for a fresh and for a restored state."""
    case = build("dragan", devices, mapping)
    program = case.program
    arguments = (program.place(np.int32(2)), case.hyper, case.key, case.feed)
    compiled = program.run_updates.lower(program.init_state(jax.random.key(0)), *arguments).compile()
    for state in (program.init_state, lambda key: program.place(jax.device_get(program.init_state(key)))):
        ahead = compiled(state(jax.random.key(0)), *arguments)
        equal(jax.device_get(ahead), jax.device_get(program.run_updates(state(jax.random.key(0)), *arguments)))


def test_a_fresh_state_is_the_same_on_every_device_count():
    states = [build("dragan", devices).program.init_state(jax.random.key(3)) for devices in (1, 8)]
    equal(*(jax.device_get(state) for state in states))
    assert all(leaf.sharding.is_fully_replicated and len(leaf.devices()) == 8 for leaf in jax.tree.leaves(states[1]))


# --- numbers that are not finite ---


@MAPPINGS
@pytest.mark.parametrize(
    ("bad", "updates", "shows", "still_good"),
    [
        ({"critic.learning_rate": np.inf}, 1, "critic_loss", None),  # at the second of n_critic = 2 critic updates
        ({"generator.learning_rate": np.inf}, 2, "critic_loss", None),
        ({"penalty.weight": np.inf}, 1, "critic_loss", "penalty"),
    ],
)
def test_a_run_stops_at_the_first_bad_update(devices, mapping, bad, updates, shows, still_good):
    _, metrics, done, finite = run(build("dragan", devices, mapping), hyper=bad)
    assert (done, finite) == (updates, False)
    assert not np.isfinite(metrics[shows])
    assert still_good is None or np.isfinite(metrics[still_good])


@pytest.mark.slow
def test_parameters_that_are_not_finite_are_told_before_any_loss_shows_them():
    """A run looks at the norms before it saves a state; how calls are cut does not decide where members end."""
    _, metrics, done, finite = run(build("dragan"), 1, hyper={"generator.learning_rate": np.inf})
    assert (done, finite) == (1, True)
    assert np.isfinite(metrics["generator_loss"])
    assert not np.isfinite(metrics["generator_parameter_norm"])
