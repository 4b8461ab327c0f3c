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

from wgan_jax.errors import UserError
from wgan_jax.keys import KEYS, did_you_mean, keys_of, unknown
from wgan_jax.registries import described, registered

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
    return lines or _combinations(config)


def _combinations(config: ConfigDict) -> list[str]:
    """Returns a line for every combination of good values that makes no sense together."""
    has_critic = described("objectives/__init__.py", "OBJECTIVES")[config.objective].get("has_critic", True)
    penalised = config.penalty.name != "none"
    datasets = described("data/__init__.py", "DATASETS")
    normalizations = described("models/layers.py", "NORMALIZATIONS")
    kernel = described("models/kernels.py", "KERNELS")[config.model.critic_kernel]
    normalised = config.model.critic_normalization != "none"
    referring = {name for name, told in normalizations.items() if told.get("refers", False)}
    mixing_head = described("models/layers.py", "HEADS")[config.model.critic_head].get("mixes_examples", False)
    mixing = {name for name, told in normalizations.items() if told.get("mixes_examples", False)}
    mixing_none = " or ".join(sorted(normalizations.keys() - mixing - referring))
    mixed = sorted(mixing & {config.model.generator_normalization, config.model.critic_normalization})
    aimed = registered("objectives/losses.py", "CRITERIA")
    targets = [f"config.targets.{name}" for name, value in config.targets.items() if value > 0]
    conditionings = described("models/embedding.py", "CONDITIONINGS")
    matching = [name for name, told in conditionings.items() if told.get("matches", False)]
    checks = {
        f"{' and '.join(targets)}: loss={config.loss} has no targets; use one of {', '.join(aimed)}": (
            targets != [] and config.loss not in aimed
        ),
        "config.clip and config.penalty.name: a clipped critic with a gradient penalty is no known method; "
        "set clip=0, penalty.name=none, or clip_with_penalty=True if you mean it": (
            config.clip > 0 and penalised and not config.clip_with_penalty
        ),
        f"config.model.critic_normalization: {config.model.critic_normalization} normalisation mixes the examples, so a "
        f"per-example penalty is meaningless (Gulrajani 2017, section 4); use {mixing_none}": (
            penalised and config.model.critic_normalization in mixing
        ),
        "config.terms.classification: there are no class logits; set model.classes to the number of the data's classes": (
            config.terms.classification > 0 and config.model.classes == 0
        ),
        f"config.conditioning.name: {config.conditioning.name} tells the critic the labels that model.classes has it find; "
        "use none": config.conditioning.name != "none" and config.model.classes > 0,
        "config.data.labels: only terms.classification reads labels, and it is 0; leave data.labels at 0": (
            config.data.labels > 0 and config.terms.classification == 0
        ),
        f"config.penalty.dtype: bfloat16 is for networks that compute in it, not with config.dtype={config.dtype}": (
            config.penalty.dtype == "bfloat16" and config.dtype != "bfloat16"
        ),
        f"config.model.remat: only the blocks of model.name=resnet are computed again, and this is {config.model.name}": (
            config.model.remat and config.model.name != "resnet"
        ),
        f"config.model.critic_normalization: {config.model.critic_normalization} refers to a batch of fixed latents, so it is "
        f"the generator's alone (Salimans 2016, section 3.5); use {mixing_none}": (
            config.model.critic_normalization in referring
        ),
        f"config.model.critic_head: {config.model.critic_head} mixes the examples, so a per-example penalty is meaningless; "
        "set penalty.name=none or critic_head=linear": penalised and mixing_head,
        f"config.batch_size: {config.model.critic_head} needs at least 2 examples": config.batch_size < 2 and mixing_head,
        f"config.conditioning.name: {config.conditioning.name} needs labels, and data.name={config.data.name} has none": (
            config.conditioning.name != "none" and not {"images", "arrays"} & datasets[config.data.name].keys()
        ),
        f"config.data.labels: {config.data.labels} are seen, and conditioning.name={config.conditioning.name} needs them "
        "all; leave it at 0": config.data.labels > 0 and config.conditioning.name != "none",
        f"config.conditioning.mismatch: is for a critic that is told labels, by conditioning.name={' or '.join(matching)}, "
        f"and this is {config.conditioning.name}": config.conditioning.mismatch > 0
        and config.conditioning.name not in matching,
        f"config.batch_size: {config.batch_size} is not divisible by config.devices={config.devices}": (
            config.devices > 0 and config.batch_size % config.devices != 0
        ),
        f"config.packing: batch_size={config.batch_size} is no whole number of packs of {config.packing} on each device": (
            config.batch_size % (max(config.devices, 1) * config.packing) != 0 and config.packing > 1
        ),
        "config.packing: a pack of several labels has no label of its own; set packing=1, or conditioning.name=none and "
        "model.classes=0": config.packing > 1 and (config.conditioning.name != "none" or config.model.classes > 0),
        f"config.latent.low: {config.latent.low:g} is not below config.latent.high={config.latent.high:g}": (
            config.latent.name == "uniform" and config.latent.low >= config.latent.high
        ),
        f"config.warmup.critic_steps: {config.warmup.critic_steps} is not a multiple of n_critic={config.n_critic}": (
            config.n_critic > 0 and config.warmup.critic_steps % config.n_critic != 0
        ),
        f"config.n_critic: {config.n_critic} with objective={config.objective}, which has "
        f"{'a critic that must be trained; set it to 1 or more' if has_critic else 'no critic; set it to 0'}": (
            (config.n_critic > 0) != has_critic
        ),
        f"config.batch_size: {' and '.join(mixed)} normalisation needs at least 2 examples": (
            config.batch_size < 2 and mixed != []
        ),
        "config.loss: a wasserstein critic without a penalty, clipping or a kernel that bounds its slope, and no normalisation "
        "or other head beside it, is unbounded; set penalty.name, clip or model.critic_kernel": (
            has_critic
            and config.loss == "wasserstein"
            and not (penalised or config.clip > 0 or (kernel.get("bounded", False) and not normalised and not mixing_head))
        ),
        f"config.model.critic_normalization: {config.model.critic_normalization} normalisation divides by a spread that may be "
        f"near 0, so that model.critic_kernel={config.model.critic_kernel} bounds no slope; use none": (
            kernel.get("lipschitz", False) and normalised
        ),
        f"config.clip: clipping beside model.critic_kernel={config.model.critic_kernel} is two constraints on the same "
        "parameters; set clip=0 or model.critic_kernel=none": config.clip > 0 and kernel.get("bounded", False),
        f"config.model.width: maxmin sorts pairs of channels, and {config.model.width} is odd": (
            "maxmin" in (config.model.critic_activation, config.model.generator_activation) and config.model.width % 2 != 0
        ),
        f"config.inputs.augment: {config.inputs.augment} is of images, and data.name={config.data.name} has none": (
            config.inputs.augment != "" and not datasets[config.data.name].get("images", False)
        ),
        f"config.eval.features: {config.eval.features} is for images, and data.name={config.data.name} has none; use pixels": (
            config.eval.features != "pixels" and not datasets[config.data.name].get("images", False)
        ),
        "config.eval.metrics: wasserstein is not among them, and `best` is chosen by it": (
            not {"all", "wasserstein"} & set(config.eval.metrics.split(","))
        ),
    }
    lines = [line for line, wrong in checks.items() if wrong] + _unread(config.data, datasets)
    return lines if has_critic else lines + _without_critic(config)


def _without_critic(config: ConfigDict) -> list[str]:
    """Returns a line for every part of a critic's training that is asked for where the objective has no critic."""
    switches = [key for key in keys_of("switch") if not key.startswith(("critic.", "generator."))]
    idle: dict[str, Any] = dict.fromkeys(("replay.capacity", "warmup.critic_steps", "unroll", *switches), 0)
    idle |= {"penalty.name": "none", "conditioning.name": "none", "inputs.augment": "", "packing": 1}
    flat = flatten(config)
    reason = f"objective={config.objective} has no critic for it"
    return [f"config.{key}: {reason}; leave it at {value!r}" for key, value in idle.items() if flat[key] != value]


def _unread(data: ConfigDict, datasets: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a line for every key of config.data that asks for what the dataset does not read."""
    lines = []
    for key, row in KEYS.items():
        if row.idle is None:
            continue
        leaf = key.removeprefix("data.")
        readers = [
            name
            for name, told in datasets.items()
            if leaf in told.get("reads", ()) or (row.role == "augmentation" and told.get("images", False))
        ]
        if data.name not in readers and data[leaf] != row.idle:
            who = " or ".join(readers)
            lines.append(f"config.{key}: read by data.name={who}, not by {data.name}; leave it at {row.idle!r}")
    return lines


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
                lines.append(f"config.{key}: {text!r} is not {wanted}")
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
