"""The columns of a table: both forms of a row by value, there and back, and how a generator ends in them."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy

from wgan_jax.data.columns import Column, Columns, Layout, decimals_of, fit_columns
from wgan_jax.data.labels import conditions_of, draw_conditioned
from wgan_jax.data.numbers import KNOTS, METHODS
from wgan_jax.models import build_networks
from wgan_jax.types import Batch, Latents

RNG = np.random.default_rng(0)
N = 400
KEY = jax.random.key(0)


def numbers(method, x, **values):
    """A table of one column of numbers, fitted to them."""
    x = np.asarray(x, float)
    (column,) = fit_columns([Column("x", "number", "float64", method, **values)], x[:, None])
    return Columns((column,)), x[:, None]


def mixed(method="quantile"):
    """A table with a column of each kind, and rows."""
    columns = [
        Column("price", "number", "float64", method, decimals=2),
        Column("cut", "category", "str", values=("fair", "good", "ideal")),
        Column("rooms", "integer", "Int64", method, decimals=0, missing=True),
        Column("always", "constant", "str", values=("yes",)),
        Column("city", "category", "str", values=("Bonn", "Köln"), missing=True),
        Column("grade", "ordered", "ordered", method, values=("low", "mid", "high"), decimals=0),
        Column("day", "date", "str", method, decimals=0, form="%d.%m.%Y", unit="D"),
    ]
    rows = np.stack(
        [
            np.round(RNG.lognormal(3, 1, N), 2),
            RNG.integers(0, 3, N),
            np.where(RNG.random(N) < 0.2, np.nan, RNG.integers(1, 9, N)),
            np.zeros(N),
            np.where(RNG.random(N) < 0.3, np.nan, RNG.integers(0, 2, N)),
            RNG.integers(0, 3, N),
            RNG.integers(18_000, 19_000, N),
        ],
        axis=1,
    )
    return Columns(fit_columns(columns, rows)), rows


@pytest.mark.parametrize("method", METHODS)
def test_encode_undoes_decode(method):
    columns, rows = mixed("quantile" if method == "log" else method)
    if method == "log":
        columns, rows = numbers("log", RNG.lognormal(0, 2, N), decimals=None)
    x = columns.decode(rows, np.float64)
    assert x.shape == (N, columns.units) == (N, columns.layout.bounded + columns.layout.linear + sum(columns.layout.blocks))
    back = columns.encode(x)
    inside = np.ones(back.shape, bool)
    if method == "modes":  # an outlier stays within 4 deviations of its mode
        inside = (np.abs(x[:, : columns.layout.bounded]) < 1).all(axis=1)[:, None] & inside
    if method == "normal":  # and one of the tails within them
        inside = (np.abs(x[:, : columns.layout.linear]) < 3).all(axis=1)[:, None] & inside
    assert inside.mean() > 0.8
    np.testing.assert_allclose(np.where(inside, back, 0), np.where(inside, rows, 0), rtol=1e-9)
    assert np.abs(x[:, : columns.layout.bounded]).max(initial=0) <= 1
    blocks = x[:, columns.layout.bounded + columns.layout.linear :]
    np.testing.assert_array_equal(blocks.sum(axis=1), np.full(N, len(columns.layout.blocks)))


def test_what_a_run_keeps_is_json():
    for method in METHODS:
        columns, rows = mixed(method) if method != "log" else numbers("log", RNG.lognormal(0, 2, N))
        again = Columns.of_json(json.loads(json.dumps(columns._asdict())))
        assert again == columns
        np.testing.assert_array_equal(again.decode(rows), columns.decode(rows))


def test_places_by_hand():
    """Bounded entries first, then one-hot blocks in the columns' order: cut 3, rooms (there, missing), city 2 and missing."""
    columns, _ = mixed()
    assert columns.layout == Layout(4, 0, (3, 2, 3), (4, 5, 6, 9, 10, 11))
    assert columns.conditions == ("cut=fair", "cut=good", "cut=ideal", "city=Bonn", "city=Köln", "city=")
    row = np.array([[20.0, 1, np.nan, 0, np.nan, 2, 18_500]])
    x = columns.decode(row)[0]
    assert x[4:].tolist() == [0, 1, 0, 0, 1, 0, 0, 1]
    assert x[1] == 0  # a missing number is anywhere
    assert columns.labels(row).tolist() == [[1, 5]]


def test_the_distribution_function_by_hand():
    """Of 0, 0, 1, 3 a half lies at 0: [0, .5], then [.5, .75] and [.75, 1]; entries are .9 (2 u - 1), in the middle of it.

    What lies beyond .9 is thrown back: .95 to .85, which is u = .97, and 1 to .8.
    """
    columns, rows = numbers("quantile", [0, 0, 1, 3], decimals=0)
    np.testing.assert_allclose(columns.decode(rows, np.float64)[:, 0], 0.9 * np.array([-0.5, -0.5, 0.25, 0.75]))
    np.testing.assert_array_equal(columns.encode(np.array([[-1.0], [-0.1], [0.1], [0.6], [5.0]]))[:, 0], [0, 0, 1, 3, 3])
    columns, rows = numbers("quantile", np.arange(1001) / 1000)
    np.testing.assert_allclose(
        columns.encode(np.array([[0.85], [0.95], [1.0], [-0.95]]))[:, 0], [0.972, 0.972, 0.944, 0.028], atol=2e-3
    )


@pytest.mark.parametrize("distinct", [5, KNOTS, 3 * KNOTS])
def test_on_a_device_the_entries_of_any_numbers_are_uniform(distinct):
    columns, rows = numbers("quantile", RNG.integers(0, distinct, 8000) ** 2, decimals=0)
    x = columns.for_device(rows, 1)
    assert x.dtype == np.float32
    assert scipy.stats.kstest(x[:, 0], scipy.stats.uniform(-0.9, 1.8).cdf).statistic < 0.02
    assert (columns.encode(x) == rows).mean() > (0.999 if distinct <= KNOTS else 0.3)
    np.testing.assert_array_equal(columns.for_device(rows, 1), x)
    assert (columns.for_device(rows, 2) != x).any() == (distinct <= KNOTS)


def test_normal_scores_are_normal():
    columns, rows = numbers("normal", RNG.integers(0, 50, 8000), decimals=0)
    assert scipy.stats.kstest(columns.for_device(rows, 0)[:, 0], scipy.stats.norm.cdf).statistic < 0.02
    assert columns.layout == Layout(0, 1, ())


def test_two_humps_are_two_modes():
    columns, rows = numbers("modes", np.concatenate([RNG.normal(-50, 1, 700), RNG.normal(50, 2, 300)]))
    weights, means, _ = columns.columns[0].fitted
    x = columns.decode(rows)
    near = [index for index, mean in enumerate(means) if mean < 0]
    np.testing.assert_array_equal(x[:, 1:][:700, near].sum(axis=1), 1)
    assert sum(weights[index] for index in near) == pytest.approx(0.7, abs=0.02)
    assert np.abs(columns.encode(x) - rows).max() < 1e-4


def test_values_stay_within_those_of_the_training_split_and_their_decimals():
    columns, _ = mixed("standard")
    x = RNG.normal(0, 30, (500, columns.units))
    rows = columns.encode(x)
    for column, values in zip(columns.columns, rows.T, strict=True):
        there = values[~np.isnan(values)]
        assert column.kind in ("category", "constant") or column.low <= there.min() <= there.max() <= column.high
    np.testing.assert_array_equal(np.round(rows[:, 0], 2), rows[:, 0])
    frame = columns.frame(rows)
    assert set(frame["cut"]) == {"fair", "good", "ideal"}
    assert set(frame["city"].dropna()) == {"Bonn", "Köln"}


def test_a_frame_has_the_tables_own_columns_dtypes_and_missing_values():
    columns, rows = mixed()
    frame = columns.frame(rows)
    assert list(frame.columns) == ["price", "cut", "rooms", "always", "city", "grade", "day"]
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "str", "Int64", "str", "str", "category", "str"]
    assert frame["grade"].cat.ordered
    assert frame["grade"].cat.categories.tolist() == ["low", "mid", "high"]
    np.testing.assert_array_equal(frame["rooms"].isna(), np.isnan(rows[:, 2]))
    np.testing.assert_array_equal(frame["city"].isna(), np.isnan(rows[:, 4]))
    assert set(frame["always"]) == {"yes"}
    assert pd.to_datetime(frame["day"], format="%d.%m.%Y").iloc[0] == pd.Timestamp("1970-01-01") + pd.Timedelta(days=rows[0, 6])


def test_an_exported_generator_restores_rows_as_encode_does():
    columns, _ = mixed()
    x = RNG.uniform(-1, 1, (200, columns.units)).astype(np.float32)
    traced = jax.jit(columns.restore)(jnp.asarray(x))
    encoded = columns.encode(x)
    np.testing.assert_array_equal(np.isnan(traced), np.isnan(encoded))
    far = np.abs(np.nan_to_num(np.asarray(traced)) - np.nan_to_num(encoded)) > np.maximum(
        1, 1e-3 * np.abs(np.nan_to_num(encoded))
    )
    assert far.mean() < 0.01


@pytest.mark.parametrize(
    ("x", "expected"), [([1, 2, 30], 0), ([0.5, 1], 1), ([0.25, 1.1], 2), ([np.pi], None), ([0.1234567891], 10)]
)
def test_decimals(x, expected):
    assert decimals_of(np.asarray(x, float)) == expected


# Training by sampling

LABELS = np.stack([RNG.choice(3, 3000, p=[0.9, 0.09, 0.01]), 3 + RNG.integers(0, 2, 3000)], axis=1).astype(np.int32)


@pytest.mark.parametrize("balance", [0, 1])
def test_conditions_are_drawn_by_column_and_frequency_and_a_row_has_what_is_asked(balance):
    conditions = conditions_of(LABELS, 6, balance)  # one more category, which no row has
    places = draw_conditioned(conditions, 0, 5, 40, 500)
    labels = LABELS.ravel()[places]
    np.testing.assert_array_equal(LABELS[places // 2, places % 2], labels)
    shares = np.bincount(labels.ravel(), minlength=6) / labels.size
    logs = np.log1p(conditions.counts) if balance else conditions.counts
    expected = np.concatenate([logs[:3] / logs[:3].sum() / 2, logs[3:] / logs[3:].sum() / 2])
    np.testing.assert_allclose(shares, expected, atol=0.01)
    assert shares[5] == 0
    rows, having = np.unique(places[labels == 4] // 2), np.flatnonzero(LABELS[:, 1] == 4)
    assert set(rows) <= set(having)
    assert len(rows) > 0.9 * len(having)  # of 5,000 draws


def test_what_is_drawn_depends_on_the_seed_and_the_position_alone():
    conditions = conditions_of(LABELS, 5)
    whole = draw_conditioned(conditions, 3, 0, 6, 8)
    np.testing.assert_array_equal(draw_conditioned(conditions, 3, 4, 2, 8), whole[4:])
    assert (draw_conditioned(conditions, 4, 0, 6, 8) != whole).any()
    assert len({tuple(row) for row in whole.tolist()}) == 6


# Networks of rows

LAYOUT = Layout(2, 1, (3, 2), (3, 4, 5, 6, 7))
SMALL = {"conditioning.name": "embedding", "batch_size": 8, "packing": 2, "model.width": 8, "model.depth": 1, "latent.dim": 3}


@pytest.fixture(scope="module")
def networks(make_config):
    config = make_config("wgan_gp.py:table", {**SMALL, "devices": 1})
    return build_networks(config, (8,), classes=5, layout=LAYOUT)


@pytest.mark.slow
def test_a_generator_of_rows_ends_as_its_layout_says(networks):
    variables = networks.init_generator(KEY)
    variables["params"]["Dense_0"]["bias"] = jnp.array([9.0, 0, 9, 0, 1, 2, 0, 0])
    latents = networks.latents(jax.random.split(KEY, 4000), jnp.zeros(4000, jnp.int32))
    x = np.asarray(networks.generate(variables, latents))
    assert np.abs(x[:, :2]).max() <= 1
    assert x[:, 2].max() > 1
    for block in (x[:, 3:6], x[:, 6:]):
        np.testing.assert_allclose(block.sum(axis=1), 1, rtol=1e-5)
        assert (block.max(axis=1) > 0.9).mean() > 0.6  # nearly one-hot, at temperature .2
    np.testing.assert_array_equal(x, networks.generate(variables, latents))  # a function of the latents alone


def test_categories_are_drawn_by_the_softmax_of_their_logits(networks):
    """Without weights the logits are the biases 0, 1, 2: shares 1, e, e^2 over their sum."""
    variables = jax.tree.map(jnp.zeros_like, networks.init_generator(KEY))
    variables["params"]["Dense_0"]["bias"] = jnp.array([0.0, 0, 0, 0, 1, 2, 0, 0])
    latents = networks.latents(jax.random.split(KEY, 8000), jnp.full(8000, 3))  # which asks for one of the other block
    drawn = np.asarray(networks.generate(variables, latents))[:, 3:6].argmax(axis=1)
    np.testing.assert_allclose(np.bincount(drawn) / 8000, np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), atol=0.02)


def test_a_row_has_the_category_that_is_asked_for(networks):
    """And the others of its block not, whatever the logits; other blocks are drawn as before."""
    latents = networks.latents(jax.random.split(KEY, 500), jnp.tile(jnp.arange(5), 100))
    x = np.asarray(networks.generate(networks.init_generator(KEY), latents))
    asked = np.array(LAYOUT.conditions)[latents.label]
    np.testing.assert_allclose(x[np.arange(500), asked], 1)
    other = x[asked < 6][:, 6:].argmax(axis=1)
    assert 0.2 < other.mean() < 0.8


def test_a_critic_of_packs_sees_the_label_of_each_row_beside_it(networks):
    variables = networks.init_critic(KEY)
    x = jnp.asarray(RNG.normal(size=(1, 2, 8)), jnp.float32)
    scores = {
        labels: float(networks.score(variables, Batch(x, jnp.array([labels], jnp.int32)))[0])
        for labels in ((0, 0), (1, 0), (0, 1))
    }
    assert len(set(scores.values())) == 3


def test_without_a_category_there_is_no_condition(make_config):
    config = make_config("wgan_gp.py:table", {**SMALL, "devices": 1})
    networks = build_networks(config, (2,), layout=Layout(2, 0, ()))
    assert networks.classes == 0
    latents = Latents(jnp.zeros((3, 3)), jnp.zeros(3, jnp.int32))
    assert networks.generate(networks.init_generator(KEY), latents).shape == (3, 2)


def test_nothing_is_warned_of_where_a_column_is_constant_but_for_missing_values():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        columns, rows = numbers("standard", [2.0, np.nan, 2.0], missing=True, decimals=0)
        np.testing.assert_array_equal(columns.encode(columns.decode(rows)), rows)


def test_rows_need_no_classifier(make_config):
    """With an auxiliary one the generator alone is told its label: a critic that sees the row sees the category."""
    config = make_config("wgan_gp.py:table", {"conditioning.name": "auxiliary", "model.width": 8, "latent.dim": 3})
    networks = build_networks(config, (8,), classes=5, layout=LAYOUT)
    x, labels = jnp.asarray(RNG.normal(size=(2, 8)), jnp.float32), jnp.array([0, 4])
    variables = networks.init_critic(KEY)
    output, _ = networks.critic(variables["params"], {}, x, labels)
    assert output.class_logits is None
    np.testing.assert_array_equal(output.score, networks.score(variables, Batch(x, labels[::-1])))
    z = jnp.zeros((2, 3))
    made = networks.generate(networks.init_generator(KEY), Latents(z, labels))
    assert (made[0] != made[1]).any()
