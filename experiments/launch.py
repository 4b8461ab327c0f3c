"""What the launchers share: flags, exit codes, and the settings of JAX. Imports no jax before a config is checked."""

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict

from wgan_jax import paths
from wgan_jax.errors import Interrupted, NonFiniteError, UserError
from wgan_jax.keys import unknown_flag

USAGE, NON_FINITE, SIGNALLED = 2, 3, 128
# Multiplications of a layer. Two cores, jaxlib 0.12.0.1, ms per update on one thread and on two: ring8 at width 32 2.4 and 2.9,
# at 64 6.0 and 8.5, at 128 15 and 14; grid25, at 128 with half the batch, 9.2 and 13.
ONE_THREAD = 2**21
# Switches of JAX's that would change the numbers of a run unseen, or under which its compiled program is none.
IGNORED = (
    *("JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE", "JAX_ENABLE_CUSTOM_PRNG", "JAX_LEGACY_PRNG_KEY"),
    *("JAX_RANDOM_SEED_OFFSET", "JAX_DEFAULT_DTYPE_BITS", "JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION"),
    *("JAX_DISABLE_JIT", "JAX_TRANSFER_GUARD", "JAX_TRANSFER_GUARD_HOST_TO_DEVICE", "JAX_TRANSFER_GUARD_DEVICE_TO_HOST"),
    "JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE",
)


class Parser(argparse.ArgumentParser):
    """argparse with whole flag names, and mistakes as one line."""

    def __init__(self, module: str, description: str | None) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(f"python -m {module}", description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises the mistake that argparse found."""
        raise UserError(message.removeprefix("argument "))

    def parse(self, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Returns the flags and the `--config.key=value` overrides; `--config.key value` is understood too.

        Raises:
          UserError: unknown flags or arguments, or flags that do not fit.
        """
        overrides: list[str] = []
        others: list[str] = []
        for before, word in zip(["", *argv], argv, strict=False):
            if word.startswith("--config."):
                overrides.append(word)
            elif before.startswith("--config.") and "=" not in before and not word.startswith("--"):
                overrides[-1] += f"={word}"
            else:
                others.append(word)
        names = [word.partition("=")[0] for word in others if word.startswith("--")]
        known = [name for action in self._actions for name in action.option_strings]
        if unknown := [unknown_flag(name, known) for name in names if name not in known]:
            raise UserError(*unknown)
        if others and not others[0].startswith("-"):  # before argparse misses what it may have been meant for
            wanted = [name for action in self._actions if action.required for name in action.option_strings]
            name = next((name for name in wanted if name not in names), None)
            raise UserError(f"{others[0]}: not a flag; write {f'{name}={others[0]}' if name else '--name=value'}")
        arguments, rest = self.parse_known_args(others)
        if rest:
            raise UserError(*(f"{word}: not a flag; write --name=value" for word in rest))
        return arguments, overrides


def path(text: str) -> str:
    """The type of every flag that is a path: absolute, `~` expanded; a `/` at its end, which says folder, stays."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a path")
    try:
        return paths.absolute(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def check_file(flag: str, path: Path) -> None:
    """Checks that a file can be written where a flag says, before the work that fills it.

    Raises:
      UserError: it is a folder, or in none, or may not be written.
    """
    if path.is_dir():
        raise UserError(f"{flag}: {path}: name a file, not a folder")
    if not path.parent.is_dir():
        raise UserError(f"{flag}: no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{flag}: {path} cannot be written: permission denied")


def main(program: Callable[[list[str]], None]) -> NoReturn:
    """Runs program(argv) and exits: 0 done, 2 a user's mistake in a short message, 3 non-finite, 130/143 interrupted."""

    def interrupted(number: int, _: Any) -> NoReturn:
        raise SystemExit(SIGNALLED + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    steady_output()
    settle_environment()
    handler = logging.lastResort  # which looks for sys.stderr at each message, as a progress bar takes its place
    assert handler is not None
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, handlers=[handler])
    try:
        program(sys.argv[1:])
    except UserError as error:
        _stop(USAGE, *error.lines)
    except NonFiniteError as error:
        _stop(NON_FINITE, str(error))
    except Interrupted as error:
        print(f"{error}; the same command goes on from the newest checkpoint", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(SIGNALLED + error.signum)  # not waiting for a compilation under way
    except OSError as error:
        if error.errno is None:
            raise
        _stop(USAGE, f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}")
    sys.exit(0)


def _stop(code: int, *lines: str) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


class _Steady(io.TextIOWrapper):
    """A stream whose reader may go away, or whose disk may be full: what is lost then is the text, not the work."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._lose()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def steady_output() -> None:
    """Makes output never fatal: a closed pipe, a full disk, no stream at all, or letters that its encoding has not."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by a shell's >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):  # else it is somebody's own
            encoding, by_line, through = stream.encoding, stream.line_buffering, stream.write_through
            steady = _Steady(stream.detach(), encoding, "replace", None, by_line, through)
            setattr(sys, name, steady)
            setattr(sys, f"__{name}__", steady)  # which is asked for the terminal's width


def settle_environment() -> None:
    """Takes out of the environment what would decide unseen: IGNORED, each with a warning, and a notebook's backend of figures.

    What may change bits and is a user's to choose is recorded with the machine, see `wgan_jax.training.workdir.machine`.
    """
    os.environ["MPLBACKEND"] = "agg"  # figures are files; that of a notebook may not be importable here
    for name in IGNORED:
        if (value := os.environ.pop(name, None)) is not None:
            print(f"warning: {name}={value} is ignored: it would change a run's numbers, or its program", file=sys.stderr)


def choose_matmul_library() -> None:
    """Turns XLA:CPU's default matmul library off, unless XLA_FLAGS chooses one; takes effect before jax starts a backend."""
    if "ynn_fusion_type" not in os.environ.get("XLA_FLAGS", ""):
        # XLA:CPU's default matmul library is slower than Eigen on the small matrices of a critic's minibatch
        # (jaxlib 0.12.0.1, ring8 at width 128: 14.9 against 10.4 ms per update)
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_experimental_ynn_fusion_type="


def choose_threads(config: ConfigDict) -> None:
    """Gives XLA:CPU one thread where sharing out matmuls costs more than it brings; before jax starts a backend."""
    small = config.model.name == "mlp" and config.batch_size * config.model.width**2 <= ONE_THREAD
    if small and config.devices <= 1:
        os.environ.setdefault("NPROC", "1")  # the size of XLA's thread pools


def configure_jax(config: ConfigDict) -> None:
    """Sets what a config asks of JAX, see `set_jax`, and starts its backend.

    Raises:
      UserError: the platform that JAX_PLATFORMS asks for is not there.
    """
    set_jax(config)
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where JAX knows the platform and has no plugin for it
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked:
            raise
        why = (str(error).strip().splitlines() or ["JAX has no backend of that name here"])[0]
        raise UserError(f"JAX_PLATFORMS={asked}: {why}; unset JAX_PLATFORMS, or install JAX for that device") from error


def set_jax(config: ConfigDict) -> None:
    """Sets what a config asks of JAX: float64, so many virtual CPU devices, threads, and the cache of compiled programs."""
    choose_matmul_library()
    choose_threads(config)
    import jax

    jax.config.update("jax_enable_x64", config.dtype == "float64")
    if config.devices > 1:
        jax.config.update("jax_num_cpu_devices", config.devices)
    cache = paths.cache_folder(config.cache_dir, "compiled programs are not kept") if config.cache_dir else None
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        _rebuild_damaged(cache)


def _rebuild_damaged(cache: Path) -> None:
    """Deletes a cache entry that JAX says it cannot read: JAX warns before it compiles anew, and then stores the result."""
    show = warnings.showwarning

    def showwarning(message: Warning | str, *arguments: Any, **keywords: Any) -> None:
        text = str(message)
        if "persistent compilation cache entry" not in text:
            show(message, *arguments, **keywords)
        elif "Error reading" in text and "'" in text:
            module = text.split("'")[1]
            with contextlib.suppress(OSError):  # not ours to delete: it is compiled anew each time
                for entry in [path for path in cache.glob(f"{module}-*") if os.access(path, os.R_OK)]:
                    entry.unlink(missing_ok=True)
                    logging.getLogger(__name__).warning("%s: damaged; it was deleted and is rebuilt", entry)

    warnings.showwarning = showwarning
