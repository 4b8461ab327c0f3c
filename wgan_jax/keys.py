"""The keys of a config, a row each in KEYS: its role and what its value must be. Imports no jax."""

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from wgan_jax import paths
from wgan_jax.errors import UserError
from wgan_jax.hints import ALIASES, did_you_mean
from wgan_jax.registries import registered

FLOAT32_MAX, FLOAT32_TINY = 3.4e38, 1.2e-38  # beyond them a number is inf or 0 in the program
LONGEST, WRONG = 200, 5  # letters of a value, and names in it, that a message looks at
_CONDITION = r"\w+[<>]=?[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?"
CONDITIONS = f"({_CONDITION}(,{_CONDITION})*)?"

type Role = Literal[
    "static",  # as every key that is not said to be more: fixed through a run, and one for all members of a program
    "protocol",  # static, and what values are measured against: those under another one do not compare
    "augmentation",  # static, of the training images alone; every dataset of images reads it
    "number",  # an argument of the program, float []: a sweep's points that differ in it are members of one program
    "switch",  # a number whose 0 leaves its part out of the program
    "name",  # tells runs apart, and no program reads it
    "schedule",  # may change when a run is resumed, and tells results apart
    "watch",  # may change when a run is resumed, and changes no result beyond rounding
    "place",  # a path, made absolute; may change when a run is resumed
    "cache",  # a place that a run can do without
]


class Rule(NamedTuple):
    """What a value must be."""

    type: type
    accepts: Callable[[Any], bool]
    wanted: str
    hint: Callable[[Any], str] = lambda v: ""  # of a wrong value of the type: "; did you mean ...?"

    def refusal(self, value: Any) -> str:
        """Returns what is wrong with a value: "'x' is not one of a, b"."""
        text = repr(value)
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        return f"{shown} is not {self.wanted}" + (self.hint(value) if type(value) is self.type else "")


class Key(NamedTuple):
    """A row of KEYS: what follows from a key's role, here and elsewhere, asks `keys_of`."""

    role: Role
    rule: Rule
    idle: bool | int | float | str | None = None  # its value in configs/default.py, where some datasets alone read it

    def settled(self, key: str, value: Any) -> Any:
        """Returns a good value as the program has it: a path absolute, `~` expanded; a cache's as it is without a home.

        Raises:
          UserError: a path in a home directory, and none is known here.
        """
        if self.role not in ("place", "cache") or not value:
            return value
        try:
            return paths.absolute(value)
        except UserError as error:
            if self.role == "cache":
                return value
            raise UserError(f"config.{key}: {error}") from error


def _whole(low: int, high: int = 2**31 - 1) -> Rule:
    return Rule(int, lambda v: low <= v <= high, f"a whole number from {low} to {high}")


def _real(low: float = -math.inf, high: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
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
        meant = [ALIASES.get(name.lower()) or difflib.get_close_matches(name.lower(), names, 1) for name in wrong[:WRONG]]
        found = [name if isinstance(name, str) else name[0] for name in meant if name]
        return did_you_mean([",".join(dict.fromkeys(found))] if found else [])

    return Rule(str, lambda v: v == "all" or set(v.split(",")) <= set(names), f"all, or some of {','.join(names)}", hint=hint)


def _in_order(names: Sequence[str]) -> Rule:
    some = _some_of(names)
    wanted = f"empty, or some of {','.join(names)}"
    return Rule(str, lambda v: v == "" or (v != "all" and some.accepts(v)), wanted, hint=some.hint)


def _is_colour(text: str) -> bool:
    from PIL import ImageColor

    try:
        return bool(ImageColor.getrgb(text))
    except ValueError:
        return False


def _is_columns(text: str) -> bool:
    kinds = registered("data/kinds.py", "KINDS")
    parts = [part.partition(":") for part in text.split(",")]
    return text == "" or all(
        name and kind and (kind in kinds or "%" in kind or "<" in kind) and "\0" not in name for name, _, kind in parts
    )


LAYERS, PENALTIES = "models/layers.py", "objectives/penalties.py"
TRUTH = Rule(bool, lambda _: True, "True or False")
TEXT, PATH = (Rule(str, lambda v: "\0" not in v, wanted) for wanted in ("text", "a path"))
FOLDER = Rule(str, lambda v: v != "" and "\0" not in v, "a folder")
FOLDER_OR_NONE = Rule(str, lambda v: "\0" not in v, "a folder, or empty for none")
NAME = Rule(str, lambda v: v != "" and "\0" not in v, "a name")
METHOD = Rule(str, lambda v: v != "" and "/" not in v and "\0" not in v, "a name without slashes")
PRESET = Rule(str, lambda v: "/" not in v and "\0" not in v, "a name without slashes")
COLOUR = Rule(str, _is_colour, "a colour as CSS writes it, such as white or #ff8800")
BUILDER = Rule(str, lambda v: re.fullmatch(r"\w+(/[\w.-]+)?(:[\d.]+)?", v) is not None, "name[/config][:version]")
_kinds = ", ".join(registered("data/kinds.py", "KINDS"))
COLUMNS = Rule(
    str, _is_columns, f"NAME:KIND,... with KIND one of {_kinds}, a date's format such as %d.%m.%Y, or an order such as low<high"
)
FAILURE = Rule(str, lambda v: re.fullmatch(CONDITIONS, v) is not None, "METRIC<VALUE or METRIC>VALUE, comma-separated")
ACTIVATION, NORMALIZATION = (_one_of(registered(LAYERS, name)) for name in ("ACTIVATIONS", "NORMALIZATIONS"))
OPTIMIZER = _one_of(registered("training/update.py", "OPTIMIZERS"))._replace(
    hint=lambda v: "; AdamW is adam with weight_decay above 0" if v.lower() == "adamw" else ""
)
RATE, DECAY = _real(FLOAT32_TINY), _real(0, 1, below=True)

# Every key of configs/default.py, by its dotted name.
KEYS: dict[str, Key] = {
    "method": Key("name", METHOD),
    "preset": Key("name", PRESET),
    "seed": Key("name", _whole(0)),
    "steps": Key("schedule", _whole(1)),
    "batch_size": Key("static", _whole(1)),
    "n_critic": Key("static", _whole(0)),
    "dtype": Key("static", _one_of(("float32", "float64", "bfloat16"))),
    "devices": Key("watch", _whole(0, 4096)),
    "data.name": Key("protocol", _one_of(registered("data/__init__.py", "DATASETS"))),
    "data.dim": Key("protocol", _whole(1), idle=1),
    "data.theta": Key("protocol", _real(), idle=1.0),
    "data.builder": Key("protocol", BUILDER, idle="fashion_mnist"),
    "data.data_dir": Key("place", PATH, idle=""),
    "data.download": Key("watch", TRUTH, idle=False),
    "data.path": Key("place", PATH, idle=""),
    "data.x": Key("protocol", NAME, idle="x"),
    "data.y": Key("protocol", NAME, idle="y"),
    "data.scaling": Key("protocol", _one_of(("auto", "none", "standard", "minmax")), idle="auto"),
    "data.columns": Key("protocol", COLUMNS, idle=""),
    "data.numbers": Key("protocol", _one_of(registered("data/numbers.py", "METHODS")), idle="quantile"),
    "data.balance": Key("protocol", _real(0, 1), idle=0.0),
    "data.target": Key("protocol", TEXT, idle=""),
    "data.label": Key("protocol", TEXT, idle=""),
    "data.image_size": Key("protocol", _whole(0, 4096), idle=0),
    "data.image_width": Key("protocol", _whole(0, 4096), idle=0),
    "data.crop": Key("protocol", TRUTH, idle=True),
    "data.channels": Key("protocol", Rule(int, lambda v: v in (0, 1, 3, 4), "0, 1, 3 or 4"), idle=0),
    "data.background": Key("protocol", COLOUR, idle="white"),
    "data.skip_damaged": Key("protocol", TRUTH, idle=False),
    "data.holdout": Key("protocol", _real(0, 0.45, above=True), idle=0.1),
    "data.dequantise": Key("augmentation", TRUTH, idle=False),
    "data.flip": Key("augmentation", TRUTH, idle=False),
    "data.labels": Key("augmentation", _whole(0), idle=0),
    "data.cache_dir": Key("cache", FOLDER),
    "data.resident_mb": Key("watch", _whole(0)),
    "latent.name": Key("static", _one_of(registered("models/latent.py", "LATENTS"))),
    "latent.dim": Key("static", _whole(1)),
    "latent.low": Key("static", _real()),
    "latent.high": Key("static", _real()),
    "model.name": Key("static", _one_of(registered("models/__init__.py", "ARCHITECTURES"))),
    "model.width": Key("static", _whole(1)),
    "model.depth": Key("static", _whole(1, 1000)),
    "model.generator_activation": Key("static", ACTIVATION),
    "model.critic_activation": Key("static", ACTIVATION),
    "model.initializer": Key("static", _one_of(registered(LAYERS, "INITIALIZERS"))),
    "model.generator_normalization": Key("static", NORMALIZATION),
    "model.critic_normalization": Key("static", NORMALIZATION),
    "model.critic_kernel": Key("static", _one_of(registered("models/kernels.py", "KERNELS"))),
    "model.critic_head": Key("static", _one_of(registered(LAYERS, "HEADS"))),
    "model.generator_dropout": Key("static", _real(0, 1, below=True)),
    "model.normalize_first": Key("static", TRUTH),
    "model.temperature": Key("static", _real(FLOAT32_TINY)),
    "model.classes": Key("static", _whole(0)),
    "model.remat": Key("watch", TRUTH),
    "objective": Key("static", _one_of(registered("objectives/__init__.py", "OBJECTIVES"))),
    "imle.samples": Key("static", _whole(1)),
    "conditioning.name": Key("static", _one_of(registered("models/embedding.py", "CONDITIONINGS"))),
    "conditioning.mismatch": Key("switch", _real(0, 1, below=True)),
    "conditioning.weight": Key("number", _real(0)),
    "loss": Key("static", _one_of(registered("objectives/losses.py", "LOSSES"))),
    "targets.smoothing": Key("switch", _real(0, 1)),
    "targets.noise": Key("switch", _real(0, 1)),
    "targets.flip": Key("switch", _real(0, 1)),
    "unroll": Key("static", _whole(0, 1000)),
    "packing": Key("static", _whole(1)),
    "terms.feature_matching": Key("switch", _real(0)),
    "terms.drift": Key("switch", _real(0)),
    "terms.historical_averaging": Key("switch", _real(0)),
    "terms.classification": Key("switch", _real(0)),
    "replay.capacity": Key("static", _whole(0)),
    "replay.share": Key("number", _real(0, 1)),
    "inputs.noise": Key("switch", _real(0)),
    "inputs.noise_steps": Key("number", _whole(0)),
    "inputs.augment": Key("static", _in_order(registered("objectives/inputs.py", "AUGMENTATIONS"))),
    "penalty.name": Key("static", _one_of(registered(PENALTIES, "PENALTIES"))),
    "penalty.weight": Key("number", _real(0)),
    "penalty.points": Key("static", _one_of(registered(PENALTIES, "POINTS"))),
    "penalty.perturbation": Key("static", _one_of(registered(PENALTIES, "PERTURBATIONS"))),
    "penalty.every": Key("static", _whole(1)),
    "penalty.noise_scale": Key("number", _real(0)),
    "penalty.dtype": Key("static", _one_of(("parameters", "bfloat16"))),
    "clip": Key("switch", _real(0)),
    "clip_scope": Key("static", _one_of(registered("objectives/constraints.py", "CLIP_SCOPES"))),
    "clip_with_penalty": Key("static", TRUTH),
    "warmup.critic_steps": Key("static", _whole(0, 100_000)),
    "warmup.first": Key("static", _whole(0)),
    "warmup.every": Key("static", _whole(1)),
    "critic.optimizer": Key("static", OPTIMIZER),
    "critic.learning_rate": Key("number", RATE),
    "critic.beta1": Key("number", DECAY),
    "critic.beta2": Key("number", DECAY),
    "critic.loss_weight": Key("number", _real(0)),
    "critic.weight_decay": Key("switch", _real(0)),
    "critic.max_gradient_norm": Key("switch", _real(0)),
    "generator.optimizer": Key("static", OPTIMIZER),
    "generator.learning_rate": Key("number", RATE),
    "generator.beta1": Key("number", DECAY),
    "generator.beta2": Key("number", DECAY),
    "generator.loss_weight": Key("number", _real(0)),
    "generator.weight_decay": Key("switch", _real(0)),
    "generator.max_gradient_norm": Key("switch", _real(0)),
    "decay": Key("static", _one_of(registered("training/update.py", "DECAYS"))),
    "decay_steps": Key("number", _whole(0)),
    "ema_decay": Key("number", DECAY),
    "log_every": Key("watch", _whole(1)),
    "eval_every": Key("schedule", _whole(1)),
    "sample_every": Key("watch", _whole(1)),
    "checkpoint_every": Key("watch", _whole(1)),
    "keep": Key("watch", _whole(1)),
    "eval.metrics": Key("static", _some_of(registered("evaluation/registry.py", "METRICS"))),
    "eval.samples": Key("protocol", _whole(10, 1_000_000)),
    "eval.features": Key("protocol", _one_of(registered("features/__init__.py", "FEATURES"))),
    "eval.feature_samples": Key("protocol", _whole(10, 1_000_000)),
    "eval.weights": Key("place", PATH),
    "eval.cache_dir": Key("cache", FOLDER),
    "eval.draws": Key("static", _whole(1, 10_000)),
    "eval.raw": Key("watch", TRUTH),
    "eval.fail": Key("watch", FAILURE),
    "cache_dir": Key("cache", FOLDER_OR_NONE),
}


def keys_of(*roles: Role) -> tuple[str, ...]:
    """Returns the keys of some roles, in the order of KEYS."""
    return tuple(key for key, row in KEYS.items() if row.role in roles)
