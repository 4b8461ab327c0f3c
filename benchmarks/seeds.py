"""Trains many seeds of one config as a single program and reports every one of them.

    python -m benchmarks.seeds --config=configs/gan.py:ring8 --seeds=30 --fail="modes<8" [--config.key=value ...]

The seeds are mapped by `vmap` over state and key, so all of them cost one compilation; each has the trajectory of a run of its
own, up to rounding. Metrics are those of the averaged generator after the last update, on the test split. `--fail` says when a
seed has failed; the rate comes with its 95 % Wilson interval.
"""

import json
import math
import operator
import re
import time
from pathlib import Path
from typing import Any

from experiments import launch
from wgan_jax.config import load
from wgan_jax.errors import UserError

COMPARISONS = {"<": operator.lt, ">": operator.gt}
CALL_UPDATES = 100  # between two lines of progress


def seeds(argv: list[str]) -> None:
    """Parses the flags, trains all seeds, prints a table."""
    parser = launch.Parser("benchmarks.seeds", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:PRESET]")
    parser.add_argument("--seeds", type=int, default=8, metavar="N", help="seeds 0, ..., N - 1 (default: 8)")
    parser.add_argument("--fail", metavar="METRIC<VALUE", help="when a seed has failed: METRIC<VALUE or METRIC>VALUE")
    parser.add_argument("--out", metavar="FILE.json", help="where to write every seed's metrics")
    flags, overrides = parser.parse(argv)
    criterion = re.fullmatch(r"(\w+)([<>])([-+.e\d]+)", flags.fail or "")
    if flags.fail and criterion is None:
        raise UserError(f"--fail: {flags.fail!r} is not METRIC<VALUE or METRIC>VALUE")
    if flags.seeds < 1:
        raise UserError(f"--seeds: {flags.seeds} is not a whole number of at least 1")
    config = load(flags.config, overrides)
    launch.configure_jax(config)
    rows, seconds = train_seeds(config, flags.seeds)
    report(rows, f"{flags.seeds} seeds of {flags.config} {' '.join(overrides)}: {config.steps} updates in {seconds:.0f} s")
    if criterion is not None:
        name, comparison, value = criterion.groups()
        if name not in rows[0]:
            raise UserError(f"--fail: no metric {name!r}; there are: {', '.join(rows[0])}")
        failures(rows, name, comparison, float(value))
    if flags.out:
        Path(flags.out).write_text(json.dumps({"config": config.to_dict(), "seconds": seconds, "rows": rows}), encoding="utf-8")


def train_seeds(config: Any, count: int) -> tuple[list[dict[str, float]], float]:
    """Returns the metrics of every seed, and the seconds that training took, compilation included."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from wgan_jax.data import load_dataset
    from wgan_jax.data.source import ROWS_PER_FEED, Feed, make_feed
    from wgan_jax.evaluation.evaluator import make_evaluator, summarise
    from wgan_jax.training.program import make_parts, make_run_updates
    from wgan_jax.training.update import make_hyperparameters

    dataset = load_dataset(config)
    networks, steps = make_parts(config, dataset.shape)
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)))(jnp.arange(count))
    states = jax.jit(jax.vmap(steps.init_state))(keys[:, 0])
    resident = jax.tree.map(jnp.asarray, dataset.train)
    stored = dataset.train is not None
    feed_axes = Feed(None, None, 0) if stored else None
    mapped = jax.vmap(make_run_updates(config, dataset), in_axes=(0, None, None, 0, feed_axes))
    run_updates = jax.jit(mapped, donate_argnums=0)
    hyper, began, step = make_hyperparameters(config), time.perf_counter(), 0
    while step < config.steps:
        position = int(states.step[0]) + int(states.critic_step[0])
        room = max(ROWS_PER_FEED // config.batch_size, CALL_UPDATES * (config.n_critic + 1))
        feeds = [make_feed(dataset, resident, seed, position, room, config.batch_size) for seed in range(count)]
        feed = feeds[0]._replace(rows=np.stack([feed.rows for feed in feeds])) if stored else feeds[0]
        n = np.int32(min(CALL_UPDATES, config.steps - step))
        states, _, _ = run_updates(states, n, hyper, keys[:, 1], feed)
        step += int(n)
        alive = int((states.step == step).sum())
        print(
            f"\r{step}/{config.steps} updates, {alive} of {count} finite, {time.perf_counter() - began:.0f} s",
            end="",
            flush=True,
        )
    print()
    seconds = time.perf_counter() - began
    evaluator, rows = make_evaluator(config, dataset, networks), []
    for seed in range(count):
        state = jax.tree.map(lambda leaf, s=seed: np.asarray(leaf[s]), states)
        critic = {"params": state.critic.params, **state.critic.model_state}
        rows.append(summarise([evaluator.of_generator(state.ema, critic, "test", draw) for draw in range(config.eval.draws)]))
    return rows, seconds


def report(rows: list[dict[str, float]], title: str) -> None:
    """Prints median, extremes and all values of every metric."""
    import numpy as np

    print(title)
    for name in rows[0]:
        if not name.endswith("_std"):
            values = np.array([row[name] for row in rows])
            shown = " ".join(f"{value:.3g}" for value in np.sort(values))
            print(f"  {name:24s} median {np.median(values):.4g}  [{values.min():.4g}, {values.max():.4g}]  all: {shown}")


def failures(rows: list[dict[str, float]], name: str, comparison: str, value: float) -> None:
    """Prints the failure rate with its 95 % Wilson interval."""
    from scipy.stats import binomtest

    failed = sum(math.isnan(row[name]) or COMPARISONS[comparison](row[name], value) for row in rows)
    interval = binomtest(failed, len(rows)).proportion_ci(0.95, method="wilson")
    print(
        f"  failed ({name} {comparison} {value:g}): {failed} of {len(rows)}, {failed / len(rows):.3f} "
        f"[{interval.low:.3f}, {interval.high:.3f}]"
    )


if __name__ == "__main__":
    launch.main(seeds)
