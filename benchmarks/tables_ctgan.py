"""The side of `benchmarks.tables` that runs the package ctgan, in an environment that has it; run by that program alone.

    PYTHON benchmarks/tables_ctgan.py TRAIN.csv OUT.csv ROWS SECONDS SEED '["discrete column", ...]'

It fits CTGAN with the package's defaults for SECONDS of the processor, its transformation of the data included and one epoch at
least, draws ROWS rows, and prints what that came to as a line of JSON.
"""

import importlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any


def main(train: str, out: str, rows: str, seconds: str, seed: str, discrete: str) -> None:
    """Trains, draws, writes."""
    import numpy as np
    import pandas as pd
    import torch

    synthesizer: Any = importlib.import_module("ctgan.synthesizers.ctgan")
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    np.random.seed(int(seed))  # noqa: NPY002 - the package draws from it
    frame = pd.read_csv(train, keep_default_na=True)
    began, times = time.process_time(), []

    class Epochs:
        """In place of the package's progress bar: epochs for as long as there is time."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            del arguments, options

        def __iter__(self) -> Iterator[int]:
            times.append(time.process_time())
            while not times[1:] or (times[-1] + (times[-1] - times[0]) / (len(times) - 1)) - began < float(seconds):
                yield len(times) - 1
                times.append(time.process_time())

        def set_description(self, text: str) -> None:
            """Says nothing."""

    synthesizer.tqdm = Epochs
    model = synthesizer.CTGAN(verbose=False)
    model.fit(frame, json.loads(discrete))
    fitted = time.process_time() - began
    epochs = len(times) - 1
    model.sample(int(rows)).to_csv(out, index=False)
    told = {
        "seconds": fitted,
        "epochs": epochs,
        "transform": times[0] - began,
        "epochs_per_second": epochs / (times[-1] - times[0]),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
