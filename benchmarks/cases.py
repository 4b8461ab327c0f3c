"""What benchmarks/accelerator.py trains, and its dry run: the updates' programs lowered for devices that need not be there.

A case is a pair of networks at a batch size, a precision how they compute. All are WGAN-GP (five critic updates and a generator
update) without normalisation layers, of random pixels or ring8's points.
"""

import re
from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from benchmarks import images, toy
from configs import wgan_gp
from wgan_jax.config import check
from wgan_jax.models.dcgan import ladder
from wgan_jax.models.resnet import widths

CHANNELS = 3


class Precision(NamedTuple):
    """How a case computes."""

    dtype: str  # of config.dtype
    penalty: str  # of config.penalty.dtype
    matmul: str  # jax's precision of float32 products; its default is TF32 on a GPU that has it


PRECISIONS = {
    "float32": Precision("float32", "parameters", "highest"),
    "tf32": Precision("float32", "parameters", "default"),
    "bfloat16": Precision("bfloat16", "parameters", "default"),
    "bfloat16 penalty": Precision("bfloat16", "bfloat16", "default"),
}


class Case(NamedTuple):
    """Networks and a batch."""

    network: str  # mlp on points, dcgan or resnet on images
    size: int  # height and width of an image, or 2
    width: int
    batch: int

    def __str__(self) -> str:
        return f"{self.network} {self.size}, width {self.width}, batch {self.batch}"

    @property
    def shape(self) -> images.Shape:
        return images.Shape(self.size, CHANNELS, self.width)

    def config(self, dtype: str = "float32", penalty: str = "parameters") -> ConfigDict:
        """Returns the checked config, on one device."""
        if self.network == "mlp":
            config = toy.make_config(self.width)
        elif self.network == "dcgan":
            config = images.make_config(self.shape)
        else:
            config = wgan_gp.get_config("cifar10,paper=True")
            config.model.update({"width": self.width, "generator_normalization": "none"})
            config.data.dequantise, config.devices = False, 1
        config.batch_size, config.dtype, config.penalty.dtype = self.batch, dtype, penalty
        return check(config)

    def dataset(self) -> Any:
        """Returns random images, or the toy."""
        from wgan_jax.data import load_dataset

        return load_dataset(self.config()) if self.network == "mlp" else images.make_dataset(self.shape)

    def feed(self, dataset: Any) -> Any:
        """Returns a feed whose last batches are read again by a position beyond its end, which costs the same."""
        from wgan_jax.data.source import Feed, make_feed

        return Feed() if self.network == "mlp" else make_feed(dataset, dataset.train, 0, 0, 64, self.batch)

    def flops(self) -> int:
        """Returns the operations that an update cannot do without, as `benchmarks.toy.update_flops` counts them."""
        config = self.config()
        if self.network == "mlp":
            critic, generator = ([a * b for a, b in pairwise(sizes)] for sizes in toy.layer_sizes(config))
        elif self.network == "dcgan":
            critic, generator = images.layer_multiplications(config, self.shape)
        else:
            critic, generator = _resnet_multiplications(self.size, self.width, config.latent.dim)
        return toy.update_flops(critic, generator, self.batch, config.n_critic)

    def operations(self) -> dict[str, int]:
        """Returns how many convolutions and matmuls the text of the program has, as a count by hand finds them.

        Of c layers of the critic, f of them on the image itself, and g of the generator, each of the fakes' pass takes g. A
        critic update, whose text stands once, takes 3 c - f for the scores (forward, gradients of weights and of what is
        below) and 4 c for the penalty (forward, input gradient, and this one's two gradients). A generator update takes
        forward, weights and below of the generator, and forward and input gradient of the critic: 3 g + 2 c. In all
        9 c + 4 g - f.
        Dense layers miss a few: below the latents there is nothing, and the penalty needs no score and no gradient of its
        constant cotangent.
        """
        if self.network == "mlp":
            layers = self.config().model.depth + 1
            return {"convolution": 0, "dot_general": 13 * layers - 4}
        if self.network == "resnet":  # blocks of 3, 3, 2 and 2, and of 3 each and one at the end
            critic, first, generator = 10, 2, 3 * (len(widths(self.size, 1)) - 1) + 1
        else:
            critic, first, generator = len(ladder((self.size,))) - 1, 1, len(ladder((self.size,))) - 1
        return {"convolution": 9 * critic + 4 * generator - first, "dot_general": 10}


def _resnet_multiplications(size: int, width: int, latent: int) -> tuple[list[int], list[int]]:
    """Returns the multiplications per example of each layer of Gulrajani 2017's ResNet for images up to 32, borders whole.

    The two convolutions that see the image itself are one entry, the critic's first.
    """
    wide, first = 9 * width**2, CHANNELS * width
    half, quarter = (size // 2) ** 2, (size // 4) ** 2
    blocks = [size**2 * wide, half * wide, half * wide, quarter * width**2, *[quarter * wide] * 4]
    critic = [9 * size**2 * first + half * first, *blocks, width]
    inner = [4 * 2**level for level in range(len(widths(size, width)) - 1)]
    generator = [part for s in inner for part in ((2 * s) ** 2 * wide, (2 * s) ** 2 * wide, s**2 * width**2)]
    return critic, [16 * latent * width, *generator, 9 * size**2 * first]


def lower(case: Case, precision: Precision, platforms: tuple[str, ...], members: int = 0) -> dict[str, str]:
    """Returns the StableHLO of a case's run_updates, or of so many vmapped members', by platform."""
    import jax
    import numpy as np

    from wgan_jax.training.program import make_members, make_parts, make_run_updates
    from wgan_jax.training.update import make_hyperparameters

    config, dataset = case.config(precision.dtype, precision.penalty), case.dataset()
    feed = case.feed(dataset)
    _, steps = make_parts(config, dataset.shape)
    state = jax.eval_shape(steps.init_state, jax.random.key(0))
    apart = (state, np.int32(1), make_hyperparameters(config), jax.random.key(0))
    program: Any = jax.jit(make_run_updates(config, dataset))
    if members:
        program = make_members(config, dataset, members, vectorised=True).run_updates
        stacked = lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype)  # noqa: E731
        apart, feed = jax.tree.map(stacked, apart), feed._replace(rows=jax.tree.map(stacked, feed.rows))
    with jax.default_matmul_precision(precision.matmul):
        export = {platform: jax.export.export(program, platforms=(platform,)) for platform in platforms}
        return {platform: str(exported(*apart, feed).mlir_module()) for platform, exported in export.items()}


def count(text: str) -> dict[str, int]:
    """Returns how often the heavy operations stand in a StableHLO text."""
    found = Counter(re.findall(r"stablehlo\.(convolution|dot_general)\b", text))
    return {name: found[name] for name in ("convolution", "dot_general")}


def problems(text: str) -> list[str]:
    """Returns what a program for an accelerator may not have: float64, and calls of the host or of others' code."""
    lines = ["float64"] if re.search(r"\bf64\b|xf64\b", text) else []
    calls = set(re.findall(r"custom_call\s*@([\w.]+)", text)) - {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
    return lines + [f"custom call {name}" for name in sorted(calls)]


def dry_run(cases: list[Case]) -> bool:
    """Prints what lowering finds, a line per case and precision; returns whether all is as it must be."""
    good = True
    for case in cases:
        for name, precision in PRECISIONS.items():
            for members in (0, 2):
                for platform, text in lower(case, precision, ("cuda", "tpu"), members).items():
                    found, wrong = count(text), problems(text)
                    if found != case.operations():
                        wrong.append(f"by hand {case.operations()}")
                    good &= not wrong
                    who = f"{case}, {name}{', members' if members else ''}, {platform}"
                    print(f"{who}: {found}; {', '.join(wrong) or 'good'}", flush=True)
    return good
