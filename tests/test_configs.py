"""Every config of every method builds, and configs/default.py has no key that nothing reads."""

import ast
import functools
import importlib
import inspect
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import default
from wgan_jax.config import flatten, mistakes
from wgan_jax.data import load_dataset
from wgan_jax.data.dataset import Split, Stored
from wgan_jax.data.scaling import PLAIN
from wgan_jax.data.source import Feed, make_feed
from wgan_jax.errors import UserError
from wgan_jax.keys import KEYS
from wgan_jax.training.program import make_run_updates, parts_of
from wgan_jax.training.update import make_hyperparameters

ROOT = Path(__file__).parent.parent
METHODS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "default"))
SOURCES = [path for folder in ("wgan_jax", "experiments") for path in (ROOT / folder).rglob("*.py") if path.name != "config.py"]


def get_config(method, preset):
    return importlib.import_module(f"configs.{method}").get_config(preset)


IMAGE_SHAPES = {
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "faces64": (64, 64, 3),
    "folder": (64, 64, 3),
}


ROWS = "size,kind,sold\n" + "".join(f"{index / 10},{'abc'[index % 3]},{index % 2}\n" for index in range(60))


@functools.cache
def table_file():
    path = Path(tempfile.mkdtemp()) / "table.csv"
    path.write_text(ROWS)
    return str(path)


def dataset_of(config):
    """The dataset of a config; for what is not shipped, blank examples."""
    shape = IMAGE_SHAPES.get(config.preset.split(",", maxsplit=1)[0])
    if config.data.name == "array":
        series = Split(np.zeros((20, 6, 2), np.float32), np.zeros(20, np.int32))
        return Stored((6, 2), series, series, series, scaling=PLAIN)
    if config.data.name == "table":
        config.data.path = table_file()
    if shape is None:
        return load_dataset(config)
    blank = Split(np.zeros((20, *shape), np.uint8), np.zeros(20, np.int32))
    return Stored(shape, blank, blank, blank, flip=config.data.flip, dequantise=config.data.dequantise)


def build(config):
    """Traces init_state and one call of the program, without compiling or running either."""
    dataset = dataset_of(config)
    _, steps = parts_of(config, dataset)
    state = jax.eval_shape(steps.init_state, jax.random.key(0))
    feed = Feed()
    if isinstance(dataset, Stored):
        resident = dataset.train._replace(images=dataset.scaling.for_device(dataset.train.images, 0))
        feed = make_feed(dataset, resident, 0, 0, 16, config.batch_size)
    hyper = make_hyperparameters(config)
    new_state, metrics, done, _ = jax.eval_shape(
        make_run_updates(config, dataset), state, jnp.int32(1), hyper, jax.random.key(1), feed
    )
    return state, new_state, metrics, done


# All methods with all presets, and with the papers' budgets; of images, whose tracing takes seconds, WGAN-GP's budgets only.
SPECS = [(method, preset) for method in METHODS for preset in default.PRESETS]
SPECS += [(method, f"{preset},paper=True") for method, preset in SPECS if method == "wgan_gp" or preset not in default.IMAGES]
# Presets of which another has the same networks and kind of data: tracing them shows nothing new.
ALIKE = {"grid25", "swiss_roll", "parallel_lines", "mnist"}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "spec"), SPECS)
def test_every_config_builds(method, spec):
    preset = spec.partition(",")[0]
    config = get_config(method, spec)
    assert mistakes(config) == []
    assert (config.method, config.preset) == (method, spec)
    assert config.data.name == {"faces64": "folder", "folder": "folder"}.get(
        preset, "tfds" if preset in default.IMAGES else preset
    )
    if preset in ALIKE:
        return
    config.model.depth = 1  # tracing the same layer again shows nothing new
    state, new_state, metrics, done = build(config)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new_state) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    of_critic = {"critic_loss", "wasserstein_estimate", "critic_input_gradient_norm", "critic_parameter_norm"}
    assert metrics.keys() & of_critic == (of_critic if config.n_critic else set())
    assert {"generator_loss", "generator_gradient_norm", "generator_parameter_norm"} <= metrics.keys()
    assert ("penalty" in metrics) == (config.penalty.name != "none")
    assert {leaf.shape for leaf in [done, *metrics.values()]} == {()}


@pytest.mark.parametrize(
    ("preset", "network"),
    [("faces64", "mlp"), ("fashion_mnist", "mlp"), ("mnist", "mlp"), ("folder", "dcgan"), ("faces64,paper=True", "dcgan")],
)
def test_aligned_images_have_mlps_on_a_laptop(preset, network):
    config = get_config("wgan_gp", preset)
    assert config.model.name == network
    assert not config.data.flip


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_its_presets_default_and_its_papers_budget(method):
    assert get_config(method, "digits").to_dict() == importlib.import_module(f"configs.{method}").get_config().to_dict()
    short, full = get_config(method, "ring8"), get_config(method, "ring8,paper=True")
    assert full.steps > short.steps
    assert full.model.width == (128 if method == "unrolled" else 512)
    assert get_config(method, "ring8,paper=False").steps == short.steps


# The published recipes, by hand from the papers named in each file.
PAPERS = {
    "wgan": {
        "clip": 0.01,
        "clip_scope": "all",
        "n_critic": 5,
        "batch_size": 64,
        "critic.optimizer": "rmsprop",
        "critic.learning_rate": 5e-5,
        "critic.beta2": 0.99,
        "generator.learning_rate": 5e-5,
        "warmup.critic_steps": 100,
        "warmup.first": 25,
        "warmup.every": 500,
        "penalty.name": "none",
    },
    "wgan_gp": {
        "penalty.name": "two_sided",
        "penalty.weight": 10.0,
        "penalty.points": "interpolates",
        "n_critic": 5,
        "batch_size": 64,
        "critic.optimizer": "adam",
        "critic.learning_rate": 1e-4,
        "critic.beta1": 0.0,
        "critic.beta2": 0.9,
        "generator.beta1": 0.0,
        "clip": 0.0,
    },
    "wgan_lp": {
        "penalty.name": "one_sided",
        "penalty.weight": 5.0,
        "penalty.points": "perturbed_both",
        "n_critic": 10,
        "critic.optimizer": "rmsprop",
        "critic.learning_rate": 5e-5,
        "model.critic_activation": "leaky_relu",
        "steps": 20_000,
    },
    "dragan": {
        "loss": "non_saturating",
        "penalty.name": "two_sided",
        "penalty.weight": 10.0,
        "penalty.points": "perturbed_real",
        "penalty.noise_scale": 0.5,
        "n_critic": 1,
        "critic.learning_rate": 1e-4,
        "critic.beta1": 0.5,
        "critic.beta2": 0.9,
    },
    "sngan": {
        "loss": "hinge",
        "model.critic_kernel": "spectral_kernel",
        "n_critic": 5,
        "critic.optimizer": "adam",
        "critic.learning_rate": 2e-4,
        "critic.beta1": 0.0,
        "critic.beta2": 0.9,
        "generator.learning_rate": 2e-4,
        "penalty.name": "none",
        "clip": 0.0,
    },
    "wgan_groupsort": {
        "loss": "wasserstein",
        "model.critic_kernel": "orthogonal",
        "model.critic_activation": "maxmin",
        "penalty.name": "none",
        "clip": 0.0,
    },
    "ttur": {
        "penalty.name": "two_sided",
        "penalty.weight": 10.0,
        "n_critic": 1,
        "critic.learning_rate": 3e-4,
        "generator.learning_rate": 1e-4,
    },
    "semi_supervised": {
        "loss": "non_saturating",
        "generator.loss_weight": 0.0,
        "critic.loss_weight": 1.0,
        "terms.feature_matching": 1.0,
        "terms.classification": 1.0,
        "model.classes": 10,
        "n_critic": 1,
    },
    "r3gan": {
        "loss": "relativistic",
        "penalty.name": "zero_centred",
        "penalty.points": "real_and_generated",
        "critic.beta1": 0.0,
        "model.critic_normalization": "none",
        "model.generator_normalization": "none",
        "n_critic": 1,
    },
    "gan": {"loss": "non_saturating", "penalty.name": "none", "clip": 0.0, "n_critic": 1},
}


@pytest.mark.parametrize("method", sorted(PAPERS))
def test_the_papers_numbers(method):
    flat = flatten(get_config(method, "digits,paper=True"))
    assert {key: flat[key] for key in PAPERS[method]} == PAPERS[method]


def test_every_method_keeps_to_the_keys():
    for method in METHODS:
        assert set(flatten(get_config(method, "grid25,paper=True"))) == set(KEYS)


@pytest.mark.parametrize("preset", ["ring9", "", "ring8,papre=True", "ring8,paper", "ring8,", "paper=True"])
@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_preset_is_refused(method, preset):
    with pytest.raises(ValueError, match=r"unknown (preset|option)"):
        get_config(method, preset)


# No key is dead: it is read while a program is built, or the source of the loop or of a launcher names it whole.


class Recorder:
    """Stands for a config and notes the dotted name of every value that is read through it."""

    def __init__(self, config, read, prefix=""):
        self._config, self._read, self._prefix = config, read, prefix

    def __getitem__(self, key):
        value, name = self._config[key], f"{self._prefix}{key}"
        if isinstance(value, ConfigDict):
            return Recorder(value, self._read, f"{name}.")
        self._read.add(name)
        return value

    __getattr__ = __getitem__


def read_when_built():
    read = set()
    toys = [("wgan", "gaussian"), ("dragan", "ring8"), ("imle", "ring8"), ("semi_supervised", "ring8")]
    for method, preset in [("wgan", "parallel_lines,paper=True"), *toys]:
        build(Recorder(get_config(method, preset), read))
    build(Recorder(get_config("wgan", "cifar10"), read))  # normalize_first belongs to DCGAN
    return read


def read_by_loaders(tmp_path):
    """The keys that loading images reads: a folder with labels, and a TFDS dataset that is not there."""
    read = set()
    for index in range(40):
        Image.new("L", (4, 4)).save(tmp_path / f"{index}.png")
    (tmp_path / "metadata.csv").write_text("file_name,a\n" + "".join(f"{index}.png,{index % 2}\n" for index in range(40)))
    config = get_config("wgan", "folder")
    config.data.update({"path": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "label": "a", "data_dir": str(tmp_path)})
    load_dataset(Recorder(config, read))
    config.data.name = "tfds"
    with pytest.raises(UserError):
        load_dataset(Recorder(config, read))
    config.data.update({"name": "array", "path": str(tmp_path / "array.npz")})
    np.savez(tmp_path / "array.npz", x=np.random.default_rng(0).normal(size=(60, 3)), y=np.arange(60) % 2)
    load_dataset(Recorder(config, read))
    config.data.update({"name": "table", "path": table_file()})
    load_dataset(Recorder(config, read))
    return read


def read_in_source(source):
    """The dotted keys of `config.a.b` in a module; a name that was assigned `config.a` stands for it."""
    tree = ast.parse(source)
    alias = {"config": ""}

    def key(node):
        if isinstance(node, ast.Name):
            return alias.get(node.id)
        if isinstance(node, ast.Attribute) and (holder := key(node.value)) is not None:
            return f"{holder}{node.attr}."
        return None

    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Attribute):
            alias.setdefault(node.targets[0].id, key(node.value))
    loads = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load))
    return {name[:-1] for name in map(key, loads) if name}


def test_every_key_is_read(tmp_path):
    read = (read_when_built() | read_by_loaders(tmp_path)).union(
        *(read_in_source(path.read_text(encoding="utf-8")) for path in SOURCES)
    )
    # Not evidence for a key in general, since a check reads it: these three serve the default workdir and a check alone.
    validation = read_in_source((ROOT / "wgan_jax" / "config.py").read_text(encoding="utf-8"))
    read |= validation & {"method", "preset", "clip_with_penalty"}
    assert set(flatten(default.default_config())) - read == set()


def test_the_search_for_reads_finds_only_reads():
    source = """
def f(config):
    config.written = 1
    section = config.section
    other = unknown.section
    return config.plain + section.leaf + other.leaf2 + "config.text" + config.deep.deeper.deepest  # config.comment
"""
    found = read_in_source(source) & {"written", "plain", "section.leaf", "leaf2", "section.leaf2", "text", "comment"}
    assert found == {"plain", "section.leaf"}
    assert "deep.deeper.deepest" in read_in_source(source)


def test_the_recorder_notes_only_what_is_read():
    config = default.default_config()
    config.unread = 1
    read = set()
    make_hyperparameters(Recorder(config, read))
    assert {"critic.beta1", "penalty.weight", "ema_decay", "dtype"} <= read
    assert not {"unread", "seed", "model.width", "critic"} & read


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_where_it_is_from(method):
    text = inspect.getdoc(importlib.import_module(f"configs.{method}"))
    assert "Paper:" in text
    assert f"--config=configs/{method}.py" in text
