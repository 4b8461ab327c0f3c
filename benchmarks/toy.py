"""Milliseconds per generator update of WGAN-GP on the 2-D toy ring8: this project's compiled program against eager PyTorch.

Run it from the repository's root, with nothing else running on the machine (about 4 minutes with PyTorch):

    python -m benchmarks.toy [--torch-python=PYTHON] [--widths=32,128,512] [--rounds=7] [--seconds=1] [--out=FILE.json]
    python -m benchmarks.toy --torch-python=PYTHON --check

PYTHON is an interpreter with torch and numpy, of an environment of its own if need be; without it only JAX is measured. One
update is five critic updates, one generator update and its average, of the preset wgan_gp:ring8 (batch 256, three hidden
layers), on the CPU. For every width the sides take turns of --seconds each in every round: JAX, each way to write the update
in PyTorch (benchmarks/toy_torch.py) on one thread and on all, and square matmuls in JAX, whose best rate is the peak of the
threads that JAX has: as many as the launchers give the largest width, so small widths are asked for apart. The table has
medians over the rounds with the lowest and the highest, and the share of the peak that an update's necessary matmuls reach;
PyTorch's fastest way at each width is the opponent, with a star.

--check measures nothing: it feeds both sides the same parameters, real examples, latents and epsilons and compares all
parameters after one critic update in float32 (relative 1e-5) and after a whole update in float64 (relative 1e-9). Its exit
code is 1 where they differ.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from ml_collections import ConfigDict

from configs import wgan_gp
from wgan_jax.config import check
from wgan_jax.runtime import choose_threads

TORCH_SIDE = "benchmarks.toy_torch"
MATMUL_SIZES = (1024, 2048)
TOLERANCES = {"float32": 1e-5, "float64": 1e-9}


class TorchSide:
    """A module such as benchmarks/toy_torch.py in a process of its own, asked over pipes."""

    def __init__(self, python: str, module: str = TORCH_SIDE) -> None:
        command = [python, "-m", module]
        root = Path(__file__).parent.parent
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Returns the answer to one request.

        Raises:
          RuntimeError: the request failed or the process ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the empty answer below says it
        line = self.process.stdout.readline()
        try:
            answer = json.loads(line) if line else {"error": f"it ended with code {self.process.wait()}"}
        except ValueError:
            answer = {"error": f"its answer is no JSON: {line.rstrip()}"}
        if "error" in answer:
            raise RuntimeError(f"PyTorch's side: {answer['error']}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> Literal[False]:
        self.process.kill()
        self.process.communicate()
        return False


def make_config(width: int, dtype: str = "float32") -> ConfigDict:
    """Returns wgan_gp:ring8 at a width on one device."""
    config = wgan_gp.get_config("ring8")
    config.model.width, config.dtype, config.devices = width, dtype, 1
    return check(config)


def layer_sizes(config: ConfigDict) -> tuple[list[int], list[int]]:
    """Returns the numbers of units from input to output of the critic and of the generator."""
    hidden = [config.model.width] * config.model.depth
    return [2, *hidden, 1], [config.latent.dim, *hidden, 2]


def update_flops(critic: Sequence[int], generator: Sequence[int], batch: int, n_critic: int) -> int:
    """Returns the floating point operations of the matmuls that one update cannot do without.

    critic, generator: multiplications per example of each layer, from input to output; in * out of a dense one. The
    critic's one output unit has constant cotangents, so that beside its scores its matmuls are scaled rows and sums, which
    are not counted. With c the critic's layers, a critic update takes

        real and generated, 2B: forward c, gradients of activations c[1:-1], gradients of weights c[:-1]
        penalty, B:             forward c[:-1], without the scores, and input gradient c[:-1]
          its second order, B:  the input gradient's cotangent through the layers c[:-1], gradients of weights c[:-1]

    and the second order no more, because ReLU's second derivative is zero. The fakes take the generator forward, g. The
    generator update takes g, the critic forward c, its input gradient c[:-1], and the generator's gradients of weights g and
    of activations g[1:].
    """
    c, g = critic, generator
    critic_update = 2 * batch * (sum(c) + sum(c[1:-1]) + sum(c[:-1])) + batch * 4 * sum(c[:-1])
    fakes = batch * sum(g)
    generator_update = batch * (sum(g) + sum(c) + sum(c[:-1]) + sum(g) + sum(g[1:]))
    return 2 * (n_critic * (critic_update + fakes) + generator_update)


def layers(params: Any) -> list[np.ndarray]:
    """Returns weight [out, in] and bias of every layer of an MLP's parameters, from input to output."""
    hidden = params["Hidden_0"]
    dense = [hidden[f"Dense_{index}"] for index in range(len(hidden))] + [params["Dense_0"]]
    return [array for layer in dense for array in (np.asarray(layer["kernel"]).T, np.asarray(layer["bias"]))]


def optimizer_settings(config: ConfigDict) -> dict[str, list[float]]:
    """Returns each player's learning rate and betas, for PyTorch's side."""
    return {name: [config[name].learning_rate, config[name].beta1, config[name].beta2] for name in ("critic", "generator")}


def torch_settings(config: ConfigDict) -> dict[str, Any]:
    """Returns the Settings of benchmarks/toy_torch.py for a config."""
    from wgan_jax.data import load_dataset
    from wgan_jax.data.dataset import Law

    law = load_dataset(config)
    assert isinstance(law, Law)
    assert law.modes is not None
    return dict(
        optimizer_settings(config),
        dtype=config.dtype,
        batch_size=config.batch_size,
        n_critic=config.n_critic,
        latent_dim=config.latent.dim,
        centres=law.modes.centres.tolist(),
        sigma=law.modes.sigma,
        penalty_weight=config.penalty.weight,
        decay_steps=config.decay_steps or float("inf"),
        ema_decay=config.ema_decay,
    )


def save_players(path: Path, state: Any, **arrays: Any) -> None:
    """Writes both players' parameters, and arrays, for PyTorch's side."""
    players = {"critic": layers(state.critic.params), "generator": layers(state.generator.params)}
    named = {f"{player}_{index}": array for player, parts in players.items() for index, array in enumerate(parts)}
    np.savez(path, **named, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]


class JaxSide:
    """The compiled program of a config."""

    def __init__(self, config: ConfigDict, dataset: Any, feed: Any) -> None:
        import jax

        from wgan_jax.training.program import make_program
        from wgan_jax.training.update import make_hyperparameters

        program = make_program(config, dataset)
        self.state = program.init_state(jax.random.key(config.seed))
        self.rest = (*program.place((make_hyperparameters(config), jax.random.key(config.seed + 1))), program.place(feed))
        start = time.perf_counter()
        self.compiled = program.run_updates.lower(self.state, np.int32(1), *self.rest).compile()
        self.compile_seconds = time.perf_counter() - start

    def run(self, updates: int) -> float:
        """Returns the seconds that so many updates take in one call.

        Raises:
          RuntimeError: training became non-finite.
        """
        import jax

        start = time.perf_counter()
        self.state, _, done, _ = jax.block_until_ready(self.compiled(self.state, np.int32(updates), *self.rest))
        seconds = time.perf_counter() - start
        if int(done) != updates:
            raise RuntimeError(f"JAX's side became non-finite after {int(done)} updates of a call")
        return seconds


class Matmul:
    """Square float32 matmuls in JAX."""

    def __init__(self) -> None:
        import jax

        self.multiply = jax.jit(lambda a, b: a @ b)
        self.operands = [jax.random.normal(jax.random.key(0), (2, size, size)) for size in MATMUL_SIZES]

    def best_rate(self, seconds: float) -> float:
        """Returns the floating point operations a second of the best size, each run for its share of the seconds."""
        import jax

        rates = []
        for a, b in self.operands:
            jax.block_until_ready(self.multiply(a, b))
            start, count = time.perf_counter(), 0
            while count == 0 or time.perf_counter() - start < seconds / len(self.operands):
                jax.block_until_ready(self.multiply(a, b))
                count += 1
            rates.append(2 * len(a) ** 3 * count / (time.perf_counter() - start))
        return max(rates)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Returns the median and the spread."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure_width(
    width: int, rounds: int, seconds: float, matmul: Matmul, torch: TorchSide | None, folder: Path
) -> tuple[dict[str, Any], list[float]]:
    """Returns the measurements of a width and the matmul rates seen meanwhile."""
    from wgan_jax.data import load_dataset
    from wgan_jax.data.source import Feed
    from wgan_jax.training.workdir import machine

    config = make_config(width)
    jax_side, threads = JaxSide(config, load_dataset(config), Feed()), int(os.environ.get("NPROC") or machine(1)["cores"])
    sides: list[dict[str, Any]] = [{"side": "jax", "variant": "run_updates", "threads": threads}]
    if torch is not None:
        about = torch.ask("hello")
        counts = sorted({1, about["threads"]})
        sides += [{"side": "torch", "variant": v, "threads": n} for v in about["variants"] for n in counts]
        save_players(folder / "start.npz", jax_side.state)
        torch.ask("load", file=str(folder / "start.npz"), settings=torch_settings(config))
    updates, rates = 2, []
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(-1, rounds):  # the first warms up
        for side, milliseconds in zip(sides, times, strict=True):
            if torch is not None and side["side"] == "torch":
                answer = torch.ask("run", variant=side["variant"], threads=side["threads"], seconds=seconds if turn >= 0 else 0)
                taken = answer["seconds"] / answer["updates"]
            else:
                jax_side.run(1)
                taken = jax_side.run(updates) / updates
                updates = max(1, round(seconds / taken))
            if turn >= 0:
                milliseconds.append(1e3 * taken)
        rate = matmul.best_rate(seconds if turn >= 0 else 0)
        if turn >= 0:
            rates.append(rate)
    critic, generator = ([a * b for a, b in pairwise(sizes)] for sizes in layer_sizes(config))
    flops = update_flops(critic, generator, config.batch_size, config.n_critic)
    measured = [{**side, "milliseconds": summary(values)} for side, values in zip(sides, times, strict=True)]
    return {"width": width, "flops": flops, "compile_seconds": jax_side.compile_seconds, "sides": measured}, rates


def measure(widths: Sequence[int], rounds: int, seconds: float, torch: TorchSide | None) -> dict[str, Any]:
    """Returns everything measured, as it is written to --out."""
    import jax

    from wgan_jax.training.workdir import machine

    matmul, results, rates = Matmul(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for width in widths:
            result, seen = measure_width(width, rounds, seconds, matmul, torch, Path(folder))
            results.append(result)
            rates += seen
    peak = summary(rates)
    for result in results:
        for side in result["sides"]:
            side["share_of_peak"] = result["flops"] / (side["milliseconds"]["median"] / 1e3) / peak["median"]
        opponents = [side for side in result["sides"] if side["side"] == "torch"]
        if opponents:
            fastest = min(opponents, key=lambda side: side["milliseconds"]["median"])
            result["opponent"] = {"variant": fastest["variant"], "threads": fastest["threads"]}
            result["opponent_over_jax"] = fastest["milliseconds"]["median"] / result["sides"][0]["milliseconds"]["median"]
    versions = {"jax": jax.__version__, "torch": torch.ask("hello")["torch"] if torch else None}
    return {"machine": machine(1) | versions, "rounds": rounds, "seconds": seconds, "peak_flops": peak, "widths": results}


def table(report: dict[str, Any]) -> Iterator[str]:
    """Yields the lines of the report for people."""
    peak = {name: value / 1e9 for name, value in report["peak_flops"].items()}
    yield ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value is not None)
    yield f"matmul peak {peak['median']:.0f} GFLOP/s ({peak['min']:.0f} to {peak['max']:.0f}); {report['rounds']} rounds"
    for result in report["widths"]:
        yield ""
        flops, compiled = result["flops"] / 1e6, result["compile_seconds"]
        yield f"width {result['width']}: {flops:.0f} MFLOP an update; JAX compiled it in {compiled:.1f} s"
        yield f"  {'':24}{'threads':>8}{'ms/update':>12}{'min':>10}{'max':>10}{'of peak':>9}{'/ JAX':>8}"
        first = result["sides"][0]["milliseconds"]["median"]
        for side in result["sides"]:
            times, opponent = side["milliseconds"], result.get("opponent", {})
            star = " *" if side["side"] == "torch" and opponent.items() <= side.items() else ""
            row = f"  {side['side'] + ' ' + side['variant'] + star:24}{side['threads']:>8}{times['median']:>12.3f}"
            row += f"{times['min']:>10.3f}{times['max']:>10.3f}{side['share_of_peak']:>9.1%}{times['median'] / first:>8.2f}"
            yield row


def update_and_noise(
    config: ConfigDict, shape: tuple[int, ...], real: Any, *, whole: bool = True
) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Returns the state before and after a `whole` update, or its critic updates, in JAX, and the noise that it used.

    real: its examples [n_critic, B, *shape].
    """
    import jax
    import jax.numpy as jnp

    from wgan_jax.batching import example_keys
    from wgan_jax.models import build_networks
    from wgan_jax.objectives import make_objective
    from wgan_jax.objectives.penalties import make_points
    from wgan_jax.training.update import make_hyperparameters, make_steps
    from wgan_jax.types import Batch, Latents

    count, size = real.shape[:2]
    networks, hyper, label = build_networks(config, shape), make_hyperparameters(config), jnp.zeros(size, jnp.int32)
    key, key_state, key_latents = jax.random.split(jax.random.key(config.seed), 3)
    keys = example_keys(key_latents, (count + 1) * size)
    latents = networks.latents(keys, jnp.zeros(len(keys), jnp.int32)).z.reshape(count + 1, size, -1)
    given = networks._replace(latents=lambda keys, label: Latents(latents[count], label))  # those of the generator's update
    points = make_points("interpolates", "")
    steps = make_steps(config, given, make_objective(config, given))

    @jax.jit
    def critic_step(state: Any, x: Any, z: Any, key: Any) -> tuple[Any, Any]:
        generated, _ = networks.generator(state.generator.params, state.generator.model_state, z, label)
        one = jnp.ones((size, 1), x.dtype)
        # eps 1 + (1 - eps) 0
        epsilons = points(key, Batch(one, label), Batch(0 * one, label), hyper["penalty.noise_scale"]).x
        return steps.critic_step(state, Batch(x, label), Batch(generated, label), key, hyper)[0], epsilons

    before = after = jax.jit(steps.init_state)(key_state)
    epsilons = []
    for step in range(count):
        after, own = critic_step(after, real[step], latents[step], jax.random.fold_in(key, step))
        epsilons.append(own)
    noise = {"real": real, "latents": latents[:count], "epsilons": np.stack(epsilons)}
    if whole:
        noise["generator_latents"] = latents[count]
        after, _ = jax.jit(steps.generator_update)(after, Batch(real[0], label), key, hyper)
    return before, after, {name: np.asarray(array) for name, array in noise.items()}


def ring8(config: ConfigDict, key: Any) -> Any:
    """Returns the real examples of an update, [n_critic, B, 2]."""
    import jax.numpy as jnp

    from wgan_jax.data import load_dataset
    from wgan_jax.data.source import Feed, make_draw
    from wgan_jax.models import param_dtype

    dataset = load_dataset(config)
    draw = make_draw(dataset, config.batch_size, None, param_dtype(config))
    return draw(Feed(), jnp.int32(0), key, config.n_critic).x


def compare(widths: Sequence[int], torch: TorchSide) -> bool:
    """Prints how far the two sides' parameters are apart after the same update; returns whether that is rounding."""
    import jax

    good, variants = True, torch.ask("hello")["variants"]
    for width in widths:
        for dtype, tolerance in TOLERANCES.items():
            whole = dtype == "float64"
            config = make_config(width, dtype)
            config.n_critic = config.n_critic if whole else 1
            with jax.enable_x64(whole), tempfile.TemporaryDirectory() as name:
                real = ring8(config, jax.random.key(config.seed))
                before, after, noise = update_and_noise(config, real.shape[2:], real, whole=whole)
                given, out = Path(name, "given.npz"), Path(name, "out.npz")
                save_players(given, before, **noise)
                torch.ask("load", file=str(given), settings=torch_settings(config))
                wanted = {"critic": layers(after.critic.params)}
                if whole:
                    wanted |= {"generator": layers(after.generator.params), "ema": layers(after.ema["params"])}
                for variant in variants:
                    torch.ask("check", variant=variant, file=str(given), out=str(out))
                    with np.load(out, allow_pickle=False) as got:
                        distances = [
                            distance(got[f"{player}_{index}"], array)
                            for player, arrays in wanted.items()
                            for index, array in enumerate(arrays)
                        ]
                    worst = float(np.max(distances))  # NaN if any is, and then it is different
                    good &= worst <= tolerance
                    what = "update" if whole else "critic update"
                    verdict = "same" if worst <= tolerance else "DIFFERENT"
                    print(f"width {width}, {what} in {dtype}, {variant}: relative difference {worst:.1e}, {verdict}")
    return good


def distance(got: np.ndarray, wanted: np.ndarray) -> float:
    """Returns |got - wanted| / |wanted|, 0 for two zeros."""
    difference = float(np.linalg.norm(got - wanted))
    return difference / max(float(np.linalg.norm(wanted)), 1e-30)


@contextmanager
def open_torch(parser: argparse.ArgumentParser, python: str | None, module: str = TORCH_SIDE) -> Iterator[TorchSide | None]:
    """Yields PyTorch's side, or None without an interpreter; one that does not answer is a mistake in the arguments."""
    if python is None:
        yield None
        return
    try:
        side = TorchSide(python, module)
    except OSError as error:
        parser.error(f"--torch-python: {error.strerror}: {python}")
    with side:
        try:
            side.ask("hello")
        except RuntimeError as error:
            parser.error(f"--torch-python: {python} does not run {module}: {error}")
        yield side


def parse(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Returns the parser and the parsed arguments."""

    def widths(text: str) -> list[int]:
        return [whole(part) for part in text.split(",")]

    def whole(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
        return int(text)

    def positive(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return value

    def json_file(text: str) -> Path:
        if not text.endswith(".json") or not Path(text).parent.is_dir():
            raise argparse.ArgumentTypeError(f"{text!r} is not FILE.json in a folder that exists")
        return Path(text)

    parser = argparse.ArgumentParser("python -m benchmarks.toy", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--torch-python", metavar="PYTHON", help="an interpreter with torch and numpy; without it, JAX alone")
    parser.add_argument("--widths", type=widths, default="32,128,512", metavar="W,W,...", help="default: %(default)s")
    parser.add_argument("--rounds", type=whole, default=7, help="turns of each side at each width; default: %(default)s")
    parser.add_argument("--seconds", type=positive, default=1.0, help="of a turn; default: %(default)s")
    parser.add_argument("--out", type=json_file, metavar="FILE.json", help="writes the measurements here too")
    parser.add_argument("--check", action="store_true", help="compares the two sides' arithmetic and measures nothing")
    options = parser.parse_args(arguments)
    if options.check and options.torch_python is None:
        parser.error("--check compares with PyTorch: give --torch-python=PYTHON")
    return parser, options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser, options = parse(arguments)
    choose_threads(make_config(max(options.widths)))
    with open_torch(parser, options.torch_python) as torch:
        import jax

        jax.config.update("jax_platforms", "cpu")  # PyTorch's side runs there
        jax.config.update("jax_enable_compilation_cache", False)  # so that the compile time is one
        if options.check:
            assert torch is not None
            return 0 if compare(options.widths, torch) else 1
        report = measure(options.widths, options.rounds, options.seconds, torch)
    for line in table(report):
        print(line)
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
