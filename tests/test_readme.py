"""Every command that README.md and docs/ tell people to type, run as it stands: their flags, relative and default paths.

Sizes alone are made tiny, by flags behind the command's own. What cannot run here is in NOT_HERE with the reason; a command
that is neither there nor runs fails. The first command is run in full by .ci/run.
"""

import importlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
STARTS = ("python ", "python3 ", "pip ", "srun ", "tensorboard ")
RUN = "runs/wgan_gp-digits-seed0"  # of README's first command, by default

NOT_HERE = {  # the beginning of a command -> why it is not run
    "python3 -m venv": ".ci/run makes the environments of README's first two commands, word for word",
    "pip install": "fetches packages",
    "python -m pytest": "these tests",
    "tensorboard": "serves until it is stopped; test_display.py reads what it would show",
    "srun": "needs Slurm; tests/integration/slurm.sh has it",
    "python -m experiments.run --config=... --distributed": "one of two processes; test_distributed.py runs both",
    "python -m benchmarks.toy": "compares with PyTorch",
    "python -m benchmarks.images": "compares with PyTorch",
    "python -m benchmarks.calibration": "trains 240 critics; test_calibration.py has its parts",
    "python -m benchmarks.data": "streams 40 GB",
    "python -m benchmarks.accelerator": "needs a GPU; test_accelerator.py has its dry run",
    "python -m benchmarks.startup": "measures start-up",
    "python -m benchmarks.metrics": "times 10,000 examples of a side; test_kernels.py and test_fidelity.py have the metrics",
    "python -m benchmarks.sweep": "measures speed; test_members.py has what it trains",
    "python -m benchmarks.tables": "compares with another package",
    "python -m benchmarks.arrays": "trains for minutes; test_array.py trains on such arrays",
    "python -m benchmarks.soak": "kills runs for minutes; tests/faults has what is quick",
    "python -m experiments.figures": "takes minutes; test_figures_command.py runs every one with --quick",
}
PLACES = {
    "DIR": RUN,
    "A": "a.npy",
    "B": "b.npy",
    "FILE": "generator",
    "ID": "",
    "configs/ablations/FILE.py": "configs/ablations/clip.py",
}

SMALL = ("batch_size=8", "model.width=4", "steps=2", "eval_every=2", "sample_every=2", "checkpoint_every=2", "log_every=1")
SMALL += ("eval.samples=30", "eval.feature_samples=30", "eval.draws=2", "cache_dir=", "devices=1")
TINY = {
    "run": [f"--config.{setting}" for setting in SMALL],
    "sweep": ["--list"],  # the plan of hundreds of models; TRAINED ones train
    "evaluate": ["--num=30", "--repeats=2"],
    "sample": [],
    "references": ["--draws=2", "--config.eval.samples=60", "--config.eval.feature_samples=60"],
    "distance": ["--seeds=2", "--config.steps=2", "--config.batch_size=8", "--config.model.width=4", "--config.cache_dir="],
    "compare": [],
    "tags": [],
}
TRAINED = "--config=configs/gan.py:ring8 --seeds=30"
MADE = {
    "run": {
        "config.json",
        "metrics.jsonl",
        "provenance.json",
        "summary.json",
        "samples",
        "figures",
        "tensorboard",
        "checkpoints",
    },
    "sweep": {"results.csv", "results.jsonl", "summary.md", "figures"},
    "evaluate": {"evaluation.json"},
}
MADE_BY_FLAG = {
    "sample": {"--out": RUN, "--export": RUN},
    "compare": {"--out": "compare.png"},
    "tags": {"--x": "faces/metadata.csv"},
}


def commands(page: Path) -> Iterator[str]:
    """Yields the commands of a page, in its indented lines and in `code`, without comments and optional [parts]."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"\n {8,}(?=[\[-])", " ", text)  # a command's second line
    found = [line.strip() for line in re.findall(r"^    .+$", text, re.MULTILINE)]
    found += [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`", text)]
    for line in found:
        for part in re.split(r"\s+&&\s+", re.sub(r"\s{2,}# .*", "", line)):
            while part != (part := re.sub(r"\s*\[[^\[\]]*\]", "", part)):
                pass
            if part.startswith(STARTS):
                yield part


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands(page)))
HERE = [command for command in COMMANDS if not command.startswith(tuple(NOT_HERE))]


class FashionMnist(tfds.core.GeneratorBasedBuilder):
    """Stands in for the 70,000 images that cannot be downloaded here, in the same format and under the same name."""

    name = "fashion_mnist"
    VERSION = tfds.core.Version("3.0.1")
    pkg_dir_path = ROOT

    def _info(self):
        features = {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(60), "test": self._generate_examples(40)}

    def _generate_examples(self, count):
        for index in range(count):
            png = io.BytesIO()
            Image.new("L", (28, 28), index + count).save(png, "png")
            png.seek(0)
            yield index, {"image": png, "label": index % 10}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder like the repository's root, as its user stands in it, with what the commands name."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "configs").symlink_to(ROOT / "configs")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(folder / f"{name}.npy", rng.normal(size=(60, 1)))
    return folder


@pytest.fixture(autouse=True)
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(project / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))


def call(module: str, words: list[str]) -> None:
    trains = module == "sweep" and " ".join(words) == TRAINED
    getattr(importlib.import_module(f"experiments.{module}"), module)([*words, *TINY["run" if trains else module]])


def placed(word: str) -> str:
    flag, equals, value = word.partition("=")
    return f"{flag}{equals}{PLACES.get(value, value)}"


def test_there_are_commands():
    assert "python -m experiments.run --config=configs/wgan_gp.py" in COMMANDS[:4]
    assert len(HERE) >= 25
    assert [start for start in NOT_HERE if not any(command.startswith(start) for command in COMMANDS)] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", HERE)
def test_a_command_does_what_the_page_says(command, capsys, monkeypatch):
    monkeypatch.setattr("wgan_jax.features.classifier.STEPS", 50)  # of the features of fashion_mnist
    module, *words = [placed(word) for word in shlex.split(command)[2:]]
    name = module.removeprefix("experiments.")
    if "--config.data.data_dir=DIR" in command:
        words[-1] = "--config.data.data_dir=prepared"
        FashionMnist(data_dir="prepared", file_format="array_record").download_and_prepare()
    if "--config.data.path=DIR" in command:
        words[-1] = "--config.data.path=drawn"
        Path("drawn").mkdir(exist_ok=True)
        for index in range(100):
            Image.new("RGB", (8, 8), (index, 0, 2 * index)).save(f"drawn/{index}.png")
    if name == "tags":
        Path("faces").mkdir()
        Image.new("RGB", (8, 8)).save("faces/1.png")
        Path("tags.csv").write_text("1,red hair blue eyes\n", encoding="utf-8")
        words = ["--tags=tags.csv", "--images=faces"]
    if name in {"sample", "evaluate", "compare"} and not Path(RUN).exists():  # the page's first command has made it
        call("run", ["--config=configs/wgan_gp.py"])
    if name == "compare":
        words = [word.replace(PLACES["A"], RUN).replace(PLACES["B"], "runs/mine") for word in words]
        call("run", ["--config=configs/gan.py", "--config.loss=minimax", "--config.seed=3", "--workdir=runs/mine"])
    capsys.readouterr()
    call(name, words)
    out, flags = capsys.readouterr().out, dict(word.partition("=")[::2] for word in words)
    told = re.search(r"^(?:run|sweep) directory: (.+)$", out, re.MULTILINE)
    assert told is not None or name != "run" or "already done" in out  # where another test needed it
    if told or name == "evaluate":
        assert MADE[name] <= {path.name for path in Path(told[1] if told else flags["--workdir"]).iterdir()}
    for flag, otherwise in MADE_BY_FLAG.get(name, {}).items():
        assert Path(flags.get(flag, otherwise)).exists()
