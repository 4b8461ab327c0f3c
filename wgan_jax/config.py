"""Loading and validation of a config: one clear line per mistake, all mistakes at once. Imports no jax."""

import difflib
import importlib.util
import logging
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from wgan_jax.combinations import combinations
from wgan_jax.errors import UserError
from wgan_jax.hints import did_you_mean, unknown
from wgan_jax.keys import KEYS, LONGEST, keys_of

MANY = 10  # missing keys, from which on they are no slip but a config of one's own


def flatten(config: ConfigDict | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, ConfigDict | dict)
        flat.update(flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat


def mistakes(config: ConfigDict) -> list[str]:
    """Returns a line for every wrong key, value and combination of a config; an empty list when it is good."""
    flat = flatten(config)
    lines = [unknown(key, list(KEYS)) for key in flat if key not in KEYS]
    missing = [key for key in KEYS if key not in flat]
    if len(missing) > MANY:
        lines.append(
            f"config.{missing[0]} and {len(missing) - 1} others: missing; begin with configs.default.start(method, preset)"
        )
    else:
        lines += [f"config.{key}: missing" for key in missing]
    bad = set()
    for key in flat.keys() & KEYS.keys():
        value, rule = flat[key], KEYS[key].rule
        typed = type(value) is rule.type or (rule.type is float and type(value) is int)
        if not typed or not rule.accepts(value):
            bad.add(key)
    if "steps" in bad and isinstance(dict(config.items(preserve_field_references=True)).get("decay_steps"), FieldReference):
        bad.discard("decay_steps")  # it follows steps
    lines += [f"config.{key}: {KEYS[key].rule.refusal(flat[key])}" for key in flat if key in bad]
    return lines or combinations(config, flat)


def warn_of_idle_updates(configs: Iterable[ConfigDict]) -> None:
    """Warns, once for all configs that share it, of learning rates that are 0 before the last update."""
    for decay, steps in dict.fromkeys((config.decay_steps, config.steps) for config in configs):
        if 0 < decay < steps:
            logging.getLogger(__name__).warning(
                "config.decay_steps=%s ends before steps=%s: the last %s updates train at rate 0", decay, steps, steps - decay
            )


def check(config: ConfigDict) -> ConfigDict:
    """Returns the config if it is good.

    Raises:
      UserError: with a line per mistake.
    """
    if lines := mistakes(config):
        raise UserError(*lines)
    return config


def load(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the checked config of `FILE.py[:preset]` with `--config.key=value` overrides applied.

    Raises:
      UserError: no such file, a preset that the file refuses, or as `override`.
    """
    base, _, _ = execute(spec)
    return override(base, overrides)


def override(base: Callable[[], ConfigDict], overrides: Sequence[str], allowed: Sequence[str] | None = None) -> ConfigDict:
    """Returns base() with `--config.key=value` overrides applied, checked; allowed: the keys that may be overridden.

    Raises:
      UserError: an override that names no key, a key that is not allowed, or does not fit its type, or any of `mistakes`; all
        overrides are judged before it is raised.
    """

    def parse(arguments: Sequence[str]) -> ConfigDict:
        values, argv = flags.FlagValues(), ["", *arguments]
        config_flags.DEFINE_config_dict("config", base(), flag_values=values, sys_argv=argv)
        values(argv)
        return values["config"].value

    config = parse(())
    good: list[str] = []
    lines: list[str] = []
    keys = list(flatten(config))
    for word in overrides:
        key, equals, text = word.removeprefix("--config.").partition("=")
        if key not in keys:
            lines.append(unknown(key, keys))
        elif allowed is not None and key not in allowed:
            lines.append(f"config.{key}: is the run's own; here only {', '.join(allowed)} may be set")
        elif not equals:
            lines.append(f"config.{key}: no value; write --config.{key}=VALUE")
        else:
            try:
                parse([word])
                good.append(word)
            except (ValueError, TypeError, KeyError, AttributeError, flags.Error):
                wanted = KEYS[key].rule.wanted if key in KEYS else "a value of the key's type"
                lines.append(f"config.{key}: {text[:LONGEST]!r} is not {wanted}")
    config = parse(good)
    if lines := lines + mistakes(config):
        raise UserError(*lines)
    flat = flatten(config)
    config.update_from_flattened_dict({key: KEYS[key].settled(key, flat[key]) for key in keys_of("place", "cache")})
    return config


def execute(spec: str) -> tuple[Callable[[], ConfigDict], ModuleType, tuple[str, ...]]:
    """Returns get_config of `FILE.py[:preset]` at that preset, the file's module, and (preset,) or () where none is given.

    ml_collections' own loader lets an earlier file stand in for a lacking function.

    Raises:
      UserError: no such file, or not one of Python with a function get_config. So does calling what is returned, where the
        file refuses the preset.
    """
    path, colon, preset = spec.partition(":")
    if not Path(path).is_file():
        found = sorted(str(p) for p in Path("configs").glob("**/*.py") if p.stem not in ("__init__", "default", "points"))
        stems = {Path(file).stem: file for file in found}
        close = [stems[stem] for stem in difflib.get_close_matches(Path(path).stem, stems, 1)]
        listed = f"; there are: {', '.join(found)}" if found else ""
        raise UserError(f"--config: no file {path or repr(path)}{listed}{did_you_mean(close)}")
    loaded = importlib.util.spec_from_file_location("config_file", path)
    if loaded is None or loaded.loader is None:
        raise UserError(f"--config: {path} is no Python file")
    module = importlib.util.module_from_spec(loaded)
    call(spec, loaded.loader.exec_module, module)
    if not hasattr(module, "get_config"):
        raise UserError(f"--config: {path} has no function get_config(preset)")
    arguments = (preset,) if colon else ()
    return lambda: _understood(path, call(spec, module.get_config, *arguments)), module, arguments


def _understood(path: str, config: Any) -> ConfigDict:
    """Returns what a file's get_config gives as a ConfigDict of Python's own numbers.

    Raises:
      UserError: it gives something else.
    """
    if config is None:
        raise UserError(f"--config: {path}: get_config returns nothing; end it with `return config`")
    if not isinstance(config, ConfigDict | dict):
        raise UserError(f"--config: {path}: get_config returns a {type(config).__name__}; what is wanted is a ConfigDict")
    config = config if isinstance(config, ConfigDict) else ConfigDict(config)
    scalars = {key: value.item() for key, value in flatten(config).items() if getattr(value, "ndim", None) == 0}  # NumPy's
    with config.ignore_type(), config.unlocked():
        config.update_from_flattened_dict(scalars)
    return config


def call(spec: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Returns what a function of a config file gives.

    Raises:
      UserError: the file's own error, in one line.
    """
    try:
        return function(*arguments, **keywords)
    except ValueError as error:  # what the file refuses
        raise UserError(f"--config={spec}: {' '.join(str(error).split())}") from error
    except (Exception, SystemExit) as error:
        path = spec.partition(":")[0]
        line = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        where = f"{path}, line {line[-1]}" if line else spec
        raise UserError(f"--config: {where}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def default_workdir(config: ConfigDict) -> str:
    """Returns runs/<method>-<preset>-seed<seed>."""
    return os.path.join("runs", f"{config.method}-{config.preset.replace(',', '-')}-seed{config.seed}")
