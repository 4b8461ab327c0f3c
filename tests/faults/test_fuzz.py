"""Random configs, flags and files: each is refused in short lines, quickly and before jax starts, or stands. Nothing else.

FUZZ=5000 in the environment tries so many of each, others each time.
"""

import contextlib
import importlib
import io
import json
import os
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments.compare import read_runs
from experiments.restore import find_model
from experiments.sample import _refuse_taken
from wgan_jax import runtime
from wgan_jax.config import load
from wgan_jax.data import array, folder, table
from wgan_jax.data.arrays import load_examples
from wgan_jax.data.images import DamagedImageError, Form, bombs_refused, decode_image
from wgan_jax.data.tags import read_tags
from wgan_jax.errors import UserError, said_by_system
from wgan_jax.features.weights import read_weights
from wgan_jax.keys import KEYS
from wgan_jax.registries import registered
from wgan_jax.report.comparison import shared_metrics, table_of, warnings_of
from wgan_jax.report.settings import gather
from wgan_jax.sizes import check_batches

ROOT = Path(__file__).parents[2]
FUZZ = os.environ.get("FUZZ")
CHECKS = list(HealthCheck)
MANY = settings(max_examples=int(FUZZ or 40), deadline=None, derandomize=not FUZZ, database=None, suppress_health_check=CHECKS)
QUICK, SHORT = 10.0, 3000  # seconds of a core; letters of a line

text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
numbers = st.one_of(
    st.integers(-3, 300),
    st.sampled_from((2**31 - 1, 2**31, -(2**31), 2**63, 10**10, 10**40)),
    st.floats(width=64),
    st.sampled_from((1e-45, 1e39, -0.0, 1e308)),
)
words = st.one_of(
    numbers.map(str),
    st.booleans().map(str),
    text,
    st.sampled_from(
        ("", "none", "all", "~/x", "/", ".", "..", "a,b", "[1, 2]", "{}", "None", "x" * 5000, "1" * 5000, "'", "=", "\n")
    ),
    st.sampled_from(
        sorted(
            {
                n
                for m, r in (("objectives/losses.py", "LOSSES"), ("models/layers.py", "NORMALIZATIONS"))
                for n in registered(m, r)
            }
        )
    ),
)
keys = st.one_of(
    st.sampled_from(sorted(KEYS)), text, st.sampled_from(("data", "model", "critic.", ".", "data.name.x", "steps.x"))
)
overrides = st.lists(st.tuples(keys, words).map("--config.{0[0]}={0[1]}".format), max_size=5)
METHODS = sorted(path.name for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "default"))
presets = st.sampled_from((*registered("../configs/default.py", "PRESETS"), "ring8", "digits,paper=True")) | text
specs = st.one_of(
    st.tuples(st.sampled_from(METHODS), presets).map("configs/{0[0]}:{0[1]}".format),
    text,
    st.sampled_from(("configs", "README.md:x", "configs/default.py", "configs/gan.py:", ":")),
)


class _BegunError(Exception):
    """All is well so far: JAX would start."""


@contextlib.contextmanager
def only_mistakes():
    """What happens in here is quick, and a mistake in short lines, one for which a command exits, or nothing."""
    began, lines = time.process_time(), []
    try:
        yield
    except UserError as error:
        lines = list(error.lines)
    except OSError as error:
        lines = [said_by_system(error)]
    except SystemExit as end:
        lines = [""] * bool(end.code)  # 0: --help
    except _BegunError:
        pass
    assert all(line and len(line) < SHORT for line in lines)
    assert time.process_time() - began < QUICK


@pytest.mark.slow
@MANY
@given(specs, overrides)
def test_configs(spec, words):
    with only_mistakes():
        config = load(spec if not spec.startswith("configs/") else f"{ROOT}/{spec}", words)
        check_batches(config)


FLAGS = {
    "run": ("config", "workdir", "distributed", "coordinator", "processes", "process", "heartbeat"),
    "sample": ("workdir", "point", "num", "out", "seed", "step", "raw", "label", "interpolate", "nearest", "export"),
    "evaluate": ("workdir", "point", "metrics", "num", "step", "split", "raw", "repeats"),
    "distance": ("real", "generated", "method", "seeds", "image-size", "channels", "out"),
    "sweep": ("config", "workdir", "list", "seeds", "members", "launcher", "workers", "time", "slurm"),
    "compare": ("workdir", "out", "metric"),
    "references": ("config", "draws"),
    "tags": ("tags", "images"),
    "figures": ("out", "quick", "list"),
}
values = st.one_of(words, st.sampled_from(("run", "array.npy", "absent/x", "configs/gan.py:ring8", "latest", "best", "0", "1")))
flags = st.tuples(st.sampled_from(sorted({name for names in FLAGS.values() for name in names})), values | st.none())
arguments = st.lists(
    flags.map(lambda pair: f"--{pair[0]}" if pair[1] is None else f"--{pair[0]}={pair[1]}") | words, max_size=5
)


@MANY
@given(st.sampled_from(sorted(FLAGS)), arguments, overrides, st.booleans())
def test_flags(name, argv, words, own):
    """`own`: with the flags that the command asks for."""
    program = getattr(importlib.import_module(f"experiments.{name}"), name)
    needed = {"sample": ["--workdir=run"], "evaluate": ["--workdir=run"], "compare": ["--workdir=run"]}
    needed |= {"run": ["--config=configs/gan.py:ring8"], "sweep": ["--config=configs/gan.py:ring8"]}
    needed |= {"distance": ["--real=array.npy", "--generated=array.npy"], "tags": ["--tags=tags", "--images=."]}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        try:
            os.chdir(place)
            Path("configs").symlink_to(ROOT / "configs")
            np.save("array.npy", np.arange(60.0).reshape(30, 2))
            Path("tags").write_text("1,blue hair red eyes\n")
            Path("run/checkpoints").mkdir(parents=True)
            Path("run/config.json").write_text(load("configs/gan.py:ring8").to_json())
            for begins in ("configure_jax", "set_jax"):
                patch.setattr(runtime, begins, _begin)
            patch.setattr("experiments.launchers.vectorized", _begin)
            patch.setattr("experiments.launchers.LAUNCHERS", dict.fromkeys(("vectorized", "processes", "slurm"), _begin))
            with only_mistakes(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                program([*(needed.get(name, []) if own else []), *argv, *words])
        finally:
            os.chdir(before)


def _begin(*arguments):
    raise _BegunError


def _file(of):
    made = io.BytesIO()
    of(made)
    return made.getvalue()


class Evil:
    def __reduce__(self):
        return (os.abort, ())


RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
WHOLE = {
    ".npy": [_file(lambda f, x=x: np.save(f, x)) for x in (X, X[:, 0], (X * 9).astype(np.uint8), np.array(["a", "b"]))],
    ".npz": [
        _file(lambda f: np.savez(f, samples=X, x=X, y=np.arange(40) % 2)),
        _file(lambda f: np.savez_compressed(f, x=X, y=np.array(["a", "b"] * 20))),
    ],
}
WHOLE[".npy"].append(_file(lambda f: np.save(f, np.array([Evil()], object), allow_pickle=True)))
WHOLE[".pth"] = [pickle.dumps({"a": 1}, 2), pickle.dumps(Evil()), *WHOLE[".npz"]]


ROWS = [["id", "price", "cut", "when"], *([str(i), f"{i * 1.5}", "ab"[i % 2], f"2020-01-{i + 1:02}"] for i in range(30))]
WHOLE[".csv"] = [sign.join(("\n".join(sign.join(row) for row in ROWS), "\n")).encode() for sign in ",;\t"]
WHOLE[".csv"] += [
    b'name,x\n"a ""quoted"" one",1\n' + b"b,NA\n" * 20,
    "ä,b\n1,2,5\n".encode("utf-16"),
    b"x\n" + b"1\n2\n" * 20,
]
WHOLE[".parquet"] = [_file(lambda f: pd.DataFrame({"x": X[:, 0], "y": ["a", "b"] * 20, "z": range(40)}).to_parquet(f))]
PIXELS = Image.fromarray(RNG.integers(0, 256, (9, 7, 3), np.uint8))
FORMS = ("png", "jpeg", "gif", "webp", "bmp")
WHOLE["image"] = [_file(lambda f, form=form: PIXELS.save(f, form)) for form in FORMS]


@st.composite
def spoilt(draw, suffix):
    """A file of that kind with some bytes changed, left out, or doubled; or any bytes."""
    content = bytearray(draw(st.sampled_from(WHOLE[suffix]) | st.binary(max_size=100)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)) | st.integers(0, min(150, len(content))))
        kind = draw(st.sampled_from(("change", "cut", "double", "end")))
        if kind == "change" and start < len(content):
            content[start] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[start : start + draw(st.integers(1, 9))]
        elif kind == "double":
            content[start:start] = content[start : start + 20]
        elif kind == "end":
            del content[start:]
    return bytes(content)


@contextlib.contextmanager
def written(name, content):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / name
        path.write_bytes(content)
        yield path


@pytest.mark.filterwarnings("ignore")
@MANY
@given(st.sampled_from((".npy", ".npz")).flatmap(lambda suffix: st.tuples(st.just(suffix), spoilt(suffix))))
def test_arrays(given_):
    suffix, content = given_
    with written(f"x{suffix}", content) as path:
        with only_mistakes():
            load_examples(path)
        with only_mistakes():
            array.load(load(f"{ROOT}/configs/wgan_gp.py:array", [f"--config.data.path={path}"]).data)


@pytest.mark.filterwarnings("ignore")
@MANY
@given(spoilt(".pth"))
def test_weights(content):
    with written("x.pth", content) as path, only_mistakes():
        read_weights(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@MANY
@given(st.sampled_from((".csv", ".parquet")).flatmap(lambda suffix: st.tuples(st.just(suffix), spoilt(suffix))))
def test_rows(given_):
    suffix, content = given_
    with written(f"x{suffix}", content) as path, only_mistakes():
        table.load(load(f"{ROOT}/configs/wgan_gp.py:table", [f"--config.data.path={path}"]).data)


@MANY
@given(spoilt("image"), st.sampled_from((0, 4)), st.sampled_from((0, 1, 3, 4)))
def test_images(content, size, channels):
    with only_mistakes(), contextlib.suppress(DamagedImageError), bombs_refused():
        assert decode_image(content, Form(size, channels, "white")).dtype == np.uint8


cells = st.text(st.sampled_from('ab1,:\t\n"\r ./é') | st.characters(codec="utf-8"), max_size=60)


@MANY
@given(st.lists(st.just("1,blue hair:3\tred eyes:1") | cells, max_size=4))
def test_tags(lines):
    with only_mistakes():
        list(read_tags(lines))


@MANY
@example("\0,0")
@given(cells | st.just("file_name,hair\na.png,red\n").flatmap(lambda head: cells.map(head.__add__)))
def test_tables(content):
    with written("metadata.csv", b"file_name,hair\n" + content.encode()) as path, only_mistakes():
        for _, name, labels in folder._rows(path, "hair", {}):
            assert all(labels)
            inside = (path.parent / name).resolve()
            assert inside.is_relative_to(path.parent.resolve())


values_of_json = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(KEYS)) | text, inner, max_size=3),
    max_leaves=8,
)


@MANY
@given(values_of_json | st.just({"format": "jax.export"}), st.integers(0, 60), st.booleans())
def test_json(value, end, torn):
    content = json.dumps(value).encode()
    content = content[:end] if torn else content
    with written("x.json", content) as path:
        with only_mistakes():
            _refuse_taken(path.with_name("x"))
        path.rename(path.with_name("config.json"))
        with only_mistakes():
            find_model(path.parent, None)
        (path.parent / "tasks/0123").mkdir(parents=True)
        (path.parent / "tasks/0123/task.json").write_bytes(content)
        with only_mistakes():
            find_model(path.parent, "0")
        (path.parent / "config.json").write_text(load(f"{ROOT}/configs/gan.py:ring8").to_json())
        with only_mistakes():
            find_model(path.parent, "0")


@MANY
@given(st.dictionaries(st.sampled_from(sorted(KEYS)), values_of_json, min_size=1, max_size=3))
def test_stored_configs(changes):
    """A config.json with some values that are others."""
    config = json.loads(load(f"{ROOT}/configs/gan.py:ring8").to_json())
    for key, value in changes.items():
        group, _, leaf = key.rpartition(".")
        (config[group] if group else config)[leaf] = value
    with written("config.json", json.dumps(config).encode()) as path:
        (path.parent / "checkpoints").mkdir()
        with only_mistakes():
            find_model(path.parent, None)


names = st.sampled_from(("step", "seconds", "critic_loss", "eval/wasserstein_excess", "eval/precision"))
lines = st.lists(st.dictionaries(names, values_of_json, max_size=4) | values_of_json, max_size=4)


@pytest.mark.filterwarnings("ignore")
@MANY
@given(lines, values_of_json, st.sampled_from(("metrics.jsonl", "provenance.json", "summary.json")), st.integers(0, 60))
def test_what_a_run_told(told, value, torn, end):
    """Whatever a run that is not done left, and none of it whole."""
    config = load(f"{ROOT}/configs/gan.py:ring8")
    with written("config.json", config.to_json().encode()) as path:
        (path.parent / "checkpoints").mkdir()
        whole = [{"step": i, "seconds": i / 2, **x} if isinstance(x, dict) else x for i, x in enumerate(told)]
        (path.parent / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in whole))
        for name in ("provenance.json", "summary.json"):
            (path.parent / name).write_text(json.dumps(value))
        file = path.parent / torn
        file.write_bytes(file.read_bytes()[:end])
        if end % 2:
            (path.parent / "summary.json").unlink()
        with only_mistakes():
            found = gather(read_runs(path.parent))
            table_of(found, shared_metrics(found, None))
            warnings_of(found)


def test_nothing_in_a_file_is_run():
    """Evil would end this process."""
    for suffix, contents in WHOLE.items():
        for content in contents:
            with written(f"x{suffix}", content) as path, only_mistakes():
                (read_weights if suffix == ".pth" else load_examples)(path)
