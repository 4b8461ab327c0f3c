"""Synthetic laws, each a function of a key that draws one example; batches are drawn on device inside the program."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from ml_collections import ConfigDict

from wgan_jax.data.dataset import Law, Modes

GAUSSIAN_MEAN, GAUSSIAN_STD = 2.0, 1.0  # Bethune & Coiffier 2018, section 4.1


def gaussian(config: ConfigDict) -> Law:
    """N(2, 1) in each of config.dim dimensions (Bethune & Coiffier 2018, section 4.1)."""

    def sample(key: jax.Array) -> jax.Array:
        return GAUSSIAN_MEAN + GAUSSIAN_STD * jax.random.normal(key, (config.dim,))

    def quantile(probability: np.ndarray) -> np.ndarray:
        return GAUSSIAN_MEAN + GAUSSIAN_STD * scipy.special.ndtri(probability)

    return Law(shape=(config.dim,), sample=sample, quantile=quantile if config.dim == 1 else None)


def ring8(config: ConfigDict) -> Law:
    """Eight Gaussians at angles 2 pi k / 8 on radius 2, sigma .02, all divided by 1.414 (Gulrajani 2017, toy code)."""
    del config
    angles = 2 * np.pi * np.arange(8) / 8
    return _mixture(2 * np.stack([np.cos(angles), np.sin(angles)], axis=1) / 1.414, 0.02 / 1.414)


def grid25(config: ConfigDict) -> Law:
    """25 Gaussians at 2 {-2..2}^2, sigma .05, all divided by 2.828 (Gulrajani 2017, toy code)."""
    del config
    side = 2.0 * np.arange(-2, 3)
    return _mixture(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2) / 2.828, 0.05 / 2.828)


def swiss_roll(config: ConfigDict) -> Law:
    """Coordinates 0 and 2 of scikit-learn's Swiss roll with noise .25, divided by 7.5 (Gulrajani 2017, toy code)."""
    del config

    def sample(key: jax.Array) -> jax.Array:
        key_angle, key_noise = jax.random.split(key)
        t = 1.5 * jnp.pi * (1 + 2 * jax.random.uniform(key_angle))
        point = t * jnp.stack([jnp.cos(t), jnp.sin(t)])
        return (point + 0.25 * jax.random.normal(key_noise, (2,))) / 7.5

    return Law(shape=(2,), sample=sample)


def parallel_lines(config: ConfigDict) -> Law:
    """(theta, u) with u in U[0, 1): against (0, u) KL is infinite, JS is log 2, W1 is |theta| (Arjovsky 2017, example 1)."""

    def sample(key: jax.Array) -> jax.Array:
        return jnp.stack([jnp.asarray(config.theta, float), jax.random.uniform(key)])

    return Law(shape=(2,), sample=sample)


def _mixture(centres: np.ndarray, sigma: float) -> Law:
    modes = Modes(centres, sigma)

    def sample(key: jax.Array) -> jax.Array:
        key_mode, key_noise = jax.random.split(key)
        return _near(jax.random.randint(key_mode, (), 0, len(centres)), key_noise)

    def _near(mode: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.asarray(centres, float)[mode] + sigma * jax.random.normal(key, centres.shape[1:])

    def stratified(key: jax.Array, count: int) -> jax.Array:
        return jax.vmap(_near)(jnp.arange(count) % len(centres), jax.random.split(key, count))

    return Law(shape=centres.shape[1:], sample=sample, stratified=stratified, modes=modes)
