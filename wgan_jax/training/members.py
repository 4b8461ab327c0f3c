"""The loop of a sweep's task: members of one program, trained, evaluated, checkpointed and resumed together."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich
from ml_collections import ConfigDict

from wgan_jax.data import introduce, load_dataset, warn_of_data
from wgan_jax.data.dataset import Dataset, describe
from wgan_jax.data.labels import label_info
from wgan_jax.data.source import plan_feeds
from wgan_jax.errors import UserError
from wgan_jax.evaluation.evaluator import make_evaluator
from wgan_jax.plan import Point, Row
from wgan_jax.records import file_digest, sealed
from wgan_jax.report.names import SCORE
from wgan_jax.training.budget import members_that_fit
from wgan_jax.training.calls import Call, Clock, Pace, Start, calls
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.display import Display, members_line, say
from wgan_jax.training.interruption import Signals, in_background, unless_interrupted
from wgan_jax.training.logging import write_lines
from wgan_jax.training.program import Program, make_members
from wgan_jax.training.progress import (
    PROGRESS,
    Progress,
    end,
    evaluate_members,
    evaluated,
    judge,
    on_host,
    progress_of,
    rows_on_test,
)
from wgan_jax.training.update import make_hyperparameters
from wgan_jax.training.workdir import (
    check_same_data,
    checkpoint_steps,
    chunk_size,
    identity,
    machine,
    provenance,
    warn_of_machine,
    write_json,
)
from wgan_jax.types import Hyperparameters, Params, Player, TrainState

CALL_SECONDS = 2.0  # the aim for one compiled call: an interrupt waits for it

type Tell = Callable[[list[Row]], None]


def train_task(points: Sequence[Point], folder: Path, title: str, started: float) -> None:
    """Trains the points of a task, which are one program, in a folder, resuming what is there.

    What does not fit in memory together is trained in chunks, one after another. rows.jsonl has the rows so far; summary.json,
    with the hash of that, is written when all is done. `started` is when the work began, on time.perf_counter's clock.

    Raises:
      UserError: of the devices, the data or the checkpoints.
      Interrupted: by a signal, after saving.
    """
    config = points[0].config
    dataset = load_dataset(config)
    say(introduce(config, dataset), whole=not rich.get_console().is_interactive)
    warn_of_data(config, dataset)
    here = machine(jax.local_device_count())
    write_json(folder / "provenance.json", {**provenance(config, here), "data": describe(dataset)})
    (folder / "checkpoints").mkdir(exist_ok=True)
    size = _chunk_size(folder, lambda: min(len(points), members_that_fit(config, dataset)))
    clock = Clock(started)
    clock.end_startup()
    rows: list[Row] = []
    for start in range(0, len(points), size):
        chunk = points[start : start + size]
        which = f"members {start + 1} to {start + len(chunk)}" if size < len(points) else f"{len(points)} members"
        whose = identity(*(point.config for point in chunk))
        checkpoints = Checkpoints(folder / "checkpoints" / f"from_{start:05d}", run=whose)
        tell = lambda own, earlier=tuple(rows): write_lines(folder / "rows.jsonl", [*earlier, *own])  # noqa: E731
        rows += _train(chunk, dataset, checkpoints, here, f"{title}, {which}", clock, tell)
    summary = {"step": config.steps, "run": identity(*(point.config for point in points)), "members": len(points)}
    summary |= {"seconds": clock.seconds, "machine": here, "files": {"rows.jsonl": file_digest(folder / "rows.jsonl")}}
    write_json(folder / "summary.json", sealed(summary))


def _chunk_size(folder: Path, choose: Callable[[], int]) -> int:
    """Returns how many members of a folder train together: as it was chosen at first, once there is a checkpoint of them."""
    size = chunk_size(folder)
    if size is None or not any(map(checkpoint_steps, folder.glob("checkpoints/*"))):
        size = choose()
        write_json(folder / "chunk.json", sealed({"members": size}))
    return size


def _train(
    points: Sequence[Point],
    dataset: Dataset,
    checkpoints: Checkpoints,
    here: dict[str, Any],
    title: str,
    clock: Clock,
    tell: Tell,
) -> list[Row]:
    """Trains members together up to their config's steps; returns all their rows, and tells those so far as they come.

    here: the machine, which another launcher may give another number of cores: a resumed task then differs in last bits.
    """
    config, count = points[0].config, len(points)
    with Signals() as signals, Display(title, config.steps, config.eval_every) as display:
        signals.tell = display.interrupted
        program = make_members(config, dataset, count)
        with clock("evaluate"):
            evaluator = make_evaluator(config, dataset, program.networks)
        filled = [*points, *[points[-1]] * (-count % program.devices)]  # the last ones are never updated
        fresh, hyper, run_keys = begin([p.config for p in filled], program)
        step, progress, host, best = _restore(checkpoints, on_host(fresh, count), here, dataset.fingerprint)
        state = program.spread(jax.tree.map(lambda leaf: np.concatenate([leaf, *[leaf[-1:]] * (len(filled) - count)]), host))

        def updates(n: int) -> np.ndarray:
            return np.array([n * alive for alive in progress.alive] + [0] * (len(filled) - count), np.int32)

        plan = functools.partial(plan_feeds, config, dataset, program.place, program.shard, [p.config.seed for p in filled])
        pace = Pace(config.steps, (config.eval_every, config.checkpoint_every), CALL_SECONDS)
        training = calls(program, Start(state, hyper, run_keys, updates), plan, pace, clock, signals)
        restored = Call(step, int(np.max(host.critic_step)), state, {}, 0, np.ones(count, bool), 0.0, 0)
        display.begin(step)
        tell(progress.rows)
        saved = step
        for call in itertools.chain([restored], training):  # what is restored may want its evaluation
            signals.deferred = True
            step, state, living = call.step, call.state, progress.living()
            steps, critic_steps = jax.device_get((state.step, state.critic_step))
            for i in living:
                progress.seconds[i] += call.done * call.per_update * program.devices / len(living)
                if not call.finite[i]:
                    end(points, progress, i, int(steps[i]), int(critic_steps[i]))
            if call.done:
                display.show(step, 1 / call.per_update)
            ended = step >= config.steps or not progress.living()
            due = step > 0 and (ended or step % config.eval_every == 0)
            if due and not any((row["step"], row["status"]) == (step, "ok") for row in progress.rows):
                display.state("evaluating")
                current = evaluated(on_host(state, count))
                with clock("evaluate"):
                    judged = functools.partial(
                        evaluate_members, evaluator, current, progress.living(), "validation", 1, signals
                    )
                    values = unless_interrupted(judged, signals)
                if values is not None:
                    judge(points, progress, values, call, current, best)
                    tell(progress.rows)
                    scores = [row.get(SCORE) for row in progress.rows if (row["step"], row["status"]) == (step, "ok")]
                    display.say(members_line(step, config.steps, count, scores))
                display.state("training")
            if ended or signals.received or (step > saved and (due or step % config.checkpoint_every == 0)):
                info = {**dataclasses.asdict(progress), "data": dataset.fingerprint, "shape": dataset.shape}
                info |= {**label_info(dataset), "scaling": dataset.scaling._asdict(), "machine": here}
                checkpoints.save(step, {"states": on_host(state, count), "best": best}, info)
                saved = step
            if ended or signals.received:
                break
        checkpoints.wait()
        signals.obey()  # a signal may have come while the last checkpoint was written, too
        display.state("evaluating")
        with clock("evaluate"):
            last = evaluated(on_host(state, count))
            on_test = in_background(lambda: rows_on_test(points, evaluator, last, best, progress, signals))
        tell(progress.rows + on_test)
        display.state("done")
    return progress.rows + on_test


def begin(configs: Sequence[ConfigDict], program: Program) -> tuple[TrainState, Hyperparameters, jax.Array]:
    """Returns the members' fresh states, hyperparameters and keys, each as a run of its own has them."""
    pairs = np.stack([jax.random.key_data(jax.random.split(jax.random.key(config.seed))) for config in configs])
    init_keys, run_keys = (program.spread(jax.random.wrap_key_data(jax.numpy.asarray(pairs[:, i]))) for i in range(2))
    hypers = [make_hyperparameters(config) for config in configs]
    return program.init_state(init_keys), program.spread(jax.tree.map(lambda *each: np.stack(each), *hypers)), run_keys


def _restore(
    checkpoints: Checkpoints, fresh: TrainState, here: dict[str, Any], fingerprint: str
) -> tuple[int, Progress, TrainState, Params]:
    """Returns the step, progress, states and best networks of the newest good checkpoint, or fresh ones.

    Raises:
      UserError: the sweep was begun on other images.
    """
    count = len(fresh.step)
    best = jax.tree.map(np.copy, evaluated(fresh))

    def vet(step: int) -> None:
        check_same_data(checkpoints.info(step, "data")["data"], fingerprint, "sweep")

    restored = checkpoints.restore_newest({"states": fresh, "best": best}, vet)
    if restored is None:
        return 0, Progress([True] * count, [0.0] * count, [None] * count, [0] * count, []), fresh, best
    step, tree = restored
    info = checkpoints.info(step, *PROGRESS)
    warn_of_machine(info.get("machine", here), here)  # those of earlier versions do not say it
    checkpoints.discard_after(step)
    return step, progress_of(info), tree["states"], tree["best"]


def restore_member(
    checkpoints: Checkpoints, fresh: TrainState, point: str, member: tuple[int, int], step: int, *, best: bool
) -> TrainState:
    """Returns a member's state at a checkpoint, or its best state so far, of which no generator is kept.

    fresh: a state's shapes; point: the member's id; member: its index, and how many its checkpoints stack.

    Raises:
      UserError: the checkpoint is damaged, the member was not finite any more, or has no best state yet.
    """
    index, count = member
    stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), fresh)
    tree = checkpoints.restore(step, {"states": stacked, "best": evaluated(stacked)})
    progress = progress_of(checkpoints.info(step, *PROGRESS))
    state, kept = jax.tree.map(lambda leaf: leaf[index], (tree["states"], tree["best"]))
    at = progress.best_steps[index]
    if best:
        if at == 0:
            raise UserError(f"--step: no best of point {point}, which has no finite evaluation by step {step}")
        critic_step = next(row["critic_step"] for row in progress.rows if (row["point"], row["step"]) == (point, at))
        critic = Player(kept["critic"].pop("params"), kept["critic"], None)
        return state.replace(step=at, critic_step=critic_step, critic=critic, generator=None, ema=kept["ema"])
    if not progress.alive[index]:
        end = next(row["step"] for row in progress.rows if (row["point"], row["status"]) == (point, "non-finite"))
        other = f"; --step=best is its state at step {at}" if at else ""
        raise UserError(f"--point: {point} became non-finite at step {end}{other}")
    return state
