"""Attributes as a condition: read, seen by both networks, asked for, told again; every mistake in one line."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from wgan_jax.data import load_dataset
from wgan_jax.data.array import from_arrays
from wgan_jax.data.attributes import Attributes, Column, as_cells, asked_columns, filled, of_columns, parse
from wgan_jax.data.dataset import describe, in_one_line
from wgan_jax.errors import UserError
from wgan_jax.evaluation.apart import VALUES
from wgan_jax.evaluation.evaluator import left_out, make_evaluator
from wgan_jax.evaluation.wanted import arrays, in_a_name, wanted
from wgan_jax.models import build_networks
from wgan_jax.models.embedding import CONDITIONINGS, label_loss
from wgan_jax.objectives import make_objective
from wgan_jax.training.update import make_hyperparameters, make_steps
from wgan_jax.types import Batch, Latents

KEY = jax.random.key(0)
HAIR, SKIN = ("blond", "green", "red"), ("dark", "light")
VALUES_SHOWN = {*(f"hair: {name}" for name in HAIR), *(f"skin: {name}" for name in SKIN)}
COLOURS = {"blond": (230, 220, 120), "green": (20, 200, 40), "red": (220, 30, 20)}
TINY = {"model.width": 4, "model.depth": 1, "latent.dim": 2, "batch_size": 4}
QUICK = {"steps": 2, "eval_every": 2, "sample_every": 2, "checkpoint_every": 2, "devices": 1}
QUICK |= {"eval.draws": 1, "eval.samples": 30, "eval.metrics": "wasserstein,labels,label_numbers"}


def table(count=360):
    """Rows of file_name, hair, skin and age; nobody is both red and light."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(count):
        hair, skin = HAIR[index % 3], SKIN[index // 3 % 2]
        rows.append((f"{index:03d}.png", hair, "dark" if hair == "red" else skin, f"{rng.uniform(0, 50):.2f}"))
    return rows


ROWS = table()


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of 8x8 images that show their attributes: hair above, the skin's brightness below, the age in a corner."""
    root = tmp_path_factory.mktemp("faces")
    for name, hair, skin, age in ROWS:
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:4], pixels[4:], pixels[6:, 6:] = COLOURS[hair], 60 if skin == "dark" else 190, int(5 * float(age))
        Image.fromarray(pixels).save(root / name)
    with open(root / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file_name", "hair", "skin", "age"), *ROWS])
    return root


@pytest.fixture
def config_of(make_config, faces, tmp_path_factory):
    cache = tmp_path_factory.getbasetemp() / "attribute-caches"

    def make(label, **changes):
        data = {
            "data.path": str(faces),
            "data.cache_dir": str(cache),
            "data.label": label,
            "data.image_size": 8,
        }
        small = {"model.name": "mlp", "model.generator_normalization": "none"}
        return make_config("wgan_gp.py:faces64", {**TINY, **QUICK, **data, **small, **changes})

    return make


def shown(images):
    """What images show: hair, skin, age."""
    colours = np.array([COLOURS[name] for name in HAIR])
    hair = np.abs(images[:, 0, 0, None].astype(int) - colours).sum(-1).argmin(1)
    return [HAIR[i] for i in hair], np.where(images[:, 4, 0, 0] < 125, "dark", "light").tolist(), images[:, 7, 7, 0] / 5


THREE = Attributes(
    (Column("hair", HAIR), Column("age", (), 30.0, 10.0), Column("skin", SKIN)),
    np.array([[0, -1, 0], [0, 0.5, 1], [1, 2, 0], [2, 0, 0]]),
)
CODES = np.array([[1, 0, 0, -1, 1, 0], [1, 0, 0, 0.5, 0, 1], [0, 1, 0, 2, 1, 0], [0, 0, 1, 0, 1, 0]], np.float32)
LABEL = np.array([3, 0, 2, 2], np.int32)


# What is read


def test_a_label_is_a_combination_of_the_columns(config_of):
    dataset = load_dataset(config_of("hair,skin"))
    assert dataset.attributes.columns == (Column("hair", HAIR), Column("skin", SKIN))
    assert len(dataset.class_names) == 5  # nobody is red and light
    assert dataset.class_names[:2] == ("blond, dark", "blond, light")
    for images, labels in dataset.splits.values():
        hair, skin, _ = shown(images)
        told = dataset.attributes.arrays(dataset.attributes.rows[labels])
        assert (told["hair"].tolist(), told["skin"].tolist()) == (hair, skin)
    assert "attributes hair (3 values), skin (2 values): 5 combinations" in in_one_line("faces", dataset)
    assert describe(dataset)["attributes"][1] == {"name": "skin", "values": SKIN, "mean": 0.0, "std": 1.0}
    again = load_dataset(config_of("hair,skin"))  # from the cache
    np.testing.assert_array_equal(again.attributes.rows, dataset.attributes.rows)
    assert load_dataset(config_of("skin,hair")).fingerprint != dataset.fingerprint


def test_numbers_are_standardised_by_the_training_split(config_of):
    dataset = load_dataset(config_of("skin,age"))
    ages = [dataset.attributes.arrays(dataset.attributes.rows[split.labels])["age"] for split in dataset.splits.values()]
    for own, split in zip(ages, dataset.splits.values(), strict=True):
        np.testing.assert_allclose(own, shown(split.images)[2], atol=0.21)  # in pixels a fifth
    standard = dataset.attributes.rows[dataset.train.labels][:, 1]
    np.testing.assert_allclose([standard.mean(), standard.std()], [0, 1], atol=1e-9)
    assert dataset.attributes.columns[1].mean == pytest.approx(ages[0].mean())
    assert set(map(float, (row[3] for row in ROWS))) == set(np.round(np.concatenate(ages), 2))


def test_one_column_of_names_is_classes_as_ever(config_of):
    dataset = load_dataset(config_of("hair"))
    assert (dataset.attributes, dataset.class_names) == (None, HAIR)
    assert [HAIR[label] for label in dataset.train.labels] == shown(dataset.train.images)[0]
    assert load_dataset(config_of("age")).attributes.columns[0].values == ()


def test_of_two_numbers_a_few_are_names_and_many_numbers():
    few, many = [str(i % 5) for i in range(60)], [str(i % 30) for i in range(60)]
    assert (as_cells(few, "", "x").dtype.kind, as_cells(many, "", "x").dtype.kind) == ("U", "f")
    assert (as_cells(few, "numbers", "x").dtype.kind, as_cells(many, "names", "x").dtype.kind) == ("f", "U")
    assert as_cells([str(i) for i in range(60)], "", "x").dtype.kind == "U"  # an index of the rows
    assert as_cells([*many, "?"], "", "x").dtype.kind == "U"
    assert as_cells([*many, "nan"], "", "x").dtype.kind == "U"


def test_columns_are_asked_for_by_name_and_kind():
    columns = ["a", "b", "c,d", "e:names"]
    assert asked_columns("a,b:numbers", columns) == {"a": "", "b": "numbers"}
    assert asked_columns("c,d", columns) == {"c,d": ""}
    assert asked_columns("e:names", columns) == {"e:names": ""}
    assert asked_columns("a:b", columns) == {"a:b": ""}


def test_arrays_have_attributes_too():
    x = np.arange(120, dtype=np.float32).reshape(60, 2)
    whole, numbers = np.stack([np.arange(60) % 2, np.arange(60) % 3], 1), np.stack([x[:, 0], -(x[:, 0] ** 2)], 1)
    kinds = {
        "names": (whole, ["y0", "y1"], (("0", "1"), ("0", "1", "2"))),
        "numbers": (numbers, ["y0", "y1"], ((), ())),
        "one": (numbers[:, 0], ["y"], ((),)),
        "both": ({"kind": whole[:, 0], "size": numbers[:, :1]}, ["kind", "size"], (("0", "1"), ())),
    }
    for y, names, values in kinds.values():
        dataset = from_arrays(x, y)
        assert [column.name for column in dataset.attributes.columns] == names
        assert tuple(column.values for column in dataset.attributes.columns) == values
        for images, labels in dataset.splits.values():
            told = dataset.attributes.arrays(dataset.attributes.rows[labels])
            rows = (images[:, 0] / 2).astype(int)
            given = y if isinstance(y, dict) else {name: y.reshape(60, -1)[:, i] for i, name in enumerate(names)}
            for name, values_of in given.items():
                np.testing.assert_allclose(told[name].astype(float), values_of.reshape(60)[rows], rtol=1e-6)
    assert from_arrays(x, whole[:, 0]).attributes is None
    assert from_arrays(x, whole[:, 0]).class_names == ("0", "1")


# What networks see


@pytest.fixture
def build(make_config):
    def make(name, attributes=THREE, changes=None, shape=(2,)):
        config = make_config("wgan_gp.py:digits", {**TINY, "conditioning.name": name, **(changes or {})})
        return config, build_networks(config, shape, classes=len(attributes.rows), attributes=attributes)

    return make


def random(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), tree)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_code_is_one_hot_blocks_beside_numbers():
    np.testing.assert_array_equal(THREE.codes, CODES)
    assert (THREE.size, THREE.blocks) == (6, [slice(0, 3), slice(3, 4), slice(4, 6)])
    np.testing.assert_allclose(THREE.decode(CODES), THREE.rows)
    back = Attributes.of_json(json.loads(json.dumps(THREE.told())))
    assert back.columns == THREE.columns
    np.testing.assert_array_equal(back.rows, THREE.rows)


@pytest.mark.parametrize("name", ["embedding", "projection", "auxiliary"])
def test_a_label_is_seen_as_its_code(build, name):
    _, networks = build(name)
    z, x = normal(1, 4, 2), normal(2, 4, 2)
    generator, critic = random(networks.init_generator(KEY)), random(networks.init_critic(KEY))
    at = lambda label: np.asarray(networks.generate(generator, Latents(z, label)))  # noqa: E731
    np.testing.assert_allclose(at(LABEL), at(CODES[LABEL]), rtol=1e-5)
    for column in range(3):  # each matters
        other = THREE.encode(filled(THREE.rows[LABEL], {column: 1}))
        assert np.abs(at(other) - at(LABEL)).max() > 1e-3
    score = lambda label: np.asarray(networks.score(critic, Batch(x, label)))  # noqa: E731
    np.testing.assert_allclose(score(LABEL), score(CODES[LABEL]), rtol=1e-5)
    assert (np.abs(score(LABEL) - score((LABEL + 1) % 4)).max() > 1e-3) == CONDITIONINGS[name].matches
    assert (networks.classes, networks.code) == (4, 6)


def test_the_projection_of_attributes_by_hand(build):
    """<E code, h>: the sum over columns of Miyato & Koyama's e(y)."""
    _, networks = build("projection")
    variables, x = random(networks.init_critic(KEY)), normal(1, 4, 2)
    p = variables["params"]
    h = np.maximum(x @ p["Hidden_0"]["Dense_0"]["kernel"] + p["Hidden_0"]["Dense_0"]["bias"], 0)
    wanted = (h @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"])[:, 0] + np.sum(
        h * (CODES[LABEL] @ p["Dense_1"]["kernel"].T), 1
    )
    np.testing.assert_allclose(networks.score(variables, Batch(x, LABEL)), wanted, rtol=1e-5)


def test_at_the_start_a_conditional_scale_is_one(build):
    """Columns are added up, so that ones for each would make it their number."""
    _, networks = build("projection")
    tables = networks.init_generator(KEY)["params"]["Hidden_0"]
    assert [np.abs(tables[f"Embedding_{i}"]["table"]).max() for i in range(2)] == [0, 0]
    config, plain = build("none")
    del config
    z, own = normal(1, 4, 2), networks.init_generator(KEY)
    params = {name: {k: v for k, v in leaf.items() if "Embedding" not in k} for name, leaf in own["params"].items()}
    wanted = plain.generate({"params": params}, Latents(z, LABEL))
    np.testing.assert_allclose(networks.generate(own, Latents(z, LABEL)), wanted, rtol=1e-6)


def test_of_one_column_of_names_networks_are_those_of_classes(build, make_config):
    """The same parameters, and the same outputs."""
    one = Attributes((Column("hair", HAIR),), np.arange(3.0)[:, None])
    for name in ("embedding", "auxiliary"):
        config, networks = build(name, one)
        plain = build_networks(config, (2,), classes=3)
        variables, z, label = networks.init_generator(KEY), normal(1, 4, 2), np.array([2, 0, 1, 1], np.int32)
        jax.tree.map(np.testing.assert_array_equal, variables, plain.init_generator(KEY))
        np.testing.assert_array_equal(
            networks.generate(variables, Latents(z, label)), plain.generate(variables, Latents(z, label))
        )


def entropy(logits, target):
    logits = np.asarray(logits, np.float64)
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(target)), target]


def losses(logits, label):
    rows = THREE.rows[label]
    hair, skin = entropy(logits[:, :3], rows[:, 0].astype(int)), entropy(logits[:, 4:], rows[:, 2].astype(int))
    return hair + skin + (np.asarray(logits[:, 3]) - rows[:, 1]) ** 2


def test_a_classifier_has_a_part_for_each_column():
    logits = normal(0, 4, 6)
    np.testing.assert_allclose(label_loss(jnp.asarray(logits), LABEL, THREE), losses(logits, LABEL), rtol=1e-5)
    np.testing.assert_allclose(label_loss(jnp.asarray(logits), LABEL, None), entropy(logits, LABEL), rtol=1e-5)


def test_both_players_minimise_what_the_auxiliary_classifier_says(build):
    config, networks = build("auxiliary", THREE, {"penalty.name": "none", "clip": 1.0, "conditioning.weight": 0.3})
    objective, hyper = make_objective(config, networks), make_hyperparameters(config)
    state = make_steps(config, networks, objective).init_state(KEY)
    other = np.array([1, 0, 2, 0], np.int32)
    real, generated, z = Batch(normal(1, 4, 2), LABEL), Batch(normal(2, 4, 2), other), normal(3, 4, 2)
    on = lambda batch: networks.critic(state.critic.params, {}, *batch)[0]  # noqa: E731
    wanted_value = np.mean(on(generated).score) - np.mean(on(real).score)
    wanted_value += 0.3 * np.mean(losses(on(real).class_logits, LABEL) + losses(on(generated).class_logits, other))
    found = objective.critic(state.critic.params, state, real, generated, KEY, hyper)[0]
    np.testing.assert_allclose(found, wanted_value, rtol=1e-5)
    made = Batch(networks.generator(state.generator.params, {}, z, other)[0], other)
    wanted_value = -np.mean(on(made).score) + 0.3 * np.mean(losses(on(made).class_logits, other))
    found = objective.generator(state.generator.params, state, Latents(z, other), real, KEY, hyper)[0]
    np.testing.assert_allclose(found, wanted_value, rtol=1e-5)


@pytest.mark.parametrize("name", ["embedding", "projection"])
def test_a_virtually_normalised_generator_takes_a_code_for_its_label(build, name):
    """Its reference batch has the first label either way."""
    _, networks = build(name, changes={"model.generator_normalization": "virtual_batch"})
    variables = {"params": random(jax.eval_shape(networks.init_generator, KEY)["params"])}
    latents = networks.latents(jax.random.split(KEY, 4), LABEL)
    of_labels, of_codes = (networks.generate(variables, latents._replace(label=y)) for y in (LABEL, CODES[LABEL]))
    np.testing.assert_allclose(of_codes, of_labels, rtol=1e-4, atol=1e-5)


# What is asked for


@pytest.fixture(scope="module")
def networks(make_config):
    config = make_config("wgan_gp.py:digits", {**TINY, "conditioning.name": "projection"})
    return build_networks(config, (2,), classes=4, attributes=THREE)


def test_columns_that_are_not_named_are_drawn_as_those_who_share_the_named(networks):
    draw = lambda text, counts=(10, 20, 30, 40): wanted(text, THREE.names(), THREE, "", walks=False).draw(  # noqa: E731
        networks, counts, KEY, 300
    )
    rows = THREE.decode(draw("hair:blond").label)
    assert set(rows[:, 0]) == {0}
    assert set(zip(rows[:, 1], rows[:, 2], strict=True)) == {(-1, 0), (0.5, 1)}
    assert np.mean(rows[:, 2]) == pytest.approx(2 / 3, abs=0.1)
    rows = THREE.decode(draw("age:45").label)  # which nobody is
    assert set(rows[:, 1]) == {1.5}
    assert set(rows[:, 0]) == {0, 1, 2}
    rows = THREE.decode(draw("skin:light,hair:red").label)  # which nobody is both
    assert set(map(tuple, rows[:, [0, 2]])) == {(2, 1)}
    assert set(rows[:, 1]) == {-1, 0.5, 2, 0}


def test_all_values_of_a_column_have_the_same_latents_and_other_columns(networks):
    asked = wanted("skin:dark,hair:all", THREE.names(), THREE, "", walks=False)
    z, label = asked.draw(networks, (1, 1, 1, 1), KEY, 5)
    rows = THREE.decode(label)
    assert asked.each == ("hair: blond", "hair: green", "hair: red")
    assert rows[:, 0].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert set(rows[:, 2]) == {0}
    np.testing.assert_array_equal(z[:5], z[10:])
    np.testing.assert_array_equal(rows[:5, 1:], rows[10:, 1:])
    assert wanted("age:all", THREE.names(), THREE, "", walks=False).each == ("age: 15", "age: 30", "age: 45")


def test_a_walk_changes_one_column(networks):
    asked = wanted("age:20:40,skin:light", THREE.names(), THREE, "", walks=True)
    latents = asked.draw(networks, (1, 1, 1, 1), KEY, 3)
    z, codes = asked.way(latents, 5)
    np.testing.assert_allclose(codes[:, 0, 3], np.linspace(-1, 1, 5))
    np.testing.assert_array_equal(codes[0, :, [0, 1, 2, 4, 5]], codes[4, :, [0, 1, 2, 4, 5]])
    np.testing.assert_array_equal(z[0], z[4])
    _, codes = wanted("hair:red:blond", THREE.names(), THREE, "", walks=True).way(latents, 3)
    np.testing.assert_allclose(codes[:, 0, :3], [[0, 0, 1], [0.5, 0, 0.5], [1, 0, 0]])
    assert asked.words == "skin light, age 20 to 40"
    assert in_a_name(asked.words) == "_label_skin_light_age_20_to_40"


def test_values_may_have_commas_and_colons():
    odd = Attributes((Column("a", ("x,y", "u:v", "all")), Column("b", ("y", "z"))), np.zeros((1, 2)))
    for text, entries in (("a:x,y,b:z", [(0.0,), (1.0,)]), ("b:y,a:u:v", [(0.0,), (1.0,)]), ("a:all", [(2.0,)])):
        assert [wish.entries for wish in parse(text, odd)] == entries


def test_labels_are_told_in_the_units_of_the_data():
    told = arrays(LABEL, THREE)
    assert told["labels.hair"].tolist() == ["red", "blond", "green", "green"]
    assert told["labels.age"].tolist() == [30, 20, 50, 50]
    np.testing.assert_array_equal(arrays(CODES[LABEL], THREE)["labels.skin"], told["labels.skin"])
    assert list(arrays(LABEL, None)) == ["labels"]


BAD_LABELS = {  # text of --label, whether it walks -> words of the line
    "no column": ("green", False, "'green' is not COLUMN:VALUE; the run's columns are hair (blond, green, red), age (a number"),
    "an unknown column": ("eyes:blue", False, "'eyes:blue' is not COLUMN:VALUE"),
    "an unknown value": ("hair:pink", False, "hair is not 'pink'; it is blond, green, red"),
    "another case": ("hair:Red", False, "hair is not 'Red'"),
    "nothing after the colon": ("hair:", False, "hair is not ''"),
    "a number's name": ("age:old", False, "age is not 'old'; it is a number, on average 30"),
    "a number without end": ("age:inf", False, "age is not 'inf'"),
    "a column twice": ("hair:red,hair:green", False, "hair is asked for twice"),
    "two columns that vary": ("hair:all,skin:all", False, "only one column can be :all"),
    "two walks": ("hair:red:green,skin:dark:light", True, "only one column can be :all, or lead from"),
    "a walk without steps": ("hair:red:green", False, "is a way from one value to another; it goes with --interpolate"),
    "a walk to nowhere": ("hair:red:pink", True, "hair is not 'pink'"),
    "all of numbers": ("all", False, "all combinations of numbers are without end; ask for one column, such as age:all"),
    "empty": ("", False, "'' is not COLUMN:VALUE"),
    "a trailing comma": ("hair:red,", False, "hair is not 'red,'"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_a_label_that_cannot_be_is_one_line(case):
    text, walks, words = BAD_LABELS[case]
    with pytest.raises(UserError) as caught:
        wanted(text, THREE.names(), THREE, "", walks=walks)
    (line,) = caught.value.lines
    assert line.startswith("--label: ")
    assert words in line


# What an evaluation says


def painted(dataset, networks):
    """The generator that paints what its code asks for, as `faces` does, with hair of the next colour for light skin."""

    def generate(variables, latents):
        codes = latents.label if latents.label.ndim > 1 else jnp.asarray(dataset.attributes.codes)[latents.label]
        light = codes[:, 4:5]
        hair = codes[:, :3] * (1 - light) + jnp.roll(codes[:, :3], 1, axis=1) * light
        above = hair @ jnp.array([COLOURS[name] for name in HAIR], jnp.float32)
        age = 5 * (dataset.attributes.columns[2].mean + dataset.attributes.columns[2].std * codes[:, 5])
        x = jnp.broadcast_to(above[:, None, None], (len(codes), 8, 8, 3))
        x = x.at[:, 4:].set(jnp.where(light > 0.5, 190, 60)[:, None, None])
        return x.at[:, 6:, 6:].set(age[:, None, None, None]) / 127.5 - 1

    return networks._replace(generate=generate)


def test_agreement_is_told_by_column(config_of):
    """Dark faces have the hair that was asked for, light ones never; skin and age always agree."""
    config = config_of("hair,skin,age", **{"conditioning.name": "projection"})
    dataset = load_dataset(config)
    labels = {"classes": len(dataset.class_names), "attributes": dataset.attributes, "bounded": True}
    networks = painted(dataset, build_networks(config, dataset.shape, **labels))
    evaluator = make_evaluator(config, dataset, networks)
    values = evaluator.of_generator({}, networks.init_critic(KEY), "test", 0)
    real = evaluator.of_real("test", 0)
    assert real["label_agreement"] > 0.99
    assert real["label_correlation"] > 0.9
    light = np.mean([row[2] == "light" for row in ROWS])
    assert values["label_agreement"] == pytest.approx(1 - light / 2, abs=0.12)
    assert values["smallest_agreement"] < 0.7
    assert values["label_correlation"] > 0.9
    apart = evaluator.by_label({}, "test")
    assert set(apart) <= VALUES_SHOWN
    for name in ("skin: dark", "skin: light"):
        assert apart[name]["agreement"] == apart[name]["real_agreement"] == 1


def test_what_the_attributes_do_not_have_is_left_out(config_of):
    config = config_of(
        "hair,skin", **{"conditioning.name": "projection", "eval.metrics": "wasserstein,classes,labels,label_numbers"}
    )
    assert set(left_out(config, load_dataset(config))) == {"classes", "label_numbers"}
    config = config_of("age", **{"conditioning.name": "projection"})
    assert set(left_out(config, load_dataset(config))) == {"labels"}


# The commands


@pytest.fixture(scope="module")
def run(faces, command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    changes = {**TINY, **QUICK, "data.path": faces, "data.cache_dir": folder.parent / "cache", "data.label": "hair,skin,age"}
    changes |= {"data.image_size": 8, "model.name": "mlp", "model.generator_normalization": "none", "log_every": 2}
    changes |= {"conditioning.name": "auxiliary"}
    flags = [f"--config.{key}={value}" for key, value in changes.items()]
    code, out, error = command("run", "--config=configs/wgan_gp.py:faces64", f"--workdir={folder}", *flags)
    assert (code, error) == (0, "")
    assert "attributes hair (3 values), skin (2 values), age (numbers)" in out
    return folder


@pytest.mark.slow
def test_samples_of_a_run_have_the_attributes_that_are_asked_for(run, command, tmp_path):
    assert {path.name for path in (run / "figures").iterdir()} >= {"labels.png", "samples.png"}
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"eval/label_agreement", "eval/smallest_agreement", "eval/label_correlation"} <= line.keys()

    def samples(*flags):
        assert command("sample", f"--workdir={run}", "--num=3", f"--out={tmp_path}/s.npz", *flags)[0] == 0
        with np.load(tmp_path / "s.npz") as found:
            return dict(found)

    named = samples("--label=hair:red,skin:light,age:25")
    assert named["labels.hair"].tolist() == ["red"] * 3
    assert named["labels.skin"].tolist() == ["light"] * 3
    np.testing.assert_allclose(named["labels.age"], 25, rtol=1e-5)
    drawn = samples()
    assert set(zip(drawn["labels.hair"], drawn["labels.skin"], strict=True)) <= {(hair, skin) for _, hair, skin, _ in ROWS}
    assert np.isin(np.round(drawn["labels.age"], 2), [float(row[3]) for row in ROWS]).all()
    for flags, name in (
        (("--label=hair:all",), "samples_of_each_class"),
        (("--label=hair:red:green", "--interpolate=3"), "interpolations_label_hair_red_to_green"),
        (("--label=hair:red", "--interpolate=3"), "interpolations_label_hair_red"),
        (("--label=hair:red,age:10",), "_label_hair_red_age_10"),
    ):
        assert command("sample", f"--workdir={run}", "--num=2", *flags)[0] == 0
        assert len(list((run / "samples").glob(f"step_00000002_seed_0*{name}.png"))) == 1


def test_an_exported_generator_takes_codes(run, command, tmp_path):
    flags = ("--label=hair:red,skin:dark", f"--out={tmp_path}/s.npz", "--num=4", f"--export={tmp_path}/g")
    assert command("sample", f"--workdir={run}", *flags)[0] == 0
    told = json.loads((tmp_path / "g.json").read_text())["labels"]
    assert [column["column"] for column in told] == ["hair", "skin", "age"]
    assert (told[0]["values"], sorted(told[2])) == (list(HAIR), ["column", "mean", "std"])
    with np.load(tmp_path / "s.npz") as found:
        age = (found["labels.age"] - told[2]["mean"]) / told[2]["std"]
        codes = np.concatenate([np.tile([0, 0, 1, 1, 0], (4, 1)), age[:, None]], axis=1).astype(np.float32)
        made = jax.export.deserialize(bytearray((tmp_path / "g").read_bytes())).call(found["latents"], codes)
        pixels = np.round((np.clip(made, -1, 1) + 1) * 127.5)
        assert np.abs(pixels - found["samples"]).max() <= 1


def test_an_evaluation_has_a_row_for_each_value(run, faces, command):
    place = f"--config.data.path={faces}"
    code, out, error = command("evaluate", f"--workdir={run}", "--repeats=1", place)
    assert (code, error) == (0, "")
    assert "each label against real examples of it" in out
    (entry,) = json.loads((run / "evaluation.json").read_text())["evaluations"]
    assert {"skin: dark"} <= entry["by_label"].keys() <= VALUES_SHOWN
    assert entry["by_label"]["skin: dark"].keys() == set(VALUES)


def test_a_label_that_a_run_cannot_have_ends_its_command(run, faces, command):
    for flags, words in (
        (("--label=hair:pink",), "--label: hair is not 'pink'; it is blond, green, red"),
        (("--label=all",), "--label: all combinations of numbers"),
        (("--label=hair:all", "--interpolate=3"), "--label: all makes a sheet, an .npz or a folder"),
        (("--label=hair:all", "--nearest=2", f"--config.data.path={faces}"), "--label: all makes a sheet, an .npz or a folder"),
    ):
        code, _, error = command("sample", f"--workdir={run}", *flags)
        assert (code, error.count("\n")) == (2, 1)
        assert words in error


def test_a_class_may_have_its_column_before_it():
    names = ("blond", "green", "hair:x")
    label = lambda text: wanted(text, names, None, "hair", walks=True)  # noqa: E731
    assert (label("hair:green").words, label("green").words, label("hair:x").words) == ("green", "green", "hair:x")
    assert (label("hair:all").each, label("hair:blond:green").words) == (names, "blond to green")
    with pytest.raises(UserError, match="no class 'pink'"):
        wanted("hair:pink", names, None, "hair", walks=False)


BAD_COLUMNS = {  # config.data.label -> words of the line
    "no such column": ("eyes", "has the columns ['file_name', 'hair', 'skin', 'age']; wanted are file_name and eyes"),
    "one of two is not there": ("hair,eyes", "wanted are file_name and hair and eyes, each once"),
    "an empty name": ("hair,,skin", "has the columns"),
    "the file's name": ("file_name", "has the columns"),
    "names as numbers": ("hair:numbers", "config.data.label: hair is 'blond' somewhere, which is no number"),
    "numbers as names": ("age:names", "values on 360 examples: no classes"),
    "an unknown kind": ("age:colour", "wanted are file_name and age:colour"),
}


@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_columns_that_cannot_be_attributes_are_one_line(case, config_of):
    label, words = BAD_COLUMNS[case]
    with pytest.raises(UserError) as caught:
        load_dataset(config_of(label))
    (line,) = caught.value.lines
    assert line.startswith("config.data.label: ")
    assert words in line


BAD_Y = {  # labels of 40 examples -> words of the line
    "too few": (np.zeros((39, 2)), "float64 of shape (39, 2); wanted are whole numbers, text or numbers [40] or [40, A]"),
    "three axes": (np.zeros((40, 2, 2)), "of shape (40, 2, 2)"),
    "no columns": (np.zeros((40, 0)), "of shape (40, 0)"),
    "complex": (np.zeros((40, 2), complex), "is complex128"),
    "NaN": (np.where(np.arange(40) == 3, np.nan, 1.0), "y in dataset is NaN or infinite in 1 of 40 examples"),
    "one value": (np.ones(40), "y in dataset is 1 in every training example: no attribute"),
    "a column of one value": (np.stack([np.arange(40) % 2, np.zeros(40, int)], 1), "y1 in dataset has 1 values on 40"),
    "a column all different": (np.stack([np.arange(40) % 2, np.arange(40)], 1), "y1 in dataset has 40 values on 40"),
}


@pytest.mark.parametrize("case", BAD_Y)
def test_labels_of_arrays_that_cannot_be_attributes_are_one_line(case):
    y, words = BAD_Y[case]
    with pytest.raises(UserError) as caught:
        from_arrays(np.ones((40, 3)), y)
    (line,) = caught.value.lines
    assert line.startswith("config.data.y: ")
    assert words in line


def test_rows_are_numbered_whatever_their_order():
    attributes, labels = of_columns({"a": np.array(["x", "y", "x", "y"] * 2), "b": np.arange(8.0)}, np.arange(8), "key")
    np.testing.assert_allclose(attributes.arrays(attributes.rows[labels])["b"], np.arange(8), atol=1e-9)
