"""Every two choices of a method together: whole updates of cells that cover all pairs, on one device and on eight.

What there is to choose is read from KEYS: a new line of a registry, a new switch and a new choice have their cells at once.
Eight devices are eight shares of the batch on an axis of vmap, whose collectives are pmap's: test_program.py has the devices.
"""

import functools
import itertools

import jax
import numpy as np
import pytest

from configs import default
from wgan_jax.batching import batches_per_update
from wgan_jax.config import flatten, mistakes
from wgan_jax.keys import KEYS, TRUTH, keys_of
from wgan_jax.registries import registered
from wgan_jax.training.program import make_parts
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch

SHAPE, DEVICES, BATCH, UPDATES = (8, 8, 1), 8, 16, 2
SMALL = {"data.name": "digits", "batch_size": BATCH, "n_critic": 1, "dtype": "float64", "latent.dim": 4, "penalty.weight": 0.5}
SMALL |= {"model.width": 8, "model.depth": 1}
# sizes and budgets, what float64 does not have, and the objective without a critic
FIXED = {*SMALL, "latent.low", "latent.high", "warmup.critic_steps", "warmup.first", "warmup.every"}
FIXED |= {"penalty.dtype", "objective", "imle.samples"}
# Each value has cells, but not each pair: what these choose is of one layer or one player, whatever the method.
SECONDARY = {
    *("latent.name", "model.generator_activation", "model.critic_activation", "model.initializer", "penalty.perturbation"),
    *("clip_scope", "critic.optimizer", "generator.optimizer", "decay"),
}
# the value of what is on; of other numbers .5 or the next whole one
OTHER = {"clip": 0.05, "replay.capacity": 8, "model.classes": 10}
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


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def updates(config, axis_name):
    """Returns a function of (state, batches, hyper): the state after some updates and their metrics."""
    _, steps = make_parts(config, SHAPE, axis_name, classes=10)

    def run(state, batches, hyper):
        def take(position, key, count):
            return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, position, count), batches)

        body = lambda state, key: steps.update(state, take, key, hyper)  # noqa: E731
        return jax.lax.scan(body, state, jax.random.split(jax.random.key(1), UPDATES))

    return steps.init_state, run


def batches_of(config):
    rng = np.random.default_rng(0)
    count = UPDATES * batches_per_update(config, 0)
    x = np.tanh(rng.normal(size=(count, BATCH, *SHAPE)) + np.linspace(-1, 1, BATCH).reshape(-1, 1, 1, 1))
    return Batch(x, rng.integers(0, 10, (count, BATCH)).astype(np.int32))


def difference(tree, other):
    """The largest difference, in units of what the entries are."""
    floating = [np.issubdtype(np.asarray(leaf).dtype, np.floating) for leaf in jax.tree.leaves(tree)]
    leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(other), floating, strict=True)
    return max(np.max(np.abs(a - b) / (np.abs(b) + 1e-3), initial=0) for a, b, real in leaves if real)


def told(cell):
    """A name of a cell's test; `-l` shows all of it."""
    return "-".join(cell[key] for key in ("model.name", "loss", "penalty.name", "penalty.points", "model.critic_kernel"))


@pytest.mark.parametrize("cell", CELLS, ids=told)
def test_a_whole_update(cell):
    """Finite; gradients that are not 0; every number that is on moves something; on eight devices the same."""
    config = config_of(cell)
    batches, hyper = batches_of(config), make_hyperparameters(config)
    init_state, run = updates(config, None)
    state = jax.jit(init_state)(jax.random.key(0))
    run = jax.jit(run)
    after, metrics = run(state, batches, hyper)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))
    for name in ("critic_gradient_norm", "generator_gradient_norm"):
        assert np.min(metrics[name]) > 1e-12, name

    on = [key for key in keys_of("switch") if cell.get(key)]
    on += ["penalty.weight"] if cell["penalty.name"] in ("two_sided", "zero_centred") else []  # flat critics may pay no other
    for key in [
        *on,
        *(["penalty.weight"] if cell["penalty.name"] not in ("none", "one_sided") else []),
    ]:  # flat critics pay none
        other, _ = run(state, batches, hyper | {key: hyper[key] / 2})
        assert difference(other, after) > 1e-12, f"{key} moves nothing"

    _, share = updates(config, "data")
    shares = jax.tree.map(lambda x: x.reshape(len(x), DEVICES, -1, *x.shape[2:]), batches)
    mapped = jax.jit(jax.vmap(share, in_axes=(None, 1, None), axis_name="data", axis_size=DEVICES))
    everywhere = mapped(state, shares, hyper)
    for device in (0, DEVICES - 1):
        of_device = jax.tree.map(lambda leaf, i=device: leaf[i], everywhere)
        assert difference(of_device, (after, metrics)) < 1e-9


def test_every_choice_has_a_cell_or_is_refused():
    seen = {choice for cell in CELLS for choice in cell.items()}
    alone = {(key, value) for key, values in CHOICES.items() for value in values} - seen
    assert all(completed(choice) is None for choice in alone), alone


def test_what_no_cell_has_is_refused_by_its_name():
    for pair in REFUSED:
        lines = wrong(dict(pair))
        assert any(key in line for line in lines for key, _ in pair), (pair, lines)
