"""What the launchers share: the cache of compiled programs, output that is never fatal, an environment that decides nothing."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import jax
import pytest

from experiments import command
from wgan_jax import runtime
from wgan_jax.config import load
from wgan_jax.errors import UserError
from wgan_jax.training.workdir import machine

PROGRAM = """
import sys
from wgan_jax.runtime import configure_jax
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


def test_a_key_without_a_value_takes_none_from_another_flag():
    parser = command.Parser("toy", "")
    parser.add_argument("--workdir")
    flags, overrides = parser.parse(["--config.seed", "3", "--config.data.flip", "--workdir", "x"])
    assert (flags.workdir, overrides) == ("x", ["--config.seed=3", "--config.data.flip"])


STEADY = """
import pathlib, sys, time
from experiments import command
def program(argv):
    for part in range(3):
        print("one ± two", "x" * 100_000, flush=True)
    pathlib.Path(argv[0]).write_text("done")
command.main(program)
"""


@pytest.mark.parametrize("shell", ["| head -c 1 | cat > /dev/null", "> /dev/full", ">&-", "| cat > /dev/null"])
def test_no_output_is_fatal(shell, tmp_path):
    """A reader that goes away, a full disk, no stream, an encoding without the letters: the work goes on to its end."""
    command = f'set -o pipefail; "$0" -c "$1" "$2" {shell}'
    words = ["bash", "-c", command, sys.executable, STEADY, str(tmp_path / "file")]
    done = subprocess.run(words, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == "done"


def test_the_width_of_the_terminal_is_known_behind_a_steady_output():
    above, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 61, 0, 0))
    code = "import shutil; from experiments import command; command.steady_output(); print(shutil.get_terminal_size().columns)"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    subprocess.run([sys.executable, "-c", code], stdout=terminal, env=environment, check=True)
    assert os.read(above, 100).split() == [b"61"]
    os.close(above), os.close(terminal)


def test_what_would_decide_unseen_is_taken_out_of_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("JAX_DEFAULT_PRNG_IMPL", "rbg")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    runtime.settle_environment()
    assert "JAX_DEFAULT_PRNG_IMPL" not in os.environ
    assert os.environ["MPLBACKEND"] == "agg"
    said = "warning: JAX_DEFAULT_PRNG_IMPL=rbg is ignored: it would change a run's numbers, or its program\n"
    assert capsys.readouterr().err == said
    assert (
        machine(1)["environment"]["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    )  # a user's to choose: recorded, and compared on resume


@pytest.mark.parametrize("error", [RuntimeError("Unable to initialize backend 'cuda'\nmore"), AssertionError()])
def test_a_platform_that_is_not_there_is_one_line(error, monkeypatch):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match=r"^JAX_PLATFORMS=cuda: .*; unset JAX_PLATFORMS, or install JAX for that device$"):
        runtime.configure_jax(load("configs/wgan_gp.py", ["--config.cache_dir="]))


@pytest.mark.parametrize(
    ("flags", "threads"),
    [
        ([], None),  # 64 x 256^2 multiplications a layer are shared out
        (["--config.model.width=128"], "1"),
        (["--config.model.width=128", "--config.devices=2"], None),
        (["--config.model.name=dcgan", "--config.model.width=8"], None),
    ],
)
def test_small_networks_have_one_thread(flags, threads, monkeypatch):
    monkeypatch.setenv("NPROC", "3")  # restored, whatever is set
    monkeypatch.delenv("NPROC")
    runtime.choose_threads(load("configs/wgan_gp.py", flags))
    assert os.environ.get("NPROC") == threads
    monkeypatch.setenv("NPROC", "3")
    runtime.choose_threads(load("configs/wgan_gp.py", flags))
    assert os.environ["NPROC"] == "3"  # a user's own


def test_a_launcher_called_as_a_file_says_how_to_call_it():
    done = subprocess.run([sys.executable, "experiments/run.py"], capture_output=True, text=True, check=False)
    said = "error: experiments/run.py: from the project's root, call python -m experiments.run\n"
    assert (done.returncode, done.stderr) == (2, said)
