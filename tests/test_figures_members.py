"""Members of a figure: trained to the stops that it names, the same numbers however often it looks, each by its own values."""

import jax
import numpy as np
import pytest

from experiments.figures.members import examples, one, seeds, train
from wgan_jax.data import digits, synthetic

SMALL = {"batch_size": 8, "n_critic": 1, "model.width": 4, "model.depth": 1}


@pytest.fixture(scope="module")
def at(make_config):
    """Returns (stops, members) -> {step: states, NumPy} of a small ring8."""

    def moments(stops, members):
        config = make_config("wgan_gp.py:ring8", SMALL)
        found = train(config, synthetic.ring8(config.data), members, stops)
        return {moment.step: jax.device_get(moment.states) for moment in found}

    return moments


def leaves(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_where_it_stops_changes_no_number(at):
    often, once = at([2, 4, 8], seeds(2)), at([8], seeds(2))
    assert list(often) == [2, 4, 8]
    assert often[8].step.tolist() == [8, 8]
    np.testing.assert_array_equal(leaves(often[8]), leaves(once[8]))


@pytest.mark.slow
def test_members_have_their_own_seeds_and_numbers(at):
    members = [{"seed": 3}, {"seed": 3, "penalty.weight": 5.0}, {"seed": 4}]
    states = at([3], members)[3].critic.params
    first, heavier, other = (leaves(one(states, index)) for index in range(3))
    assert not np.array_equal(first, heavier)
    assert np.abs(first - heavier).max() < np.abs(first - other).max()  # of one beginning
    np.testing.assert_array_equal(first, leaves(one(at([3], members[:1])[3].critic.params, 0)))


def test_stored_examples_are_fed_past_the_first_feed(make_config, monkeypatch):
    monkeypatch.setattr("wgan_jax.data.source.ROWS_PER_FEED", 64)  # four updates of two batches
    config = make_config("wgan_gp.py:digits", SMALL)
    data = digits.load(config.data)
    (moment,) = train(config, data, seeds(2), [10])
    drawn = np.asarray(examples(moment.networks, moment.states.ema, 5, 0))
    assert drawn.shape == (2, 5, 8, 8, 1)
    assert np.isfinite(drawn).all()
    assert not np.array_equal(drawn[0], drawn[1])
    assert moment.metrics["critic_loss"].shape == (2,)
