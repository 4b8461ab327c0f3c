"""A generator as one file for other programs: a serialised `jax.export` artefact, and what its user must know as JSON.

The JSON has the artefact's SHA-256, and one of all that it says; `load_generator` compares both.

The artefact is StableHLO with the parameters in it, for CPU and CUDA and any batch size. jax and flatbuffers alone load it:

    generate = jax.export.deserialize(pathlib.Path(FILE).read_bytes()).call
    key = jax.random.key(seed)  # sample i of `experiments.sample --seed=seed`, for the normal law
    latents = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (dim,)))(jnp.arange(n))
    images = np.round((np.clip(generate(latents), -1, 1) + 1) * 127.5).astype(np.uint8)

Of a conditional generator it is generate(latents, labels), int32 numbers of the classes that the JSON names under "labels"; or
of attributes their codes, float32 [n, K]: of each column under "labels", side by side, 1 at its value and 0 at the others, or
(number - mean) / std.

It takes and gives float32; in between it computes in the run's own dtype, float64 or bfloat16 too.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wgan_jax.data.attributes import Attributes, Column
from wgan_jax.data.columns import Columns
from wgan_jax.data.scaling import PIXELS, Scaling
from wgan_jax.errors import UserError
from wgan_jax.paths import write_whole
from wgan_jax.records import read_sealed, sealed, to_json
from wgan_jax.types import Latents, Networks, Params

FORMAT, PLATFORMS = "jax.export", ("cpu", "cuda")
TO_UINT8 = "round((clip(x, -1, 1) + 1) * 127.5)"  # data/dataset.py to_pixels


def export_generator(networks: Networks, variables: Params, latent_dim: int, scaling: Scaling | Columns = PIXELS) -> bytes:
    """Returns the artefact of a generator's variables: latents z [b, latent_dim] float32 to [b, *shape] float32, any b.

    Pixels come in [-1, 1], all else in the units of the data, which `scaling` is of; rows of a table as a number per column.
    That of conditional networks takes labels [b] int32 after the latents; of attributes codes [b, K] float32.
    """

    def generate(z: jax.Array, label: jax.Array | None = None) -> jax.Array:
        label = jnp.zeros(z.shape[:1], jnp.int32) if label is None else label
        x = networks.generate(variables, Latents(z, label))
        return (x if scaling == PIXELS else scaling.restore(x)).astype(jnp.float32)

    batch = jax.export.symbolic_shape("b")
    latents, label = jax.ShapeDtypeStruct((*batch, latent_dim), jnp.float32), jax.ShapeDtypeStruct(batch, jnp.int32)
    if networks.code:
        label = jax.ShapeDtypeStruct((*batch, networks.code), jnp.float32)
    arguments = (latents, label) if networks.classes else (latents,)
    return bytes(jax.export.export(jax.jit(generate), platforms=PLATFORMS)(*arguments).serialize())


def save_generator(path: Path, artefact: bytes, described: dict[str, Any]) -> None:
    """Writes an artefact, and what `describe_generator` says of it, with its hash and a seal, as the file named FILE.json."""
    said = sealed({**described, "sha256": hashlib.sha256(artefact).hexdigest()})
    write_whole(path, artefact)
    write_whole(described_in(path), (to_json(said, indent=1) + "\n").encode())


def load_generator(path: Path) -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    """Returns the function of an artefact, as `export_generator` has it, and what its JSON says of it.

    Raises:
      UserError: one of the two files cannot be read, or they are not of each other.
    """
    try:
        said, artefact = read_sealed(described_in(path)), path.read_bytes()
        wanted = said["sha256"] if said["format"] == FORMAT else None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: no exported generator: {' '.join(str(error).split())}; export it again") from error
    if hashlib.sha256(artefact).hexdigest() != wanted:
        raise UserError(f"{path}: not the generator that {described_in(path).name} describes, or damaged; export it again")
    return jax.export.deserialize(bytearray(artefact)).call, said


def described_in(path: Path) -> Path:
    """Returns the file that describes an artefact."""
    return path.with_name(f"{path.name}.json")


def describe_generator(
    config: ConfigDict,
    shape: tuple[int, ...],
    step: int,
    generator: str,
    scaling: Scaling | Columns = PIXELS,
    labels: Sequence[str] | Attributes = (),
) -> dict[str, Any]:
    """Returns what the JSON beside an artefact says.

    generator: "ema" or "raw"; shape: of an example; scaling: of the data; labels: the classes, or the attributes, that it takes
    labels of.
    """
    latent = config.latent
    pixels = scaling == PIXELS
    output = {"range": [-1, 1] if pixels else None, "to_uint8": TO_UINT8 if pixels else None, "dtype": scaling.dtype}
    table = {"columns": scaling._asdict()["columns"]} if isinstance(scaling, Columns) else {}
    shape = (len(table["columns"]),) if table else shape
    bounds = {"low": latent.low, "high": latent.high} if latent.name == "uniform" else {}
    return {
        "format": FORMAT,
        "calling_convention_version": jax.config.jax_export_calling_convention_version,
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "latent": {"law": latent.name, "dim": latent.dim, **bounds},
        "output": {"shape": list(shape), **output, **table},  # dtype: of the data; what was whole numbers is to be rounded
        "labels": [_column(column) for column in labels.columns] if isinstance(labels, Attributes) else list(labels),
        "method": config.method,
        "preset": config.preset,
        "step": step,
        "generator": generator,
        "computes_in": config.dtype,
    }


def _column(column: Column) -> dict[str, Any]:
    numbers = {"mean": column.mean, "std": column.std}
    return {"column": column.name, **({"values": list(column.values)} if column.values else numbers)}
