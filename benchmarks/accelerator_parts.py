"""The parts of benchmarks/accelerator.py that need no PyTorch: memory, compilation, sweeps, data, export, profile, tests.

Each takes a Scale and returns rows of plain numbers and words, or raises Skip with the reason.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from benchmarks import sweep
from benchmarks.cases import Case
from benchmarks.toy import JaxSide
from wgan_jax.config import load
from wgan_jax.plan import resolve
from wgan_jax.runtime import visible_cores

ROOT = Path(__file__).parent.parent
type Row = dict[str, Any]

# The half of the tests that is fast and that a device may run: in float32 products of full precision, their own tolerances
# (relative 1e-5 of a layer or a loss, 1e-4 of a normalisation or a penalty's gradient), in float64 as on a CPU.
DEVICE_TESTS = ("losses", "penalties", "objectives", "models", "architectures", "convolution", "batching", "update")
TESTS = 120  # seconds that they may take
CPU_TESTS = {
    "test_program, test_members, test_distributed": "eight virtual devices, which only the CPU's backend has",
    "test_reference": "pinned numbers of a whole run in the CPU's order of sums",
    "test_inception, test_classifier, test_features": "they train or read networks whose values were taken on a CPU",
    "test_sweep, test_launch*, test_run, test_restore, test_display, test_sample, test_evaluate": "commands, whose processes "
    "would share one card's memory",
    "all others": "NumPy, files and words: no device is in them",
}


class Skip(Exception):  # noqa: N818 - it is no error
    """A part that this machine cannot run, and why."""


class Scale(NamedTuple):
    """How large the parts are."""

    image: Case  # of memory, compilation, data, export and the profile
    members: int  # of the sweep
    updates: int  # of a measured call
    tests: bool


FULL = Scale(Case("dcgan", 32, 64, 64), 64, 100, tests=True)
TINY = Scale(Case("dcgan", 8, 4, 4), 2, 3, tests=False)


def memory(scale: Scale) -> list[Row]:
    """Bytes of vmapped members, with the copies that a sweep holds, against the estimate of `members_that_fit`.

    The peak is of the compilation, whose autotuning takes what is free to try kernels out and goes without where none is.
    """
    import jax
    import numpy as np

    from wgan_jax.training.budget import FILLED, members_that_fit
    from wgan_jax.training.program import make_members
    from wgan_jax.training.update import make_hyperparameters

    device, count = jax.devices()[0], 8
    before = (device.memory_stats() or {}).get("bytes_in_use")
    if before is None:
        raise Skip(f"{device.device_kind} tells no memory statistics")
    config, dataset = scale.image.config(), scale.image.dataset()
    estimate = FILLED * 2**60 / members_that_fit(config, dataset, 2**60, vectorised=True)
    members = make_members(config, dataset, count, vectorised=True)
    feed = scale.image.feed(dataset)
    rows = jax.tree.map(lambda rows: np.stack([rows] * count), feed.rows)
    feed = members.shard(feed._replace(resident=members.place(feed.resident), rows=rows))
    states = members.init_state(members.spread(jax.random.split(jax.random.key(0), count)))
    copies = [jax.tree.map(jax.numpy.copy, states) for _ in range(2)]  # one being checkpointed, and the best
    hyper = members.spread(jax.tree.map(lambda leaf: np.full(count, leaf), make_hyperparameters(config)))
    keys = members.spread(jax.random.split(jax.random.key(1), count))
    arguments = (states, members.spread(np.full(count, 2, np.int32)), hyper, keys, feed)
    held = (device.memory_stats() or {})["bytes_in_use"] - before
    analysis = members.run_updates.lower(*arguments).compile().memory_analysis()
    peak = (device.memory_stats() or {})["peak_bytes_in_use"] - before
    if analysis is None:
        raise Skip(f"{device.device_kind} tells nothing of a program's memory")
    del copies
    return [
        {
            "what": f"a member of {count}, {scale.image}",
            "MB held": held / count / 1e6,
            "MB of the program": analysis.temp_size_in_bytes / count / 1e6,
            "estimated MB of both": estimate / 1e6,
            "MB at the peak": peak / count / 1e6,
        }
    ]


def compilation(scale: Scale) -> list[Row]:
    """Seconds to trace, to compile without and with autotuning, and to read the compiled program from the cache."""
    import jax
    import numpy as np
    from jax.experimental.compilation_cache import compilation_cache

    from wgan_jax.training.program import make_program
    from wgan_jax.training.update import make_hyperparameters

    config, dataset = scale.image.config(), scale.image.dataset()
    program = make_program(config, dataset)
    state = jax.eval_shape(program.init_state, jax.random.key(0))
    arguments = (state, np.int32(1), make_hyperparameters(config), jax.random.key(1), scale.image.feed(dataset))
    rows: list[Row] = []

    def timed(what: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        rows.append({"what": what, "seconds": time.perf_counter() - began})
        return result

    def lower() -> Any:
        jax.clear_caches()  # which know a program by what was lowered
        return program.run_updates.lower(*arguments)

    lowered = timed(f"tracing and lowering, {scale.image}", lower)
    timed("compilation without autotuning", lambda: lowered.compile({"xla_gpu_autotune_level": 0}))
    kept = jax.config.jax_enable_compilation_cache, jax.config.jax_compilation_cache_dir
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_enable_compilation_cache", True)
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        try:
            for what in ("compilation, cold", "compilation, cached"):
                compilation_cache.reset_cache()
                timed(what, lower().compile)
            if not any(Path(folder).iterdir()):
                raise Skip("JAX kept no compiled program in its cache")
        finally:
            jax.config.update("jax_enable_compilation_cache", kept[0])
            jax.config.update("jax_compilation_cache_dir", kept[1])
            compilation_cache.reset_cache()
    return rows


def together(scale: Scale) -> list[Row]:
    """Milliseconds per update and member of a sweep's members as one program, and of one member alone."""
    config = load(str(ROOT / "configs/wgan_gp.py:ring8"))
    config.devices = 1
    points = resolve(config, [{"penalty.weight": 0.1 * 2**number} for number in range(scale.members)])
    all_of_them, alone, states, singles = sweep.programs(points)
    state = alone(singles[0], 1, 0)
    states = all_of_them(states, 1)
    times: dict[str, list[float]] = {"together": [], "alone": []}
    for _ in range(3):
        began = time.perf_counter()
        states = all_of_them(states, scale.updates)
        times["together"].append((time.perf_counter() - began) / scale.updates / len(points))
        began = time.perf_counter()
        state = alone(state, scale.updates, 0)
        times["alone"].append((time.perf_counter() - began) / scale.updates)
    words = {"together": f"{len(points)} members of ring8 together", "alone": "one alone"}
    return [{"what": words[name], "ms per update and member": 1e3 * statistics.median(times[name])} for name in words]


def data(scale: Scale) -> list[Row]:
    """Milliseconds per update with the images on the device, and with batches that are sent while it works."""
    import jax
    import numpy as np

    from wgan_jax.data.source import plan_feeds
    from wgan_jax.training.program import make_program
    from wgan_jax.training.update import make_hyperparameters

    rows: list[Row] = []
    dataset = scale.image.dataset()
    for name, resident in (("resident", 2048), ("streamed", 0)):
        config: ConfigDict = scale.image.config()
        config.data.resident_mb = resident
        program = make_program(config, dataset)
        state = program.init_state(jax.random.key(0))
        hyper, key = program.place((make_hyperparameters(config), jax.random.key(1)))
        feeds = plan_feeds(config, dataset, program.place, program.shard)
        needed = feeds.needed(0)
        n = min(scale.updates, int(feeds.capacity) // needed)
        times: list[float] = []
        feed, position = feeds.at(0), 0
        for _ in range(4):  # the first compiles
            began = time.perf_counter()
            state, *_ = program.run_updates(state, program.place(np.int32(n)), hyper, key, feed)
            position += n * needed
            feed = feeds.at(position)  # while the device works
            jax.block_until_ready(state)
            times.append((time.perf_counter() - began) / n)
        rows.append({"what": f"{name}, {scale.image}, {n} updates a feed", "ms/update": 1e3 * statistics.median(times[1:])})
    return rows


def export(scale: Scale) -> list[Row]:
    """The largest difference of an exported generator's images on the device from the CPU's, in levels of uint8."""
    import jax
    import numpy as np

    from wgan_jax.export import export_generator
    from wgan_jax.models import build_networks

    config, dataset = scale.image.config(), scale.image.dataset()
    networks = build_networks(config, dataset.shape)
    variables = jax.device_get(jax.jit(networks.init_generator)(jax.random.key(0)))
    call = jax.export.deserialize(bytearray(export_generator(networks, variables, config.latent.dim))).call
    latents = np.random.default_rng(0).normal(size=(64, config.latent.dim)).astype(np.float32)
    places = (jax.devices()[0], jax.devices("cpu")[0])
    ours, theirs = (dataset.encode(np.asarray(call(jax.device_put(latents, place)))).astype(int) for place in places)
    worst = int(np.abs(ours - theirs).max())
    where = f"{places[0].platform} and {places[1].platform}"
    return [{"what": f"generator on {where}", "levels apart": worst, "verdict": "good" if worst <= 1 else "TOO FAR"}]


def profile(scale: Scale) -> list[Row]:
    """The share of a profiled call in which no kernel ran on the device."""
    import jax

    dataset = scale.image.dataset()
    side = JaxSide(scale.image.config(), dataset, scale.image.feed(dataset))
    side.run(scale.updates)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            side.run(scale.updates)
        files = sorted(Path(folder).glob("**/*.xplane.pb"))
        if not files:
            raise Skip("JAX's profiler wrote nothing")
        planes = list(jax.profiler.ProfileData.from_file(str(files[0])).planes)
        on_device = [plane for plane in planes if plane.name.startswith("/device:") and "CUSTOM" not in plane.name.upper()]
        spans = [
            (event.start_ns, event.start_ns + event.duration_ns)
            for plane in on_device
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
    if not spans:
        raise Skip(f"no kernels of a device in the profile, but {', '.join(sorted(plane.name for plane in planes))}")
    idle, whole = idle_time(spans)
    row = {"what": f"{scale.updates} updates, {scale.image}", "kernels/update": len(spans) / scale.updates}
    return [{**row, "ms/update": whole / 1e6 / scale.updates, "idle": f"{idle / whole:.1%}"}]


def idle_time(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Returns how long none of the spans (start, end) lasted, between the first and the last, and how long all that took."""
    ordered = sorted(spans)
    first = until = ordered[0][0]
    idle = 0.0
    for start, end in ordered:
        idle += max(0.0, start - until)
        until = max(until, end)
    return idle, until - first


def tests(scale: Scale) -> list[Row]:
    """What the fast half of the tests says on the device."""
    if not scale.tests:
        raise Skip("a tiny run leaves the tests out")
    import jax

    platform = {"gpu": "cuda,cpu"}.get(jax.default_backend(), jax.default_backend())
    files = [f"tests/test_{name}.py" for name in DEVICE_TESTS]
    environment = os.environ | {
        "JAX_PLATFORMS": platform,
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0",  # which takes most of a small test
    }
    workers = f"-n{max(1, min(12, len(visible_cores()) - 2))}"
    command = [sys.executable, "-m", "pytest", workers, "-vv", "-Wdefault", "--tb=line", "-p", "no:cacheprovider", *files]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TESTS, check=False)
        lines, end = done.stdout.splitlines(), f"ended with {done.returncode}"
    except subprocess.TimeoutExpired as ended:
        out = ended.stdout or b""
        lines, end = (out.decode() if isinstance(out, bytes) else out).splitlines(), f"cut after {TESTS} s"
    found = [re.search(r"\b(PASSED|FAILED|SKIPPED|ERROR)\b.*(tests/\S+)", line) for line in lines]
    verdicts = {match[2]: match[1] for match in found if match}
    if not verdicts:
        raise Skip("no test ran: are pytest and pytest-xdist there, see requirements-dev.txt?")
    rows = [{"what": f"{verdict} {test}"} for test, verdict in verdicts.items() if verdict in ("FAILED", "ERROR")]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(verdicts.values()).items())
    rows += [{"what": f"{', '.join(DEVICE_TESTS)}: {counts}, {end}"}]
    return rows + [{"what": f"not on a device: {names}: {why}"} for names, why in CPU_TESTS.items()]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yields the lines of rows that have the same keys as the first."""
    number = lambda v: f"{v:,.3f}" if isinstance(v, float) and abs(v) < 100 else f"{v:,.0f}" if isinstance(v, float) else str(v)  # noqa: E731
    cells = [[*rows[0]], *([number(row.get(name, "")) for name in rows[0]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        left, *others = zip(line, widths, strict=True)
        yield "  " + "  ".join([left[0].ljust(left[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


# Before anything else: a device tells the highest peak of a process, and XLA remembers which kernels it has tried out.
FIRST: dict[str, Callable[[Scale], list[Row]]] = {"memory": memory, "compilation": compilation}
THEN: dict[str, Callable[[Scale], list[Row]]] = {
    "profile": profile,
    "sweep": together,
    "data": data,
    "export": export,
    "tests": tests,
}
