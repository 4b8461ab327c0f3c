"""The keys of a config: what the value of each must be, what others call it, what is said of a wrong one. Imports no jax."""

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from wgan_jax import paths
from wgan_jax.errors import UserError
from wgan_jax.registries import registered

FLOAT32_MAX, FLOAT32_TINY = 3.4e38, 1.2e-38  # beyond them a number is inf or 0 in the program
_CONDITION = r"\w+[<>]=?[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
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
# what users of other programs call a key
OTHER_NAMES = {
    **dict.fromkeys(("lr", "lrate"), ("critic.learning_rate", "generator.learning_rate")),
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

    def settled(self, key: str, value: Any) -> Any:
        """Returns a good value as the program has it: a path absolute, `~` expanded; a cache's as it is without a home.

        Raises:
          UserError: a path in a home directory, and none is known here.
        """
        if not self.place or not value:
            return value
        try:
            return paths.absolute(value)
        except UserError as error:
            if self.place == "cache":
                return value
            raise UserError(f"config.{key}: {error}") from error


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
        return did_you_mean([",".join(dict.fromkeys(found))] if found else [])

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
        "eval.metrics": _some_of(registered("evaluation/registry.py", "METRICS")),
        "eval.samples": _whole(10),
        "eval.features": _one_of(registered("features/__init__.py", "FEATURES")),
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


def did_you_mean(names: Sequence[str]) -> str:
    """Returns the end of a message that names what was meant, as far as that is known."""
    return f"; did you mean {' and '.join(names)}?" if names else ""


def unknown(key: str, known: Sequence[str]) -> str:
    """Returns the line that says a key is none of the known ones, with the nearest of them."""
    close = _named(key, known) or _like(key, known)
    return f"config.{key}: no such key{did_you_mean([f'config.{name}' for name in close])}"


def unknown_flag(flag: str, known: Sequence[str]) -> str:
    """Returns the line that says a command has no such flag, with the flag or the key of a config that it may mean."""
    name, keys = flag.removeprefix("--").replace("-", "_"), list(rules())
    configurable = not {"--config", "--method"}.isdisjoint(known)  # a config of the user's, not that of a run
    flags = difflib.get_close_matches(flag, [other for other in known if other != "--help"], 1)
    named, like = ([f"--config.{key}" for key in find(name, keys)] if configurable else [] for find in (_named, _like))
    return f"{flag}: no such flag{did_you_mean(named or flags or like) or '; --help lists them'}"
