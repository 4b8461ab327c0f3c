"""Where a run's time goes that is not updates: to the first one, to the end, and of a command that finds all done.

    python -m benchmarks.startup [--configs=configs/wgan_gp.py:digits,...] [--steps=20] [--repeats=3] [--checkout=DIR]
                                 [-- --config.key=value ...]

Each config runs in a new process, first with an empty cache (cold: XLA compiles, a classifier is trained), then with what that
left (cached), then once more as it is (done). Prints, as medians, the seconds to the first update done and of the parts that
summary.json tells, and, in brackets, the processor seconds spent until then: those say more on a busy machine. Linux.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PARTS = ("startup", "compile", "train", "evaluate")
UPDATED = re.compile(r"\d+/\d+ (training|evaluating)")  # the line that a run without a terminal says first after an update


def processor_seconds(process: int) -> float:
    """Returns what a process that still runs has used of the processor, in all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def measure(command: list[str], checkout: Path, cache: Path) -> dict[str, tuple[float, float]]:
    """Returns (seconds, processor seconds) to the first update, as "first" where there was one, and to the end, as "end"."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    began, found, before = time.perf_counter(), {}, os.times()
    with subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        updates = 0
        for line in process.stdout:
            updates += bool(UPDATED.match(line)) and not line.startswith("0/")
            if updates == 1 and "first" not in found:
                found["first"] = (time.perf_counter() - began, processor_seconds(process.pid))
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return found | {"end": (time.perf_counter() - began, used)}


def profile(config: str, checkout: Path, rest: list[str]) -> dict[str, dict[str, Any]]:
    """Returns {"cold", "cached", "done": what `measure` gives, and the parts of the summary}."""
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, run in (("cold", "1"), ("cached", "2"), ("done", "2")):
            workdir = Path(folder, run)
            command = [sys.executable, "-m", "experiments.run", f"--config={config}", f"--workdir={workdir}", *rest]
            rows[name] = measure(command, checkout, Path(folder, "cache"))
            seconds = json.loads((workdir / "summary.json").read_text(encoding="utf-8"))["seconds"]
            rows[name] |= seconds | {"write": seconds["total"] - sum(seconds[part] for part in PARTS)}
    return rows


def main() -> None:
    """Measures every config and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default="configs/wgan_gp.py:digits,configs/wgan_gp.py:ring8")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkout", type=Path, default=Path.cwd(), help="of the code that is measured")
    parser.add_argument("overrides", nargs="*", metavar="--config.key=value")
    flags = parser.parse_args()
    columns = ("first", *PARTS, "write", "end")
    print(f"| config | | {' | '.join(('first update', *columns[1:]))} |\n|{'---|' * (len(columns) + 2)}")
    for config in flags.configs.split(","):
        runs = [
            profile(config, flags.checkout, [f"--config.steps={flags.steps}", *flags.overrides]) for _ in range(flags.repeats)
        ]
        for name in runs[0]:
            cells = []
            for column in columns:
                values = [run[name][column] for run in runs if column in run[name]]
                if not values or (name == "done" and column != "end"):
                    cells.append("")
                elif isinstance(values[0], tuple):
                    wall, used = (statistics.median(part) for part in zip(*values, strict=True))
                    cells.append(f"{wall:.1f} ({used:.1f})")
                else:
                    cells.append(f"{statistics.median(values):.1f}")
            print(f"| {config} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
