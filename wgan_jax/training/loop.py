"""The loop: train(config, workdir). Straight, and the only place where a run's side effects meet."""

import functools
import hashlib
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import rich
from ml_collections import ConfigDict

from wgan_jax.config import flatten
from wgan_jax.data import introduce, load_dataset, warn_of_data
from wgan_jax.data.dataset import Dataset, in_one_line
from wgan_jax.data.dataset import describe as describe_data
from wgan_jax.data.labels import label_info
from wgan_jax.data.source import plan_feeds
from wgan_jax.errors import Interrupted, NonFiniteError
from wgan_jax.evaluation.evaluator import Evaluator, check_evaluation, describe, make_evaluator
from wgan_jax.records import file_digest, sealed
from wgan_jax.report.names import SCORE
from wgan_jax.training import processes, results
from wgan_jax.training.budget import check_fits
from wgan_jax.training.calls import Call, Clock, Pace, Start, calls, reached
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.display import Display, say
from wgan_jax.training.interruption import Signals, in_background, unless_interrupted
from wgan_jax.training.logging import MetricsLog
from wgan_jax.training.program import Program, make_program
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.training.workdir import check_same_data, identity, machine, now, provenance, warn_of_machine, write_json
from wgan_jax.types import TrainState

if TYPE_CHECKING:
    from wgan_jax.evaluation.figures import Artist

CALL_SECONDS = 1.0  # the aim for one compiled call: an interrupt waits for it; each costs up to a tenth of an update more
RECORD = "metrics.jsonl"  # as a checkpoint keeps it: the lines up to its step
CAUSES = ("critic_loss", "penalty", "critic_gradient_norm", "critic_parameter_norm", "generator_loss")  # before their effects


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
        clock = Clock(started)
        summary: dict[str, Any] = {"status": "running", "final": {}, "best": None}
        try:
            rows = _train(config, workdir, dataset, clock, signals, summary)
            summary["status"] = "done"
        except (NonFiniteError, Interrupted) as error:
            summary["status"] = "interrupted" if isinstance(error, Interrupted) else "non-finite"
            raise
        finally:
            summary["seconds"] = {"total": clock.total(), **clock.seconds}
            if summary["status"] != "running" and "step" in summary and processes.is_first():  # it got as far as to have one
                write_json(workdir / "summary.json", sealed(summary))
    if rows:  # all is written before it is told
        results.tell(workdir, rows, summary)
    return summary


def _train(
    config: ConfigDict, workdir: Path, given: Dataset | None, clock: Clock, signals: Signals, summary: dict[str, Any]
) -> results.Rows:
    """Trains, evaluates and draws; returns the final table, {} where this is not the first process."""
    with processes.first_before_others():
        dataset = given or load_dataset(config)
    if processes.is_first():
        line = in_one_line("given", dataset) if given else introduce(config, dataset)
        say(line, whole=not rich.get_console().is_interactive)
        warn_of_data(config, dataset)
    init_key, run_key = _keys(config.seed)
    program = make_program(config, dataset)
    check_fits(config, dataset.shape, program.init_state)
    checkpoints = Checkpoints(workdir / "checkpoints", config.keep, identity(config))
    state = program.init_state(init_key)
    if not processes.is_first():
        for call in _calls_from(state, run_key, config, dataset, program, clock, signals):
            _check_finite(call, checkpoints)
        return {}
    check_evaluation(config, dataset)

    @functools.cache
    def evaluator() -> Evaluator:
        return make_evaluator(config, dataset, program.networks)

    @functools.cache
    def artist() -> "Artist":
        from wgan_jax.evaluation.figures import make_artist  # with Matplotlib, whose import takes 1 s

        return make_artist(config, dataset, program.networks)

    def validated(state: TrainState) -> dict[str, float]:
        return results.on_validation(evaluator(), state, raw=config.eval.raw)

    here = machine(program.devices)
    for name in ("samples", "figures", "checkpoints"):
        (workdir / name).mkdir(exist_ok=True)
    record = {**provenance(config, here), "data": describe_data(dataset)}
    write_json(workdir / "provenance.json", record)
    state, seconds_before, pending = _restore(checkpoints, state, here, dataset.fingerprint)
    first, critic_step = reached(state)
    summary |= {"step": first, "critic_step": critic_step, "run": checkpoints.run}
    summary |= {"updates_per_second": first / seconds_before} if seconds_before else {}
    best_score = checkpoints.best_score()
    with (
        Display(f"{config.method}:{config.preset}", config.steps, config.eval_every) as display,
        MetricsLog(workdir, first - bool(pending), flatten(config), checkpoints.file(first, RECORD)) as log,
    ):
        signals.tell = display.interrupted
        display.begin(first)
        training = _calls_from(state, run_key, config, dataset, program, clock, signals)
        restored = Call(first, critic_step, state, {}, 0, np.ones((), bool), 0.0, 0)
        for call in itertools.chain([restored] if pending else [], training):  # what a signal left without its evaluation
            signals.deferred = True
            step, state, trained, values = call.step, call.state, clock.seconds["train"], pending
            if call.done:
                summary |= {"step": step, "critic_step": call.critic_step, "updates_per_second": (step - first) / trained}
                _check_finite(call, checkpoints)
                estimate = call.metrics.get("wasserstein_estimate")
                display.show(step, 1 / call.per_update, None if estimate is None else float(estimate))
                values = {"step": step, "critic_step": call.critic_step}
                values |= {"examples": (call.critic_step or step) * config.batch_size}
                values |= {"seconds": round(seconds_before + trained, 3)}
                values |= {name: float(value) for name, value in call.metrics.items()}
            info: dict[str, Any] = {"machine": here, "shape": dataset.shape, "data": dataset.fingerprint}
            info |= {"seconds": values["seconds"]}
            info |= {**label_info(dataset), "scaling": dataset.scaling._asdict()}
            if evaluated := step % config.eval_every == 0:
                display.state("evaluating")
                with clock("evaluate"):
                    evaluation = unless_interrupted(functools.partial(validated, state), signals)
                display.state("training")
                if evaluation is None:  # the state is kept, and evaluated when the run goes on
                    checkpoints.save(step, state, {**info, "pending": values}, {RECORD: log.content()})
                    checkpoints.wait()
                    raise Interrupted(signals.received)
                values |= evaluation
                info["score"] = values.get(f"eval/{SCORE}", math.nan)
                display.evaluation(evaluation)
            if evaluated or step % config.log_every == 0:
                log.write(values)
            if step % config.sample_every == 0:
                picture = workdir / "samples" / f"step_{step:08d}.png"
                artist().draw(picture, step, *jax.device_get((state.ema, state.critic.variables)))
                log.write_picture(picture, step)
            improved = evaluated and info["score"] < best_score  # never by NaN
            due = step % config.checkpoint_every == 0 or step >= config.steps or not call.done
            if improved or due or call.received:
                best_score = info["score"] if improved else best_score
                checkpoints.save(step, state, info, {RECORD: log.content()})
            if call.received:
                checkpoints.wait()
        checkpoints.wait()
        signals.obey()  # one that came while the last checkpoint was written
        display.state("evaluating")
        state = jax.device_get(state)
        with clock("evaluate"):
            last = in_background(lambda: results.on_test(config, checkpoints, evaluator(), state, clock.seconds["train"]))
        rows, found = last
        summary |= found
        display.state("writing")
        figures = workdir / "figures"
        artist().draw_last(figures, int(state.step), state.ema, state.critic.variables, evaluator().network)
        artist().draw_curves(figures, log.lines(), evaluator().sizes("validation").points)
        write_json(workdir / "provenance.json", {**record, "evaluation": describe(evaluator()), "end": now()})
        log_digest = hashlib.sha256(log.content()).hexdigest()
        summary["files"] = {RECORD: log_digest, "provenance.json": file_digest(workdir / "provenance.json")}
        display.state("done")
    return rows


def _keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """Returns the keys of the initial state and of the updates, by one small program in place of six."""
    first, second = jax.jit(lambda: tuple(jax.random.split(jax.random.key(seed))))()
    return first, second


def _calls_from(
    state: TrainState,
    run_key: jax.Array,
    config: ConfigDict,
    dataset: Dataset,
    program: Program,
    clock: Clock,
    signals: Signals,
) -> Iterator[Call]:
    """Returns the calls that train from the first process's state to config.steps."""
    signals.deferred = True  # no signal may part a process from the others within a collective
    state = program.place(processes.from_first(state))
    signals.obey()
    start = Start(state, *program.place((make_hyperparameters(config), run_key)), np.int32)
    plan = functools.partial(plan_feeds, config, dataset, program.place, program.shard)
    intervals = (config.log_every, config.eval_every, config.sample_every, config.checkpoint_every)
    clock.end_startup()
    return calls(program, start, plan, Pace(config.steps, intervals, CALL_SECONDS), clock, signals)


def _restore(
    checkpoints: Checkpoints, fresh: TrainState, here: dict[str, Any], fingerprint: str
) -> tuple[TrainState, float, dict[str, Any]]:
    """Returns the newest good state or the fresh one, and the seconds trained before it; drops checkpoints beyond it.

    The third is the line of metrics.jsonl that waits for the state's evaluation, {} where none does.

    Raises:
      UserError: the run was trained on other images.
    """

    def vet(step: int) -> None:
        check_same_data(checkpoints.info(step, "data")["data"], fingerprint)

    restored = checkpoints.restore_newest(jax.eval_shape(lambda: fresh), vet)
    step, state = restored or (0, fresh)
    info = checkpoints.info(step, "machine", "seconds") if restored else {}
    checkpoints.discard_after(step)
    if restored is None:
        return fresh, 0.0, {}
    warn_of_machine(info["machine"], here)
    return state, info["seconds"], info.get("pending", {})


def _check_finite(call: Call, checkpoints: Checkpoints) -> None:
    if bad := [name for name, value in call.metrics.items() if not np.isfinite(value)]:  # the parameters' norms are among them
        checkpoints.wait()
        first = next((name for name in CAUSES if name in bad), bad[0])
        steps = checkpoints.steps()
        kept = f"checkpoints up to step {max(steps)} are kept" if steps else "no checkpoint was due yet"
        raise NonFiniteError(f"training became non-finite at step {call.step}: {first} is {call.metrics[first]}; {kept}")
