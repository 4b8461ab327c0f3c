"""Gradient penalties: what is penalised (PENALTIES), where (POINTS), and with which noise (PERTURBATIONS)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from wgan_jax.batching import batch_std, example_keys
from wgan_jax.types import Array, Batch


def safe_norm(squared: jax.Array) -> jax.Array:
    """Returns the square root with derivative 0 at 0, to every order: sqrt alone would give NaN there."""
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, jnp.ones_like(squared))), jnp.zeros_like(squared))


def squared_gradient_norm(f: Callable[[jax.Array], jax.Array], x: Array) -> jax.Array:
    """Returns |grad f|^2 per example, over all axes but the first: f maps [B, ...] to scores [B]; the result is [B].

    The examples of a batch must not influence each other's scores, so that the gradient of the sum has each one's gradient.
    """
    gradient = jax.grad(lambda points: jnp.sum(f(points)))(x)
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, x.ndim)))


# |grad|^2 [B] -> [B]
PENALTIES: dict[str, Callable[[jax.Array], jax.Array] | None] = {
    "none": None,
    # (|grad| - 1)^2: Gulrajani 2017, equation 3
    "two_sided": lambda squared: jnp.square(safe_norm(squared) - 1),
    # max(0, |grad| - 1)^2: Petzka 2017, equation 8
    "one_sided": lambda squared: jnp.square(jax.nn.relu(safe_norm(squared) - 1)),
    # |grad|^2: Mescheder 2018, equation 9 (R1, at real points), whose gamma is twice the weight
    "zero_centred": lambda squared: squared,
}
# What a penalty wants |grad| to be, and in which words; for the figures.
AIMS = {
    "two_sided": (1.0, "the penalty pulls to it"),
    "one_sided": (1.0, "penalised above it"),
    "zero_centred": (0.0, "the penalty pulls to it"),
}


def _uniform(key: jax.Array, x: Array) -> jax.Array:
    return jax.random.uniform(key, x.shape, x.dtype)


def _uniform_interpolated(key: jax.Array, x: Array) -> jax.Array:
    key_noise, key_alpha = jax.random.split(key)
    return jax.random.uniform(key_alpha, (), x.dtype) * _uniform(key_noise, x)


# key, one example -> its noise in units of noise_scale * std(batch). Published implementations of DRAGAN differ:
PERTURBATIONS: dict[str, Callable[[jax.Array, Array], jax.Array]] = {
    # U[0, 1] per entry: Kodali 2017's released code before its interpolation; the common PyTorch ports
    "uniform": _uniform,
    # U[0, 1] per entry times one U[0, 1] per example: Kodali 2017's released code, x + alpha (x_p - x)
    "uniform_interpolated": _uniform_interpolated,
    # U[-1/2, 1/2] per entry: compare_gan (Lucic 2018, Kurach 2019), there with noise_scale 1
    "uniform_centred": lambda key, x: _uniform(key, x) - 0.5,
    # N(0, 1) per entry: the text of Kodali 2017, section 2.3, N(0, c I)
    "normal": lambda key, x: jax.random.normal(key, x.shape, x.dtype),
}


# example keys [B], examples -> the examples with noise of their own, and their labels
type Perturb = Callable[[jax.Array, Batch], Batch]


def _interpolates(keys: jax.Array, real: Batch, generated: Batch, perturb: Perturb) -> Batch:
    """Eps x + (1 - eps) G(z), one eps in U[0, 1) per example (Gulrajani 2017, algorithm 1, line 6), with x's label."""
    del perturb
    return Batch(jax.vmap(_mix)(keys, real.x, generated.x), real.label)


def _mix(key: jax.Array, x: Array, y: Array) -> jax.Array:
    epsilon = jax.random.uniform(key, (), x.dtype)
    return epsilon * x + (1 - epsilon) * y


def _both(real: Batch, generated: Batch) -> Batch:
    return Batch(*map(jnp.concatenate, zip(real, generated, strict=True)))


def _two(keys: jax.Array) -> jax.Array:
    """Returns two keys per example, [B] to [2B]: one for its real and one for its generated example."""
    return jax.vmap(jax.random.split, out_axes=1)(keys).reshape(-1)


# example keys [B], real and generated examples [B, ...], perturb -> points [B or 2B, ...] with their labels
POINTS: dict[str, Callable[[jax.Array, Batch, Batch, Perturb], Batch]] = {
    "interpolates": _interpolates,
    "real": lambda keys, real, generated, perturb: real,
    "generated": lambda keys, real, generated, perturb: generated,
    # around the data: DRAGAN, Kodali 2017, section 2.3
    "perturbed_real": lambda keys, real, generated, perturb: perturb(keys, real),
    # both, of which the penalties add up: gamma / 2 (R1 + R2) has the weight gamma / 2 (Huang 2024, equation 6)
    "real_and_generated": lambda keys, real, generated, perturb: _both(real, generated),
    # around real and generated together: Petzka 2017's local perturbation, of the concatenated batch
    "perturbed_both": lambda keys, real, generated, perturb: perturb(_two(keys), _both(real, generated)),
}

SUMMED = {"real_and_generated"}  # of POINTS: whose two halves have a mean each that add up; the others have one over all


def make_points(
    points: str, perturbation: str, axis_name: str | None = None
) -> Callable[[jax.Array, Batch, Batch, jax.Array], Batch]:
    """Returns a function of (key, real, generated, noise_scale): the points where the critic's gradient is penalised.

    Of examples [B, ...] these are [B, ...], or [2B, ...] for both sides. A point between two has the real example's
    label, every other one that of the example that it is or is near to.
    """

    def penalty_points(key: jax.Array, real: Batch, generated: Batch, noise_scale: jax.Array) -> Batch:
        def perturb(keys: jax.Array, batch: Batch) -> Batch:
            scale = noise_scale * batch_std(batch.x, axis_name)
            return batch._replace(x=batch.x + scale * jax.vmap(PERTURBATIONS[perturbation])(keys, batch.x))

        return POINTS[points](example_keys(key, len(real.x), axis_name), real, generated, perturb)

    return penalty_points
