"""The loop: train(config, workdir). Straight, and the only place where a run's side effects meet."""

import functools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import rich
from ml_collections import ConfigDict

from wgan_jax.batching import batches_per_update
from wgan_jax.config import flatten
from wgan_jax.data import introduce, load_dataset
from wgan_jax.data.dataset import Dataset, in_one_line
from wgan_jax.data.dataset import describe as describe_data
from wgan_jax.data.source import plan_feeds
from wgan_jax.errors import Interrupted, NonFiniteError, UserError
from wgan_jax.evaluation.evaluator import Evaluator, describe, make_evaluator, summarise
from wgan_jax.evaluation.figures import make_artist
from wgan_jax.evaluation.tables import Cell, cells, print_metrics
from wgan_jax.report.names import SCORE
from wgan_jax.training import processes
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.display import Display, say, span
from wgan_jax.training.interruption import Signals, in_background
from wgan_jax.training.logging import MetricsLog, read_metrics
from wgan_jax.training.program import Program, make_program
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.training.workdir import machine, now, provenance, write_json
from wgan_jax.types import TrainState

CALL_SECONDS = 0.5  # the aim for one compiled call: an interrupt waits for it, and the display moves with it
CAUSES = ("critic_loss", "penalty", "critic_gradient_norm", "critic_parameter_norm", "generator_loss")  # before their effects


class Call(NamedTuple):
    """What a call of the compiled program came to."""

    step: int
    critic_step: int
    state: TrainState  # until the next call, which takes its buffers
    metrics: dict[str, np.ndarray]  # at its last update
    per_update: float  # seconds
    received: int  # a signal after which the run ends, or 0


def train(config: ConfigDict, workdir: Path, started: float, dataset: Dataset | None = None) -> dict[str, Any]:
    """Trains a checked config in a run directory that `open_workdir` holds, resuming what is there; returns the summary.

    `started` is when the process began, on time.perf_counter's clock; `dataset` is trained on in place of config.data's. Of
    several processes only the first uses the directory.

    Raises:
      UserError: of the devices or the checkpoints.
      NonFiniteError: training became non-finite; the checkpoints before it are kept.
      Interrupted: by SIGINT or SIGTERM, after saving.
    """
    with Signals() as signals:
        seconds = dict.fromkeys(("total", "startup", "compile", "train", "evaluate"), 0.0)
        summary = {"status": "running", "step": 0, "critic_step": 0, "final": {}, "best": None, "seconds": seconds}
        try:
            rows = _train(config, workdir, started, dataset, signals, summary)
            summary["status"] = "done"
        except NonFiniteError:
            summary["status"] = "non-finite"
            raise
        except Interrupted:
            summary["status"] = "interrupted"
            raise
        finally:
            seconds["total"] = time.perf_counter() - started
            if summary["status"] != "running" and processes.is_first():
                write_json(workdir / "summary.json", summary)
    if rows:  # all is written before it is told
        _tell(config, workdir, rows, summary)
    return summary


def _train(
    config: ConfigDict, workdir: Path, started: float, given: Dataset | None, signals: Signals, summary: dict[str, Any]
) -> dict[str, dict[str, Cell]]:
    """Trains, evaluates and draws; returns the final table, {} where this is not the first process."""
    with processes.first_before_others():
        dataset = given or load_dataset(config)
    if processes.is_first():
        line = in_one_line("given", dataset) if given else introduce(config, dataset)
        say(line, whole=not rich.get_console().is_interactive)
    program = make_program(config, dataset)
    checkpoints = Checkpoints(workdir / "checkpoints", config.keep)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    state = program.init_state(init_key)
    calls_from = functools.partial(_calls, config, dataset, program, run_key, started, signals, summary)
    if not processes.is_first():
        for call in calls_from(state):
            _check_finite(call, checkpoints)
        return {}
    seconds = summary["seconds"]
    evaluator, seconds["evaluate"] = timed(lambda: make_evaluator(config, dataset, program.networks))
    here = machine(program.devices)
    for name in ("samples", "figures", "checkpoints"):
        (workdir / name).mkdir(exist_ok=True)
    record = {**provenance(config, here), "data": describe_data(dataset), "evaluation": describe(evaluator)}
    write_json(workdir / "provenance.json", record)
    state, seconds_before = _restore(checkpoints, state, here, dataset.fingerprint)
    summary |= {"updates_per_second": int(state.step) / seconds_before} if seconds_before else {}
    calls, artist, best_score = calls_from(state), make_artist(config, dataset, program.networks), checkpoints.best_score()
    with (
        Display(f"{config.method}:{config.preset}", config.steps, config.eval_every) as display,
        MetricsLog(workdir, int(state.step), flatten(config)) as log,
    ):
        signals.tell = display.interrupted
        display.begin(int(state.step))
        for call in calls:
            _check_finite(call, checkpoints)
            step, critic_step, state, metrics, per_update, received = call
            display.show(step, 1 / per_update, float(metrics["wasserstein_estimate"]))
            trained = round(seconds_before + seconds["train"], 3)
            values = {"step": step, "critic_step": critic_step, "examples": critic_step * config.batch_size, "seconds": trained}
            values |= {name: float(value) for name, value in metrics.items()}
            info: dict[str, Any] = {"seconds": trained, "machine": here, "shape": dataset.shape, "data": dataset.fingerprint}
            if evaluated := step % config.eval_every == 0:
                display.state("evaluating")
                evaluation, spent = timed(lambda: _evaluate(evaluator, state))  # noqa: B023 - called at once
                values |= evaluation
                seconds["evaluate"] += spent
                info["score"] = values.get(f"eval/{SCORE}", math.nan)
                display.evaluation(evaluation)
                display.state("training")
            if evaluated or step % config.log_every == 0:
                log.write(values)
            if step % config.sample_every == 0:
                picture = workdir / "samples" / f"step_{step:08d}.png"
                artist.draw(picture, step, *jax.device_get((state.ema, state.critic.variables)))
                log.write_picture(picture, step)
            improved = evaluated and info["score"] < best_score  # never by NaN
            if improved or step % config.checkpoint_every == 0 or step >= config.steps or received:
                best_score = info["score"] if improved else best_score
                checkpoints.save(step, state, info)
            if received:
                checkpoints.wait()
        checkpoints.wait()
        signals.deferred = False
        display.state("evaluating")
        state = jax.device_get(state)
        rows, seconds_final = timed(lambda: _final(config, checkpoints, evaluator, state, summary))
        seconds["evaluate"] += seconds_final
        display.state("writing")
        figures = workdir / "figures"
        artist.draw_last(figures, int(state.step), state.ema, state.critic.variables, evaluator.network)
        artist.draw_curves(figures, read_metrics(workdir / "metrics.jsonl"), evaluator.sizes("validation").points)
        write_json(workdir / "provenance.json", {**record, "end": now()})
        display.state("done")
    return rows


def _tell(config: ConfigDict, workdir: Path, rows: dict[str, dict[str, Cell]], summary: dict[str, Any]) -> None:
    print_metrics(rich.get_console(), "test split", rows, config.eval.draws)
    if summary["best"] is None:
        say(f"no best state: {SCORE} on validation does not exist for any checkpoint")
    say(", ".join(f"{name} {span(summary['seconds'][name])}" for name in ("startup", "compile", "train", "evaluate")))
    say(f"samples, figures, metrics.jsonl, summary.json: {workdir}")


def _calls(
    config: ConfigDict,
    dataset: Dataset,
    program: Program,
    run_key: jax.Array,
    started: float,
    signals: Signals,
    summary: dict[str, Any],
    state: TrainState,
) -> Iterator[Call]:
    """Trains from the first process's state to config.steps, a compiled call at a time. Every process does the same.

    Raises:
      Interrupted: after the call in which a signal came.
    """
    seconds = summary["seconds"]
    signals.deferred = True  # no signal may part a process from the others within a collective
    state = program.place(processes.from_first(state))
    signals.deferred = False
    step, critic_step = int(state.step), int(state.critic_step)
    summary |= {"step": step, "critic_step": critic_step}
    seconds["startup"] = time.perf_counter() - started - seconds["evaluate"]
    if step >= config.steps:  # trained before; what was not finished is the end of the run
        return
    hyper, run_key = program.place((make_hyperparameters(config), run_key))
    feed_at, room, least = plan_feeds(config, dataset, program.place, program.shard)
    feed, feed_end = feed_at(step + critic_step), step + critic_step + room
    seconds["startup"] = time.perf_counter() - started - seconds["evaluate"]
    lower = functools.partial(program.run_updates.lower, state, program.place(np.int32(1)), hyper, run_key, feed)
    run_updates, seconds["compile"] = timed(lambda: in_background(lambda: lower().compile()))
    per_update, first = 0.0, step
    while step < config.steps:
        signals.deferred = True
        processes.agree(0.0, 0)  # none ended since the last collective
        intervals = (config.log_every, config.eval_every, config.sample_every, config.checkpoint_every)
        count = updates_in_call(step, config.steps, intervals, per_update, CALL_SECONDS)
        n, position = updates_in_feed(config, step, count, step + critic_step, feed_end)
        began = time.perf_counter()
        state, metrics, done, _ = run_updates(state, program.place(np.int32(n)), hyper, run_key, feed)
        if position + least > feed_end:  # the next update may not fit any more: read on while the device works
            feed, feed_end = feed_at(position), position + room
        metrics, done, critic_step = jax.device_get((metrics, done, state.critic_step))
        per_update = (time.perf_counter() - began) / int(done)
        seconds["train"] += per_update * int(done)
        step, critic_step = step + int(done), int(critic_step)
        summary |= {"step": step, "critic_step": critic_step, "updates_per_second": (step - first) / seconds["train"]}
        per_update, received = processes.agree(per_update, signals.received)
        yield Call(step, critic_step, state, metrics, per_update, received)
        if received:
            raise Interrupted(received)


def timed(work: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _restore(checkpoints: Checkpoints, fresh: TrainState, here: dict[str, Any], fingerprint: str) -> tuple[TrainState, float]:
    """Returns the newest good state or the fresh one, and the seconds trained before it; drops checkpoints beyond it.

    Raises:
      UserError: the run was trained on other images.
    """
    restored = checkpoints.restore_newest(jax.eval_shape(lambda: fresh))
    step, state = restored or (0, fresh)
    info = checkpoints.info(step) if restored else {}
    if restored and info["data"] != fingerprint:
        raise UserError("config.data: the images, their labels or splits are not those that this run was trained on")
    checkpoints.discard_after(step)
    if restored is None:
        return fresh, 0.0
    if info["machine"] != here:
        was = info["machine"]
        changes = [f"{name} {was.get(name)} -> {value}" for name, value in here.items() if was.get(name) != value]
        logging.getLogger(__name__).warning("resuming on another machine (%s): exact up to rounding only", ", ".join(changes))
    return state, info["seconds"]


def updates_in_call(step: int, steps: int, intervals: Sequence[int], per_update: float, aim: float) -> int:
    """Returns how many updates a call takes from a step on: to the next event, in `aim` seconds; 1 before any was timed."""
    event = min(steps, *(step - step % every + every for every in intervals))
    return min(event - step, max(1, int(aim / per_update)) if per_update else 1)


def updates_in_feed(config: ConfigDict, step: int, count: int, position: int, end: float) -> tuple[int, int]:
    """Returns how many of `count` updates from a step on fit into the feed, and the position after them.

    The first one's data begins at `position`, the feed ends before `end`.
    """
    for fits, later in enumerate(range(step, step + count)):
        needed = batches_per_update(config, later)
        if position + needed > end:
            return fits, position
        position += needed
    return count, position


def _check_finite(call: Call, checkpoints: Checkpoints) -> None:
    if bad := [name for name, value in call.metrics.items() if not np.isfinite(value)]:  # the parameters' norms are among them
        checkpoints.wait()
        first = next((name for name in CAUSES if name in bad), bad[0])
        steps = checkpoints.steps()
        kept = f"checkpoints up to step {max(steps)} are kept" if steps else "no checkpoint was due yet"
        raise NonFiniteError(f"training became non-finite at step {call.step}: {first} is {call.metrics[first]}; {kept}")


def _evaluate(evaluator: Evaluator, state: TrainState) -> dict[str, float]:
    """Returns eval/x of the averaged generator and eval/raw/x of the generator itself, on validation."""
    ema, generator, critic = jax.device_get((state.ema, state.generator.variables, state.critic.variables))
    averaged, raw = (evaluator.of_generator(player, critic, "validation", 0) for player in (ema, generator))
    return {f"eval/{name}": x for name, x in averaged.items()} | {f"eval/raw/{name}": x for name, x in raw.items()}


def _final(
    config: ConfigDict, checkpoints: Checkpoints, evaluator: Evaluator, state: TrainState, summary: dict[str, Any]
) -> dict[str, dict[str, Cell]]:
    """Puts the last and the best state's test metrics into the summary; returns them and real data's as the final table."""
    draws, sizes = range(config.eval.draws), evaluator.sizes("test")

    def on_test(state: TrainState) -> dict[str, float]:
        ema, critic = jax.device_get((state.ema, state.critic.variables))
        return summarise([evaluator.of_generator(ema, critic, "test", draw) for draw in draws])

    row = summary["final"] = on_test(state)
    best, last = checkpoints.best(), int(state.step)
    rows = {f"{'last and best' if best == last else 'last'}, step {last}": cells(row, sizes)}
    if best is not None:
        if best != last:
            row = on_test(checkpoints.restore(best, jax.eval_shape(lambda: state)))
            rows[f"best, step {best}"] = cells(row, sizes)
        summary["best"] = {"step": best, "metric": SCORE, "value": checkpoints.best_score(), "split": "validation", "test": row}
    summary["real"] = summarise([evaluator.of_real("test", draw) for draw in draws])
    return rows | {"real data": cells(summary["real"], evaluator.real_sizes("test"))}
