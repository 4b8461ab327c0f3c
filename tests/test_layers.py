"""The import rule: a file imports from its own room or one above it, never below. Read from the source with ast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the top of the house to its bottom. A new folder, or a new file in training/, is given its room here.
ROOMS = [
    {"wgan_jax", "wgan_jax.training", "wgan_jax.types", "wgan_jax.errors", "wgan_jax.batching", "wgan_jax.registries"}
    | {
        f"wgan_jax.{name}"
        for name in ("paths", "records", "hints", "keys", "combinations", "config", "places", "plan", "sizes", "runtime")
    },
    {"wgan_jax.report"},
    {"wgan_jax.data"},
    {"wgan_jax.ops"},
    {"wgan_jax.models"},
    {"wgan_jax.objectives"},
    {"wgan_jax.training.update"},
    {"wgan_jax.training.program"},
    {"wgan_jax.metrics"},
    {"wgan_jax.features"},
    {"wgan_jax.evaluation", "wgan_jax.export"},
    {
        f"wgan_jax.training.{name}"
        for name in ("checkpoint", "display", "interruption", "logging", "processes", "results", "workdir")
    },
    {"wgan_jax.training.calls", "wgan_jax.training.budget"},
    {"wgan_jax.training.progress"},
    {"wgan_jax.training.loop", "wgan_jax.training.members"},
    {"wgan_jax.training.notebook"},
    {"wgan_jax.distance"},
    {"experiments", "benchmarks"},
]
# Beyond the order of the rooms: file -> what it does not import.
NEVER = {
    "wgan_jax.objectives": ("wgan_jax.models", "wgan_jax.data"),
    "wgan_jax.metrics": tuple(f"wgan_jax.{name}" for name in ("models", "objectives", "training", "report", "plan")),
    "wgan_jax.features": ("wgan_jax.objectives", "wgan_jax.training"),
    "wgan_jax.evaluation": ("wgan_jax.training",),
    "wgan_jax.training.checkpoint": ("wgan_jax.data", "wgan_jax.models", "wgan_jax.objectives", "wgan_jax.evaluation"),
    **{
        f"wgan_jax.{name}": ("jax", "flax", "optax", "wgan_jax.types")
        for name in ("registries", "records", "hints", "keys", "combinations", "config", "places", "paths", "plan", "sizes")
    },
    "wgan_jax.report": ("jax", "wgan_jax.data", "wgan_jax.evaluation", "wgan_jax.models", "wgan_jax.training"),
    "wgan_jax": ("configs", "experiments", "benchmarks", "tests"),
    "configs": ("wgan_jax",),
}
DEVICE_NAMES = {"pmap", "shard_map", "Mesh", "NamedSharding", "device_put"}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for folder in ("wgan_jax", "experiments", "benchmarks") for path in (ROOT / folder).rglob("*.py")}
CONFIGS = {name_of(path): path for path in (ROOT / "configs").rglob("*.py")}


def imports(source, name="", package=False):
    """All imported modules, wherever the import stands; of `from a import b` both a and a.b, as b may be a module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            here = name.split(".")
            parent = here[: len(here) - node.level + package] if node.level else []
            module = ".".join([*parent, *filter(None, [node.module])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def imports_of(name, path):
    return imports(path.read_text(encoding="utf-8"), name, path.stem == "__init__")


def inside(module, package):
    return module == package or module.startswith(package + ".")


def room(module):
    """The index of a module's room; the longest name that holds it counts."""
    holding = [(len(name), index) for index, names in enumerate(ROOMS) for name in names if inside(module, name)]
    if not holding or max(holding)[0] == len("wgan_jax") != len(module):
        return None
    if inside(module, "wgan_jax.training") and not any(module in names for names in ROOMS):
        return None
    return max(holding)[1]


def broken(name, modules):
    """The imports that break the rule, each as a line."""
    here = room(name)
    below = [m for m in modules if (m in FILES or room(m) is not None) and (room(m) is None or room(m) > here)]
    never = [m for holder, banned in NEVER.items() if inside(name, holder) for m in modules for b in banned if inside(m, b)]
    return [f"{name} imports {module}" for module in sorted({*below, *never})]


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_has_a_room(name):
    assert room(name) is not None, f"{name} has no room: see ROOMS"


@pytest.mark.parametrize("name", sorted(name for name in FILES if room(name) is not None))
def test_imports_only_from_rooms_above(name):
    assert broken(name, imports_of(name, FILES[name])) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("wgan_jax.data.source", "from wgan_jax.models import mlp"),
        ("wgan_jax.data.source", "def f():\n    import wgan_jax.objectives.losses"),
        ("wgan_jax.data.source", "from ..models import layers"),
        ("wgan_jax.objectives.losses", "from wgan_jax.data.dataset import from_pixels"),
        ("wgan_jax.training.update", "from wgan_jax.training import program"),
        ("wgan_jax.metrics.modes", "from wgan_jax.training.update import make_steps"),
        ("wgan_jax.batching", "from wgan_jax import data"),
        ("wgan_jax.models.mlp", "import experiments.run"),
        ("wgan_jax.types", "from configs import default"),
        ("wgan_jax.config", "import jax"),
    ],
)
def test_the_rule_finds_a_wrong_import(name, source):
    assert len(broken(name, imports(source, name))) > 0


def test_the_rule_allows_what_stands_above():
    source = "import jax, numpy\nfrom wgan_jax.batching import batch_std\nfrom wgan_jax import types\nfrom . import losses"
    assert broken("wgan_jax.objectives.penalties", imports(source, "wgan_jax.objectives.penalties")) == []


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_configs_import_only_ml_collections_and_the_default(name):
    allowed = ("ml_collections", "configs") if name.startswith("configs.ablations") else ("ml_collections", "configs.default")
    modules = imports_of(name, CONFIGS[name]) - {"configs"}  # `from configs import default` names both
    foreign = {m for m in modules if m.partition(".")[0] not in sys.stdlib_module_names}
    assert [m for m in foreign if not any(inside(m, a) for a in allowed)] == []


@pytest.mark.parametrize("name", sorted(name for name in FILES if inside(name, "wgan_jax")))
def test_only_the_program_knows_devices(name):
    if name == "wgan_jax.training.program":
        return
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert named & DEVICE_NAMES == set()


def test_a_config_is_validated_without_jax():
    code = (
        "import sys; from wgan_jax.config import load; config = load('configs/wgan_gp.py:ring8', ['--config.seed=3']);"
        "assert config.seed == 3; assert 'jax' not in sys.modules, 'jax was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_house_is_read():
    assert len(FILES) >= 19
    assert len(CONFIGS) >= 7
    assert all(isinstance(path, Path) for path in FILES.values())


def test_training_begins_without_what_it_does_not_need():
    """Their imports take 3 s together: they wait for the first evaluation, the first picture, the first checkpoint."""
    code = (
        "import sys, wgan_jax.training.loop; from wgan_jax.config import load; from wgan_jax.data import load_dataset;"
        "load_dataset(load('configs/wgan_gp.py:digits'));"
        "print(*({'sklearn', 'scipy.stats', 'scipy.optimize', 'matplotlib', 'orbax', 'tensorboardX'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
