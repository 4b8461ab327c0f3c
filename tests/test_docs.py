"""The examples of docs/library.md run as they stand."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from wgan_jax.config import load
from wgan_jax.export import describe_generator, export_generator
from wgan_jax.models import ARCHITECTURES, build_networks, make_sampler

TEXT = (Path(__file__).parent.parent / "docs" / "library.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"## ([^\n]+)\n(?:(?!\n## ).)*?```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(autouse=True)
def contained(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("wgan_jax.models.ARCHITECTURES", dict(ARCHITECTURES))


def run(code):
    names = {}
    exec(compile(code, "docs/library.md", "exec"), names)
    return names


def test_there_are_examples():
    assert len(EXAMPLES) == TEXT.count("```python") >= 6


@pytest.mark.slow
@pytest.mark.parametrize("code", [pytest.param(code, id=title) for title, code in EXAMPLES])
def test_an_example_runs(code):
    assert run(code)


def test_the_exported_generator_is_sampled_as_shown(tmp_path):
    config = load("configs/wgan_gp.py:digits", ["--config.model.width=8"])
    networks = build_networks(config, (8, 8, 1))
    variables = networks.init_generator(jax.random.key(0))
    (tmp_path / "generator").write_bytes(export_generator(networks, variables, config.latent.dim))
    names = run(dict(EXAMPLES)["An exported generator"])
    images = names["sample_normal"](str(tmp_path / "generator"), config.latent.dim, 5, 3)
    wanted = make_sampler(networks)(variables, jax.random.key(3), np.zeros(5, np.int32), 0)[1]
    np.testing.assert_allclose(images, (np.asarray(wanted) + 1) * 127.5, atol=1)
    described = describe_generator(config, (8, 8, 1), 0, "ema")
    assert json.loads(json.dumps(described))["latent"] == {"law": "normal", "dim": config.latent.dim}
