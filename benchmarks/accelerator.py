"""What a CPU cannot show: this project's updates on a GPU against PyTorch's, and what surrounds them there.

Run it from the repository's root on a machine with one free GPU (under eight minutes; what that leaves out, it says):

    python -m benchmarks.accelerator [--torch-python=PYTHON] [--out=FILE.json] [--minutes=8] [--parts=updates,profile]
    python -m benchmarks.accelerator --tiny [--torch-python=PYTHON]     the same in small, on whatever is there
    python -m benchmarks.accelerator --torch-python=PYTHON --check      both sides' arithmetic, in float64
    python -m benchmarks.accelerator --dry-run                          lowers every update for CUDA and TPU; needs neither

PYTHON is an interpreter with torch and numpy, of an environment of its own if need be; without it only JAX is measured. An
update is five critic updates of WGAN-GP and a generator's. Sides take turns, medians of three: JAX in TF32 (the default), in
bfloat16 with the penalty apart from it, in float32 products (TF32 off), and in bfloat16 with the penalty too; PyTorch as
benchmarks/accelerator_torch.py has it. `of peak` is of the rate of square matmuls in the same precision in the same run. For
the other parts see benchmarks/accelerator_parts.py. Without a GPU the exit code is 2; a dry run or a check that finds a
difference ends with 1.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import images, toy
from benchmarks.accelerator_parts import FIRST, FULL, THEN, TINY, Row, Skip, table
from benchmarks.cases import PRECISIONS, Case, Precision, dry_run
from benchmarks.toy import JaxSide, TorchSide, distance, open_torch

TORCH_SIDE = "benchmarks.accelerator_torch"
ROUNDS, SECONDS = 3, 0.4  # turns of each side, and their length
TOLERANCE = 1e-9
RESERVE = 180  # seconds of the whole that the updates leave to the other parts
PARTS = (*FIRST, "updates", *THEN)

# What is measured, most wanted first.
CASES = [
    Case("dcgan", 32, 64, 64),
    Case("mlp", 2, 64, 256),
    Case("resnet", 32, 128, 64),
    Case("dcgan", 64, 64, 64),
    Case("mlp", 2, 512, 256),
    Case("dcgan", 32, 64, 256),
    Case("resnet", 32, 128, 256),
    Case("dcgan", 64, 64, 256),
]
TINY_CASES = [Case("dcgan", 8, 4, 4), Case("mlp", 2, 16, 32), Case("resnet", 8, 8, 8)]
COMPILED = 2  # cases whose first-order parts PyTorch compiles too, a sample: it takes long


def make_side(case: Case, precision: Precision) -> JaxSide:
    """Returns the compiled program of a case."""
    import jax

    with jax.default_matmul_precision(precision.matmul):
        dataset = case.dataset()
        return JaxSide(case.config(precision.dtype, precision.penalty), dataset, case.feed(dataset))


def matmul_rate(precision: Precision, size: int, seconds: float = 0.5) -> float:
    """Returns the operations a second of square matmuls, twenty a call, each on the last one's result."""
    import jax

    a = jax.random.normal(jax.random.key(0), (size, size), precision.dtype) / size**0.5
    with jax.default_matmul_precision(precision.matmul):
        multiply = jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda _, y: y @ a, x))
        jax.block_until_ready(multiply(a))
        calls, began = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - began < seconds:
            jax.block_until_ready(multiply(a))
            calls += 1
        return 20 * calls * 2 * size**3 / (time.perf_counter() - began)


def torch_settings(case: Case, dtype: str) -> dict[str, Any]:
    """Returns PyTorch's Settings of a case."""
    config = case.config(dtype)
    if case.network == "mlp":
        return toy.torch_settings(config)
    return images.torch_settings(config, case.shape)


def save_players(path: Path, case: Case, state: Any, **arrays: np.ndarray) -> None:
    """Writes both players' parameters, and arrays, for PyTorch's side."""
    players = {"critic": state.critic.params, "generator": state.generator.params}
    named = {f"{name}_{i}": array for name, params in players.items() for i, array in enumerate(layers(case, params))}
    np.savez(path, **named, **arrays)  # type: ignore[arg-type]


def layers(case: Case, params: Any) -> list[np.ndarray]:
    """Returns PyTorch's parameters of a player, in its order."""
    if case.network == "mlp":
        return toy.layers(params)
    if case.network == "dcgan":
        return images.layers(params, torch_settings(case, "float32")["sizes"][-1])
    convolutions = [layer for name in sorted(params) if name.startswith("Block") for _, layer in sorted(params[name].items())]
    convolutions += [params["Convolution_0"]] if "Convolution_0" in params else []
    flat = [a for layer in convolutions for a in (np.asarray(layer["kernel"]).transpose(3, 2, 0, 1), np.asarray(layer["bias"]))]
    kernel, bias = np.asarray(params["Dense_0"]["kernel"]), np.asarray(params["Dense_0"]["bias"])
    if bias.size == 1:
        return [*flat, kernel.T, bias]
    weight = kernel.reshape(len(kernel), 4, 4, -1).transpose(3, 1, 2, 0).reshape(bias.size, -1)
    return [weight, bias.reshape(4, 4, -1).transpose(2, 0, 1).ravel(), *flat]


def load_torch(torch: TorchSide, case: Case, precision: str, state: Any, *, compiled: bool) -> list[str]:
    """Gives PyTorch's side a case, and lets it take an update of each variant; returns those that it can run."""
    import jax

    settings = torch_settings(case, PRECISIONS[precision].dtype.replace("bfloat16", "float32"))
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    working: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            save_players(Path(folder, "start.npz"), case, state)
            where = {"file": str(Path(folder, "start.npz")), "network": case.network, "device": device}
            torch.ask("load", settings=settings, precision=precision, compiled=compiled, **where)
        for variant in ("eager", "compiled")[: 1 + compiled]:
            torch.ask("run", variant=variant, seconds=0)
            working.append(variant)
    except RuntimeError as error:
        print(f"  skipped: {case}, {precision}, PyTorch after {working}: {str(error).splitlines()[0][:200]}", flush=True)
    return working


def turns(
    case: Case, precision: str, side: JaxSide, torch: TorchSide | None, *, compiled: bool, rounds: int
) -> dict[str, float]:
    """Returns the median seconds per update of each side, which take turns."""
    variants = load_torch(torch, case, precision, side.state, compiled=compiled) if torch else []
    side.run(1)
    updates = max(1, round(SECONDS / (side.run(3) / 3)))
    times: dict[str, list[float]] = {name: [] for name in ("jax", *variants)}
    for _ in range(rounds):
        times["jax"].append(side.run(updates) / updates)
        for variant in variants:
            assert torch is not None
            answer = torch.ask("run", variant=variant, seconds=SECONDS)
            times[variant].append(answer["seconds"] / answer["updates"])
    return {name: statistics.median(values) for name, values in times.items()}


def has_tf32() -> bool:
    """Returns whether TF32 is another precision than float32 here: on NVIDIA's cards from compute capability 8 on."""
    import jax

    major = str(getattr(jax.devices()[0], "compute_capability", "")).split(".")[0]
    return major.isdigit() and int(major) >= 8


def measure_updates(cases: Sequence[Case], torch: TorchSide | None, until: float, *, tiny: bool) -> list[Row]:
    """Returns a row per case, precision and side; a program that would not be done by `until`, on time's clock, is left out.

    One program is compiled at a time: most of that is autotuning, which has the device to itself.
    """
    wanted = [name for name in ("tf32", "bfloat16", "float32", "bfloat16 penalty") if tiny or name != "tf32" or has_tf32()]
    if "tf32" not in wanted:
        print("  skipped: TF32, which this device has not")
    rows: list[Row] = []
    longest = 0.0
    for name in wanted:
        peak = matmul_rate(PRECISIONS[name], 64 if tiny else 8192)
        for number, case in enumerate(cases):
            began = time.perf_counter()
            if began + longest > until:
                print(f"  skipped: {case}, {name}: no time is left", flush=True)
                continue
            try:
                side = make_side(case, PRECISIONS[name])
                compiled = name == wanted[0] and number < COMPILED
                medians = turns(case, name, side, torch, compiled=compiled, rounds=1 if tiny else ROUNDS)
            except Exception as error:  # out of memory, say: the others go on
                print(f"  skipped: {case}, {name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
                continue
            told = ", ".join(f"{who} {1e3 * seconds:.3g}" for who, seconds in medians.items())
            print(f"  {case}, {name}, compiled in {side.compile_seconds:.1f} s, ms per update: {told}", flush=True)
            rows += [
                {
                    "what": str(case),
                    "precision": name,
                    "side": who if who == "jax" else f"torch {who}",
                    "ms/update": 1e3 * seconds,
                    "real/s": case.config().n_critic * case.batch / seconds,
                    "of peak": f"{case.flops() / seconds / peak:.1%}",
                    "/ jax": seconds / medians["jax"],
                    "compiled in s": side.compile_seconds if who == "jax" else "",
                }
                for who, seconds in medians.items()
            ]
            longest = max(longest, time.perf_counter() - began)
    return rows


def compare(cases: Sequence[Case], torch: TorchSide) -> bool:
    """Prints how far the two sides' parameters are apart after the same update in float64; returns whether that is rounding."""
    import jax
    import jax.numpy as jnp

    good = True
    for case in cases:
        config = case.config("float64")
        with jax.enable_x64(True), tempfile.TemporaryDirectory() as name:
            if case.network == "mlp":
                real = toy.ring8(config, jax.random.key(0))
            else:
                size = (config.n_critic, case.batch, *case.dataset().shape)
                real = 2 * jax.random.uniform(jax.random.key(0), size).astype(jnp.float64) - 1
            before, after, noise = toy.update_and_noise(config, real.shape[2:], real)
            if case.network != "mlp":
                noise["epsilons"] = noise["epsilons"].reshape(*real.shape[:2], 1, 1, 1)
                noise["real"] = noise["real"].transpose(0, 1, 4, 2, 3)
            if case.network == "dcgan":
                noise["real"] = images.mirrored(noise["real"], 3, 4)
            given, out = Path(name, "given.npz"), Path(name, "out.npz")
            save_players(given, case, before, **noise)
            device = "cuda" if jax.default_backend() == "gpu" else "cpu"
            where = {"file": str(given), "network": case.network, "device": device, "precision": "float32"}
            torch.ask("load", settings=torch_settings(case, "float64"), compiled=False, **where)
            torch.ask("check", variant="eager", file=str(given), out=str(out))
            params = {"critic": after.critic.params, "generator": after.generator.params, "ema": after.ema["params"]}
            with np.load(out, allow_pickle=False) as got:
                parts = [(f"{n}_{i}", a) for n, tree in params.items() for i, a in enumerate(layers(case, tree))]
                worst = float(np.max([distance(got[part], array) for part, array in parts]))
        good &= worst <= TOLERANCE
        print(f"{case}: relative difference {worst:.1e}, {'same' if worst <= TOLERANCE else 'DIFFERENT'}", flush=True)
    return good


def measure(torch: TorchSide | None, minutes: float, out: Path | None, wanted: Sequence[str] | None, *, tiny: bool) -> None:
    """Prints what is measured as it comes, and writes it to a file, after every part anew. wanted: parts, or None for all."""
    import jax

    from wgan_jax.training.workdir import machine

    began, scale = time.perf_counter(), TINY if tiny else FULL
    end = began + 60 * minutes
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    about = torch.ask("hello", device=device) if torch else {"torch": None}
    here = {**machine(1), "jax": jax.__version__, "torch": about["torch"]}
    print(", ".join(f"{name} {value}" for name, value in here.items() if value), flush=True)
    report: dict[str, Any] = {"machine": here, "parts": {}}
    until = end - RESERVE if wanted is None or set(wanted) & set(THEN) else end
    updates = lambda _: measure_updates(TINY_CASES if tiny else CASES, torch, until, tiny=tiny)  # noqa: E731
    for name, part in {**FIRST, "updates": updates, **THEN}.items():
        if wanted is not None and name not in wanted:
            continue
        print(f"{name}:", flush=True)
        started = time.perf_counter()
        try:
            if started > end:
                raise Skip(f"{minutes:g} minutes are over")  # noqa: TRY301
            rows = part(scale)
            report["parts"][name] = {"rows": rows, "seconds": time.perf_counter() - started}
            for line in table(rows) if rows else ():
                print(line, flush=True)
        except Exception as error:  # what one part meets is told, and the others go on
            reason = str(error) if isinstance(error, Skip) else f"{type(error).__name__}: {error}"
            report["parts"][name] = {"skipped": reason}
            print(f"  skipped: {reason}", flush=True)
        report["seconds"] = time.perf_counter() - began
        if out is not None:
            out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{report['seconds']:.0f} s", flush=True)


def _parts(text: str) -> list[str]:
    """Returns the names in a list with commas."""
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: no part; there are {', '.join(PARTS)}")
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.accelerator", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--torch-python", metavar="PYTHON", help="an interpreter with torch and numpy; without it, JAX alone")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="writes the measurements here too")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new is begun; default: %(default)s")
    parser.add_argument("--parts", type=_parts, metavar="PART,..", help=f"those alone, of {', '.join(PARTS)}; default: all")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, on a CPU too")
    parser.add_argument("--check", action="store_true", help="compares the two sides' arithmetic and measures nothing")
    parser.add_argument("--dry-run", action="store_true", help="lowers every update for CUDA and TPU and measures nothing")
    options = parser.parse_args(arguments)
    if options.check and options.torch_python is None:
        parser.error("--check compares with PyTorch: give --torch-python=PYTHON")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch's side has the same card
    if options.dry_run:
        return 0 if dry_run(CASES) else 1
    import jax

    if jax.default_backend() != "gpu" and not (options.tiny or options.check):
        print(f"no GPU: JAX sees {jax.devices()}; --dry-run and --tiny need none", file=sys.stderr)
        return 2
    jax.config.update("jax_enable_compilation_cache", False)  # so that the compile time is one
    with open_torch(parser, options.torch_python, TORCH_SIDE) as torch:
        if options.check:
            assert torch is not None
            return 0 if compare(TINY_CASES, torch) else 1
        measure(torch, options.minutes, options.out, options.parts, tiny=options.tiny)
    return 0


if __name__ == "__main__":
    sys.exit(main())
