"""The artefact in an interpreter that has jax but not this package: images equal to one uint8 level, at any batch size."""

import contextlib
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from wgan_jax.data.dataset import to_pixels
from wgan_jax.data.scaling import PIXELS, PLAIN
from wgan_jax.export import describe_generator, export_generator
from wgan_jax.models import build_networks
from wgan_jax.types import Latents

DIM, BATCHES = 5, (1, 7)

# name -> (preset, changes, shape of an example): every architecture and dtype, 1 and 3 channels, both latent laws, points
RUNS = {
    "mlp": ("digits", {}, (8, 8, 1)),
    "dcgan": ("fashion_mnist", {"model.name": "dcgan"}, (28, 28, 1)),
    "colour": ("folder", {"model.generator_normalization": "layer"}, (16, 16, 3)),
    "resnet": ("cifar10", {"model.name": "resnet"}, (8, 8, 3)),
    "float64": ("fashion_mnist", {"model.name": "dcgan", "dtype": "float64"}, (9, 9, 1)),
    "bfloat16": ("digits", {"dtype": "bfloat16"}, (8, 8, 1)),
    "points": ("gaussian", {}, (1,)),
}

# What a user without this package writes: argv is a folder. It imports what an artefact may need, and nothing else.
CLEAN = """
import importlib.util, json, pathlib, sys
assert importlib.util.find_spec("wgan_jax") is None, "the package is here"
import jax, numpy as np
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.export")):
    said = json.loads(pathlib.Path(f"{path}.json").read_text())
    generate = jax.export.deserialize(path.read_bytes()).call
    samples = {}
    with np.load(f"{path}.npz") as latents:
        for name in latents.files:
            assert latents[name].shape[1] == said["latent"]["dim"]
            x = np.asarray(generate(latents[name]))
            assert list(x.shape[1:]) == said["output"]["shape"] and x.dtype == np.float32, (x.shape, x.dtype)
            samples[name] = eval(said["output"]["to_uint8"], {**vars(np), "x": x}) if said["output"]["to_uint8"] else x
    np.savez(path.with_suffix(".npz"), **samples)
assert not {"flax", "optax", "orbax", "sklearn", "PIL", "ml_collections"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def exported(make_config, tmp_path_factory):
    """{name: (config, artefact, what is said of it, our samples, {batch: theirs})}."""
    folder, ours = tmp_path_factory.mktemp("exported"), {}
    for name, (preset, changes, shape) in RUNS.items():
        config = make_config(f"wgan_gp.py:{preset}", {"model.width": 8, "latent.dim": DIM, **changes})
        path, latents = folder / f"{name}.export", np.random.default_rng(0).normal(size=(max(BATCHES), DIM)).astype(np.float32)
        with jax.enable_x64(True) if config.dtype == "float64" else contextlib.nullcontext():
            networks, scaling = build_networks(config, shape), PLAIN if name == "points" else PIXELS
            variables = jax.device_get(jax.jit(networks.init_generator)(jax.random.key(1)))
            artefact = export_generator(networks, variables, DIM, scaling)
            samples = np.asarray(jax.jit(networks.generate)(variables, Latents(latents, np.zeros(len(latents), np.int32))))
            assert samples.dtype == {"float64": np.float64}.get(config.dtype, np.float32)
        path.write_bytes(artefact)
        said = describe_generator(config, shape, 12, "raw", scaling)
        (folder / f"{name}.export.json").write_text(json.dumps(said))
        np.savez(folder / f"{name}.export.npz", **{str(n): latents[:n] for n in BATCHES})
        ours[name] = (config, artefact, said, samples)
    (folder / "elsewhere").mkdir()
    command = [sys.executable, "-I", "-W", "error", "-c", CLEAN, str(folder)]
    done = subprocess.run(command, cwd=folder / "elsewhere", capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return {name: (*run, dict(np.load(folder / f"{name}.npz"))) for name, run in ours.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_program_without_this_package_draws_the_same_samples(exported, name):
    _, _, _, ours, theirs = exported[name]
    assert {len(x) for x in theirs.values()} == set(BATCHES)
    for x in theirs.values():
        if x.ndim == 4:
            levels = to_pixels(ours[: len(x)]).astype(int)
            assert np.ptp(levels) > 20  # images of one grey would always agree
            assert np.abs(x - levels).max() <= 1
        else:
            np.testing.assert_allclose(x, ours[: len(x)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RUNS)
def test_one_file_is_for_both_platforms_and_any_batch(exported, name):
    _, artefact, said, _, _ = exported[name]
    inside = jax.export.deserialize(bytearray(artefact))
    assert inside.platforms == ("cpu", "cuda")
    assert said["platforms"] == ["cpu", "cuda"]
    assert said["calling_convention_version"] == inside.calling_convention_version
    (latents,), (samples,) = inside.in_avals, inside.out_avals
    assert (str(latents.shape), latents.dtype) == (f"(b, {DIM})", np.float32)
    assert (str(samples.shape[0]), samples.shape[1:], samples.dtype) == ("b", RUNS[name][2], np.float32)


def test_the_parameters_are_in_the_file_once(exported):
    config, artefact, _, _, _ = exported["dcgan"]
    networks = build_networks(config, (28, 28, 1))
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(jax.eval_shape(networks.init_generator, jax.random.key(0))))
    assert size < len(artefact) < size + 40_000


def test_float64_is_computed_in_float64(exported):
    text = jax.export.deserialize(bytearray(exported["float64"][1])).mlir_module()
    assert "xf64>" in text
    assert "xf64>" not in jax.export.deserialize(bytearray(exported["dcgan"][1])).mlir_module()


def test_what_is_said_of_an_artefact(exported):
    said = exported["dcgan"][2]
    assert said["latent"] == {"law": "normal", "dim": DIM}
    assert (said["output"]["range"], said["labels"], said["step"], said["generator"]) == ([-1, 1], [], 12, "raw")
    assert said["jax"] == jax.__version__
    points = exported["points"][2]
    assert points["latent"] == {"law": "uniform", "dim": DIM, "low": 0.0, "high": 5.0}
    assert points["output"] == {"shape": [1], "range": None, "to_uint8": None, "dtype": "float32"}
