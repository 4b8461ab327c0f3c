"""Mode statistics on mixtures whose answers are known."""

import numpy as np
import pytest

from wgan_jax.metrics.modes import mode_statistics

CENTRES = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])


def _mixture(modes, count=8000, sigma=0.5):
    rng = np.random.default_rng(0)
    return CENTRES[rng.choice(modes, count)] + sigma * rng.normal(size=(count, 2))


def test_real_data_has_all_modes_and_unit_spread():
    values = mode_statistics(_mixture([0, 1, 2, 3]), CENTRES, 0.5)
    assert values["modes"] == 4
    assert values["good_share"] == pytest.approx(1 - np.exp(-4.5), abs=0.004)  # chi^2 with 2 degrees at 9: 98.9 %
    assert values["mode_tv"] < 0.02
    assert values["mode_sigma"] == pytest.approx(1, abs=0.02)


def test_missing_modes_and_unequal_weights_show():
    values = mode_statistics(_mixture([0, 0, 0, 1]), CENTRES, 0.5)
    assert values["modes"] == 2
    assert values["mode_tv"] == pytest.approx(0.5, abs=0.02)  # shares (3/4, 1/4, 0, 0) against 1/4 each


def test_a_mode_needs_a_share_of_all_samples_not_of_good_ones():
    bad = np.full((980, 2), 5.0)
    assert mode_statistics(np.concatenate([bad, _mixture([0], 20)]), CENTRES, 0.5)["modes"] == 0  # 2 % < 1 / 16
    assert mode_statistics(np.concatenate([bad, _mixture([0], 100)]), CENTRES, 0.5)["modes"] == 1


def test_collapsed_modes_have_no_spread():
    values = mode_statistics(np.repeat(CENTRES, 50, axis=0), CENTRES, 0.5)
    assert (values["modes"], values["mode_sigma"]) == (4, 0)


def test_without_good_samples_nothing_is_covered():
    values = mode_statistics(np.full((10, 2), 5.0), CENTRES, 0.5)
    assert (values["modes"], values["good_share"], values["mode_tv"]) == (0, 0, 1)
    assert np.isnan(values["mode_sigma"])
