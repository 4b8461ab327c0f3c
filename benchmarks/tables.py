"""Tables by this program against the package ctgan, at the same processor seconds on the same rows: how good, how many epochs.

Run it from the repository's root:

    python -m benchmarks.tables TABLE.csv[:TARGET] ... [--ctgan-python=PYTHON] [--seeds=3] [--split=test]
                                [--out=FILE.json] [--config.key=value ...]

PYTHON is an interpreter with torch 2.13 and ctgan 0.12, of an environment of its own; without it only this program's side is
measured. Both sides train in a process of their own, on one core, on the training split of configs/wgan_gp.py:table and its
column kinds: this program as the preset says, ctgan with its defaults for as many processor seconds, which hardly depend on
what else the machine does. This program's are of its whole process, with imports, compilation and evaluation, ctgan's of all
after its imports, with its transformation of the data. Both draw as many rows as they trained on, which are compared with the
held-out rows of a split; TARGET is the column that is predicted from the others.

A third line of each table is of the training rows themselves, in the generator's place.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from wgan_jax.data.columns import Columns
    from wgan_jax.data.dataset import Stored

CONFIG = "--config=configs/wgan_gp.py:table"


def rows_of(frame: "pd.DataFrame", columns: "Columns") -> np.ndarray:
    """Returns the rows of a table in its own columns as numbers, as `Columns` has them."""
    import pandas as pd

    rows = []
    for column in columns.columns:
        values = frame[column.name]
        if column.values:
            places = {str(value): place for place, value in enumerate(column.values)}
            rows.append(np.array([places.get(str(value), np.nan) for value in values.tolist()]))
        elif column.kind == "date":
            dates = pd.to_datetime(values, format=column.form or None).to_numpy(f"datetime64[{column.unit}]")
            rows.append(np.where(np.isnat(dates), np.nan, dates.astype(np.int64)))
        else:
            rows.append(pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan))
    return np.stack(rows, axis=1)


def columns_of(dataset: "Stored") -> "Columns":
    """Returns the columns of a table."""
    from wgan_jax.data.columns import Columns

    assert isinstance(dataset.scaling, Columns)
    return dataset.scaling


def judge(rows: np.ndarray, dataset: "Stored", split: str) -> dict[str, float]:
    """Returns how generated rows compare with the held-out rows of a split."""
    from wgan_jax.metrics import tabular

    columns = columns_of(dataset)
    real = dataset.splits[split].images
    drawn = rows[np.random.default_rng(0).permutation(len(rows))]
    few = drawn[: len(real)]
    distances = tabular.column_distances(real, drawn, columns.discrete)
    return {
        "auc": tabular.detection_auc(real, few, columns.discrete),
        "utility": tabular.utility(drawn, real, columns.target, columns.discrete),
        "columns": float(distances.mean()),
        "worst column": float(distances.max()),
        "associations": tabular.association_difference(real, drawn, columns.discrete),
    }


def call(arguments: Sequence[str]) -> tuple[str, float]:
    """Runs a command on one core; returns what it printed, and the processor seconds that it took."""
    core, before = min(os.sched_getaffinity(0)), resource.getrusage(resource.RUSAGE_CHILDREN)
    pinned = ["taskset", "--cpu-list", str(core), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(pinned, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(arguments[:4])} ...: exit code {done.returncode}\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(folder: Path, table: str, dataset: "Stored", seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Trains and samples this program's side; returns what it came to, and its rows under "rows"."""
    import pandas as pd

    pace = {"eval.metrics": "wasserstein", "eval.draws": 1, "eval.samples": 100, "seed": seed, "data.path": table}
    words = [f"--config.{key}={value}" for key, value in pace.items()]
    words += [f"--config.{name}_every=1000000" for name in ("eval", "sample", "checkpoint", "log")]
    _, seconds = call([sys.executable, "-m", "experiments.run", CONFIG, f"--workdir={folder / 'run'}", *words, *overrides])
    summary = json.loads((folder / "run" / "summary.json").read_text())
    count = len(dataset.train.images)
    flags = [f"--workdir={folder / 'run'}", f"--out={folder / 'ours.parquet'}", f"--num={count}", f"--seed={seed}"]
    call([sys.executable, "-m", "experiments.sample", *flags])
    epochs = summary["step"] * json.loads((folder / "run" / "config.json").read_text())["batch_size"] / count
    told = {"seconds": seconds, "updates": summary["step"], "epochs": epochs}
    return told | {"rows": rows_of(pd.read_parquet(folder / "ours.parquet"), columns_of(dataset))}


def theirs(folder: Path, python: str, dataset: "Stored", seconds: float, seed: int) -> dict[str, Any]:
    """Trains and samples the package's side; returns what it came to, and its rows under "rows"."""
    import pandas as pd

    columns = columns_of(dataset)
    columns.frame(dataset.train.images).to_csv(folder / "train.csv", index=False)
    discrete = json.dumps([column.name for column in columns.columns if column.values])
    script, out = str(Path(__file__).with_name("tables_ctgan.py")), folder / "theirs.csv"
    words = [str(folder / "train.csv"), str(out), len(dataset.train.images), seconds, seed, discrete]
    told = json.loads(call([python, script, *map(str, words)])[0].splitlines()[-1])
    return told | {"rows": rows_of(pd.read_csv(out), columns)}


def main(argv: Sequence[str]) -> None:
    """Parses the flags, runs both sides for every table and seed, prints a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="TABLE.csv[:TARGET]")
    parser.add_argument("--ctgan-python", metavar="PYTHON")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    flags, overrides = parser.parse_known_args(argv)

    from wgan_jax.config import load
    from wgan_jax.data import load_dataset

    found: list[dict[str, Any]] = []
    for text in flags.tables:
        table, _, target = text.partition(":")
        own = [*overrides, f"--config.data.target={target}"]
        config = load(CONFIG.removeprefix("--config="), [f"--config.data.path={table}", *own])
        dataset: Any = load_dataset(config)
        real = judge(dataset.train.images, dataset, flags.split)
        found.append({"table": Path(table).stem, "side": "training rows", "seed": 0, **real})
        for seed in range(flags.seeds):
            with tempfile.TemporaryDirectory() as name:
                sides = {"ours": ours(Path(name), config.data.path, dataset, seed, own)}
                if flags.ctgan_python:
                    sides["ctgan"] = theirs(Path(name), flags.ctgan_python, dataset, sides["ours"]["seconds"], seed)
            for side, told in sides.items():
                rows = told.pop("rows")
                found.append(
                    {"table": Path(table).stem, "side": side, "seed": seed, **told, **judge(rows, dataset, flags.split)}
                )
                print(json.dumps(found[-1]), flush=True)
    if flags.out:
        flags.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _print_medians(found)


def _print_medians(found: Sequence[dict[str, Any]]) -> None:
    names = ("seconds", "epochs", "auc", "utility", "columns", "worst column", "associations")
    print(f"{'table':10} {'side':14} {'n':>2} " + " ".join(f"{name:>17}" for name in names))
    for table, side in dict.fromkeys((row["table"], row["side"]) for row in found):
        rows = [row for row in found if (row["table"], row["side"]) == (table, side)]
        cells = [[row[name] for row in rows if name in row] for name in names]
        texts = [f"{np.median(cell):.3f} [{min(cell):.2f},{max(cell):.2f}]" if cell else "-" for cell in cells]
        print(f"{table:10} {side:14} {len(rows):>2} " + " ".join(f"{text:>17}" for text in texts))


if __name__ == "__main__":
    main(sys.argv[1:])
