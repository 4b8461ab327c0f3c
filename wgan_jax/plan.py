"""Sweeps as plain data: the points of an ablation file and the tasks that train them. Imports no jax.

A point is a config, given by its overrides of the sweep's base config. A task is a group of points that are one compiled
program: they differ in nothing but seed and the numbers that are arguments of it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from wgan_jax.config import call, execute, flatten, mistakes, override
from wgan_jax.errors import UserError
from wgan_jax.hints import unknown
from wgan_jax.keys import KEYS, keys_of

TRACED, SWITCHES, CACHES = keys_of("number", "name"), keys_of("switch"), keys_of("cache")

MOST = 10_000  # points of a stage

type Row = dict[str, Any]  # one evaluation of one point, see training/members.py


class Point(NamedTuple):
    id: str  # a hash of the overrides
    overrides: dict[str, Any]  # {dotted key: value}, the seed included
    config: ConfigDict


class Sweep(NamedTuple):
    base: ConfigDict
    points: list[Point]
    further: Callable[[list[Row]], list[Point]]  # rows of all points so far -> the points of the next stage, none at the end


class Task(NamedTuple):
    id: str  # a hash of its points, as `task_of` has it
    points: list[Point]


def task_of(points: list[Point]) -> Task:
    """Returns the task of points; its id is that of no others."""
    return Task(_digest([point.id for point in points]), points)


def load_sweep(spec: str, overrides: Sequence[str] = (), seeds: int | None = None) -> Sweep:
    """Returns the sweep of `FILE.py[:preset]`, whose base config has `--config.key=value` overrides applied.

    The file's get_sweep(preset) lists the points; its get_next(preset, rows), if any, those of the next stage. With `seeds`
    every point is taken at the seeds 0, ..., seeds - 1 in place of its own; a file without get_sweep has one point, its config.

    Raises:
      UserError: as `config.load`; a point with an unknown key or a value that does not fit; points that are equal; an override
        of a swept key; no point at all.
    """
    base_of, module, arguments = execute(spec)
    base = override(base_of, overrides)
    listed = call(spec, module.get_sweep, *arguments) if hasattr(module, "get_sweep") else [{}]
    if not hasattr(module, "get_sweep") and seeds is None:
        raise UserError(f"--config: {spec} has no function get_sweep(preset); --seeds=N trains its config at seeds 0 to N - 1")
    chosen = {word.removeprefix("--config.").partition("=")[0] for word in overrides}

    def points(dicts: Any) -> list[Point]:
        if not isinstance(dicts, list) or not all(isinstance(point, dict) for point in dicts):
            raise UserError(f"--config={spec}: get_sweep gives no list of dicts, each {{key of the config: value}}")
        plain = [{key: getattr(x, "item", lambda x=x: x)() for key, x in point.items()} for point in dicts]  # NumPy's scalars
        if len(plain) > MOST:
            raise UserError(f"--config={spec}: get_sweep gives {len(plain):,} points; a sweep has {MOST:,} at most")
        swept = {key for point in plain for key in point} | ({"seed"} if seeds is not None else set())
        if both := sorted(swept & chosen):
            raise UserError(*(f"config.{key}: is swept by {spec}; it cannot be set" for key in both))
        return resolve(base, _at_seeds(plain, seeds) if seeds is not None else plain)

    def further(rows: list[Row]) -> list[Point]:
        return points(call(spec, module.get_next, *(arguments or ()), rows=rows)) if hasattr(module, "get_next") else []

    if not (first := points(listed)):
        raise UserError(f"--config={spec}: get_sweep gives no point")
    return Sweep(base, first, further)


def _at_seeds(dicts: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    if len(dicts) * count > MOST:
        raise UserError(f"--seeds: {count} seeds of {len(dicts)} points; a sweep has {MOST:,} points at most")
    settings = [{key: value for key, value in point.items() if key != "seed"} for point in dicts]
    distinct = {json.dumps(setting, sort_keys=True): setting for setting in settings}
    return [{**setting, "seed": seed} for setting in distinct.values() for seed in range(count)]


def resolve(base: ConfigDict, dicts: Sequence[dict[str, Any]]) -> list[Point]:
    """Returns the points that overrides of a base config describe, all checked.

    Where the base config's learning rates fall to 0 at the end of its steps, so do those of a point with other steps, unless
    it has a decay_steps of its own.

    Raises:
      UserError: with a line per mistake, each with the first point that has it, or two points that are equal.
    """
    keys = flatten(base)
    points: dict[str, Point] = {}
    known: set[str] = set()
    lines: dict[str, str] = {}  # mistake -> the first point that has it
    for index, given in enumerate(dicts):
        overrides = {"seed": base.seed, **{key: _fitted(key, value) for key, value in given.items()}}
        config = base.copy_and_resolve_references()
        wrong = [unknown(key, list(keys)) for key in given if key not in keys]
        wrong += [
            f"config.{key}: the place of a cache is the command's to say; no point sets it" for key in given if key in CACHES
        ]
        if not wrong:
            with config.ignore_type():
                config.update_from_flattened_dict(overrides)
                if keys.get("decay_steps") == keys.get("steps") and "decay_steps" not in given and type(config.steps) is int:
                    config.decay_steps = config.steps
            wrong = mistakes(config)
        for line in wrong:
            lines.setdefault(line, f" (point {index} of the sweep: {_shown(given)})")
        if wrong:
            continue
        if (content := json.dumps(flatten(config), sort_keys=True)) in known:
            lines["two points of the sweep are the same: " + _shown(given)] = ""
        known.add(content)
        point = Point(_digest(overrides), overrides, config)
        points[point.id] = point
    if lines:
        raise UserError(*(line + where for line, where in lines.items()))
    return list(points.values())


def _fitted(key: str, value: Any) -> Any:
    """Returns a value as its key has it, so that 1 and 1.0 are one point of a rate, and a path is one from any directory."""
    if key not in KEYS:
        return value
    if KEYS[key].rule.type is float and type(value) is int:
        return float(value)
    return KEYS[key].settled(key, value) if isinstance(value, str) else value


def swept_keys(points: Iterable[Point]) -> list[str]:
    """Returns the keys, other than the seed, that some point overrides, in the order in which they appear."""
    return [key for key in dict.fromkeys(key for point in points for key in point.overrides) if key != "seed"]


def program_of(config: ConfigDict) -> str:
    """Returns what two configs have in common exactly when they compile to the same program and share their schedule."""
    flat = {key: value for key, value in flatten(config).items() if key not in TRACED}
    return json.dumps({**flat, **{key: flat[key] > 0 for key in SWITCHES}}, sort_keys=True)


def plan(points: Iterable[Point], most: int, known: Sequence[Task] = ()) -> list[Task]:
    """Returns the tasks of all points: those of `known`, then the other points by program, at most `most` in a task.

    What a sweep has begun stays in its tasks, so that it resumes under any launcher and any `most`.
    """
    planned = {point.id for task in known for point in task.points}
    groups: dict[str, list[Point]] = {}
    for point in points:
        if point.id not in planned:
            groups.setdefault(program_of(point.config), []).append(point)
    parts = [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]
    return [*known, *map(task_of, parts)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _shown(overrides: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in overrides.items())
