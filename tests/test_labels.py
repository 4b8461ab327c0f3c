"""Labels beside latents and examples (trap 8), with a pair of networks whose every value shows the label that it was given."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments import sample
from wgan_jax import runtime
from wgan_jax.config import load
from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import Law, from_pixels, to_pixels
from wgan_jax.data.labels import class_counts, draw_labels
from wgan_jax.evaluation import sampling, sheets
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.evaluation.figures import GRID_IMAGES, make_artist
from wgan_jax.evaluation.reference import make_reference
from wgan_jax.export import export_generator
from wgan_jax.models import ARCHITECTURES, Architecture
from wgan_jax.objectives import make_objective
from wgan_jax.training.notebook import train
from wgan_jax.training.program import make_parts
from wgan_jax.training.update import make_hyperparameters, make_steps
from wgan_jax.types import Batch, CriticOutput

DIGITS = load_dataset(load("configs/wgan_gp.py:digits"))
COUNTS = class_counts(DIGITS)
RATE = 0.01
SGD = {"optimizer": "sgd", "learning_rate": RATE}


class Generator(nn.Module):
    """G(z, y) = scale y / 10 in every pixel."""

    @nn.compact
    def __call__(self, latent, label, train):
        scale = self.param("scale", nn.initializers.ones, ())
        return (scale * label / 10)[:, None, None, None] * jnp.ones((1, 8, 8, 1))


class Critic(nn.Module):
    """f(x, y) = w y sum(x), whose slope is 8 w y."""

    @nn.compact
    def __call__(self, x, label, train):
        w = self.param("w", nn.initializers.ones, ())
        return CriticOutput(w * label * x.sum((1, 2, 3)), x.reshape(len(x), -1), None)


@pytest.fixture(autouse=True)
def labelled(monkeypatch):
    pair = Architecture(lambda style, shape: Generator(), lambda style: Critic(), lambda shape: True, "anything")
    monkeypatch.setitem(ARCHITECTURES, "mlp", pair)


@pytest.fixture
def config(make_config):
    players = {f"{player}.{key}": value for player in ("critic", "generator") for key, value in SGD.items()}
    return make_config("wgan_gp.py:digits", {**players, "decay_steps": 0, "latent.dim": 3, "eval.metrics": "wasserstein"})


@pytest.fixture
def networks(config):
    return make_parts(config, DIGITS.shape)[0]


def shown(images):
    """The labels that images of `Generator` at scale 1 show."""
    return np.round(10 * images[:, 0, 0, 0]).astype(int)


# Where labels come from


def test_labels_are_drawn_as_the_training_split_has_them():
    labels = np.asarray(draw_labels((30, 0, 10, 60), jax.random.key(0), 4000))
    counts = np.bincount(labels, minlength=4)
    assert (labels.dtype, counts[1]) == (np.int32, 0)
    assert scipy.stats.chisquare(counts[[0, 2, 3]], [1200, 400, 2400]).pvalue > 0.01
    assert draw_labels((0, 1, 0), jax.random.key(0), 3).tolist() == [1, 1, 1]


def test_a_label_is_a_function_of_the_key_and_the_examples_number():
    labels = np.asarray(draw_labels(COUNTS, jax.random.key(0), 50))
    np.testing.assert_array_equal(draw_labels(COUNTS, jax.random.key(0), 20, 30), labels[30:])
    assert not np.array_equal(draw_labels(COUNTS, jax.random.key(1), 50), labels)


def test_the_classes_of_the_training_split_are_counted():
    assert tuple(np.sum(DIGITS.train.labels == label) for label in range(10)) == COUNTS
    assert class_counts(DIGITS._replace(class_names=())) == class_counts(Law((1,), lambda key: key)) == ()
    assert draw_labels((), jax.random.key(0), 3).tolist() == [0, 0, 0]


# Where they go


def test_an_update_gives_generated_examples_the_real_ones_labels(config, networks):
    """Without the penalty d/dw = mean(y sum G) - mean(y sum x), and d/dscale = -mean(y sum G) at w = scale = 1."""
    steps = make_steps(config, networks, make_objective(config, networks))
    hyper = make_hyperparameters(config) | {"penalty.weight": jnp.float32(0)}
    label = DIGITS.train.labels[:12]
    x = from_pixels(DIGITS.train.images[:12])
    start = steps.init_state(jax.random.key(0))
    state, _ = steps.critic_phase(start, Batch(x[None], label[None]), jax.random.key(1), hyper)
    gradient = np.mean(label * 64 * label / 10) - np.mean(label * x.sum((1, 2, 3)))
    np.testing.assert_allclose(state.critic.params["w"], 1 - RATE * gradient, rtol=1e-4)
    state, _ = steps.generator_update(start, Batch(x, label), jax.random.key(1), hyper)
    np.testing.assert_allclose(state.generator.params["scale"], 1 + RATE * np.mean(label * 64 * label / 10), rtol=1e-5)


def test_the_penalty_of_an_update_has_the_real_labels(config, networks):
    """mean (8 y - 1)^2."""
    label, hyper = np.arange(10, dtype=np.int32), make_hyperparameters(config)
    steps = make_steps(config, networks, make_objective(config, networks))
    batches = Batch(np.zeros((1, 10, 8, 8, 1), np.float32), label[None])
    _, metrics = steps.critic_phase(steps.init_state(jax.random.key(0)), batches, jax.random.key(1), hyper)
    np.testing.assert_allclose(metrics["penalty"], np.mean((8.0 * label - 1) ** 2), rtol=1e-5)


def test_critic_statistics_score_each_example_with_its_own_label(config, networks):
    config.eval.samples = 100
    generator, critic = networks.init_generator(jax.random.key(0)), networks.init_critic(jax.random.key(1))
    values = make_evaluator(config, DIGITS, networks).of_generator(generator, critic, "test", 2)
    rows = make_reference(DIGITS, "test", 100, 2).held_out.rows[:100]
    made = np.asarray(draw_labels(COUNTS, jax.random.fold_in(jax.random.key(30_002), True), 100))
    on_generated = np.mean(made * 64 * from_pixels(to_pixels(made / 10)))

    def mean_score(images, labels):
        return np.mean(labels * from_pixels(images).astype(float).sum((1, 2, 3)))

    on_train = mean_score(DIGITS.train.images[::10], DIGITS.train.labels[::10])  # 100 of 1,000, evenly spread
    held = DIGITS.test.labels[rows]
    on_heldout = mean_score(DIGITS.test.images[rows], held)
    assert values["estimate_train"] == pytest.approx(on_train - on_generated, rel=1e-4)
    assert values["estimate_heldout"] == pytest.approx(on_heldout - on_generated, rel=1e-4)
    norms = 8 * np.concatenate([held, made, held])
    assert values["lipschitz_q99"] == pytest.approx(np.quantile(norms, 0.99), rel=1e-5)


def test_between_two_examples_the_slope_is_that_of_the_real_ones_label():
    """f(x, y) = y x with y = 1 on real and 3 on generated: a third of the slopes is 3, or else two."""
    statistics = make_critic_statistics(lambda variables, batch: batch.label * batch.x[:, 0])
    x, ones, threes = np.ones((1, 1), np.float32), np.full(1, 1, np.int32), np.full(1, 3, np.int32)
    values = statistics({}, Batch(x, ones), Batch(x, ones), Batch(x, threes))
    assert values["lipschitz_q99"] == pytest.approx(np.quantile([1, 3, 1], 0.99))
    assert np.quantile([1, 3, 3], 0.99) - values["lipschitz_q99"] > 0.03


def test_pictures_have_labels(config, networks, tmp_path, monkeypatch):
    seen, grid = [], sheets.image_grid
    monkeypatch.setattr(sheets, "image_grid", lambda images: seen.append(images) or grid(images))
    players = networks.init_generator(jax.random.key(0)), networks.init_critic(jax.random.key(1))
    make_artist(config, DIGITS, networks).draw(tmp_path / "samples.png", 0, *players)
    np.testing.assert_array_equal(shown(seen[0]), draw_labels(COUNTS, jax.random.key(10_000), GRID_IMAGES))


def test_an_export_is_of_label_zero(networks):
    variables = networks.init_generator(jax.random.key(0))
    artefact = jax.export.deserialize(bytearray(export_generator(networks, variables, 3)))
    np.testing.assert_array_equal(artefact.call(jnp.ones((2, 3))), np.zeros((2, 8, 8, 1)))


def test_samples_of_a_run_have_labels(config, tmp_path, monkeypatch):
    """From python, and from the run directory alone, without the data."""
    monkeypatch.setattr(runtime, "configure_jax", lambda config: None)
    config.update_from_flattened_dict({"steps": 2, "eval_every": 2, "checkpoint_every": 2, "eval.samples": 20, "devices": 1})
    config.critic.learning_rate = config.generator.learning_rate = 1e-9
    trained = train(config, workdir=tmp_path / "run")
    wanted = np.asarray(draw_labels(COUNTS, jax.random.key(5), 70))
    np.testing.assert_array_equal(shown(from_pixels(trained.sample(70, seed=5))), wanted)
    sample.sample([f"--workdir={tmp_path / 'run'}", "--num=70", "--seed=5", f"--out={tmp_path / 'samples.npz'}"])
    with np.load(tmp_path / "samples.npz") as arrays:
        np.testing.assert_array_equal(shown(from_pixels(arrays["samples"])), wanted)
    latents = sampling.draw_latents(trained.networks, COUNTS, jax.random.key(5), 70)
    ways = sampling.interpolation("normal", latents, 2)
    np.testing.assert_array_equal(ways.label, [wanted[::2], wanted[1::2]])
