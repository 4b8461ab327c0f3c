"""Loading and validation of a config: one clear line per mistake, all mistakes at once. Imports no jax."""

import ast
import difflib
import functools
import importlib.util
import logging
import math
import os
import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from wgan_jax import paths
from wgan_jax.errors import UserError

FLOAT32_MAX, FLOAT32_TINY = 3.4e38, 1.2e-38  # beyond them a number is inf or 0 in the program
_CONDITION = r"\w+[<>]=?[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
MANY = 10  # missing keys, from which on they are no slip but a config of one's own
CONDITIONS = f"({_CONDITION}(,{_CONDITION})*)?"
# The keys of config.data that some datasets read and others do not, at the values of configs/default.py.
IDLE: dict[str, Any] = {
    "dim": 1,
    "theta": 1.0,
    "builder": "fashion_mnist",
    "data_dir": "",
    "download": False,
    "path": "",
    "label": "",
    "image_size": 0,
    "channels": 0,
    "background": "white",
    "skip_damaged": False,
    "holdout": 0.1,
    "flip": False,
    "dequantise": False,
}
AUGMENTATIONS = ("flip", "dequantise")  # of all stored images
# What metrics are called elsewhere, in lower case, and their names here: for messages alone.
ALIASES = {
    "w1": "wasserstein",
    "emd": "wasserstein",
    "swd": "sliced",
    "fid": "frechet",
    "fd": "frechet",
    "kid": "kernel",
    "is": "inception_score",
    "pr": "precision_recall",
    "precision": "precision_recall",
    "recall": "precision_recall",
    "prdc": "precision_recall,density_coverage",
    "density": "density_coverage",
    "coverage": "density_coverage",
    "c2st": "two_sample",
    "1nn": "two_sample",
    "tv": "divergences",
    "js": "divergences",
    "jsd": "divergences",
    "memorization": "copying",
    "memorisation": "copying",
}


class Rule(NamedTuple):
    """What a key's value must be."""

    type: type
    accepts: Callable[[Any], bool]
    wanted: str
    place: Literal["", "path", "cache"] = ""  # a path, made absolute; of a cache, which a run can do without
    hint: Callable[[Any], str] = lambda v: ""  # of a wrong value of the type: "; did you mean ...?"

    def refusal(self, value: Any) -> str:
        """Returns what is wrong with a value: "'x' is not one of a, b"."""
        return f"{value!r} is not {self.wanted}" + (self.hint(value) if type(value) is self.type else "")


def registered(module: str, registry: str) -> tuple[str, ...]:
    """Returns the keys of a dict literal such as LOSSES without importing its module, which would import jax.

    Raises:
      LookupError: the module has no such dict literal.
    """
    return tuple(_entries(module, registry))


@functools.cache
def described(module: str, registry: str) -> dict[str, dict[str, Any]]:
    """Returns what the entries of a dict literal such as DATASETS say of themselves: {key: keyword arguments of its call}.

    Raises:
      LookupError: the module has no such dict literal, or an entry has keyword arguments that are no literals.
    """
    told: dict[str, dict[str, Any]] = {}
    for name, value in _entries(module, registry).items():
        keywords = value.keywords if isinstance(value, ast.Call) else []
        try:
            told[name] = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
        except ValueError as error:
            raise LookupError(f"{module}: {registry}[{name!r}] has keyword arguments that are no literals") from error
    return told


@functools.cache
def _entries(module: str, registry: str) -> dict[str, ast.expr]:
    tree = ast.parse((Path(__file__).parent / module).read_text(encoding="utf-8"))
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id == registry and isinstance(value, ast.Dict):
            pairs = zip(value.keys, value.values, strict=True)
            return {key.value: entry for key, entry in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    raise LookupError(f"{module} has no dict {registry}")


def _whole(low: int) -> Rule:
    return Rule(int, lambda v: low <= v < 2**31, f"a whole number from {low} to 2147483647")


def _real(low: float, high: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
    """A finite number in [low, high]; `above` and `below` exclude the bounds."""

    def accepts(v: float) -> bool:
        return abs(v) <= FLOAT32_MAX and (v > low if above else v >= low) and (v < high if below else v <= high)

    lower = "" if low == -math.inf else f" {'above' if above else 'of at least'} {low:g}"
    upper = "" if high == math.inf else f"{' and' if lower else ''} {'below' if below else 'at most'} {high:g}"
    return Rule(float, accepts, f"a finite number{lower}{upper}")


def _one_of(names: Sequence[str]) -> Rule:
    return Rule(str, lambda v: v in names, f"one of {', '.join(names)}")


def _some_of(names: Sequence[str]) -> Rule:
    def hint(v: str) -> str:
        wrong = [name for name in v.split(",") if name not in names]
        meant = [ALIASES.get(name.lower()) or difflib.get_close_matches(name.lower(), names, 1) for name in wrong]
        found = [name if isinstance(name, str) else name[0] for name in meant if name]
        return f"; did you mean {','.join(dict.fromkeys(found))}?" if found else ""

    return Rule(str, lambda v: v == "all" or set(v.split(",")) <= set(names), f"all, or some of {','.join(names)}", hint=hint)


def _text() -> Rule:
    return Rule(str, lambda v: "\0" not in v, "text")


def _path() -> Rule:
    return Rule(str, lambda v: "\0" not in v, "a path", "path")


def _cache() -> Rule:
    return Rule(str, lambda v: v != "" and "\0" not in v, "a folder", "cache")


def _truth() -> Rule:
    return Rule(bool, lambda _: True, "True or False")


def _is_colour(text: str) -> bool:
    from PIL import ImageColor

    try:
        return bool(ImageColor.getrgb(text))
    except ValueError:
        return False


def rules() -> dict[str, Rule]:
    """Returns the rule of every key of configs/default.py, by its dotted name."""
    layers, penalties = "models/layers.py", "objectives/penalties.py"
    normalization, activation = (_one_of(registered(layers, name)) for name in ("NORMALIZATIONS", "ACTIVATIONS"))
    table = {
        "method": Rule(str, lambda v: v != "" and "/" not in v and "\0" not in v, "a name without slashes"),
        "preset": Rule(str, lambda v: "/" not in v and "\0" not in v, "a name without slashes"),
        "seed": _whole(0),
        "steps": _whole(1),
        "batch_size": _whole(1),
        "n_critic": _whole(1),
        "dtype": _one_of(("float32", "float64", "bfloat16")),
        "devices": _whole(0),
        "data.name": _one_of(registered("data/__init__.py", "DATASETS")),
        "data.dim": _whole(1),
        "data.theta": _real(-math.inf),
        "data.builder": Rule(
            str, lambda v: re.fullmatch(r"\w+(/[\w.-]+)?(:[\d.]+)?", v) is not None, "name[/config][:version]"
        ),
        "data.data_dir": _path(),
        "data.download": _truth(),
        "data.path": _path(),
        "data.label": _text(),
        "data.image_size": Rule(int, lambda v: 0 <= v <= 4096, "a whole number from 0 to 4096"),
        "data.channels": Rule(int, lambda v: v in (0, 1, 3), "0, 1 or 3"),
        "data.background": Rule(str, _is_colour, "a colour as CSS writes it, such as white or #ff8800"),
        "data.skip_damaged": _truth(),
        "data.holdout": _real(0, 0.45, above=True),
        "data.dequantise": _truth(),
        "data.flip": _truth(),
        "data.cache_dir": _cache(),
        "data.resident_mb": _whole(0),
        "latent.name": _one_of(registered("models/latent.py", "LATENTS")),
        "latent.dim": _whole(1),
        "latent.low": _real(-math.inf),
        "latent.high": _real(-math.inf),
        "model.name": _one_of(registered("models/__init__.py", "ARCHITECTURES")),
        "model.width": _whole(1),
        "model.depth": _whole(1),
        "model.generator_activation": activation,
        "model.critic_activation": activation,
        "model.initializer": _one_of(registered(layers, "INITIALIZERS")),
        "model.generator_normalization": normalization,
        "model.critic_normalization": normalization,
        "model.normalize_first": _truth(),
        "loss": _one_of(registered("objectives/losses.py", "LOSSES")),
        "penalty.name": _one_of(registered(penalties, "PENALTIES")),
        "penalty.weight": _real(0),
        "penalty.points": _one_of(registered(penalties, "POINTS")),
        "penalty.perturbation": _one_of(registered(penalties, "PERTURBATIONS")),
        "penalty.noise_scale": _real(0),
        "clip": _real(0),
        "clip_scope": _one_of(registered("objectives/constraints.py", "CLIP_SCOPES")),
        "clip_with_penalty": _truth(),
        "warmup.critic_steps": _whole(0),
        "warmup.first": _whole(0),
        "warmup.every": _whole(1),
        "decay_steps": _whole(0),
        "ema_decay": _real(0, 1, below=True),
        "log_every": _whole(1),
        "eval_every": _whole(1),
        "sample_every": _whole(1),
        "checkpoint_every": _whole(1),
        "keep": _whole(1),
        "eval.metrics": _some_of(registered("evaluation/__init__.py", "METRICS")),
        "eval.samples": _whole(10),
        "eval.features": _one_of(registered("evaluation/features.py", "FEATURES")),
        "eval.feature_samples": _whole(10),
        "eval.weights": _path(),
        "eval.cache_dir": _cache(),
        "eval.draws": _whole(1),
        "eval.fail": Rule(
            str, lambda v: re.fullmatch(CONDITIONS, v) is not None, "METRIC<VALUE or METRIC>VALUE, comma-separated"
        ),
        "cache_dir": _cache()._replace(accepts=lambda v: "\0" not in v, wanted="a folder, or empty for none"),
    }
    for player in ("critic", "generator"):
        table[f"{player}.optimizer"] = _one_of(registered("training/update.py", "OPTIMIZERS"))
        table[f"{player}.learning_rate"] = _real(FLOAT32_TINY)  # below it a rate is 0
        table[f"{player}.beta1"] = _real(0, 1, below=True)
        table[f"{player}.beta2"] = _real(0, 1, below=True)
    return table


def flatten(config: ConfigDict | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, ConfigDict | dict)
        flat.update(flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat


RATES = ("critic.learning_rate", "generator.learning_rate")
# what users of other programs call a key
OTHER_NAMES = {
    **dict.fromkeys(("lr", "lrate"), RATES),
    **dict.fromkeys(("epochs", "iterations", "iters", "niter", "num_steps", "train_steps", "max_steps"), ("steps",)),
    **dict.fromkeys(("lambda", "lambda_gp", "gp_weight", "gp_lambda"), ("penalty.weight",)),
    **dict.fromkeys(("clip_value", "weight_clip", "clamp"), ("clip",)),
    **dict.fromkeys(("critic_iters", "critic_steps", "n_dis", "disc_iters"), ("n_critic",)),
    **dict.fromkeys(("z_dim", "nz", "latent_size", "noise_dim", "z"), ("latent.dim",)),
    **dict.fromkeys(("dataset", "data"), ("data.name",)),
    **dict.fromkeys(("data_path", "data_root", "dataroot", "root", "datadir"), ("data.path",)),
    **dict.fromkeys(("resolution", "img_size", "imsize", "size"), ("data.image_size",)),
    **dict.fromkeys(("bs", "batch", "minibatch"), ("batch_size",)),
    **dict.fromkeys(("ema", "ema_rate"), ("ema_decay",)),
    **dict.fromkeys(("gpus", "ngpu", "device", "num_devices", "n_devices"), ("devices",)),
}


def _named(name: str, known: Sequence[str]) -> list[str]:
    """Returns the keys, of those of a config, of which a name is another name, or the last part."""
    group, _, leaf = name.lower().rpartition(".")
    keys = [key for key in OTHER_NAMES.get(leaf, ()) if key in known and key.startswith(group)]
    return keys or [key for key in known if key.rsplit(".", 1)[-1] == leaf][:1]


def _like(name: str, known: Sequence[str]) -> list[str]:
    """Returns the key, of those of a config, that a name may be a slip of."""
    leaf = name.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(name, known, 1)
    return close or [key for key in known if difflib.get_close_matches(leaf, [key.rsplit(".", 1)[-1]])][:1]


def _did_you_mean(names: Sequence[str]) -> str:
    return f"; did you mean {' and '.join(names)}?" if names else ""


def unknown(key: str, known: Sequence[str]) -> str:
    """Returns the line that says a key is none of the known ones, with the nearest of them."""
    close = _named(key, known) or _like(key, known)
    return f"config.{key}: no such key{_did_you_mean([f'config.{name}' for name in close])}"


def unknown_flag(flag: str, known: Sequence[str]) -> str:
    """Returns the line that says a command has no such flag, with the flag or the key of a config that it may mean."""
    name, keys = flag.removeprefix("--").replace("-", "_"), list(rules())
    configurable = not {"--config", "--method"}.isdisjoint(known)  # a config of the user's, not that of a run
    flags = difflib.get_close_matches(flag, [other for other in known if other != "--help"], 1)
    named, like = ([f"--config.{key}" for key in find(name, keys)] if configurable else [] for find in (_named, _like))
    return f"{flag}: no such flag{_did_you_mean(named or flags or like) or '; --help lists them'}"


def mistakes(config: ConfigDict) -> list[str]:
    """Returns a line for every wrong key, value and combination of a config; an empty list when it is good."""
    table, flat = rules(), flatten(config)
    lines = [unknown(key, list(table)) for key in flat if key not in table]
    missing = [key for key in table if key not in flat]
    if len(missing) > MANY:
        lines.append(
            f"config.{missing[0]} and {len(missing) - 1} others: missing; begin with configs.default.start(method, preset)"
        )
    else:
        lines += [f"config.{key}: missing" for key in missing]
    bad = set()
    for key in flat.keys() & table.keys():
        value, rule = flat[key], table[key]
        typed = type(value) is rule.type or (rule.type is float and type(value) is int)
        if not typed or not rule.accepts(value):
            bad.add(key)
    if "steps" in bad and isinstance(dict(config.items(preserve_field_references=True)).get("decay_steps"), FieldReference):
        bad.discard("decay_steps")  # it follows steps
    lines += [f"config.{key}: {table[key].refusal(flat[key])}" for key in flat if key in bad]
    return lines or _combinations(config)


def _combinations(config: ConfigDict) -> list[str]:
    """Returns a line for every combination of good values that makes no sense together."""
    penalised = config.penalty.name != "none"
    datasets = described("data/__init__.py", "DATASETS")
    checks = {
        "config.clip and config.penalty.name: a clipped critic with a gradient penalty is no known method; "
        "set clip=0, penalty.name=none, or clip_with_penalty=True if you mean it": (
            config.clip > 0 and penalised and not config.clip_with_penalty
        ),
        "config.model.critic_normalization: batch normalisation mixes the examples, so a per-example penalty is "
        "meaningless (Gulrajani 2017, section 4); use layer or none": (
            penalised and config.model.critic_normalization == "batch"
        ),
        f"config.batch_size: {config.batch_size} is not divisible by config.devices={config.devices}": (
            config.devices > 0 and config.batch_size % config.devices != 0
        ),
        f"config.latent.low: {config.latent.low:g} is not below config.latent.high={config.latent.high:g}": (
            config.latent.name == "uniform" and config.latent.low >= config.latent.high
        ),
        f"config.warmup.critic_steps: {config.warmup.critic_steps} is not a multiple of n_critic={config.n_critic}": (
            config.warmup.critic_steps % config.n_critic != 0
        ),
        "config.batch_size: batch normalisation needs at least 2 examples": (
            config.batch_size < 2 and "batch" in (config.model.generator_normalization, config.model.critic_normalization)
        ),
        "config.loss: a wasserstein critic without a penalty or clipping is unbounded; set penalty.name or clip": (
            config.loss == "wasserstein" and not penalised and config.clip == 0
        ),
        f"config.eval.features: {config.eval.features} is for images, and data.name={config.data.name} has none; use pixels": (
            config.eval.features != "pixels" and not datasets[config.data.name].get("images", False)
        ),
        "config.eval.metrics: wasserstein is not among them, and `best` is chosen by it": (
            not {"all", "wasserstein"} & set(config.eval.metrics.split(","))
        ),
    }
    return [line for line, wrong in checks.items() if wrong] + _unread(config.data, datasets)


def _unread(data: ConfigDict, datasets: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a line for every key of config.data that asks for what the dataset does not read."""
    lines = []
    for key, idle in IDLE.items():
        readers = [
            name
            for name, told in datasets.items()
            if key in told.get("reads", ()) or (key in AUGMENTATIONS and told.get("images", False))
        ]
        if data.name not in readers and data[key] != idle:
            who = " or ".join(readers)
            lines.append(f"config.data.{key}: read by data.name={who}, not by {data.name}; leave it at {idle!r}")
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
                wanted = rules()[key].wanted if key in rules() else "a value of the key's type"
                lines.append(f"config.{key}: {text!r} is not {wanted}")
    config = parse(good)
    if lines := lines + mistakes(config):
        raise UserError(*lines)
    return _with_absolute_paths(config)


def _with_absolute_paths(config: ConfigDict) -> ConfigDict:
    """Returns the config with its paths absolute, `~` expanded; that of a cache stays as it is where no home is known."""
    flat, settled = flatten(config), {}
    for key, rule in rules().items():
        if rule.place and flat[key]:
            try:
                settled[key] = paths.absolute(flat[key])
            except UserError as error:
                if rule.place == "path":
                    raise UserError(f"config.{key}: {error}") from error
    config.update_from_flattened_dict(settled)
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
        raise UserError(f"--config: no file {path or repr(path)}{listed}{_did_you_mean(close)}")
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
