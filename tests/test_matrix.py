"""Every two choices of a method together: gradients of both losses in cells that cover all pairs.

What there is to choose is read from KEYS: a new line of a registry, a new switch and a new choice have their cells at once.
Eight devices are eight shares of the batch on an axis of vmap, whose collectives are pmap's: test_program.py has the devices.
"""

import functools
import itertools

import jax
import numpy as np
import pytest

from configs import default
from wgan_jax.batching import batch_mean
from wgan_jax.config import flatten, mistakes
from wgan_jax.keys import KEYS, TRUTH, keys_of
from wgan_jax.models import build_networks
from wgan_jax.objectives import make_objective
from wgan_jax.registries import registered
from wgan_jax.training.update import make_hyperparameters, make_steps
from wgan_jax.types import Batch, Latents

SHAPE, DEVICES, BATCH = (8, 8, 1), 8, 16
LATER = {"clip"}  # not read by a loss, but after it
SMALL = {"data.name": "digits", "batch_size": BATCH, "n_critic": 1, "dtype": "float64", "latent.dim": 4, "penalty.weight": 0.5}
SMALL |= {"model.width": 8, "model.depth": 1}
# sizes and budgets, what float64 does not have, and the objective without a critic
FIXED = {*SMALL, "latent.low", "latent.high", "warmup.critic_steps", "warmup.first", "warmup.every"}
FIXED |= {"penalty.dtype", "objective", "imle.samples", "unroll"}  # test_unrolled.py has cells of its own
# Each value has cells, but not each pair: what these choose is of one layer, or of the update, whatever the losses are.
SECONDARY = {"latent.name", "model.generator_activation", "model.critic_activation", "model.initializer"}
SECONDARY |= {"penalty.perturbation", "clip_scope", "decay"}
SECONDARY |= {key for key in KEYS if key.startswith(("critic.", "generator."))}
# the value of what is on; of other numbers .5 or the next whole one
OTHER = {"clip": 0.05, "replay.capacity": 8, "model.classes": 10}
OTHER |= dict.fromkeys(("targets.smoothing", "targets.noise", "targets.flip"), 0.25)  # real stays above generated
OTHER |= dict.fromkeys(("critic.max_gradient_norm", "generator.max_gradient_norm"), 1e-3)  # less than any gradient's
OTHER |= {"inputs.augment": ",".join(registered("objectives/inputs.py", "AUGMENTATIONS"))}


@functools.cache
def start():
    return flatten(default.start("gan", "digits")[0]) | SMALL | {"loss": "non_saturating"}


class Plain(dict):
    """A config's values by attribute, as validation reads them: a ConfigDict takes 40 ms to make."""

    __getattr__ = dict.__getitem__


def wrong(cell):
    """What validation says of a cell."""
    config = Plain()
    for key, value in (start() | cell).items():
        group, _, leaf = key.rpartition(".")
        (config.setdefault(group, Plain()) if group else config)[leaf] = value
    return mistakes(config)


def config_of(cell):
    config, _, _ = default.start("gan", "digits")
    with config.ignore_type():
        config.update_from_flattened_dict(start() | cell)
    return config


def values_of(key):
    """The values of a key that a method chooses, its default first; of a number none and some."""
    row, usual = KEYS[key], start()[key]
    if row.role not in ("static", "switch") or key in FIXED or key.startswith("eval."):
        return []
    if row.rule.wanted.startswith("one of "):
        names = row.rule.wanted.removeprefix("one of ").split(", ")
        return sorted(names, key=lambda name: name != usual)
    if row.rule is TRUTH:
        return [usual, not usual]
    return [usual, OTHER.get(key, usual + 1 if row.rule.type is int else 0.5)]


CHOICES = {key: values for key in KEYS if (values := values_of(key))}
PRIMARY = [key for key in CHOICES if key not in SECONDARY]
PAIRS = [
    ((first, a), (second, b))
    for first, second in itertools.combinations(PRIMARY, 2)
    for a, b in itertools.product(CHOICES[first], CHOICES[second])
]


@functools.cache
def completed(*chosen):
    """The pairs of key and value as a cell that makes sense: as they are, or with one more; else None."""
    cell = dict(chosen)
    more = ({}, *({key: value} for key in PRIMARY if key not in cell for value in CHOICES[key][1:]))
    return next((cell | change for change in more if not wrong(cell | change)), None)


def covering():
    """Cells that have every pair of primary choices at least once, greedily, and the pairs that no cell may have."""
    order = sorted(PRIMARY, key=lambda key: -len(CHOICES[key]))
    left, cells, refused = dict.fromkeys(PAIRS), [], []
    while left:
        pair = next(iter(left))
        cell = completed(*pair) if all(completed(choice) for choice in pair) else None
        if cell is None:
            refused.append(pair)
            del left[pair]
            continue
        for key in order:

            def gain(value, key=key, cell=cell):
                others = ((other, cell[other]) for other in PRIMARY if other in cell)
                return sum(((key, value), other) in left or (other, (key, value)) in left for other in others)

            if key not in cell:
                ranked = sorted(CHOICES[key], key=lambda value: -gain(value))
                cell[key] = next((value for value in ranked if not wrong(cell | {key: value})), CHOICES[key][0])
        for key in CHOICES.keys() - set(PRIMARY):
            turned = [CHOICES[key][(len(cells) + i) % len(CHOICES[key])] for i in range(len(CHOICES[key]))]
            cell[key] = next(value for value in turned if not wrong(cell | {key: value}))
        cells.append({key: cell[key] for key in CHOICES})
        for done in itertools.combinations(((key, cell[key]) for key in PRIMARY), 2):
            left.pop(done, None)
    return cells, refused


CELLS, REFUSED = covering()


def covering_values(cells):
    """Cells, greedily, that have every choice of `cells` at least once."""
    left, chosen = {choice for cell in cells for choice in cell.items()}, []
    while left:
        chosen.append(max(cells, key=lambda cell: len(left & cell.items())))
        left -= chosen[-1].items()
    return chosen


# Those whose gradients are taken on eight devices too; a ResNet's programs take long to compile.
SHARED = covering_values([cell for cell in CELLS if cell["model.name"] != "resnet"])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def batch_of(seed):
    rng = np.random.default_rng(seed)
    x = np.tanh(rng.normal(size=(BATCH, *SHAPE)) + np.linspace(-1, 1, BATCH).reshape(-1, 1, 1, 1))
    return Batch(x, rng.integers(0, 10, BATCH).astype(np.int32))


def state_of(steps):
    """A state after four updates, of the right shapes and with numbers of NumPy's, which no program need be compiled for."""
    rng = np.random.default_rng(3)

    def filled(path, leaf):
        names = {str(getattr(part, "key", getattr(part, "name", ""))) for part in path}
        if not np.issubdtype(leaf.dtype, np.floating) or "opt_state" in names:
            return np.full(leaf.shape, 4 * bool(names & {"step", "critic_step"}), leaf.dtype)
        noise = 0.1 * rng.normal(size=leaf.shape)
        return 1 + noise if names & {"scale", "var"} else noise

    return jax.tree_util.tree_map_with_path(filled, jax.eval_shape(steps.init_state, jax.random.key(0)))


def parts(config, axis_name=None):
    """Returns the pieces of an update, and a function of (state, real, generated, latents, hyper): the losses' gradients."""
    networks = build_networks(config, SHAPE, axis_name, classes=10)
    objective, key = make_objective(config, networks, axis_name), jax.random.key(1)

    def gradients(state, real, generated, latents, hyper):
        of_critic = lambda params: objective.critic(params, state, real, generated, key, hyper)[0]  # noqa: E731
        of_generator = lambda params: objective.generator(params, state, latents, real, key, hyper)[0]  # noqa: E731
        found = {"critic": jax.grad(of_critic)(state.critic.params)}
        return batch_mean(found | {"generator": jax.grad(of_generator)(state.generator.params)}, axis_name)

    return make_steps(config, networks, objective, axis_name), gradients


def computed(function):
    """The function compiled whole, its results on the host: whatever is asked of them there compiles nothing."""
    compiled = jax.jit(function)
    return lambda *arguments: jax.device_get(compiled(*arguments))


def difference(tree, other):
    """The largest difference of two trees on the host, in units of what the entries are."""
    leaves = zip(*map(jax.tree.leaves, (tree, other)), strict=True)
    return max(np.max(np.abs(a - b) / (np.abs(b) + 1e-3), initial=0) for a, b in leaves if np.issubdtype(b.dtype, np.floating))


def told(cell):
    """A name of a cell's test; `-l` shows all of it."""
    return "-".join(cell[key] for key in ("model.name", "loss", "penalty.name", "penalty.points", "model.critic_kernel"))


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=told)
def test_the_gradients_of_both_losses(cell):
    """Finite; not 0; moved by every number of the losses that is on.

    The same on eight devices in cells that have every choice, but a ResNet.
    """
    config = config_of(cell)
    steps, gradients = parts(config)
    state, hyper = state_of(steps), make_hyperparameters(config)
    latents = Latents(np.random.default_rng(2).normal(size=(BATCH, 4)), batch_of(0).label)
    sides = (batch_of(0), batch_of(1)._replace(label=batch_of(0).label), latents)
    function = computed(gradients)
    found = function(state, *sides, hyper)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert min(max(np.abs(leaf).max() for leaf in jax.tree.leaves(of_player)) for of_player in found.values()) > 1e-9

    on = [key for key in keys_of("switch") if cell.get(key) and key in PRIMARY and key not in LATER]
    on += ["penalty.weight"] if cell["penalty.name"] in ("two_sided", "zero_centred") else []  # flat critics may pay no other
    for key in on:
        assert difference(function(state, *sides, hyper | {key: hyper[key] / 2}), found) > 1e-12, f"{key} moves nothing"

    if cell not in SHARED:
        return
    _, share = parts(config, "data")
    shares = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), sides)
    everywhere = computed(jax.vmap(share, in_axes=(None, 0, 0, 0, None), axis_name="data"))(state, *shares, hyper)
    for device in (0, DEVICES - 1):
        assert difference(jax.tree.map(lambda leaf, i=device: leaf[i], everywhere), found) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("cell", SHARED, ids=told)
def test_a_whole_update(cell):
    """Finite, and moved by every number that is on."""
    config = config_of(cell)
    steps, _ = parts(config)
    state, hyper = state_of(steps), make_hyperparameters(config)
    take = lambda position, key, count: jax.tree.map(lambda *x: np.stack(x), *[batch_of(0)] * count)  # noqa: E731
    update = computed(lambda state, hyper: steps.update(state, take, jax.random.key(1), hyper))
    after, metrics = update(state, hyper)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))
    for key in keys_of("switch"):
        if cell.get(key) and key not in LATER:
            assert difference(update(state, hyper | {key: hyper[key] / 2})[0], after) > 1e-12, f"{key} moves nothing"


def test_every_choice_has_a_cell_or_is_refused():
    seen = {choice for cell in CELLS for choice in cell.items()}
    alone = {(key, value) for key, values in CHOICES.items() for value in values} - seen
    assert all(completed(choice) is None for choice in alone), alone


def test_what_no_cell_has_is_refused_by_its_name():
    for pair in REFUSED:
        lines = wrong(dict(pair))
        assert any(key in line for line in lines for key, _ in pair), (pair, lines)
