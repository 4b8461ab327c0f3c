"""The semi-supervised GAN: which labels are seen, the K + 1 classes, what the loss weights leave, the classifier's error."""

from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import Split, Stored, to_pixels
from wgan_jax.data.labels import seen_labels
from wgan_jax.data.source import make_draw, make_feed
from wgan_jax.errors import UserError
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.models import build_networks
from wgan_jax.objectives import make_objective
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.training.program import make_program
from wgan_jax.training.update import make_hyperparameters, make_steps
from wgan_jax.types import Batch

SMALL = {"model.width": 8, "batch_size": 50, "devices": 1}


# Labels


@pytest.mark.parametrize("count", [20, 23, 100])
def test_as_many_labels_of_every_class_are_seen(count):
    labels = np.random.default_rng(0).integers(0, 10, 1000).astype(np.int32)
    seen = seen_labels(labels, count, 3)
    counts = np.bincount(labels[seen], minlength=10)
    assert counts.sum() == count
    assert counts.max() - counts.min() == (count % 10 > 0)
    np.testing.assert_array_equal(seen, seen_labels(labels, count, 3))
    others = [seen_labels(labels, count, seed) for seed in range(4, 14)]
    assert all((seen != other).sum() > count for other in others)
    if count == 23:  # the classes that have one more are drawn too
        assert len({tuple(np.bincount(labels[other], minlength=10)) for other in others}) > 1


def test_a_small_class_gives_what_it_has_and_0_is_all():
    labels = np.array([0] * 3 + [1] * 50 + [2] * 50)
    assert np.bincount(labels[seen_labels(labels, 33, 0)]).tolist() == [3, 15, 15]
    assert seen_labels(labels, 0, 0).all()


def test_training_does_not_see_the_other_labels_whichever_way_it_reads():
    images = (20 * np.arange(11)[:, None] + np.arange(4)).astype(np.uint8).reshape(11, 2, 2, 1)
    labels = np.arange(11, dtype=np.int32) % 2
    split = Split(images, labels)
    dataset = Stored((2, 2, 1), split, split, split, ("a", "b"), labelled=4)
    batches = []
    for resident in (jax.tree.map(jnp.asarray, split), None):
        feed = make_feed(dataset, resident, 7, 0, 4, 11)  # four epochs
        batches.append(make_draw(dataset, 11)(feed, jnp.int32(0), jax.random.key(0), 4))
    for x, label in zip(*batches[0], strict=True):
        rows = [images[:, 0, 0, 0].tolist().index(pixel) for pixel in to_pixels(x)[:, 0, 0, 0]]
        np.testing.assert_array_equal(label, np.where(seen_labels(labels, 4, 7), labels, -1)[rows])
    jax.tree.map(np.testing.assert_array_equal, *batches)


def test_a_config_of_other_classes_than_the_data_is_refused(make_config):
    for spec, classes in (("digits", 7), ("ring8", 10)):
        config = make_config(f"semi_supervised.py:{spec}")
        config.model.classes = classes
        with pytest.raises(UserError, match=rf"config.model.classes: {classes}, and the data has 10? class"):
            load_dataset(config)


# The loss


def test_the_score_is_the_real_logit_of_k_plus_1_classes(make_config):
    """D(x) = Z / (Z + 1), Z the sum of the class logits' exponentials (Salimans 2016): a softmax whose last logit is 0."""
    config = make_config("semi_supervised.py:digits", SMALL)
    networks = build_networks(config, (8, 8, 1))
    x = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    variables = networks.init_critic(jax.random.key(1))
    output, _ = networks.critic(variables["params"], {}, x, jnp.zeros(5, jnp.int32))
    assert output.class_logits.shape == (5, 10)
    classes = jax.nn.softmax(jnp.concatenate([output.class_logits, jnp.zeros((5, 1))], axis=1), axis=1)
    on_real, on_generated = -np.log(1 - classes[:, 10]), -np.log(classes[:, 10])
    loss = LOSSES["non_saturating"].critic
    np.testing.assert_allclose(loss(output.score, output.score), on_real + on_generated, rtol=1e-5)
    np.testing.assert_allclose(networks.score(variables, Batch(x, None)), output.score, rtol=1e-6)
    np.testing.assert_allclose(networks.classify(variables, Batch(x, None)), output.class_logits, rtol=1e-6)


def gradients(make_config, label, changes, numbers=MappingProxyType({})):
    """The critic's and the generator's gradients on digits whose labels are `label`; numbers: other hyperparameters."""
    config = make_config("semi_supervised.py:digits", {**SMALL, **changes})
    networks = build_networks(config, (8, 8, 1))
    objective, hyper, key = make_objective(config, networks), make_hyperparameters(config) | numbers, jax.random.key(0)
    state = make_steps(config, networks, objective).init_state(jax.random.key(1))
    real, fake = (Batch(jax.random.normal(k, (50, 8, 8, 1)), jnp.full(50, label, jnp.int32)) for k in jax.random.split(key))
    latents = networks.latents(jax.random.split(key, 50), real.label)
    critic = jax.grad(lambda params: objective.critic(params, state, real, fake, key, hyper)[0])
    generator = jax.grad(lambda params: objective.generator(params, state, latents, real, key, hyper)[0])
    return [
        sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(of(player.params)))
        for of, player in ((critic, state.critic), (generator, state.generator))
    ]


@pytest.mark.slow
def test_the_baseline_learns_from_seen_labels_alone(make_config):
    alone = {"critic.loss_weight": 0.0}
    assert gradients(make_config, -1, alone)[0] == 0
    assert gradients(make_config, 3, alone)[0] > 0
    assert gradients(make_config, -1, {})[0] > 0


def test_the_generator_matches_features_alone(make_config):
    assert gradients(make_config, -1, {}, {"terms.feature_matching": jnp.float32(0)})[1] == 0
    assert gradients(make_config, -1, {})[1] > 0


@pytest.mark.slow
def test_it_learns_and_stays_finite(make_config):
    """Of 100 labels 20 epochs, by a small network: far better than chance, which is .9."""
    config = make_config("semi_supervised.py:digits", {**SMALL, "model.width": 32})
    dataset = load_dataset(config)
    program = make_program(config, dataset)
    feed = program.shard(make_feed(dataset, program.place(dataset.train), 0, 0, 400, 50))
    hyper, run_key = make_hyperparameters(config), jax.random.key(1)
    arguments = program.place((program.init_state(jax.random.key(0)), np.int32(200), hyper, run_key))
    state, metrics, done, finite = jax.device_get(program.run_updates(*arguments, feed))
    assert (done, finite) == (200, True)
    assert np.isfinite(list(metrics.values())).all()
    held_out = Batch(dataset.decode(dataset.validation.images), dataset.validation.labels)
    logits = program.networks.classify(state.critic.variables, held_out)
    assert np.mean(np.argmax(logits, axis=1) != held_out.label) < 0.35


def test_the_error_is_the_share_of_wrong_classes_among_the_held_out():
    """Class by the sign of a number; 2 of 5 are wrong, and all of the other samples."""
    score = lambda w, batch: w * batch.x[:, 0]  # noqa: E731
    classify = lambda w, batch: w * jnp.concatenate([-batch.x, batch.x], axis=1)  # noqa: E731
    held_out = Batch(np.array([[-1.0], [2], [-3], [4], [5]], np.float32), np.array([0, 1, 1, 0, 1], np.int32))
    others = held_out._replace(label=np.array([1, 0, 1, 0, 0], np.int32))
    statistics = make_critic_statistics(score, classify)
    assert statistics(jnp.float32(1), others, held_out, others)["classifier_error"] == pytest.approx(0.4)
    assert statistics(jnp.float32(-1), others, held_out, others)["classifier_error"] == pytest.approx(0.6)
    assert "classifier_error" not in make_critic_statistics(score)(jnp.float32(1), others, held_out, others)
