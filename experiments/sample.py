"""Draws samples from a trained model, or exports it. Needs the run directory only; --nearest needs the data too.

    python -m experiments.sample --workdir=DIR [--point=ID] [--num=64] [--out=FILE.png|FILE.npz|FILE.gif|FOLDER/] [--seed=0]
        [--step=latest|best|N] [--raw] [--label=CLASS|COLUMN:VALUE,...|all] [--export=FILE]
    python -m experiments.sample --workdir=DIR --out=FILE.csv|FILE.parquet [--num=N] [--where=NAME=VALUE,...]      of a table
        [--interpolate=STEPS | --nearest=K [--config.data.path=DIR ...]]

A .png is a grid of images, or a plot of what is none; a folder gets an image per file, 000000.png and so on; in a .gif each
image walks from latent to latent and back to the first; an .npz holds `samples`, in the data's units and dtype, and `latents`.
Of arrays that are no uint8 images the pictures show channels, and slices of volumes, side by side.
With --interpolate row i goes from sample 2i to sample 2i + 1; with --nearest it has sample i, the K training images nearest to
it, and their distances in network units. Sample, row and walk i depend on the seed and i alone. Without --raw the averaged
(EMA) generator is used. Of a sweep's directory --point names the model, whose own files are in DIR/points/ID.

Of a conditional run --label is the class of all samples, by its name or number; all makes so many of each, from the same
latents, a row per class; CLASS:CLASS goes with --interpolate and leads from one class to the other at a latent per row. Of
attributes it is COLUMN:VALUE, several comma-separated: hair_color:green,skin_color:tan. A column that is not named is drawn as
the training examples have it that share the named values, or as all have it where none does; a combination may be new. One
column may be COLUMN:all, a row per value, or with --interpolate COLUMN:VALUE:VALUE. Without --label labels are drawn as the
training data has them. The .npz then has `labels` too, or `labels.COLUMN` of each column.

Rows of a table come in its own columns, order, dtypes, categories and ranges, as .csv, .parquet or .npz, or as a .png of their
marginals. --where=cut=Ideal,price<1000 gives rows that have all of it, by =, !=, <, <=, >, >=; nothing after the sign stands
for a missing value. The generator is asked for the rarest of the categories, and of what it makes the rows that match are kept.

--export writes the generator as FILE, StableHLO for CPU and CUDA that needs jax and flatbuffers alone, and what its user must
know as FILE.json; see wgan_jax/export.py. Samples are then drawn only where --out, --interpolate or --nearest asks for them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import command
from experiments.restore import Restored, check_data, find_model, generator_of, restore_run
from wgan_jax.errors import UserError
from wgan_jax.records import read_json

if TYPE_CHECKING:
    from experiments.pictures import Order
    from wgan_jax.evaluation.wanted import Wanted
    from wgan_jax.types import Params

FORMATS = (".png", ".npz", ".gif", "/")
OF_TABLES = (".csv", ".parquet")
NUM = {  # where the flag says nothing
    "samples": 64,
    "walks": 16,
    "interpolations": 8,
    "comparisons": 8,
    "samples of each class": 10,
}
MOST, SHOWN = 1_000_000, 10_000  # samples, as the names in a folder have six digits; images of one picture


def sample(argv: list[str]) -> None:
    """Parses the flags, restores the generator, writes the files."""
    parser = command.Parser("experiments.sample", __doc__)
    parser.add_argument(
        "--workdir", type=command.path, required=True, metavar="DIR", help="the directory of a run, or of a sweep"
    )
    parser.add_argument("--point", metavar="ID", help="of a sweep: a point's id, or as much of its beginning as no other has")
    numbers = ", ".join(f"{count} {kind}" for kind, count in NUM.items())
    parser.add_argument("--num", type=int, metavar="N", help=f"how many (default: {numbers})")
    parser.add_argument(
        "--out", type=command.path, metavar="FILE", help="a .png, .npz, .gif or FOLDER/ (default: a .png in DIR/samples)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the latents (default: 0)")
    parser.add_argument("--step", default="latest", help="latest, best, or a step with a checkpoint (default: latest)")
    parser.add_argument("--raw", action="store_true", help="the generator itself, not its average")
    parser.add_argument("--label", metavar="CLASS", help="of a conditional run: a class, COLUMN:VALUE,..., all")
    parser.add_argument("--where", metavar="NAME=VALUE,...", help="of a table: what all rows have; see above")
    parser.add_argument("--interpolate", type=int, metavar="STEPS", help="images of each row from one latent to another")
    parser.add_argument("--nearest", type=int, metavar="K", help="training images beside each sample")
    parser.add_argument("--export", type=command.path, metavar="FILE", help="the generator for other programs, and FILE.json")
    flags, overrides = parser.parse(argv)
    _check(flags, overrides)
    model = find_model(Path(flags.workdir), flags.point, overrides)
    if flags.nearest is not None:
        check_data(model)
    restored = restore_run(model, flags.step)
    _check_kind(flags, restored)
    wanted = _wanted(flags, restored)
    variables = generator_of(restored.state, raw=flags.raw)
    if flags.export is not None:
        _export(flags, restored, variables)
    if flags.export is None or (flags.out, flags.interpolate, flags.nearest) != (None, None, None):
        if restored.scaling.layout is not None:
            _draw_rows(flags, restored, variables)
            return
        from experiments.pictures import draw

        draw(_order(flags, wanted), restored, variables, wanted)


def _for_tables(flags: argparse.Namespace) -> str | None:
    """Returns the flag that asks for what is made of tables only, or None."""
    if flags.where is not None:
        return f"--where={flags.where}"
    return f"--out={flags.out}" if _format(flags.out) in OF_TABLES else None


def _wanted(flags: argparse.Namespace, restored: Restored) -> "Wanted":
    """Returns what --label asks for."""
    from wgan_jax.evaluation.wanted import DRAWN, wanted

    if flags.label is None:
        return DRAWN
    if not restored.networks.classes:
        raise UserError(f"--label: {flags.label} asked for, but the run is not conditioned on labels; see config.conditioning")
    names, column = restored.info.get("class_names", ()), restored.config.data.label
    asked = wanted(flags.label, names, restored.attributes, column, walks=flags.interpolate is not None)
    if asked.each and (flags.interpolate is not None or flags.nearest is not None or _format(flags.out) == ".gif"):
        raise UserError("--label: all makes a sheet, an .npz or a folder of samples, without --interpolate and --nearest")
    return asked


def _format(out: str | None) -> str:
    if out is None:
        return ".png"
    return "/" if out.endswith("/") or Path(out).is_dir() else Path(out).suffix


def _check_kind(flags: argparse.Namespace, restored: Restored) -> None:
    """Raises UserError of a flag that asks for what the run's examples cannot be."""
    from wgan_jax.data.dataset import KINDS
    from wgan_jax.data.scaling import PIXELS

    shape, form = restored.info["shape"], _format(flags.out)
    asked = [f"--{name}={getattr(flags, name)}" for name in ("interpolate", "nearest") if getattr(flags, name) is not None] + [
        f"--out={flags.out}"
    ] * (form == ".gif")
    kind = f"{restored.scaling.dtype} {KINDS[len(shape)]}"
    if rows := restored.scaling.layout is not None:
        kind = "rows of a table"
    if not rows and (of_tables := _for_tables(flags)):
        raise UserError(f"{of_tables}: of tables, and this run is of {restored.config.data.name}")
    if rows and flags.label is not None:
        raise UserError(f"--label: {flags.label}: rows of a table are asked for with --where=NAME=VALUE")
    if asked and len(shape) < 3:
        raise UserError(f"{asked[0]}: of images and volumes, and this run makes {kind}; a .png shows them, an .npz holds them")
    if form == "/" and (restored.scaling != PIXELS or len(shape) != 3 or shape[2] not in (1, 3)):
        raise UserError(f"--out={flags.out}: of uint8 images, and this run makes {kind}; a .png shows them, an .npz holds them")


def _check(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Raises UserError of what is wrong with the flags, whatever the run."""
    for name, (least, most) in {"num": (1, MOST), "interpolate": (2, SHOWN), "nearest": (1, SHOWN)}.items():
        if (value := getattr(flags, name)) is not None:
            command.check_whole(f"--{name}", value, least, most)
    command.check_whole("--seed", flags.seed, 0, 2**31 - 1)
    if flags.interpolate is not None and flags.nearest is not None:
        raise UserError("--interpolate and --nearest: each makes a picture of its own; choose one")
    of_run = [word for word in overrides if not word.startswith("--config.cache_dir=")]
    if of_run and flags.nearest is None:
        raise UserError(f"{of_run[0]}: the config is that of the run; only --nearest reads its data")
    form = _format(flags.out)
    if form not in (*FORMATS, *OF_TABLES):
        raise UserError(
            f"--out: {flags.out} ends neither in .png nor in .npz, .gif or / (a folder), nor, of a table, in .csv or .parquet"
        )
    for name in ("interpolate", "nearest", "label"):
        if flags.where is not None and getattr(flags, name) is not None:
            raise UserError(f"--where and --{name}: rows of a table are no images; leave one out")
    for name in ("interpolate", "nearest"):
        if getattr(flags, name) is not None and form != ".png":
            raise UserError(f"--{name}: makes a .png, not --out={flags.out}")
    _check_places(flags, form)


def _check_places(flags: argparse.Namespace, form: str) -> None:
    """Raises UserError of a place that cannot be written to, or holds what writing there would spoil."""
    for name in ("out", "export"):
        if getattr(flags, name) is not None and (name, form) != ("out", "/"):
            command.check_file(f"--{name}", Path(getattr(flags, name)))
    if form == "/" and not Path(flags.out).parent.is_dir():
        raise UserError(f"--out: no directory {Path(flags.out).parent}")
    if form == "/" and Path(flags.out).is_file():
        raise UserError(f"--out: {flags.out} is not a directory")
    if form == "/" and any(Path(flags.out).glob("*.png")):
        raise UserError(f"--out: {flags.out} holds images already; name an empty or a new folder")
    if flags.export is not None:
        _refuse_taken(Path(flags.export))


def _refuse_taken(path: Path) -> None:
    """Raises UserError if FILE or FILE.json is there, unless FILE.json describes an export, which another may replace."""
    described = path.with_name(f"{path.name}.json")
    if not path.exists() and not described.exists():
        return
    from wgan_jax.export import FORMAT

    try:
        stored = read_json(described)
    except (OSError, ValueError):
        stored = None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        taken = described if described.exists() else path
        raise UserError(f"--export: {taken} is there already and is no export; choose another name")


def _export(flags: argparse.Namespace, restored: Restored, variables: "Params") -> None:
    from wgan_jax.export import describe_generator, described_in, export_generator, save_generator

    config, path = restored.config, Path(flags.export)
    artefact = export_generator(restored.networks, variables, config.latent.dim, restored.scaling)
    generator = "raw" if flags.raw else "ema"
    names = (restored.attributes or restored.info.get("class_names", ())) if restored.networks.classes else ()
    shape = tuple(restored.info["shape"])
    save_generator(path, artefact, describe_generator(config, shape, restored.step, generator, restored.scaling, names))
    print(f"generator of step {restored.step}: {path}, {described_in(path)}")


def _order(flags: argparse.Namespace, wanted: "Wanted") -> "Order":
    from experiments.pictures import Order

    form = _format(flags.out)
    kind = "walks" if form == ".gif" else "samples of each class" if wanted.each else "samples"
    kind = "interpolations" if flags.interpolate else "comparisons" if flags.nearest else kind
    num = flags.num or NUM[kind]
    return Order(kind, num, form, flags.out, flags.seed, flags.raw, flags.interpolate or 0, flags.nearest or 0, SHOWN)


def _draw_rows(flags: argparse.Namespace, restored: Restored, variables: "Params") -> None:
    from experiments.rows import draw_rows, parse_where, write_rows
    from wgan_jax.data.columns import Columns
    from wgan_jax.evaluation.figures import run_title

    assert isinstance(restored.scaling, Columns)
    wishes = parse_where(flags.where, restored.scaling)
    num = flags.num or NUM["samples"]
    name = f"step_{restored.step:08d}_seed_{flags.seed}{'_raw' * flags.raw}{'_where' * bool(wishes)}.png"
    out = Path(flags.out or restored.folder / "samples" / name)
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_rows(restored, variables, num, flags.seed, wishes)
    whose = "generator itself" if flags.raw else "averaged generator"
    where = f", {flags.where}" if wishes else ""
    title = f"{run_title(restored.config, restored.step)}, {whose}, latents of seed {flags.seed}{where}"
    write_rows(out, drawn, restored.scaling, title)
    kept = f" (of {drawn.drawn:,} drawn)" if wishes else ""
    print(f"{num:,} rows of step {restored.step}{kept}: {out}")


if __name__ == "__main__":
    command.main(sample)
