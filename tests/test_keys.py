"""The table of keys: every key of configs/default.py has its row, and a row's role holds of the program."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from experiments import compare, restore
from wgan_jax.config import flatten
from wgan_jax.keys import FOLDER, FOLDER_OR_NONE, KEYS, PATH, Role, keys_of
from wgan_jax.plan import program_of
from wgan_jax.training.program import make_parts
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.training.workdir import MAY_CHANGE
from wgan_jax.types import Batch

NUMBERS = keys_of("number", "switch")
SMALL = {"batch_size": 4, "n_critic": 2, "model.width": 4, "model.depth": 1, "warmup.critic_steps": 0}
# every switch on, and what is on by a name or a size: every number has its part in it
ALL_PARTS = {
    **dict.fromkeys(keys_of("switch"), 0.5),
    "penalty.name": "two_sided",
    "penalty.points": "perturbed_both",
    "clip_with_penalty": True,
    "replay.capacity": 8,
    "model.classes": 2,
    "conditioning.name": "auxiliary",  # unchecked: with a mismatch too
}


def config_with(changes):
    config, _, _ = default.start("gan", "ring8")
    with config.ignore_type():
        config.update_from_flattened_dict({"loss": "non_saturating", **SMALL, **ALL_PARTS, **changes})
    return config


def another(value):
    """Another value of the same type."""
    return {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: 0.5 * v + 0.2, str: lambda v: v + "x"}[type(value)](
        value
    )


def update_of(config):
    """Returns a config's update as a function of (state, hyper), and the shapes of a state."""
    (_, steps), size = make_parts(config, (2,), classes=2), config.batch_size
    zeros = lambda position, key, count: Batch(jnp.zeros((count, size, 2)), jnp.zeros((count, size), jnp.int32))  # noqa: E731
    update = lambda state, hyper: steps.update(state, zeros, jax.random.key(0), hyper)  # noqa: E731
    return update, jax.eval_shape(steps.init_state, jax.random.key(0))


def program(changes):
    """Returns a config's update, of which state and hyperparameters are arguments, as text and its constants."""
    config = config_with(changes)
    update, state = update_of(config)
    traced = jax.make_jaxpr(update)(state, make_hyperparameters(config))
    return str(traced), [np.asarray(constant).tolist() for constant in traced.consts]


@functools.cache
def base():
    return program({})


def test_every_key_has_a_row_and_every_row_a_key():
    flat = flatten(default.default_config())
    assert set(KEYS) == set(flat)
    assert {row.role for row in KEYS.values()} == set(get_args(Role.__value__))
    assert {key for key, row in KEYS.items() if type(flat[key]) is not row.rule.type} == set()


def test_the_numbers_are_those_of_the_config_by_its_own_names():
    values = {key: 0.01 * index for index, key in enumerate(NUMBERS, 1)}
    hyper = make_hyperparameters(config_with(values))
    assert {key: float(value) for key, value in hyper.items()} == pytest.approx(values)
    assert {value.shape for value in hyper.values()} == {()}
    assert {"critic.learning_rate", "penalty.weight", "decay_steps", "clip", "ema_decay"} <= hyper.keys()


@pytest.mark.parametrize("key", KEYS)
def test_the_role_decides_whether_another_value_is_another_program(key):
    config, role = config_with({}), KEYS[key].role
    changed = config_with({key: another(flatten(config)[key])})
    assert (program_of(changed) == program_of(config)) == (role in ("number", "switch", "name"))


def test_a_key_without_a_row_changes_the_program():
    config = config_with({})
    with config.unlocked():
        config.new = 1.0
    assert program_of(config) != program_of(config_with({}))


@pytest.mark.parametrize("key", [*NUMBERS, *keys_of("name"), *MAY_CHANGE])
def test_what_a_sweep_traces_or_a_resume_may_change_is_not_written_into_the_program(key):
    assert program({key: another(flatten(config_with({}))[key])}) == base()


@pytest.mark.parametrize("key", keys_of("number"))
def test_a_number_at_0_is_the_same_program(key):
    assert program({key: 0}) == base()


@pytest.mark.parametrize("key", keys_of("switch"))
def test_a_switch_at_0_leaves_its_part_out(key):
    assert program({key: 0.0}) != base()
    assert program_of(config_with({key: 0.0})) != program_of(config_with({}))


class Spy(dict):
    """Hyperparameters that note which of them are read."""

    def __init__(self, *values):
        super().__init__(*values)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


def test_the_program_reads_every_number():
    config = config_with({})
    spy, (update, state) = Spy(make_hyperparameters(config)), update_of(config)
    jax.eval_shape(lambda state: update(state, spy), state)
    assert spy.read == set(NUMBERS)


def test_what_tells_runs_apart_though_a_resume_may_change_it():
    assert set(MAY_CHANGE) - set(compare.UNCOMPARED) == {"steps", "eval_every"}
    assert {"data.path", "data.data_dir", "data.download"} <= set(restore.PLACES) <= set(MAY_CHANGE)


def test_the_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settled = {key: row.settled(key, "x") for key, row in KEYS.items() if row.rule.type is str}
    absolute = {key for key, value in settled.items() if value == f"{tmp_path}/x"}
    assert absolute == {key for key, row in KEYS.items() if row.rule in (PATH, FOLDER, FOLDER_OR_NONE)} != set()
