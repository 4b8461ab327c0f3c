"""Seconds per generator update of WGAN-GP with a DCGAN: this project's compiled program against eager PyTorch and plain flax.

Run it from the repository's root, with nothing else running on the machine (about 10 minutes with PyTorch):

    python -m benchmarks.images [--torch-python=PYTHON] [--shapes=28x28x1:32,...] [--rounds=5] [--seconds=6] [--naive]
                                [--out=FILE.json] [--figure=FILE.png]
    python -m benchmarks.images --torch-python=PYTHON --check

PYTHON is an interpreter with torch and numpy, of an environment of its own if need be. A shape is HxHxC:width, or TxC:width of
series, which networks of one-dimensional convolutions make. One update is five critic updates on 64 images, one generator
update and its average, of Gulrajani 2017's MNIST code without batch normalisation, on the CPU. The sides take turns in every
round: JAX, PyTorch in two memory layouts (series: one), and square matmuls in JAX, whose best rate is the machine's peak; with
--naive also, one update a turn, the same program with lax's own convolutions and derivatives, which is what flax's nn.Conv runs
(half a minute an update at the small shapes).

--check measures nothing: it gives both sides the same parameters, images, latents and epsilons and compares all parameters
after an update in float64 (relative 1e-9). Its exit code is 1 where they differ.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from ml_collections import ConfigDict

from benchmarks.toy import JaxSide, Matmul, TorchSide, distance, open_torch, optimizer_settings, summary, update_flops
from configs import wgan_gp
from wgan_jax.config import check

TORCH_SIDE = "benchmarks.images_torch"
SHAPES = "28x28x1:32,32x32x1:32,32x32x3:64,64x64x3:32"
TOLERANCE = 1e-9
STORED = 640  # images, random


class Shape(NamedTuple):
    """Images [height, height, channels], or, of one axis, series [height, channels]; and the networks' width."""

    height: int
    channels: int
    width: int
    axes: int = 2

    def size(self) -> tuple[int, ...]:
        """Returns the length of each axis."""
        return (self.height,) * self.axes

    def __str__(self) -> str:
        return f"{'x'.join(map(str, (*self.size(), self.channels)))}:{self.width}"


def make_config(shape: Shape, dtype: str = "float32") -> ConfigDict:
    """Returns the config of a shape on one device."""
    config = wgan_gp.get_config("cifar10")
    config.model.update({"width": shape.width, "generator_normalization": "none"})
    config.dtype, config.devices = dtype, 1
    return check(config)


def layer_multiplications(config: ConfigDict, shape: Shape) -> tuple[list[int], list[int]]:
    """Returns the multiplications per example of each layer of the critic and of the generator, borders counted whole."""
    from wgan_jax.models.dcgan import ladder

    sizes = [height for height, *_ in ladder(shape.size())]
    widths = [shape.channels, *(shape.width * 2**i for i in range(len(sizes) - 1))]
    convolutions = [
        (small * 5) ** shape.axes * outer * inner
        for small, outer, inner in zip(sizes[1:], widths[:-1], widths[1:], strict=True)
    ]
    flat = sizes[-1] ** shape.axes * widths[-1]
    return [*convolutions, flat], [config.latent.dim * flat, *reversed(convolutions)]


def make_dataset(shape: Shape) -> Any:
    """Returns random images."""
    from wgan_jax.data.dataset import Split, Stored

    images = np.random.default_rng(0).integers(0, 256, (STORED, *shape.size(), shape.channels)).astype(np.uint8)
    part = Split(images, np.zeros(STORED, np.int32))
    return Stored(images.shape[1:], part, part, part)


def jax_side(config: ConfigDict, shape: Shape) -> JaxSide:
    """Returns the compiled program. A position beyond the feed's end reads its last batches again, which costs the same."""
    from wgan_jax.data.source import make_feed

    dataset = make_dataset(shape)
    return JaxSide(config, dataset, make_feed(dataset, dataset.train, 0, 0, 1024, config.batch_size))


def mirrored(array: np.ndarray, *axes: int) -> np.ndarray:
    """Returns the array reversed along axes."""
    return np.ascontiguousarray(np.flip(array, axes))


def layers(params: Any, smallest: int) -> list[np.ndarray]:
    """Returns PyTorch's parameters of a player, in its order: mirrored kernels [F, C, 5, 5], dense weights [out, in], biases.

    params: a DCGAN's, `smallest` the size of its smallest image; of series kernels are [F, C, 5].
    """
    arrays = {name: (np.asarray(layer["kernel"]), np.asarray(layer["bias"])) for name, layer in params.items()}
    convolutions = sorted(name for name in arrays if name != "Dense_0")
    axes = arrays[convolutions[0]][0].ndim - 2
    flat: list[np.ndarray] = []
    for name in convolutions:
        kernel, bias = arrays[name]
        # [F, C] of the convolution: ConvTranspose2d's [in, out] too
        flat += [mirrored(np.moveaxis(kernel, (-1, -2), (0, 1)), *range(2, 2 + axes)), bias]
    kernel, bias = arrays["Dense_0"]
    image = (smallest,) * axes
    if "Transposed" in convolutions[0]:  # the generator's comes first and makes images
        weight = mirrored(kernel.reshape(len(kernel), *image, -1), *range(1, 1 + axes))
        start = mirrored(bias.reshape(*image, -1), *range(axes))
        return [np.moveaxis(weight, -1, 1).reshape(len(kernel), -1).T.copy(), np.moveaxis(start, -1, 0).ravel(), *flat]
    weight = mirrored(kernel.reshape(*image, -1), *range(axes))
    return [*flat, np.moveaxis(weight, -1, 0).reshape(1, -1), bias]


def save_players(path: Path, state: Any, config: ConfigDict, shape: Shape, **arrays: np.ndarray) -> None:
    """Writes both players' parameters, and arrays, for PyTorch's side."""
    smallest = torch_settings(config, shape)["sizes"][-1]
    players = {"critic": state.critic.params, "generator": state.generator.params}
    named = {f"{name}_{i}": array for name, params in players.items() for i, array in enumerate(layers(params, smallest))}
    np.savez(path, **named, **arrays)  # type: ignore[arg-type]


def torch_settings(config: ConfigDict, shape: Shape) -> dict[str, Any]:
    """Returns the Settings of benchmarks/images_torch.py for a config."""
    from wgan_jax.models.dcgan import ladder

    return dict(
        optimizer_settings(config),
        dtype=config.dtype,
        batch_size=config.batch_size,
        n_critic=config.n_critic,
        latent_dim=config.latent.dim,
        sizes=[height for height, *_ in ladder(shape.size())],
        axes=shape.axes,
        channels=shape.channels,
        width=shape.width,
        penalty_weight=config.penalty.weight,
        ema_decay=config.ema_decay,
    )


def naive_side(config: ConfigDict, shape: Shape) -> JaxSide:
    """Returns the same program with lax's convolutions, which autodiff differentiates: what nn.Conv runs."""
    import jax
    from jax import lax

    from wgan_jax.models import layers as module

    def convolve(x: jax.Array, w: jax.Array, stride: int = 1) -> jax.Array:
        return lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def convolve_transpose(y: jax.Array, w: jax.Array, size: tuple[int, int], stride: int = 1) -> jax.Array:
        x = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[2]), y.dtype)
        return jax.linear_transpose(lambda x: convolve(x, w, stride), x)(y)[0]

    with mock.patch.multiple(module, convolve=convolve, convolve_transpose=convolve_transpose):
        return jax_side(config, shape)


def measure(shapes: Sequence[Shape], rounds: int, seconds: float, torch: TorchSide | None, *, naive: bool) -> dict[str, Any]:
    """Returns everything measured, as it is written to --out."""
    import jax

    from wgan_jax.training.workdir import machine

    matmul, results = Matmul(), []
    for shape in shapes:
        config = make_config(shape)
        ours = jax_side(config, shape)
        variants: list[str] = []
        if torch is not None:
            with tempfile.TemporaryDirectory() as folder:
                save_players(Path(folder, "start.npz"), ours.state, config, shape)
                start = str(Path(folder, "start.npz"))
                variants = torch.ask("load", file=start, settings=torch_settings(config, shape))["variants"]
        flax = {"flax in a scan": naive_side(config, shape)} if naive else {}
        times: dict[str, list[float]] = {side: [] for side in ("jax", *(f"torch {variant}" for variant in variants), *flax)}
        rates: list[float] = []
        updates = 1
        for turn in range(-1, rounds):  # the first warms up
            taken = {"jax": ours.run(updates) / updates}
            updates = max(1, round(seconds / taken["jax"]))
            for variant in variants:
                assert torch is not None
                answer = torch.ask("run", variant=variant, seconds=seconds if turn >= 0 else 0)
                taken[f"torch {variant}"] = answer["seconds"] / answer["updates"]
            taken |= {name: side.run(1) for name, side in flax.items()}
            rate = matmul.best_rate(1.0)
            if turn >= 0:
                rates.append(rate)
                for side, value in taken.items():
                    times[side].append(value)
        flops = update_flops(*layer_multiplications(config, shape), config.batch_size, config.n_critic)
        sides = {side: summary(values) for side, values in times.items()}
        peak = summary(rates)
        for measured in sides.values():
            measured["share_of_peak"] = flops / measured["median"] / peak["median"]
        result = {"shape": str(shape), "flops": flops, "peak_flops": peak, "compile_seconds": ours.compile_seconds}
        results.append(result | {"sides": sides})
        for line in table(results[-1]):
            print(line, flush=True)
    versions = {"jax": jax.__version__, "torch": torch.ask("hello")["torch"] if torch else None}
    return {"machine": machine(1) | versions, "rounds": rounds, "seconds": seconds, "shapes": results}


def table(result: dict[str, Any]) -> Iterator[str]:
    """Yields the lines of a shape's result for people."""
    peak = {name: value / 1e9 for name, value in result["peak_flops"].items()}
    yield (
        f"{result['shape']}: {result['flops'] / 1e9:.1f} GFLOP an update; matmul peak {peak['median']:.0f} GFLOP/s "
        f"({peak['min']:.0f} to {peak['max']:.0f}); JAX compiled in {result['compile_seconds']:.1f} s"
    )
    yield f"  {'':22}{'s/update':>10}{'min':>8}{'max':>8}{'of peak':>9}{'/ JAX':>8}"
    first = result["sides"]["jax"]["median"]
    for name, side in result["sides"].items():
        row = f"  {name:22}{side['median']:>10.3f}{side['min']:>8.3f}{side['max']:>8.3f}"
        yield f"{row}{side['share_of_peak']:>9.1%}{side['median'] / first:>8.2f}"


def save_figure(path: Path, report: dict[str, Any]) -> None:
    """Saves bars of the share of the matmul peak by shape and side, with seconds per update written on them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(name for result in report["shapes"] for name in result["sides"]))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        has = {place: result["sides"][name] for place, result in enumerate(report["shapes"]) if name in result["sides"]}
        sides, places = list(has.values()), [place + width * index for place in has]
        bars = axes.bar(places, [100 * side["share_of_peak"] for side in sides], width, label=name)
        axes.bar_label(bars, [f"{side['median']:.2f} s" for side in sides], fontsize=7)
    centres = [place + 0.4 - width / 2 for place in range(len(report["shapes"]))]
    axes.set_xticks(centres, [result["shape"] for result in report["shapes"]])
    axes.set(ylabel="share of the matmul peak (%)", ylim=(0, 100))
    axes.legend()
    figure.savefig(path, dpi=120)


def compare(shapes: Sequence[Shape], torch: TorchSide) -> bool:
    """Prints how far the two sides' parameters are apart after the same update; returns whether that is rounding."""
    import jax
    import jax.numpy as jnp

    from benchmarks.toy import update_and_noise

    good = True
    for shape in shapes:
        config = make_config(shape, "float64")
        with jax.enable_x64(True), tempfile.TemporaryDirectory() as name:
            images = jax.random.uniform(jax.random.key(0), (config.n_critic, config.batch_size, *make_dataset(shape).shape))
            before, after, noise = update_and_noise(config, images.shape[2:], 2 * images.astype(jnp.float64) - 1)
            noise["epsilons"] = noise["epsilons"].reshape(*images.shape[:2], *[1] * (1 + shape.axes))
            noise["real"] = mirrored(np.moveaxis(noise["real"], -1, 2), *range(3, 3 + shape.axes))
            given, out = Path(name, "given.npz"), Path(name, "out.npz")
            save_players(given, before, config, shape, **noise)
            settings = torch_settings(config, shape)
            variants = torch.ask("load", file=str(given), settings=settings)["variants"]
            params = {"critic": after.critic.params, "generator": after.generator.params, "ema": after.ema["params"]}
            wanted = {name: layers(tree, settings["sizes"][-1]) for name, tree in params.items()}
            for variant in variants:
                torch.ask("check", variant=variant, file=str(given), out=str(out))
                with np.load(out, allow_pickle=False) as got:
                    distances = [distance(got[f"{n}_{i}"], a) for n, arrays in wanted.items() for i, a in enumerate(arrays)]
                worst = float(np.max(distances))
                good &= worst <= TOLERANCE
                verdict = "same" if worst <= TOLERANCE else "DIFFERENT"
                print(f"{shape}, {variant}: relative difference {worst:.1e}, {verdict}")
    return good


def parse_shapes(text: str) -> list[Shape]:
    """Returns the shapes of HxHxC:width or TxC:width,..."""
    shapes = []
    for part in text.split(","):
        found = re.fullmatch(r"([1-9]\d*)(x\1)?x([1-9]\d*):([1-9]\d*)", part.strip())
        if found is None or int(found[1]) <= 4:
            raise argparse.ArgumentTypeError(f"{part!r} is not HxHxC:width or TxC:width")
        shapes.append(Shape(int(found[1]), int(found[3]), int(found[4]), 2 if found[2] else 1))
    return shapes


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.images", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--torch-python", metavar="PYTHON", help="an interpreter with torch and numpy; without it, JAX alone")
    parser.add_argument("--shapes", type=parse_shapes, default=SHAPES, metavar="HxHxC:W,...", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side at each shape; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a turn; default: %(default)s")
    parser.add_argument("--naive", action="store_true", help="also updates with lax's own convolutions")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="writes the measurements here too")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draws them here")
    parser.add_argument("--check", action="store_true", help="compares the two sides' arithmetic and measures nothing")
    options = parser.parse_args(arguments)
    if options.check and options.torch_python is None:
        parser.error("--check compares with PyTorch: give --torch-python=PYTHON")
    if options.naive and any(shape.axes == 1 for shape in options.shapes):
        parser.error("--naive has images alone, no series")
    if options.rounds < 1 or not 0 < options.seconds < float("inf"):
        parser.error("--rounds is a whole number of at least 1, --seconds a number above 0")
    with open_torch(parser, options.torch_python, TORCH_SIDE) as torch:
        import jax

        jax.config.update("jax_platforms", "cpu")  # PyTorch's side runs there
        jax.config.update("jax_enable_compilation_cache", False)  # so that the compile time is one
        if options.check:
            assert torch is not None
            return 0 if compare(options.shapes, torch) else 1
        report = measure(options.shapes, options.rounds, options.seconds, torch, naive=options.naive)
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.figure is not None:
        save_figure(options.figure, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
