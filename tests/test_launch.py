"""The cache of compiled programs: used by default, and rebuilt where an entry is damaged."""

import subprocess
import sys

PROGRAM = """
import sys
from experiments.launch import configure_jax
from wgan_jax.config import load
configure_jax(load("configs/wgan_gp.py", ["--config.cache_dir=" + sys.argv[1]]))
import jax, jax.numpy as jnp
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(float(jax.jit(lambda x: jnp.sum(jnp.sin(x) @ x))(jnp.ones((8, 8)))))
"""


def _run(cache):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(cache)], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def _entries(cache):
    return {path.name: path.read_bytes() for path in cache.glob("jit__lambda*-cache")}


def test_a_damaged_cache_entry_is_deleted_and_rebuilt(tmp_path):
    result, _ = _run(tmp_path)
    whole = _entries(tmp_path)
    assert whole
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    again, message = _run(tmp_path)
    assert again == result
    assert "was deleted and is rebuilt" in message
    assert {name: len(content) for name, content in _entries(tmp_path).items()}.keys() == whole.keys()
    assert all(len(content) > len(whole[name]) // 2 + 1 for name, content in _entries(tmp_path).items())
    _, message = _run(tmp_path)
    assert "rebuilt" not in message
