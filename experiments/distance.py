"""Trains critics between two fixed sets of examples and prints what they say of the distance, beside empirical W1.

    python -m experiments.distance --real=A --generated=B [--method=gp|lp|clip|...] [--seeds=5]
                                   [--image-size=N] [--channels=1|3] [--out=FILE.json] [--config.key=value ...]

A and B are .npz files (the array `samples`, or the only one), .npy files or folders of images: uint8 images [n, H, W, C] are
compared in [-1, 1], points [n, D] in their own units. --method names the constraint on the critic: a file of configs/ whose
loss is wasserstein, or a name of METHODS: gp, lp and clip are wgan_gp, wgan_lp and wgan, groupsort is wgan_groupsort, and sn is
sngan with that loss and the norm of whole layers, so that its slope is at most 1, as that of groupsort is. Every seed splits
both sets anew, trains a critic of its own on one half and judges it on the other. Intervals are 95 % t-intervals over these
splits of the same examples, not over new draws of them. --config.steps counts blocks of n_critic updates, over which the
learning rate falls to 0.

What is printed is no distance between the laws behind A and B; README.md says what it is.
"""

import argparse
from pathlib import Path

from ml_collections import ConfigDict

from experiments import command
from wgan_jax import runtime
from wgan_jax.config import load, warn_of_idle_updates
from wgan_jax.errors import UserError

METHODS: dict[str, tuple[str, tuple[str, ...]]] = {  # a file of configs/, and what is set on top of it
    "gp": ("wgan_gp", ()),
    "lp": ("wgan_lp", ()),
    "clip": ("wgan", ()),
    "sn": ("sngan", ("loss=wasserstein", "model.critic_kernel=spectral_operator")),
    "groupsort": ("wgan_groupsort", ()),
}
LEAST = 20  # examples of a side: ten to fit a critic to and ten to judge it on
SMALLEST_CONVOLVED = 16  # pixels; smaller images get an mlp
# What is set on top of a method's preset of one architecture. Batch normalisation would make a score depend on its batch.
SETTINGS: dict[str, tuple[str, ...]] = {
    "digits": (
        "batch_size=256",
        "model.width=64",
        "steps=400",
        "critic.learning_rate=3e-3",
        "eval.samples=1000",
    ),
    "folder": ("model.width=16", "n_critic=5", "steps=200", "critic.learning_rate=1e-3"),
}
COMMON = ("critic.optimizer=adam", "critic.beta1=0.5", "critic.beta2=0.9", "model.critic_normalization=none")
# The keys, or their first names, that a critic without a generator reads.
READ: tuple[str, ...] = ("seed", "steps", "batch_size", "n_critic", "dtype", "loss", "penalty", "clip", "clip_scope")
READ += ("clip_with_penalty", "critic", "decay_steps", "eval.samples", "cache_dir", "model.name", "model.width", "model.depth")
READ += ("model.critic_activation", "model.critic_kernel", "model.critic_normalization", "model.initializer")
READ += ("model.normalize_first",)

# value -> what it is
MEANING = {
    "estimate_fitted": "critic, real minus generated, on the examples that it was fitted to: overfitted",
    "estimate_heldout": "the same on held-out examples",
    "lipschitz_q99": "99 % quantile of the critic's slope, on held-out examples and between them",
    "estimate_normalised": "estimate_heldout / lipschitz_q99",
    "c_transform_bound": "of this critic: never above empirical W1",
    "wasserstein_empirical": "optimal assignment of the n held-out examples",
    "wasserstein_floor": "the same between held-out and fitted real ones",
    "wasserstein_excess": "(W(G,T') - W(G,G')/2 - W(T,T')/2) / floor, 0 for equal laws; G', T' are the fitted ones",
}
CAVEAT = (
    "An estimate is the value of one constrained network on these examples, no distance between the laws behind them: "
    "it may lie above or below W1, and only values of the same settings, sizes and n compare. Intervals are over splits of the "
    "same examples, not over new draws of them."
)


def distance(argv: list[str]) -> None:
    """Parses the flags, reads both sets, fits the critics, prints a table."""
    parser = command.Parser("experiments.distance", __doc__)
    parser.add_argument(
        "--real", type=command.path, required=True, metavar="PATH", help="an .npz, an .npy or a folder of images"
    )
    parser.add_argument("--generated", type=command.path, required=True, metavar="PATH", help="the other set")
    parser.add_argument("--method", default="gp", help=f"{', '.join(METHODS)} or a file of configs/ (default: gp)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="critics, each with a split of its own (default: 5)")
    parser.add_argument(
        "--image-size", type=int, default=0, metavar="N", help="of folders: cut and resize to N (default: as stored)"
    )
    parser.add_argument("--channels", type=int, default=0, metavar="1|3", help="of folders: grey or RGB (default: as stored)")
    parser.add_argument("--out", type=command.path, metavar="FILE.json", help="where to write every seed's values")
    flags, overrides = parser.parse(argv)
    _check(flags)
    critic_config(flags.method, (1,), overrides)  # mistakes that no data is needed for

    from wgan_jax.data.arrays import load_examples
    from wgan_jax.data.walk import in_words, printable, walk

    sets, left_out = {}, {}
    for name in ("real", "generated"):
        path = Path(getattr(flags, name))
        try:
            sets[name] = load_examples(path, flags.image_size, flags.channels)
            left_out[name] = walk(path).left_out if path.is_dir() else {}
        except UserError as error:
            raise UserError(f"--{name}: {error}") from error
        if len(sets[name]) < LEAST:
            raise UserError(f"--{name}: {len(sets[name])} examples in {getattr(flags, name)}; at least {LEAST} are needed")
    real, generated = sets["real"], sets["generated"]
    if real.shape[1:] != generated.shape[1:]:
        differ = {"--image-size": real.shape[1:3] != generated.shape[1:3], "--channels": real.shape[3:] != generated.shape[3:]}
        flag = " and ".join(name for name, wanted in differ.items() if wanted)
        hint = f"; {flag} makes those of folders alike" if real.ndim == generated.ndim == 4 else ""
        raise UserError(f"--real and --generated: examples of shape {real.shape[1:]} and {generated.shape[1:]}{hint}")
    size = f"examples {'x'.join(map(str, real.shape[1:]))}" if real.ndim == 4 else f"points of {real.shape[1]} numbers"
    told = [f"{name}: {getattr(flags, name)}, {len(x):,} {size}{in_words(left_out[name])}" for name, x in sets.items()]
    print(*map(printable, told), sep="\n", flush=True)
    config = critic_config(flags.method, real.shape[1:], overrides)
    warn_of_idle_updates([config])
    runtime.configure_jax(config)

    from rich.console import Console
    from rich.table import Table

    from wgan_jax.distance import heldout_size, measure, shared_rows, t_interval
    from wgan_jax.training.interruption import in_background
    from wgan_jax.training.workdir import write_json

    console = Console()
    with console.status(f"fitting {flags.seeds} critics"):
        rows = in_background(lambda: measure(config, real, generated, flags.seeds))
    n, shared = heldout_size(config, real, generated), shared_rows(real, generated).shape[1]
    title = f"{flags.method}, {len(real)} real and {len(generated)} generated examples, {flags.seeds} seeds, held out n = {n}"
    table = Table("value", "mean", "± over splits,\n95 % t", "what it is", title=title)
    for name, meaning in MEANING.items():
        mean, half = t_interval([row[name] for row in rows])
        table.add_row(name, f"{mean:.4g}", f"± {half:.2g}" if flags.seeds > 1 else "", meaning)
    console.print(table)
    console.print(CAVEAT)
    if shared:
        console.print(f"{shared} examples are in both sets, each in the same half of both; they lower empirical W1.")
    if flags.out:
        given = {name: str(getattr(flags, name)) for name in ("real", "generated", "method")}
        counts = {"n_real": len(real), "n_generated": len(generated), "n_shared": shared, "n_heldout": n, "left_out": left_out}
        described = {**given, **counts, "shape": real.shape[1:], "config": config.to_dict()}
        write_json(Path(flags.out), {**described, "seeds": rows})


def _check(flags: argparse.Namespace) -> None:
    """Raises UserError of what is wrong with the flags, whatever the examples."""
    command.check_whole("--seeds", flags.seeds, 1, command.REPEATS)
    command.check_whole("--image-size", flags.image_size, 0, 4096)
    if flags.channels not in (0, 1, 3):
        raise UserError(f"--channels: {flags.channels} is neither 1 nor 3")
    for name in ("real", "generated"):
        if not Path(getattr(flags, name)).exists():
            raise UserError(f"--{name}: {getattr(flags, name)}: no such file or folder")
    folders = any(Path(path).is_dir() for path in (flags.real, flags.generated))
    if (flags.image_size or flags.channels) and not folders:
        name = "--image-size" if flags.image_size else "--channels"
        raise UserError(f"{name}: of folders of images, and neither --real nor --generated is one")
    if flags.out is not None:
        command.check_file("--out", Path(flags.out))


def critic_config(method: str, shape: tuple[int, ...], overrides: list[str]) -> ConfigDict:
    """Returns the checked config of a method's critic between examples of a shape, with `--config.key=value` overrides.

    The learning rate falls to 0 over all steps, unless an override sets decay_steps. configs/ is that of the working directory.

    Raises:
      UserError: no such method, a loss whose critic estimates no distance, a key that no critic reads, or as `load`.
    """
    if method not in methods():
        raise UserError(f"--method: no {method!r}; one of: {', '.join(methods())}")
    name, chosen = METHODS.get(method, (method, ()))
    if not (file := Path("configs", f"{name}.py")).is_file():
        raise UserError(f"--method: {method} is {file}, which is not here; run this at the repository's root")
    convolved = len(shape) == 3 and shape[0] == shape[1] >= SMALLEST_CONVOLVED
    preset = "folder" if convolved else "digits"
    settings = [f"--config.{setting}" for setting in (*COMMON, *SETTINGS[preset], *chosen)]
    config = load(f"{file}:{preset}", [*settings, *overrides])
    keys = [override.removeprefix("--config.").partition("=")[0] for override in overrides]
    if unread := [key for key in keys if not any(key == read or key.startswith(f"{read}.") for read in READ)]:
        raise UserError(*(f"config.{key}: nothing here reads it; there is a critic only" for key in unread))
    if config.loss != "wasserstein":
        raise UserError(f"config.loss: {config.loss}, of {method}, estimates no distance; set --config.loss=wasserstein")
    if config.packing > 1:
        raise UserError(f"config.packing: {config.packing}, of {method}, scores packs, whose distance is not the examples'")
    if "decay_steps" not in keys:
        config.decay_steps = config.steps
    return config


def methods() -> list[str]:
    """Returns what --method may be: a name of METHODS or a file of configs/."""
    return [*METHODS, *sorted({file.stem for file in Path("configs").glob("*.py")} - {"__init__", "default"})]


if __name__ == "__main__":
    command.main(distance)
