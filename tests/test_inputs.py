"""What the critic is shown: the laws of the augmentations against NumPy's, noise and its fall, and who sees it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from wgan_jax.objectives import make_objective
from wgan_jax.objectives.inputs import AUGMENTATIONS, make_inputs
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.types import Batch, CriticOutput, Latents, Networks, Player, TrainState

pytestmark = pytest.mark.usefixtures("strict_dtypes")

KEY = jax.random.key(0)
MANY = jax.random.split(KEY, 3000)


def augmented(name, image, keys=MANY):
    """The augmentation of one image [H, W, C] under many keys."""
    return np.asarray(jax.vmap(lambda key: AUGMENTATIONS[name](key, jnp.asarray(image, jnp.float32)))(keys), np.float64)


# Augmentations


def test_colours_law():
    """An image = level + between pixels + between channels: each part is seen apart, and has its factor."""
    pixels = np.array([1.0, -1.0])[:, None, None]
    channels = np.array([1.0, 0.0, -1.0])
    out = augmented("color", 0.25 + 0.5 * pixels + 0.125 * channels * np.ones((2, 4, 1)))
    brightness = out.mean((1, 2, 3)) - 0.25
    contrast = (out * pixels).mean((1, 2, 3)) / 0.5
    saturation = (out * channels).mean((1, 2, 3)) / (0.125 * 2 / 3) / contrast
    for values, low, width in ((brightness, -0.5, 1), (contrast, 0.5, 1), (saturation, 0, 2)):
        assert scipy.stats.kstest(values, scipy.stats.uniform(low, width).cdf).pvalue > 0.001
    assert np.abs(np.corrcoef([brightness, contrast, saturation]) - np.eye(3)).max() < 0.06
    assert np.abs(augmented("color", np.ones((2, 2, 1)) * 0.5).std((1, 2, 3))).max() < 1e-6  # a constant image stays one


@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 4, 2)])
def test_every_translation_is_as_likely(shape):
    """By up to round(size / 8) pixels each way, zeros coming in."""
    image = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    most = [int(size / 8 + 0.5) for size in shape[:2]]
    assert most in ([1, 1], [2, 1])
    wide = np.pad(image, [(m, m) for m in most] + [(0, 0)])
    moves = list(itertools.product(range(2 * most[0] + 1), range(2 * most[1] + 1)))
    wanted = [wide[a : a + shape[0], b : b + shape[1]] for a, b in moves]
    found = [[np.array_equal(image, one) for one in wanted].index(True) for image in augmented("translation", image)]
    assert scipy.stats.chisquare(np.bincount(found, minlength=len(moves))).pvalue > 0.001


@pytest.mark.parametrize("size", [8, 6, 5])
def test_every_cutout_is_as_likely(size):
    """As the released code draws it: an even hole has size + 1 places, an odd one size; it ends at the image's edges."""
    hole = int(size * 0.5 + 0.5)
    places = range(size + 1 - hole % 2)
    windows = [[place - hole // 2 <= i < place - hole // 2 + hole for i in range(size)] for place in places]
    wanted = {np.outer(a, b).tobytes(): 0 for a in windows for b in windows}
    for image in augmented("cutout", np.full((size, size, 2), 3.0)):
        assert set(np.unique(image)) <= {0, 3}
        np.testing.assert_array_equal(image[..., 0], image[..., 1])
        wanted[(image[..., 0] == 0).tobytes()] += 1
    assert len(wanted) == len(places) ** 2
    assert scipy.stats.chisquare(list(wanted.values())).pvalue > 0.001


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_an_augmentation_is_linear_in_differences_and_has_a_gradient(name):
    """A(x + d) - A(x) = A'd, and A' transposed is what reverse mode applies."""
    rng = np.random.default_rng(0)
    x, d, w = (jnp.asarray(rng.normal(size=(8, 8, 3)), jnp.float32) for _ in range(3))
    apply = lambda x: AUGMENTATIONS[name](KEY, x)  # noqa: E731
    _, tangent = jax.jvp(apply, (x,), (d,))
    np.testing.assert_allclose(apply(x + d) - apply(x), tangent, atol=1e-5)
    gradient = jax.grad(lambda x: jnp.vdot(apply(x), w))(x)
    np.testing.assert_allclose(jnp.vdot(gradient, d), jnp.vdot(tangent, w), rtol=1e-3)
    assert np.abs(gradient).max() > 0.1


# Inputs


@pytest.fixture
def inputs(make_config):
    def make(spec="gan.py:ring8", axis_name=None, **changes):
        config = make_config(spec, {f"inputs.{key}": value for key, value in changes.items()})
        return make_inputs(config, axis_name), make_hyperparameters(config)

    return make


def batch(x):
    return Batch(jnp.asarray(x, jnp.float32), jnp.arange(len(x), dtype=jnp.int32))


def test_without_inputs_the_examples_are_what_they_were(inputs):
    show, hyper = inputs()
    real, generated = batch(np.ones((4, 2))), batch(np.zeros((4, 2)))
    shown = show(KEY, real, generated, jnp.int32(0), hyper)
    assert shown[0] is real
    assert shown[1] is generated


@pytest.mark.parametrize(
    ("steps", "step", "std"), [(100, 0, 0.5), (100, 25, 0.375), (100, 99, 0.005), (100, 100, 0), (100, 500, 0), (0, 500, 0.5)]
)
def test_the_noise_is_normal_and_falls_linearly_to_0(inputs, steps, step, std):
    show, hyper = inputs(noise=0.5, noise_steps=steps)
    real, generated = batch(np.full((2000, 2), 3.0)), batch(np.full((2000, 2), -1.0))
    on_real, on_generated = show(KEY, real, generated, jnp.int32(step), hyper)
    added = np.concatenate([on_real.x - real.x, on_generated.x - generated.x], axis=1).astype(np.float64)
    np.testing.assert_array_equal(on_real.label, real.label)
    if std == 0:
        assert not added.any()
        return
    assert scipy.stats.kstest(added.ravel(), scipy.stats.norm(0, std).cdf).pvalue > 0.001
    assert np.abs(np.corrcoef(added.T) - np.eye(4)).max() < 0.08  # of each entry, example and side its own


def test_augmentations_come_in_their_order_and_differ_between_examples(inputs):
    images = batch(np.random.default_rng(0).uniform(-1, 1, (64, 8, 8, 1)))
    first, second = (
        np.asarray(show(KEY, images, images, jnp.int32(0), hyper)[0].x)
        for show, hyper in (inputs("gan.py:digits", augment=names) for names in ("color,cutout", "cutout,color"))
    )
    holes = (first == 0).all(-1).sum((1, 2))
    assert 4 <= holes.min() < holes.max() == 16  # cut out last: what is missing is 0
    assert (second == 0).sum() < 10  # cut out first: brightness has changed it


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"noise": 0.5}, {"augment": "color,translation,cutout", "noise": 0.1}])
def test_eight_devices_show_what_one_does(inputs, changes):
    rng = np.random.default_rng(0)
    real, generated = batch(rng.normal(size=(16, 8, 8, 1))), batch(rng.normal(size=(16, 8, 8, 1)))
    show, hyper = inputs("gan.py:digits", **changes)
    shared, _ = inputs("gan.py:digits", axis_name="data", **changes)
    whole = show(KEY, real, generated, jnp.int32(0), hyper)
    share = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), (real, generated))
    parts = jax.pmap(lambda real, generated: shared(KEY, real, generated, jnp.int32(0), hyper), "data")(*share)
    for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-6, atol=1e-6)


# In the objective: f(x) = |x|^2 / 2, whose slope is |x|, on zeros, so that only noise is seen


@pytest.fixture
def objective(make_config):
    config = make_config(
        "gan.py:ring8",
        {"loss": "wasserstein", "penalty.name": "zero_centred", "penalty.points": "real", "inputs.noise": 0.5},
    )
    unused = dict.fromkeys(("init_generator", "init_critic", "refresh_critic", "latents", "generate", "score"))
    critic = lambda params, state, x, label: (CriticOutput(jnp.sum(x**2, axis=1) / 2, x, None), state)  # noqa: E731
    networks = Networks(
        generator=lambda params, state, z, label: (z + params[None], state),
        critic=critic,
        penalty_critic=critic,
        example=jax.ShapeDtypeStruct((2,), jnp.float32),
        mixes_examples=False,
        **unused,
    )
    return make_objective(config, networks), make_hyperparameters(config)


def test_both_losses_the_penalty_and_the_look_see_the_noise(objective):
    objective, hyper = objective
    nothing = Player(jnp.zeros(2), {}, None)
    state = TrainState(jnp.int32(0), jnp.int32(0), nothing, nothing, None, {})
    zeros = batch(np.zeros((5000, 2)))
    _, (_, _, metrics) = objective.critic(None, state, zeros, zeros, KEY, hyper)
    np.testing.assert_allclose(metrics["penalty"], 2 * 0.5**2, rtol=0.05)  # E |noise|^2 in two dimensions
    assert 0 < abs(metrics["wasserstein_estimate"]) < 0.05  # of two noises, each of its own
    norm = 0.5 * np.sqrt(np.pi / 2)  # of a Rayleigh law
    np.testing.assert_allclose(objective.look(state, zeros, zeros, KEY, hyper)["critic_input_gradient_norm"], norm, rtol=0.05)

    def loss(shift):
        return objective.generator(shift, state, Latents(zeros.x, zeros.label), zeros, KEY, hyper)[0]

    value, gradient = jax.value_and_grad(loss)(jnp.ones(2))
    np.testing.assert_allclose(value, -(2 * 0.5**2 + 2) / 2, rtol=0.05)
    np.testing.assert_allclose(gradient, [-1, -1], rtol=0.05)
