"""What training many members as one program saves, against one run at a time and against processes of their own.

    python -m benchmarks.sweep --config=configs/wgan_gp.py:ring8 [--check] [--rounds=3] [--config.key=value ...]

64 members, 8 penalty weights at 8 seeds. Steady: milliseconds per update and member in one process, alternately for one run and
for all members together, medians of rounds. End to end: the whole sweep's command, evaluation included, against commands of
`experiments.run`, one after another and as many at once as there are cores, measured on 4 of the 64 and multiplied by 16; what
all of them spend on starting and compiling is told apart. `--check` compares every member's state after 50 updates in float64
with that of its own run, and measures nothing.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import command
from wgan_jax import runtime
from wgan_jax.config import load
from wgan_jax.plan import Point, resolve

WEIGHTS, SEEDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0), range(8)
ALONE = 4  # members that are measured as processes of their own
CHECKED = 50  # updates
ABLATION = """
from configs.{method} import get_config
def get_sweep(preset):
    return [{{"penalty.weight": weight, "seed": seed}} for weight in {weights} for seed in {seeds}]
"""


def benchmark(argv: list[str]) -> None:
    """Parses the flags, measures, prints."""
    parser = command.Parser("benchmarks.sweep", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE:PRESET")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--check", action="store_true", help="compare states in float64")
    flags, overrides = parser.parse(argv)
    config = load(flags.config, [*overrides, *(["--config.dtype=float64"] if flags.check else [])])
    points = resolve(config, [{"penalty.weight": weight, "seed": seed} for weight in WEIGHTS for seed in SEEDS])
    several = config.copy_and_resolve_references()
    several.devices = len(runtime.visible_cores())
    runtime.configure_jax(several)
    print(f"{flags.config} {' '.join(overrides)}: {len(points)} members, width {config.model.width}, batch {config.batch_size}")
    if flags.check:
        check(points)
        return
    steady(points, flags.rounds)
    end_to_end(flags.config, overrides, config)


def programs(points: Sequence[Point]) -> tuple[Callable[[Any, int], Any], Callable[[Any, int, int], Any], Any, Any]:
    """Returns all members' program and one member's, (states, n) and (state, n, member) -> states, and what both start from."""
    import jax
    import numpy as np

    from wgan_jax.data import load_dataset
    from wgan_jax.data.source import Feed
    from wgan_jax.training.program import make_members, make_program
    from wgan_jax.training.update import make_hyperparameters

    config = points[0].config
    dataset = load_dataset(config)
    single = config.copy_and_resolve_references()
    single.devices = 1
    members, program = make_members(config, dataset, len(points)), make_program(single, dataset)
    pairs = [jax.random.split(jax.random.key(point.config.seed)) for point in points]
    keys = members.spread(jax.numpy.stack([pair[1] for pair in pairs]))
    hypers = [make_hyperparameters(point.config) for point in points]
    hyper = members.spread(jax.tree.map(lambda *values: np.stack(values), *hypers))

    def together(states: Any, n: int) -> Any:
        each = members.spread(np.full(len(points), n, np.int32))
        return jax.block_until_ready(members.run_updates(states, each, hyper, keys, members.shard(Feed()))[0])

    def alone(state: Any, n: int, index: int) -> Any:
        return jax.block_until_ready(program.run_updates(state, np.int32(n), hypers[index], pairs[index][1], Feed())[0])

    start = members.init_state(members.spread(jax.numpy.stack([pair[0] for pair in pairs])))
    return together, alone, start, [program.init_state(pair[0]) for pair in pairs]


def steady(points: Sequence[Point], rounds: int) -> None:
    """Prints milliseconds per update and member."""
    together, alone, states, singles = programs(points)
    n = 20
    states, state = together(states, n), alone(singles[0], n, 0)  # compiles
    times: dict[str, list[float]] = {"together": [], "one run at a time": []}
    for _ in range(rounds):
        began = time.perf_counter()
        states = together(states, n)
        times["together"].append((time.perf_counter() - began) / n / len(points))
        began = time.perf_counter()
        state = alone(state, 10 * n, 0)
        times["one run at a time"].append((time.perf_counter() - began) / n / 10)
    middle = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    for name, value in middle.items():
        spread = " ".join(f"{1e3 * x:.2f}" for x in times[name])
        print(f"  steady, {name}: {value:.2f} ms per update and member ({spread})", flush=True)
    print(f"  steady ratio: {middle['one run at a time'] / middle['together']:.2f}", flush=True)


def check(points: Sequence[Point]) -> None:
    """Prints the largest difference of any member's state from its own run's, relative to each array's largest entry."""
    import jax
    import numpy as np

    together, alone, states, singles = programs(points)
    all_states = jax.device_get(together(states, CHECKED))
    worst = 0.0
    for index, single in enumerate(singles):
        state = jax.device_get(alone(single, CHECKED, index))
        for whole, own in zip(jax.tree.leaves(all_states), jax.tree.leaves(state), strict=True):
            scale = float(np.max(np.abs(own))) or 1.0
            worst = max(worst, float(np.max(np.abs(whole[index] - own))) / scale)
    print(f"  {len(points)} members after {CHECKED} updates in float64: largest relative difference {worst:.1e}")


def end_to_end(spec: str, overrides: Sequence[str], config: ConfigDict) -> None:
    """Prints the seconds of the sweep's command and of commands of their own, with what is start-up and compilation."""
    path, _, preset = spec.partition(":")
    rare = [f"--config.{name}={config.steps}" for name in ("log_every", "eval_every", "sample_every", "checkpoint_every")]
    words = [*overrides, *rare, "--config.eval.draws=1"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lambdas.py"
        file.write_text(ABLATION.format(method=Path(path).stem, weights=WEIGHTS, seeds=[*SEEDS]), encoding="utf-8")
        sweep = Path(folder) / "sweep"
        command = [sys.executable, "-m", "experiments.sweep", f"--config={file}:{preset}", f"--workdir={sweep}", *words]
        whole = _seconds([command])
        seconds = [json.loads(path.read_text())["seconds"] for path in sweep.glob("tasks/*/summary.json")]
        parts = {name: sum(s[name] for s in seconds) for name in seconds[0]}
        count = len(WEIGHTS) * len(SEEDS)
        print(
            f"  end to end, {config.steps} updates, {count} members as one program: {whole:.0f} s, of which",
            _told(parts),
            flush=True,
        )
        cores = len(runtime.visible_cores())
        for label, at_once in (("one after another", 1), (f"{cores} at once", cores)):
            folders = [Path(folder) / f"{at_once}-{i}" for i in range(ALONE)]
            own = [[f"--config.seed={i}", f"--config.penalty.weight={weight}"] for i, weight in enumerate(WEIGHTS[:ALONE])]
            commands = [
                [sys.executable, "-m", "experiments.run", f"--config={spec}", f"--workdir={where}", *words, *point]
                for where, point in zip(folders, own, strict=True)
            ]
            groups = [commands[i : i + at_once] for i in range(0, ALONE, at_once)]
            spent = sum(map(_seconds, groups))
            each = [json.loads((where / "summary.json").read_text())["seconds"] for where in folders]
            parts = {name: statistics.mean(s[name] for s in each) for name in ("startup", "compile", "train", "evaluate")}
            all_of_them = spent * count / ALONE
            print(
                f"  end to end, processes of their own, {label}: {spent:.0f} s for {ALONE}, extrapolated to {count}: "
                f"{all_of_them:.0f} s, {all_of_them / whole:.1f} times the sweep's; each",
                _told(parts),
                flush=True,
            )


def _seconds(commands: Sequence[Sequence[str]]) -> float:
    """Returns how long commands take that run at once."""
    began = time.perf_counter()
    for process in [subprocess.Popen(words, stdout=subprocess.DEVNULL) for words in commands]:
        if process.wait():
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return time.perf_counter() - began


def _told(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} s" for name, value in parts.items())


if __name__ == "__main__":
    command.main(benchmark)
