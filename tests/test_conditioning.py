"""Conditioning on labels: where each kind takes them in, by hand; what both players minimise; what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.config import mistakes
from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import to_pixels
from wgan_jax.data.labels import find_class
from wgan_jax.errors import UserError
from wgan_jax.evaluation.evaluator import left_out, make_evaluator
from wgan_jax.evaluation.sampling import every_label, label_walk
from wgan_jax.export import describe_generator, export_generator
from wgan_jax.models import build_networks
from wgan_jax.models.embedding import CONDITIONINGS
from wgan_jax.objectives import make_objective
from wgan_jax.training.notebook import train
from wgan_jax.training.update import make_hyperparameters, make_steps
from wgan_jax.types import Batch, Latents

CLASSES, LATENT, WIDTH = 3, 2, 4
TINY = {"model.width": WIDTH, "model.depth": 1, "latent.dim": LATENT, "batch_size": 4}
LABEL = np.array([0, 2, 2, 1], np.int32)
KEY = jax.random.key(0)


@pytest.fixture
def build(make_config):
    """Returns (conditioning, {dotted key: value}, shape) -> config, networks."""

    def make(name, changes=None, shape=(2,)):
        config = make_config("wgan_gp.py:digits", {**TINY, "conditioning.name": name, **(changes or {})})
        return config, build_networks(config, shape, classes=CLASSES)

    return make


def random(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), tree)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dense(params, x):
    return x @ params["kernel"] + params.get("bias", 0)


def relu(x):
    return np.maximum(x, 0)


# Where labels enter


def test_the_projection_critic_by_hand(build):
    """w h + b + <e(y), h>: Miyato & Koyama 2018, equation 3."""
    _, networks = build("projection")
    variables, x = random(networks.init_critic(KEY)), normal(1, 4, 2)
    p = variables["params"]
    h = relu(dense(p["Hidden_0"]["Dense_0"], x))
    wanted = dense(p["Dense_0"], h)[:, 0] + np.sum(h * p["Dense_1"]["kernel"].T[LABEL], axis=1)
    assert "bias" not in p["Dense_1"]
    np.testing.assert_allclose(networks.score(variables, Batch(x, LABEL)), wanted, rtol=1e-5)


@pytest.mark.parametrize("normalization", ["none", "layer", "batch"])
def test_conditional_normalisation_by_hand(build, normalization):
    """gamma_y (a - mean) / sqrt(variance + epsilon) + beta_y, per example or per batch; of none gamma_y a + beta_y."""
    _, networks = build("projection", {"model.generator_normalization": normalization})
    variables = networks.init_generator(KEY)
    params, z = random(variables["params"]), normal(1, 4, LATENT)
    state = {name: value for name, value in variables.items() if name != "params"}
    hidden = params["Hidden_0"]
    a = dense(hidden["Dense_0"], z)
    axis, epsilon = {"layer": (1, 1e-6), "batch": (0, 1e-5)}.get(normalization, (None, 0))
    if axis is not None:
        a = (a - a.mean(axis, keepdims=True)) / np.sqrt(a.var(axis, keepdims=True) + epsilon)
    scale, bias = (hidden[f"Embedding_{i}"]["table"] for i in range(2))
    wanted = dense(params["Dense_0"], relu(scale[LABEL] * a + bias[LABEL]))
    assert [name for name in hidden if "Norm" in name] == []  # whose scale and bias the classes' stand for
    np.testing.assert_allclose(networks.generator(params, state, z, LABEL)[0], wanted, rtol=1e-4, atol=1e-5)


def test_an_embedding_stands_beside_both_inputs(build):
    _, networks = build("embedding")
    z, x = normal(1, 4, LATENT), normal(2, 4, 2)
    generator, critic = random(networks.init_generator(KEY)), random(networks.init_critic(KEY), 1)
    for variables, given, found in (
        (generator, z, networks.generate(generator, Latents(z, LABEL))),
        (critic, x, networks.score(critic, Batch(x, LABEL))[:, None]),
    ):
        p = variables["params"]
        beside = np.concatenate([given, p["Embedding_0"]["table"][LABEL]], axis=1)
        np.testing.assert_allclose(found, dense(p["Dense_0"], relu(dense(p["Hidden_0"]["Dense_0"], beside))), rtol=1e-5)


def test_of_an_image_the_embedding_is_a_channel(build):
    _, networks = build("embedding", {"model.name": "dcgan"}, (8, 8, 1))
    p = networks.init_critic(KEY)["params"]
    assert (p["Embedding_0"]["table"].shape, p["Convolution_0"]["kernel"].shape[2]) == ((CLASSES, 64), 2)


@pytest.mark.parametrize("name", ["embedding", "projection", "auxiliary"])
def test_shares_of_classes_lie_between_labels(build, name):
    _, networks = build(name)
    z, variables = normal(1, 4, LATENT), random(networks.init_generator(KEY))
    at = lambda label: np.asarray(networks.generate(variables, Latents(z, label)))  # noqa: E731
    shares = np.eye(CLASSES, dtype=np.float32)[LABEL]
    np.testing.assert_allclose(at(shares), at(LABEL), rtol=1e-5)
    between = at((shares + np.eye(CLASSES, dtype=np.float32)[[1]]) / 2)
    assert np.abs(between - at(LABEL))[:3].max() > 1e-3
    np.testing.assert_allclose(between[3], at(LABEL)[3], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "shape"), [("mlp", (8, 8, 1)), ("dcgan", (8, 8, 1)), ("resnet", (8, 8, 1))])
@pytest.mark.parametrize("name", CONDITIONINGS)
def test_penalty_and_generator_gradient_change_with_the_label(build, name, model, shape):
    """Trap 8. Of `none` neither does, and an auxiliary classifier leaves score and penalty without labels."""
    config, networks = build(name, {"model.name": model, "model.width": 8}, shape)
    objective = make_objective(config, networks)
    hyper, state = make_hyperparameters(config), make_steps(config, networks, objective).init_state(KEY)
    softly = lambda player: player.replace(params=jax.tree.map(lambda leaf: leaf / 2, random(player.params)))  # noqa: E731
    state = state.replace(critic=softly(state.critic), generator=softly(state.generator))
    real, generated, z = normal(1, 4, *shape), normal(2, 4, *shape), normal(3, 4, LATENT)

    @jax.jit
    def look(label):
        sides = Batch(real, label), Batch(generated, label)
        _, (_, _, metrics) = objective.critic(state.critic.params, state, *sides, KEY, hyper)
        loss = lambda params: objective.generator(params, state, Latents(z, label), sides[0], KEY, hyper)[0]  # noqa: E731
        shared = {k: v for k, v in jax.grad(loss)(state.generator.params).items() if "Embedding" not in k}
        return metrics["penalty"], jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(shared)])

    (penalty, gradient), (other_penalty, other_gradient) = look(LABEL), look((LABEL + 1) % CLASSES)
    assert (abs(penalty - other_penalty) > 1e-4 * penalty) == CONDITIONINGS[name].matches
    assert (np.abs(gradient - other_gradient).max() > 1e-4 * np.abs(gradient).max()) == (name != "none")


# What the players minimise


def cross_entropy(logits, label):
    logits = np.asarray(logits, np.float64)
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(label)), label])


def test_both_players_have_the_auxiliary_classifiers_cross_entropy(build):
    """Odena 2017: of real and generated examples for the critic, of generated ones for the generator, against their labels."""
    config, networks = build("auxiliary", {"penalty.name": "none", "clip": 1.0, "conditioning.weight": 0.3})
    objective, hyper = make_objective(config, networks), make_hyperparameters(config)
    state = make_steps(config, networks, objective).init_state(KEY)
    other = np.array([1, 0, 2, 0], np.int32)
    real, generated, z = Batch(normal(1, 4, 2), LABEL), Batch(normal(2, 4, 2), other), normal(3, 4, LATENT)
    on = lambda batch: networks.critic(state.critic.params, {}, *batch)[0]  # noqa: E731
    wanted = np.mean(on(generated).score) - np.mean(on(real).score)
    wanted += 0.3 * (cross_entropy(on(real).class_logits, LABEL) + cross_entropy(on(generated).class_logits, other))
    found = objective.critic(state.critic.params, state, real, generated, KEY, hyper)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    made = Batch(networks.generator(state.generator.params, {}, z, other)[0], other)
    wanted = -np.mean(on(made).score) + 0.3 * cross_entropy(on(made).class_logits, other)
    found = objective.generator(state.generator.params, state, Latents(z, other), real, KEY, hyper)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("normalization", ["none", "batch"])  # of which `batch` sees the sides as batches of their own
def test_a_real_example_with_a_wrong_label_counts_as_generated(build, normalization):
    """Reed 2016, algorithm 1, with a share of its own. Of two classes the wrong label is the other."""
    changes = {"penalty.name": "none", "loss": "non_saturating", "conditioning.mismatch": 0.3}
    config, _ = build("projection", {**changes, "model.critic_normalization": normalization})
    networks = build_networks(config, (2,), classes=2)
    objective, hyper = make_objective(config, networks), make_hyperparameters(config)
    state, label = make_steps(config, networks, objective).init_state(KEY), LABEL // 2
    x, made = normal(1, 4, 2), normal(2, 4, 2)
    on = lambda x, label: np.asarray(networks.critic(state.critic.params, state.critic.model_state, x, label)[0].score)  # noqa: E731
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    wanted = softplus(-on(x, label)) + 0.7 * softplus(on(made, label)) + 0.3 * softplus(on(x, 1 - label))
    found = objective.critic(state.critic.params, state, Batch(x, label), Batch(made, label), KEY, hyper)[0]
    np.testing.assert_allclose(found, np.mean(wanted), rtol=1e-5)


def test_wrong_labels_are_all_the_others(build):
    """f(x, y) = [y = c], whatever x: half the loss is how often the wrong label of y = 1 was c, less [c = 1]."""
    config, networks = build("projection", {"penalty.name": "none", "clip": 1.0, "conditioning.mismatch": 0.5})
    n, shares = 3000, {}
    for wanted in range(CLASSES):
        score = lambda params, state, x, label, c=wanted: (  # noqa: E731
            networks.critic(params, state, x, label)[0]._replace(score=(label == c).astype(jnp.float32)),
            state,
        )
        objective = make_objective(config, networks._replace(critic=score))
        hyper, state = make_hyperparameters(config), make_steps(config, networks, objective).init_state(KEY)
        batch = Batch(np.zeros((n, 2), np.float32), np.full(n, 1, np.int32))
        value = objective.critic(state.critic.params, state, batch, batch, KEY, hyper)[0]  # (wrong - real) / 2
        shares[wanted] = 2 * float(value) + (wanted == 1)
    assert shares[1] == pytest.approx(0, abs=1e-5)
    assert shares[0] == pytest.approx(0.5, abs=0.04)
    assert shares[0] + shares[2] == pytest.approx(1, abs=1e-5)


# What is refused


def test_data_without_labels_is_refused(build, make_config):
    config = make_config("wgan_gp.py:ring8")
    config.conditioning.name = "projection"
    assert mistakes(config) == ["config.conditioning.name: projection needs labels, and data.name=ring8 has none"]
    config, _ = build("projection")
    for classes, has in ((0, "none"), (1, "1")):
        with pytest.raises(UserError, match=f"projection needs labels of at least 2 classes, and the data has {has}"):
            build_networks(config, (2,), classes=classes)


def test_one_meaning_of_labels_at_a_time(make_config):
    """A label that is not seen is no condition, and one that the critic is told is none that it finds."""
    config = make_config("semi_supervised.py:digits")
    config.conditioning.name = "auxiliary"
    starts = [line.partition(":")[0] for line in mistakes(config)]
    assert starts == ["config.conditioning.name", "config.data.labels"]


def test_arrays_may_have_labels(make_config):
    config = make_config("wgan_gp.py:digits")
    config.conditioning.name, config.data.name = "projection", "array"
    assert not any("needs labels" in line for line in mistakes(config))


@pytest.mark.parametrize("name", ["none", "auxiliary"])
def test_a_mismatch_needs_a_critic_that_is_told_labels(make_config, name):
    config = make_config("wgan_gp.py:digits", {"conditioning.name": name})
    config.conditioning.mismatch = 0.5
    (line,) = mistakes(config)
    assert line.startswith("config.conditioning.mismatch: is for a critic that is told labels")
    assert line.endswith(f"conditioning.name=embedding or projection, and this is {name}")


# What an evaluation says


@pytest.mark.slow
def test_an_evaluation_compares_what_was_asked_for_with_what_a_classifier_tells(make_config):
    """A generator that makes a training image of its label agrees as often as the classifier does on real images."""
    digits = load_dataset(make_config("wgan_gp.py:digits"))
    config = make_config("wgan_gp.py:digits", {**TINY, "conditioning.name": "projection", "eval.metrics": "wasserstein,labels"})
    networks = build_networks(config, digits.shape, classes=10)
    examples = np.stack([digits.decode(digits.train.images[digits.train.labels == label][:20]) for label in range(10)])

    def values(shift):
        pick = lambda variables, latents: jnp.asarray(examples)[  # noqa: E731
            (latents.label + shift) % 10, jnp.abs(1e4 * latents.z[:, 0]).astype(int) % 20
        ]
        evaluator = make_evaluator(config, digits, networks._replace(generate=pick))
        return evaluator, evaluator.of_generator({}, networks.init_critic(KEY), "test", 0)

    evaluator, own = values(0)
    assert own["label_agreement"] > 0.99
    assert evaluator.of_real("test", 0)["label_agreement"] > 0.95
    apart = evaluator.by_label({}, "test")
    assert list(apart) == list(map(str, range(10)))
    assert min(value["agreement"] for value in apart.values()) > 0.95
    assert max(abs(value["wasserstein_ratio"] - 1) for value in apart.values()) < 0.5  # copies of 20 images
    other, shifted = values(1)
    assert shifted["label_agreement"] < 0.05
    assert max(value["agreement"] for value in other.by_label({}, "test").values()) < 0.1
    assert min(value["wasserstein_ratio"] for value in other.by_label({}, "test").values()) > 1.3
    assert np.isnan(evaluator.of_examples(lambda n: digits.test.images[np.arange(n) % 500], "test", 0)["label_agreement"])


def test_agreement_is_of_conditional_networks_alone(make_config):
    config = make_config("wgan_gp.py:digits", {"eval.metrics": "wasserstein,labels"})
    said = {"labels": "is only of networks that are conditioned on labels"}
    assert left_out(config, load_dataset(config)) == said


# What is made of a label


def test_every_label_has_the_same_latents():
    z = normal(0, 2, 3)
    latents = every_label(Latents(z, np.array([7, 7])), 3)
    np.testing.assert_array_equal(latents.z, np.concatenate([z] * 3))
    assert (latents.label.tolist(), latents.label.dtype) == ([0, 0, 1, 1, 2, 2], np.int32)


def test_a_walk_between_labels_is_at_one_latent():
    z = normal(0, 2, 3)
    ways = label_walk(Latents(z, np.zeros(2, np.int32)), (2, 0), 3, 5)
    np.testing.assert_array_equal(ways.z, np.stack([z] * 5))
    np.testing.assert_allclose(ways.label[:, 1], [[0, 0, 1], [0.25, 0, 0.75], [0.5, 0, 0.5], [0.75, 0, 0.25], [1, 0, 0]])


def test_a_class_is_found_by_its_name_or_else_by_its_number():
    names = ("shirt", "0", "bag")
    assert [find_class(text, names) for text in ("bag", "2", "0")] == [2, 2, 1]
    for text in ("3", "-1", "Bag", ""):
        with pytest.raises(UserError, match=r"^--label: no class .*; there are 0 shirt, 1 0, 2 bag$"):
            find_class(text, names)


def test_an_exported_conditional_generator_takes_labels(build):
    config, networks = build("projection")
    z, variables = normal(1, 4, LATENT), random(networks.init_generator(KEY))
    artefact = jax.export.deserialize(bytearray(export_generator(networks, variables, LATENT)))
    np.testing.assert_allclose(artefact.call(z, LABEL), networks.generate(variables, Latents(z, LABEL)), rtol=1e-5)
    assert describe_generator(config, (2,), 1, "ema", labels=("a", "b", "c"))["labels"] == ["a", "b", "c"]


@pytest.mark.slow
def test_samples_of_a_conditional_run_are_of_the_label_that_is_asked_for(make_config, command, tmp_path):
    changes = {"steps": 2, "eval_every": 2, "checkpoint_every": 2, "sample_every": 2, "devices": 1, "eval.samples": 20}
    changes |= {"conditioning.name": "projection", "eval.draws": 1, "eval.metrics": "wasserstein,labels"}
    run, config = tmp_path / "run", make_config("wgan_gp.py:digits", {**TINY, **changes})
    trained = train(config, workdir=run)
    assert {path.name for path in (run / "figures").iterdir()} >= {"labels.png", "samples.png"}
    assert "eval/label_agreement" in trained.metrics[-1]

    def samples(*flags):
        assert command("sample", f"--workdir={run}", "--num=3", f"--out={tmp_path}/s.npz", *flags)[0] == 0
        with np.load(tmp_path / "s.npz") as arrays:
            return dict(arrays)

    of = {flag: samples(f"--label={flag}") for flag in ("4", "all")}
    assert of["4"]["labels"].tolist() == [4, 4, 4]
    assert of["all"]["labels"].tolist() == [label for label in range(10) for _ in range(3)]
    np.testing.assert_array_equal(of["all"]["samples"][12:15], of["4"]["samples"])
    made = trained.networks.generate(trained.state.ema, Latents(of["4"]["latents"], np.full(3, 4, np.int32)))
    assert np.abs(to_pixels(made).astype(int) - of["4"]["samples"]).max() <= 1
    assert len(set(samples()["labels"].tolist())) > 1
    for flags, name in (
        (("--label=all",), "samples_of_each_class"),
        (("--label=3:8", "--interpolate=3"), "interpolations_label_3_to_8"),
        (("--label=3", "--interpolate=3"), "interpolations_label_3"),
    ):
        assert command("sample", f"--workdir={run}", "--num=2", *flags)[0] == 0
        assert (run / "samples" / f"step_00000002_seed_0_{name}.png").is_file()
    assert command("sample", f"--workdir={run}", f"--export={tmp_path}/g")[0] == 0
    assert json.loads((tmp_path / "g.json").read_text())["labels"] == [str(digit) for digit in range(10)]
    for flags, line in (
        (("--label=10",), "--label: no class '10'; there are 0, 1, 2"),
        (("--label=3:8",), "--label: no class '3:8'"),
        (("--label=all", "--nearest=2"), "--label: all makes a sheet, an .npz or a folder of samples"),
    ):
        code, _, err = command("sample", f"--workdir={run}", *flags)
        assert code == 2
        assert line in err


@pytest.mark.slow
def test_of_two_classes_all_is_a_sheet_and_no_walk(make_config, command, tmp_path):
    digits = load_dataset(make_config("wgan_gp.py:digits"))
    halves = {name: split._replace(labels=split.labels // 5) for name, split in digits.splits.items()}
    changes = {"steps": 1, "eval_every": 1, "checkpoint_every": 1, "devices": 1, "eval.draws": 1, "eval.metrics": "wasserstein"}
    config = make_config("wgan_gp.py:digits", {**TINY, **changes, "eval.samples": 20, "conditioning.name": "auxiliary"})
    train(config, digits._replace(**halves, class_names=("few", "all")), tmp_path / "run")
    assert command("sample", f"--workdir={tmp_path / 'run'}", "--num=3", "--label=all")[0] == 0
    assert (tmp_path / "run" / "samples" / "step_00000001_seed_0_samples_of_each_class.png").is_file()
    assert command("sample", f"--workdir={tmp_path / 'run'}", "--num=3", "--label=all", f"--out={tmp_path}/s.npz")[0] == 0
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["labels"].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_label_is_refused_by_a_run_without_conditioning(make_config, command, tmp_path):
    changes = {"steps": 1, "eval_every": 1, "checkpoint_every": 1, "devices": 1, "eval.draws": 1, "eval.metrics": "wasserstein"}
    train(make_config("wgan_gp.py:digits", {**TINY, **changes, "eval.samples": 20}), workdir=tmp_path / "run")
    code, _, err = command("sample", f"--workdir={tmp_path / 'run'}", "--label=3")
    assert (code, "--label: 3 asked for, but the run is not conditioned on labels" in err) == (2, True)
