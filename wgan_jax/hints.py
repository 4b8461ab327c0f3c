"""What a wrong name may have meant: what others call keys and metrics, and the ends of messages. Imports no jax."""

import difflib
from collections.abc import Sequence

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


def unknown_flag(flag: str, known: Sequence[str], keys: Sequence[str]) -> str:
    """Returns the line that says a command has no such flag, with the flag or the key of a config that it may mean."""
    name = flag.removeprefix("--").replace("-", "_")
    configurable = not {"--config", "--method"}.isdisjoint(known)  # a config of the user's, not that of a run
    flags = difflib.get_close_matches(flag, [other for other in known if other != "--help"], 1)
    named, like = ([f"--config.{key}" for key in find(name, keys)] if configurable else [] for find in (_named, _like))
    return f"{flag}: no such flag{did_you_mean(named or flags or like) or '; --help lists them'}"
