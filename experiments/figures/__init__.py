"""Draws the figures of the papers, and some of our own, from this code: a PNG, an SVG and a JSON of the numbers each.

    python -m experiments.figures NAME|all [--out=DIR] [--quick] [--data=FOLDER [--size=N]]
    python -m experiments.figures --list

--list names the figures and what each shows. --quick takes seconds, with fewer seeds and updates than the numbers of
docs/gallery.md have. --data is the folder of a figure that needs one, which `all` leaves out: of images for
faces_comparison, with --size as the side in pixels to which they are brought, and of prepared TensorFlow Datasets for
budget_fashion_mnist.
"""

import argparse
import difflib
import json
import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs import wgan_gp
from experiments import command
from wgan_jax import runtime
from wgan_jax.errors import UserError
from wgan_jax.hints import did_you_mean
from wgan_jax.paths import write_whole

if TYPE_CHECKING:
    from experiments.figures.registry import Entry

DIGITS = 6  # significant, of the numbers in a JSON


def figures(argv: list[str]) -> None:
    """Parses the flags, computes and draws the figures, writes NAME.png, NAME.svg and NAME.json of each."""
    parser = command.Parser("experiments.figures", __doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a figure, or all")
    parser.add_argument("--out", default="figures", type=command.path, metavar="DIR", help="(default: figures)")
    parser.add_argument("--quick", action="store_true", help="seconds each, in place of minutes")
    parser.add_argument("--data", type=command.path, metavar="FOLDER", help="for a figure of one's data")
    parser.add_argument("--size", type=int, choices=(16, 32, 64), help="of its images, in pixels (default: 32)")
    parser.add_argument("--list", action="store_true", help="name the figures and stop")
    flags, overrides = parser.parse(argv)
    if overrides:
        raise UserError(f"{overrides[0]}: the settings of a figure stand in its file, experiments/figures/NAME.py")
    if flags.name is None and not flags.list:
        raise UserError("NAME: name a figure, or all; --list tells them")
    config = wgan_gp.get_config("gaussian")
    config.devices = 1
    runtime.configure_jax(config)
    from experiments.figures.registry import FIGURES

    if flags.list:
        for name, entry in FIGURES.items():
            print(f"{name:24} {entry.shows}")
    elif flags.name == "all":
        if flags.data or flags.size:
            raise UserError("all: leaves out what needs a folder; name one")
        for name, entry in FIGURES.items():
            if entry.data:
                print(f"{name}: left out, as it needs a folder of {entry.data}: --data=FOLDER", flush=True)
            else:
                _make(name, entry, flags)
    elif flags.name in FIGURES:
        _make(flags.name, FIGURES[flags.name], flags)
    else:
        close = difflib.get_close_matches(flags.name, ("all", *FIGURES), 1)
        raise UserError(f"{flags.name}: no such figure{did_you_mean(close) or '; --list tells them'}")


def _make(name: str, entry: "Entry", flags: argparse.Namespace) -> None:
    from wgan_jax.report.drawing import save_figure

    given, out = _given(name, entry, flags), Path(flags.out)
    out.mkdir(parents=True, exist_ok=True)
    print(f"{name}: {entry.shows}", flush=True)
    began = time.perf_counter()
    try:
        arrays = entry.compute(flags.quick, **given)
    except UserError as error:  # of the folder, which in a config has another name
        raise UserError(re.sub(r"^config\.data[\w.]*: ", "--data: ", str(error))) from error
    write_whole(out / f"{name}.json", write_numbers(arrays).encode())
    figure = entry.draw(arrays)
    for suffix in ("png", "svg"):
        save_figure(figure, out / f"{name}.{suffix}", 90)
    print(f"    {time.perf_counter() - began:.1f} s: {out / name}.png, .svg, .json", flush=True)


def _given(name: str, entry: "Entry", flags: argparse.Namespace) -> dict[str, Any]:
    """Returns what a figure is of beside itself, as its `compute` names it."""
    if flags.size and not entry.sized:
        raise UserError(f"{name}: has no --size; leave it out")
    if not entry.data:
        if flags.data:
            raise UserError(f"{name}: reads no folder; leave --data out")
        return {}
    if not flags.data:
        raise UserError(f"{name}: needs a folder of {entry.data}; write --data=FOLDER")
    if not Path(flags.data).is_dir():
        raise UserError(f"--data: {flags.data}: no such folder")
    return {"folder": flags.data} | ({"size": flags.size or 32} if entry.sized else {})


def write_numbers(arrays: dict[str, np.ndarray]) -> str:
    """Returns arrays as JSON, an object with a line each: infinities as "inf" and "-inf", NaN as null."""
    lines = [f"{json.dumps(name)}: {json.dumps(_plain(np.asarray(array).tolist()))}" for name, array in arrays.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None if math.isnan(value) else str(value)
