"""The loop: train(config, workdir). Straight, and the only place where a run's side effects meet."""

import functools
import logging
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import Dataset, encode
from wgan_jax.data.source import plan_feeds
from wgan_jax.errors import Interrupted, NonFiniteError, UserError
from wgan_jax.evaluation.evaluator import Evaluator, describe, make_evaluator, summarise
from wgan_jax.evaluation.figures import make_artist, save_classes, save_curves
from wgan_jax.models import make_sampler
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.interruption import Signals, in_background
from wgan_jax.training.logging import Display, MetricsLog, read_metrics
from wgan_jax.training.program import Program, make_program
from wgan_jax.training.update import make_hyperparameters, warmup_phases
from wgan_jax.training.workdir import machine, now, provenance, write_json
from wgan_jax.types import Params, TrainState

CALL_SECONDS = 0.5  # the aim for one compiled call: an interrupt waits for it, and the display moves with it
CLASS_IMAGES = 300  # that figures/classes.png is chosen from
SCORE = "wasserstein_excess"  # `best` has its lowest value on validation
CAUSES = ("critic_loss", "penalty", "critic_gradient_norm", "critic_parameter_norm", "generator_loss")  # before their effects


def train(config: ConfigDict, workdir: Path, started: float) -> dict[str, Any]:
    """Trains a checked config in a run directory that `open_workdir` holds, resuming what is there; returns the summary.

    `started` is when the process began, on time.perf_counter's clock.

    Raises:
      UserError: of the devices or the checkpoints.
      NonFiniteError: training became non-finite; the checkpoints before it are kept.
      Interrupted: by SIGINT or SIGTERM, after saving.
    """
    with Signals() as signals:
        seconds = dict.fromkeys(("total", "startup", "compile", "train", "evaluate"), 0.0)
        summary = {"status": "running", "step": 0, "critic_step": 0, "final": {}, "best": None, "seconds": seconds}
        try:
            _train(config, workdir, started, signals, summary)
            summary["status"] = "done"
        except NonFiniteError:
            summary["status"] = "non-finite"
            raise
        except Interrupted:
            summary["status"] = "interrupted"
            raise
        finally:
            seconds["total"] = time.perf_counter() - started
            if summary["status"] != "running":
                write_json(workdir / "summary.json", summary)
    return summary


def _train(config: ConfigDict, workdir: Path, started: float, signals: Signals, summary: dict[str, Any]) -> None:
    dataset = load_dataset(config)
    program = make_program(config, dataset)
    seconds = summary["seconds"]
    evaluator, seconds["evaluate"] = _timed(lambda: make_evaluator(config, dataset, program.networks))
    here = machine(program.devices)
    for name in ("samples", "figures", "checkpoints"):
        (workdir / name).mkdir(exist_ok=True)
    record = {**provenance(config, here), "data": _describe(dataset), "evaluation": describe(evaluator)}
    write_json(workdir / "provenance.json", record)
    checkpoints = Checkpoints(workdir / "checkpoints", config.keep)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    state, seconds_before = _restore(checkpoints, program, program.init_state(init_key), here, dataset.fingerprint)
    step, critic_step = int(state.step), int(state.critic_step)
    hyper, run_key = program.place((make_hyperparameters(config), run_key))
    feed_at, room, least = plan_feeds(config, dataset, program.place, program.shard)
    feed, feed_end = feed_at(step + critic_step), step + critic_step + room

    seconds["startup"] = time.perf_counter() - started - seconds["evaluate"]
    lower = functools.partial(program.run_updates.lower, state, program.place(np.int32(1)), hyper, run_key, feed)
    run_updates, seconds["compile"] = _timed(lambda: in_background(lambda: lower().compile()))
    artist = make_artist(dataset, program.networks)
    best_score, per_update, first = checkpoints.best_score(), 0.0, step
    with (
        Display(f"{config.method}:{config.preset}", config.steps, step) as display,
        MetricsLog(workdir, step) as log,
    ):
        while step < config.steps:
            signals.deferred = True
            n, position = _updates_until_event(config, step, step + critic_step, per_update, feed_end)
            began = time.perf_counter()
            state, metrics, done = run_updates(state, program.place(np.int32(n)), hyper, run_key, feed)
            if position + least > feed_end:  # the next update may not fit any more: read on while the device works
                feed, feed_end = feed_at(position), position + room
            metrics, done, critic_step = jax.device_get((metrics, done, state.critic_step))
            per_update = (time.perf_counter() - began) / int(done)
            seconds["train"] += per_update * int(done)
            step, critic_step = step + int(done), int(critic_step)
            summary |= {"step": step, "critic_step": critic_step, "updates_per_second": (step - first) / seconds["train"]}
            _check_finite(step, metrics, checkpoints)
            trained = round(seconds_before + seconds["train"], 3)
            values = {"step": step, "critic_step": critic_step, "examples": critic_step * config.batch_size, "seconds": trained}
            values |= {name: float(value) for name, value in metrics.items()}
            info: dict[str, Any] = {"seconds": trained, "machine": here, "shape": dataset.shape, "data": dataset.fingerprint}
            if evaluated := step % config.eval_every == 0:
                evaluation, spent = _timed(lambda: _evaluate(evaluator, state))  # noqa: B023 - called at once
                values |= evaluation
                seconds["evaluate"] += spent
                info["score"] = values[f"eval/{SCORE}"]
            if logged := evaluated or step % config.log_every == 0:
                log.write(values)
            display.show(step, 1 / per_update, values if logged else None)
            if step % config.sample_every == 0:
                artist(workdir / "samples" / f"step_{step:08d}.png", state.ema, _variables(state.critic))
            improved = evaluated and info["score"] < best_score
            if improved or step % config.checkpoint_every == 0 or step >= config.steps or signals.received:
                best_score = info["score"] if improved else best_score
                checkpoints.save(step, state, info)
            if signals.received:
                checkpoints.wait()
                raise Interrupted(signals.received)
        checkpoints.wait()
        signals.deferred = False
    rows, seconds_final = _timed(lambda: _final(config, checkpoints, evaluator, state, summary))
    seconds["evaluate"] += seconds_final
    artist(workdir / "figures" / "samples.png", state.ema, _variables(state.critic))
    if dataset.class_names and evaluator.network is not None:
        _, images = make_sampler(program.networks)(state.ema, jax.random.key(10_000), 0, CLASS_IMAGES)
        pixels = encode(images)
        labels = evaluator.network.label(pixels, evaluator.network.apply(pixels))
        save_classes(workdir / "figures" / "classes.png", np.asarray(images), labels, dataset.class_names)
    save_curves(workdir / "figures", read_metrics(workdir / "metrics.jsonl"))
    display.table(f"test split, mean of {config.eval.draws} draws", rows)
    display.say(", ".join(f"{name} {seconds[name]:.0f} s" for name in ("startup", "compile", "train", "evaluate")))
    display.say(f"samples, figures, metrics.jsonl, summary.json: {workdir}")
    write_json(workdir / "provenance.json", {**record, "end": now()})


def _timed(work: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _describe(dataset: Dataset) -> dict[str, Any]:
    """Returns what provenance.json says of the data: the fingerprint of stored images, and how many each split has."""
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    counts = {name: len(split.images) for name, split in splits.items() if split is not None}
    return {"fingerprint": dataset.fingerprint, "examples": counts, "classes": dataset.class_names}


def _restore(
    checkpoints: Checkpoints, program: Program, fresh: TrainState, here: dict[str, Any], fingerprint: str
) -> tuple[TrainState, float]:
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
    return program.place(state), info["seconds"]


def _updates_until_event(config: ConfigDict, step: int, position: int, per_update: float, end: float) -> tuple[int, int]:
    """Returns how many updates the next call takes from a step and position of the data, and the position after them.

    Up to the next event, within CALL_SECONDS and the feed, which ends before position `end`; at first 1.
    """
    intervals = (config.log_every, config.eval_every, config.sample_every, config.checkpoint_every)
    event = min(config.steps, *(step - step % every + every for every in intervals))
    count = min(event - step, max(1, int(CALL_SECONDS / per_update)) if per_update else 1)
    for fits, later in enumerate(range(step, step + count)):
        needed = int(warmup_phases(config, later)) * config.n_critic + 1
        if position + needed > end:
            return fits, position
        position += needed
    return count, position


def _check_finite(step: int, metrics: dict[str, Any], checkpoints: Checkpoints) -> None:
    if bad := [name for name, value in metrics.items() if not np.isfinite(value)]:
        checkpoints.wait()
        first = next((name for name in CAUSES if name in bad), bad[0])
        steps = checkpoints.steps()
        kept = f"checkpoints up to step {max(steps)} are kept" if steps else "no checkpoint was due yet"
        raise NonFiniteError(f"training became non-finite at step {step}: {first} is {metrics[first]}; {kept}")


def _variables(player: Any) -> Params:
    return {"params": player.params, **player.model_state}


def _evaluate(evaluator: Evaluator, state: TrainState) -> dict[str, float]:
    """Returns eval/x of the averaged generator and eval/raw/x of the generator itself, on validation."""
    ema, generator, critic = jax.device_get((state.ema, _variables(state.generator), _variables(state.critic)))
    averaged, raw = (evaluator.of_generator(variables, critic, "validation", 0) for variables in (ema, generator))
    return {f"eval/{name}": x for name, x in averaged.items()} | {f"eval/raw/{name}": x for name, x in raw.items()}


def _final(
    config: ConfigDict, checkpoints: Checkpoints, evaluator: Evaluator, state: TrainState, summary: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Puts the last and the best state's test metrics into the summary; returns them and real data's as the final table."""

    def on_test(state: TrainState) -> dict[str, float]:
        ema, critic = jax.device_get((state.ema, _variables(state.critic)))
        return summarise([evaluator.of_generator(ema, critic, "test", draw) for draw in range(config.eval.draws)])

    rows = {f"last, step {int(state.step)}": on_test(state)}
    summary["final"] = next(iter(rows.values()))
    best = checkpoints.best()
    if best is not None:
        row = summary["final"]
        if best != int(state.step):
            row = rows[f"best, step {best}"] = on_test(checkpoints.restore(best, jax.eval_shape(lambda: state)))
        summary["best"] = {"step": best, "metric": SCORE, "value": checkpoints.best_score(), "split": "validation", "test": row}
    summary["real"] = summarise([evaluator.of_real("test", draw) for draw in range(config.eval.draws)])
    rows[f"real, n = {evaluator.real_sizes('test').points}"] = summary["real"]
    return rows
