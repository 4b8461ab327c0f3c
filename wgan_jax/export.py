"""A generator as one file for other programs: a serialised `jax.export` artefact, and what its user must know as JSON.

The artefact is StableHLO with the parameters in it, for CPU and CUDA and any batch size. jax and flatbuffers alone load it:

    generate = jax.export.deserialize(pathlib.Path(FILE).read_bytes()).call
    key = jax.random.key(seed)  # sample i of `experiments.sample --seed=seed`, for the normal law
    latents = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (dim,)))(jnp.arange(n))
    images = np.round((np.clip(generate(latents), -1, 1) + 1) * 127.5).astype(np.uint8)

It takes and gives float32; in between it computes in the run's own dtype, float64 or bfloat16 too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.types import Latents, Networks, Params

FORMAT, PLATFORMS = "jax.export", ("cpu", "cuda")
TO_UINT8 = "round((clip(x, -1, 1) + 1) * 127.5)"  # data/dataset.py to_pixels


def export_generator(networks: Networks, variables: Params, latent_dim: int) -> bytes:
    """Returns the artefact of a generator's variables: latents z [b, latent_dim] float32 to [b, *shape] float32, any b.

    It takes no labels: a generator that uses its label makes examples of label 0 alone.
    """

    def generate(z: jax.Array) -> jax.Array:
        return networks.generate(variables, Latents(z, jnp.zeros(z.shape[:1], jnp.int32))).astype(jnp.float32)

    batch = jax.export.symbolic_shape("b")
    latents = jax.ShapeDtypeStruct((*batch, latent_dim), jnp.float32)
    return bytes(jax.export.export(jax.jit(generate), platforms=PLATFORMS)(latents).serialize())


def describe_generator(config: ConfigDict, shape: tuple[int, ...], step: int, generator: str) -> dict[str, Any]:
    """Returns what the JSON beside an artefact says. generator: "ema" or "raw"; shape: of an example, points or images."""
    latent, images = config.latent, len(shape) == 3
    bounds = {"low": latent.low, "high": latent.high} if latent.name == "uniform" else {}
    return {
        "format": FORMAT,
        "calling_convention_version": jax.config.jax_export_calling_convention_version,
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "latent": {"law": latent.name, "dim": latent.dim, **bounds},
        "output": {"shape": list(shape), "range": [-1, 1] if images else None, "to_uint8": TO_UINT8 if images else None},
        "labels": [],  # of a conditional generator: there is none yet
        "method": config.method,
        "preset": config.preset,
        "step": step,
        "generator": generator,
        "computes_in": config.dtype,
    }
