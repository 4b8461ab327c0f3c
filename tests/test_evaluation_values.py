"""What an evaluation says against values from outside of it: samples and networks in NumPy, distances by SciPy or by hand."""

import jax
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from wgan_jax.config import load
from wgan_jax.data import load_dataset
from wgan_jax.evaluation import evaluator, sampling
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.evaluation.reference import Generated, make_reference
from wgan_jax.evaluation.registry import METRICS
from wgan_jax.features import Features
from wgan_jax.models import build_networks
from wgan_jax.types import Batch

N, MANY = 40, 70  # points of a comparison; examples of which mean and deviation are taken


def generated_points(params, key, count):
    """The generator of the gaussian preset in NumPy, of latents that are functions of key and number alone: [n, 1]."""
    draw = jax.vmap(lambda index: jax.random.uniform(jax.random.fold_in(key, index), (1,), np.float32, 0, 5))
    return hidden(params, np.asarray(draw(np.arange(count)), np.float64)) @ np.asarray(params["Dense_0"]["kernel"], np.float64)


def hidden(params, x):
    """Two layers of ReLU; biases begin at 0."""
    for layer in ("Dense_0", "Dense_1"):
        x = np.maximum(x @ np.asarray(params["Hidden_0"][layer]["kernel"], np.float64), 0)
    return x


def excess(first, second, real, again):
    """(W(G,T) - W(G,G')/2 - W(T,T')/2) / W(T,T') of points on the line."""
    apart, own, floor = (wasserstein_distance(x[:, 0], y[:, 0]) for x, y in ((first, real), (first, second), (real, again)))
    return {
        "wasserstein_empirical": apart,
        "wasserstein_floor": floor,
        "wasserstein_ratio": apart / floor,
        "wasserstein_excess": (apart - own / 2 - floor / 2) / floor,
    }


@pytest.mark.parametrize(("split", "draw"), [("validation", 0), ("test", 3)])
def test_a_generator_on_the_line(monkeypatch, split, draw):
    """More examples than are generated at once: the first and second sample and the many that follow share none."""
    monkeypatch.setattr(sampling, "DRAWN", 16)
    monkeypatch.setattr(evaluator, "QUANTILE_SAMPLES", MANY)
    changes = [f"--config.eval.samples={N}", "--config.model.width=8", "--config.eval.metrics=wasserstein,quantile"]
    config = load("configs/wgan_gp.py:gaussian", changes)
    dataset = load_dataset(config)
    networks = build_networks(config, dataset.shape)
    generator, critic = (jax.jit(init)(jax.random.key(1)) for init in (networks.init_generator, networks.init_critic))
    values = evaluator.make_evaluator(config, dataset, networks).of_generator(generator, critic, split, draw)

    key = jax.random.fold_in(jax.random.key(30_000 + draw), split == "test")
    first, second, more = np.split(generated_points(generator["params"], key, 2 * N + MANY), (N, 2 * N))
    reference = make_reference(dataset, split, N, draw)
    expected = excess(first, second, reference.real, reference.again)
    expected |= {"mean": more.mean(), "std": more.std()}
    last = np.asarray(critic["params"]["Dense_0"]["kernel"], np.float64)
    on_train, on_real, on_generated = (
        float((hidden(critic["params"], x) @ last).mean()) for x in (reference.train, reference.real, first)
    )
    expected |= {"estimate_train": on_train - on_generated, "estimate_heldout": on_real - on_generated}
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert len({f"{value:.3g}" for value in expected.values()}) == len(expected)  # none stands in for another


def test_real_points_in_the_generators_place():
    config = load("configs/wgan_gp.py:gaussian", [f"--config.eval.samples={N}", "--config.eval.metrics=wasserstein"])
    dataset = load_dataset(config)
    values = evaluator.make_evaluator(config, dataset, build_networks(config, dataset.shape)).of_real("test", 1)
    reference = make_reference(dataset, "test", N, 1)
    again = reference.spares.examples[N:]
    assert values == pytest.approx(excess(reference.spare, again, reference.real, reference.again), rel=1e-6)


def test_real_points_in_the_generators_place_have_random_shares_of_the_modes_as_a_generators():
    dataset = load_dataset(load("configs/wgan_gp.py:ring8"))
    reference = make_reference(dataset, "test", N)
    sides = (reference.real, reference.again, reference.spare, reference.spares.examples[N:])
    modes = [np.linalg.norm(side[:, None] - dataset.modes.centres, axis=2).argmin(axis=1) for side in sides]
    spreads = [np.ptp(np.bincount(of, minlength=8)) for of in modes]
    assert max(spreads[:2]) <= 1 < min(spreads[2:])


@pytest.mark.parametrize("preset", ["gaussian", "ring8"])
def test_no_two_samples_of_a_law_share_an_example(preset):
    dataset = load_dataset(load(f"configs/wgan_gp.py:{preset}"))
    references = [make_reference(dataset, split, N, draw) for split in ("validation", "test") for draw in (0, 1)]
    sides = [side for found in references for side in (found.real, found.again, found.spares.examples, found.train)]
    points = np.concatenate(sides)
    assert points.shape == (4 * 5 * N, *dataset.shape)
    assert len(np.unique(points, axis=0)) == len(points)


# Two clusters of six real points, a tenth apart; eight generated points crowd in the middle of the first. By hand:
# of the real points of the first cluster .2 and .3 have a generated one nearest, the other ten real ones have a real one; each
# generated one has a generated one nearest. The ball of a real point to its fifth neighbour is its cluster, so all generated
# points lie in six balls: density 6 / 5. The balls of the second cluster are empty: coverage 1 / 2. Generated balls are tiny.
CLUSTERS = np.concatenate([np.arange(6), 1000 + np.arange(6)])[:, None] / 10
CROWD = 0.25 + np.linspace(-0.004, 0.004, 8)[:, None]
BY_HAND = {
    "precision_recall": {"precision": 1, "recall": 0},
    "density_coverage": {"density": 6 / 5, "coverage": 1 / 2},
    "two_sample": {"two_sample_accuracy": 18 / 20, "two_sample_real": 10 / 12, "two_sample_generated": 1},
}


@pytest.mark.parametrize("name", BY_HAND)
def test_neighbours_by_hand(name):
    reference = make_reference(load_dataset(load("configs/wgan_gp.py:gaussian")), "test", 2)
    real, generated = (Features(points, np.empty((len(points), 0))) for points in (CLUSTERS, CROWD))
    nothing = np.empty((0, 1))
    values = METRICS[name].compute(
        reference._replace(features=real), Generated(nothing, nothing, generated, np.empty(0, int), nothing)
    )
    assert values == pytest.approx(BY_HAND[name], rel=1e-12)


def test_the_slope_of_a_parabola():
    """f(x) = x^2 / 2 has the slope |x|: 0 .. 100 on real, on generated and between; .99 of all are at most 99. Not on train."""
    x = np.arange(101, dtype=np.float32)[:, None]
    statistics = make_critic_statistics(lambda variables, batch: batch.x[:, 0] ** 2 / 2)
    values = statistics({}, *(Batch(side, np.zeros(101, np.int32)) for side in (10 * x, x, x)))
    assert values["lipschitz_q99"] == pytest.approx(99, rel=1e-6)
    assert values["estimate_train"] == pytest.approx(99 * np.mean(x**2) / 2, rel=1e-5)
