"""Modules in which an example meets others: minibatch discrimination and virtual batch normalisation (Salimans 2016)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class Closeness(nn.Module):
    """How close each example is to the others of the global batch: sum over these of exp(-|m - m'|_1) (section 3.2).

    Of kernels' values m [B, kernels, dims] it gives [B, kernels]. In evaluation, where an example is alone, the running mean of
    what training saw stands for it.
    """

    axis_name: str | None  # device axis over which the batch is spread

    @nn.compact
    def __call__(self, m: jax.Array, train: bool) -> jax.Array:
        count, kernels, _ = m.shape
        running = self.variable("batch_stats", "mean", jnp.zeros, (kernels,), m.dtype)
        if not train:
            return jnp.broadcast_to(running.value[None], (count, kernels))
        everyone, first = m, jnp.int32(0)
        if self.axis_name is not None and not self.is_initializing():
            everyone = jax.lax.all_gather(m, self.axis_name, tiled=True)
            first = jax.lax.axis_index(self.axis_name).astype(jnp.int32) * count
        distance = jnp.sum(jnp.abs(m[:, None] - everyone[None]), axis=-1)
        oneself = (first + jnp.arange(count, dtype=jnp.int32))[:, None] == jnp.arange(len(everyone), dtype=jnp.int32)[None]
        closeness = jnp.sum(jnp.where(oneself[..., None], 0, jnp.exp(-distance)), axis=1)
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            running.value = 0.9 * running.value + 0.1 * jax.lax.stop_gradient(jnp.mean(closeness, axis=0))
        return closeness


class VirtualBatchNorm(nn.Module):
    """Normalises each example by the moments of a reference batch, the first of x [B, ..., C], and its own (section 3.5).

    Of R reference examples the weights are R / (R + 1) and 1 / (R + 1). The reference is normalised by its own moments alone.
    """

    reference: int  # R
    scaled: bool = True  # whether it has a scale and bias of its own

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        count, positions = self.reference, tuple(range(1, x.ndim - 1))

        def blended(y: jax.Array) -> jax.Array:
            """Returns the mean [B, 1, ..., C] that each example is normalised with."""
            own = jnp.mean(y, axis=positions, keepdims=True)
            reference = jnp.mean(own[:count], axis=0, keepdims=True)
            rest = (count * reference + own[count:]) / (count + 1)
            return jnp.concatenate([jnp.broadcast_to(reference, own[:count].shape), rest])

        mean, square = blended(x), blended(jnp.square(x))
        normalised = (x - mean) * jax.lax.rsqrt(jax.nn.relu(square - jnp.square(mean)) + 1e-5)
        if not self.scaled:
            return normalised
        scale, bias = (
            self.param(name, start, x.shape[-1:], x.dtype).reshape(*[1] * (x.ndim - 1), -1)
            for name, start in (("scale", nn.initializers.ones), ("bias", nn.initializers.zeros))
        )
        return normalised * scale + bias


class Referring(nn.Module):
    """A generator that is shown the reference latents, always the same, ahead of those that it is asked for.

    The reference has the first label, where there are some.
    """

    generator: nn.Module
    reference: Callable[[], jax.Array]  # -> [R, Z]
    code: tuple[float, ...] = ()  # [K], of the first label, for labels that are shares of the classes, or codes

    def __call__(self, latent: jax.Array, label: jax.Array, train: bool) -> jax.Array:
        reference = self.reference()
        first = jnp.asarray(self.code if label.ndim == 2 else 0, label.dtype)
        before = jnp.broadcast_to(first, (len(reference), *label.shape[1:]))
        x: jax.Array = self.generator(jnp.concatenate([reference, latent]), jnp.concatenate([before, label]), train)
        return x[len(reference) :]
