"""Draws samples from a trained model, or exports it. Needs the run directory only; --nearest needs the data too.

    python -m experiments.sample --workdir=DIR [--point=ID] [--num=64] [--out=FILE.png|FILE.npz|FILE.gif|FOLDER/] [--seed=0]
        [--step=latest|best|N] [--raw] [--label=CLASS|all|CLASS:CLASS] [--export=FILE]
    python -m experiments.sample --workdir=DIR --out=FILE.csv|FILE.parquet [--num=N] [--where=NAME=VALUE,...]      of a table
        [--interpolate=STEPS | --nearest=K [--config.data.path=DIR ...]]

A .png is a grid of images, or a plot of what is none; a folder gets an image per file, 000000.png and so on; in a .gif each
image walks from latent to latent and back to the first; an .npz holds `samples`, in the data's units and dtype, and `latents`.
With --interpolate row i goes from sample 2i to sample 2i + 1; with --nearest it has sample i, the K training images nearest to
it, and their distances in network units. Sample, row and walk i depend on the seed and i alone. Without --raw the averaged
(EMA) generator is used. Of a sweep's directory --point names the model, whose own files are in DIR/points/ID.

Of a conditional run --label is the class of all samples, by its name or number; all makes so many of each, from the same
latents, a row per class; CLASS:CLASS goes with --interpolate and leads from one class to the other at a latent per row. Without
it labels are drawn as the training data has them. The .npz then has `labels` too.

Rows of a table come in its own columns, order, dtypes, categories and ranges, as .csv, .parquet or .npz, or as a .png of their
marginals. --where=cut=Ideal,price<1000 gives rows that have all of it, by =, !=, <, <=, >, >=; nothing after the sign stands
for a missing value. The generator is asked for the rarest of the categories, and of what it makes the rows that match are kept.

--export writes the generator as FILE, StableHLO for CPU and CUDA that needs jax and flatbuffers alone, and what its user must
know as FILE.json; see wgan_jax/export.py. Samples are then drawn only where --out, --interpolate or --nearest asks for them.
"""

import argparse
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import command
from experiments.restore import Restored, check_data, find_model, generator_of, load_data, restore_run
from wgan_jax.errors import UserError
from wgan_jax.paths import replacing
from wgan_jax.sizes import check_bytes

if TYPE_CHECKING:
    from wgan_jax.data.dataset import Stored
    from wgan_jax.types import Params

FORMATS = (".png", ".npz", ".gif", "/")
OF_TABLES = (".csv", ".parquet")
NUM = {
    "samples": 64,
    "walks": 16,
    "interpolations": 8,
    "comparisons": 8,
    "samples of each class": 10,
}  # where the flag says nothing
MOST, SHOWN = 1_000_000, 10_000  # samples, as the names in a folder have six digits; images of one picture
STOPS, STEPS, MILLISECONDS = 4, 16, 80  # of a walk: latents, frames from each to the next, time of a frame


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
    parser.add_argument("--label", metavar="CLASS", help="of a conditional run: a class, all, or CLASS:CLASS to --interpolate")
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
    if not _makes_pixels(restored) and (asked := _for_images(flags)):
        from wgan_jax.data.dataset import KINDS

        kind = f"{restored.scaling.dtype} {KINDS[len(restored.info['shape'])]}"
        kind = "rows of a table" if restored.scaling.layout else kind
        raise UserError(f"{asked}: of uint8 images, and this run makes {kind}; a .png shows them, an .npz holds them")
    rows = restored.scaling.layout is not None
    if not rows and (asked := _for_tables(flags)):
        raise UserError(f"{asked}: of tables, and this run is of {restored.config.data.name}")
    if rows and flags.label is not None:
        raise UserError(f"--label: {flags.label}: rows of a table are asked for with --where=NAME=VALUE")
    labels = _labels(flags, restored)
    variables = generator_of(restored.state, raw=flags.raw)
    if flags.export is not None:
        _export(flags, restored, variables)
    if flags.export is None or (flags.out, flags.interpolate, flags.nearest) != (None, None, None):
        (_draw_rows if rows else _draw)(flags, restored, variables, labels)


def _for_tables(flags: argparse.Namespace) -> str | None:
    """Returns the flag that asks for what is made of tables only, or None."""
    if flags.where is not None:
        return f"--where={flags.where}"
    return f"--out={flags.out}" if _format(flags.out) in OF_TABLES else None


def _labels(flags: argparse.Namespace, restored: Restored) -> list[int]:
    """Returns the classes that --label asks for: one, two that a walk leads between, all, or none where it is not given."""
    from wgan_jax.data.labels import find_class

    if flags.label is None:
        return []
    names = restored.info.get("class_names", ())
    if not restored.networks.classes:
        raise UserError(f"--label: {flags.label} asked for, but the run is not conditioned on labels; see config.conditioning")
    if flags.label == "all":
        return list(range(len(names)))
    first, colon, last = flags.label.partition(":")
    if flags.interpolate is None or not colon or flags.label in names:
        return [find_class(flags.label, names)]
    return [find_class(first, names), find_class(last, names)]


def _format(out: str | None) -> str:
    if out is None:
        return ".png"
    return "/" if out.endswith("/") or Path(out).is_dir() else Path(out).suffix


def _makes_pixels(restored: Restored) -> bool:
    """Says whether a run's examples are images that a PNG holds as they are."""
    from wgan_jax.data.scaling import PIXELS

    shape = restored.info["shape"]
    return restored.scaling == PIXELS and len(shape) == 3 and shape[2] in (1, 3)


def _for_images(flags: argparse.Namespace) -> str | None:
    """Returns the flag that asks for what is made of images only, or None."""
    asked = {
        f"--interpolate={flags.interpolate}": flags.interpolate is not None,
        f"--nearest={flags.nearest}": flags.nearest is not None,
        f"--out={flags.out}": _format(flags.out) in (".gif", "/"),
    }
    return next((flag for flag, wanted in asked.items() if wanted), None)


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
    if flags.label == "all" and (flags.interpolate is not None or flags.nearest is not None or form == ".gif"):
        raise UserError("--label: all makes a sheet, an .npz or a folder of samples, without --interpolate and --nearest")
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
        stored = json.loads(described.read_text(encoding="utf-8"))
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
    names = restored.info["class_names"] if restored.networks.classes else ()
    shape = tuple(restored.info["shape"])
    save_generator(path, artefact, describe_generator(config, shape, restored.step, generator, restored.scaling, names))
    print(f"generator of step {restored.step}: {path}, {described_in(path)}")


def _draw(flags: argparse.Namespace, restored: Restored, variables: "Params", labels: list[int]) -> None:
    import jax
    import numpy as np

    from wgan_jax.evaluation import figures, points, sampling, sheets
    from wgan_jax.report.drawing import save_figure
    from wgan_jax.types import Latents

    shape, law, form = tuple(restored.info["shape"]), restored.config.latent.name, _format(flags.out)
    kind = "walks" if form == ".gif" else "samples"
    kind = "interpolations" if flags.interpolate else "comparisons" if flags.nearest else kind
    every = flags.label == "all"
    kind = "samples of each class" if every else kind
    num = flags.num or NUM[kind]
    asked = f"_label_{'_to_'.join(map(str, labels))}" if labels and not every else ""
    what = "" if kind == "samples" else f"_{kind.replace(' ', '_')}"
    name = f"step_{restored.step:08d}_seed_{flags.seed}{'_raw' * flags.raw}{what}{asked}.png"
    _check_size(flags, num * max(1, len(labels) if every else 1), kind, form, math.prod(shape) + restored.config.latent.dim)
    out = Path(flags.out or restored.folder / "samples" / name)
    out.parent.mkdir(parents=True, exist_ok=True)  # a run directory of config and checkpoints alone has no samples/
    count = num * {"interpolations": 1 if len(labels) == 2 else 2, "walks": STOPS}.get(kind, 1)
    counts = restored.info.get("class_counts", ())
    latents = sampling.draw_latents(restored.networks, counts, jax.random.key(flags.seed), count)
    if every:
        latents = sampling.every_label(latents, len(labels))
    elif len(labels) == 1:
        latents = latents._replace(label=np.full(count, labels[0], np.int32))
    generate = sampling.make_generate(restored.networks, variables)

    def whole(latents: Latents) -> np.ndarray:
        return np.concatenate(list(generate(latents)))

    def along(ways: Latents) -> np.ndarray:
        """Returns the images [T, n, *shape] of latents [T, n]."""
        z, label = ways
        flat = Latents(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in (z, label)))
        return whole(flat).reshape(*z.shape[:2], *shape)

    title = figures.run_title(restored.config, restored.step)
    told = f"{title}, {'generator itself' if flags.raw else 'averaged generator'}, latents of seed {flags.seed}"
    names = restored.info.get("class_names", ())
    told += f", label {' to '.join(names[label] for label in labels)}" if labels and not every else ""
    if kind == "interpolations":
        between = len(labels) == 2
        walk = functools.partial(sampling.label_walk, ends=labels, classes=len(names))
        ways = (walk if between else functools.partial(sampling.interpolation, law))(latents, steps=flags.interpolate)
        images = along(ways).swapaxes(0, 1)
        header = [*(f"{share:.2g}" for share in np.linspace(0, 1, flags.interpolate)), "samples"]
        rows = [f"{row}" if between else f"{2 * row} to {2 * row + 1}" for row in range(num)]
        from_to = "one label to the other at one latent" if between else "the latent of one sample to that of another"
        told += f". Each row goes from {from_to}; above, the share of the way."
        sheet = sheets.table_of_images(images.reshape(-1, *shape), flags.interpolate, header, rows, told)
        sheets.save_sheet(out, sheet, title)
    elif kind == "comparisons":
        dataset, samples = _training_data(restored, flags.nearest), whole(latents)
        train = dataset.train.images
        indices, distances = sampling.nearest_images(samples, train, flags.nearest)
        images = np.concatenate([samples[:, None], dataset.decode(train[indices], samples.dtype)], axis=1)
        header = ["sample", "nearest", *map(str, range(2, flags.nearest + 1)), "distances"]
        rows = ["  ".join(f"{distance:.2f}" for distance in row) for row in distances]
        told += (
            f". To the right of each sample the nearest of {len(train):,} training images. Distances are Euclidean, over all"
        )
        told += " pixels in network units (black -1, white 1); of a copy 0."
        sheet = sheets.table_of_images(images.reshape(-1, *shape), 1 + flags.nearest, header, rows, told)
        sheets.save_sheet(out, sheet, title)
    elif kind == "walks":
        sheets.save_animation(out, along(sampling.closed_walk(law, latents, STOPS, STEPS)), MILLISECONDS)
    elif form == "/":
        out.mkdir(exist_ok=True)
        for index, images in enumerate(generate(latents)):
            sheets.save_images(out, images, index * sampling.CHUNK)
    elif form == ".npz":
        arrays = {"samples": np.concatenate([restored.scaling.encode(part) for part in generate(latents)])}
        arrays["latents"] = np.asarray(latents.z, np.float32)
        if restored.networks.classes:
            arrays["labels"] = np.asarray(latents.label)
        with replacing(out) as file:
            np.savez(file, allow_pickle=False, **arrays)
    elif len(shape) >= 3:
        by_class = f"{told}. A row per class, a column per latent."
        x = whole(latents)
        images = sheets.as_images(x, (-1.0, 1.0) if restored.scaling.bounded else sheets.window(x))
        sheet = sheets.table_of_images(images, num, (), names, by_class) if every else sheets.image_grid(images)
        sheets.save_sheet(out, sheet, told)
    else:
        save_figure(points.examples_figure(restored.scaling.encode(whole(latents)), told), out, figures.DPI)
    print(f"{num} {kind} of step {restored.step}: {out}")


def _check_size(flags: argparse.Namespace, samples: int, kind: str, form: str, numbers: int) -> None:
    """Raises UserError of more samples, each of so many numbers, than a picture shows or memory holds."""
    each = {"walks": STOPS * STEPS, "interpolations": flags.interpolate, "comparisons": 1 + (flags.nearest or 0)}.get(kind, 1)
    frame = samples * (1 if kind == "walks" else each)
    if form in (".png", ".gif") and frame > SHOWN:
        raise UserError(f"--num: {frame:,} images in one picture; it shows {SHOWN:,} at most, an .npz or a FOLDER/ holds more")
    if form != "/":  # which is written part by part
        check_bytes(f"--num: {samples:,} {kind}", 4 * samples * each * numbers)


def _draw_rows(flags: argparse.Namespace, restored: Restored, variables: "Params", labels: list[int]) -> None:
    from experiments.rows import draw_rows, parse_where, write_rows
    from wgan_jax.data.columns import Columns
    from wgan_jax.evaluation.figures import run_title

    assert isinstance(restored.scaling, Columns)
    assert not labels
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


def _training_data(restored: Restored, least: int) -> "Stored":
    from wgan_jax.data.dataset import Law

    dataset = load_data(restored)
    count = 0 if isinstance(dataset, Law) else len(dataset.train.images)
    if isinstance(dataset, Law) or count < least:
        raise UserError(f"--nearest: {least} asked for, but there are {count} training images")
    return dataset


if __name__ == "__main__":
    command.main(sample)
