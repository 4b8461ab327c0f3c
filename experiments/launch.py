"""What the launchers share: flags, exit codes, and the settings of JAX. Imports no jax before a config is checked."""

import argparse
import difflib
import logging
import os
import re
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict

from wgan_jax.errors import Interrupted, NonFiniteError, UserError

USAGE, NON_FINITE, SIGNALLED = 2, 3, 128
HEARTBEAT = 100  # seconds; JAX's own
# Multiplications of a layer. Two cores, jaxlib 0.12.0.1, ms per update on one thread and on two: ring8 at width 32 2.4 and 2.9,
# at 64 6.0 and 8.5, at 128 15 and 14; grid25, at 128 with half the batch, 9.2 and 13.
ONE_THREAD = 2**21


class Parser(argparse.ArgumentParser):
    """argparse with whole flag names, and mistakes as one line."""

    def __init__(self, module: str, description: str | None) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(f"python -m {module}", description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises the mistake that argparse found."""
        raise UserError(message)

    def parse(self, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Returns the flags and the `--config.key=value` overrides; `--config.key value` is understood too.

        Raises:
          UserError: unknown flags or arguments, or flags that do not fit.
        """
        overrides: list[str] = []
        others: list[str] = []
        for word in argv:
            if word.startswith("--config."):
                overrides.append(word)
            elif overrides and "=" not in overrides[-1] and not word.startswith("--"):
                overrides[-1] += f"={word}"
            else:
                others.append(word)
        names = [word.partition("=")[0] for word in others if word.startswith("--")]
        known = [name for action in self._actions for name in action.option_strings]
        if unknown := [_unknown(name, known) for name in names if name not in known]:
            raise UserError(*unknown)
        arguments, rest = self.parse_known_args(others)
        if rest:
            raise UserError(*(f"{word}: not a flag; write --name=value" for word in rest))
        return arguments, overrides


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"{name}: no such flag; " + (f"did you mean {close[0]}?" if close else "--help lists them")


def main(program: Callable[[list[str]], None]) -> NoReturn:
    """Runs program(argv) and exits: 0 done, 2 a user's mistake in a short message, 3 non-finite, 130/143 interrupted."""

    def interrupted(number: int, _: Any) -> NoReturn:
        raise SystemExit(SIGNALLED + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
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
    except BrokenPipeError:
        _stop(SIGNALLED + signal.SIGPIPE)
    except OSError as error:
        if error.errno is None:
            raise
        _stop(USAGE, f"{error.filename or 'output'}: {(error.strerror or str(error)).lower()}")
    sys.exit(0)


def _stop(code: int, *lines: str) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


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
    """Sets what a config asks of JAX: float64, so many virtual CPU devices, threads, and the cache of compiled programs."""
    choose_matmul_library()
    choose_threads(config)
    import jax

    jax.config.update("jax_enable_x64", config.dtype == "float64")
    if config.devices > 1:
        jax.config.update("jax_num_cpu_devices", config.devices)
    if config.cache_dir:
        cache = Path(config.cache_dir).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        _rebuild_damaged(cache)


def add_process_flags(parser: Parser) -> None:
    """Adds --distributed and the flags that describe the processes."""
    add = parser.add_argument
    add("--distributed", action="store_true", help="as one of the processes that these flags or a launcher describe")
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    add("--processes", type=int, metavar="N", help="how many there are")
    add("--process", type=int, metavar="I", help="which of them this is, from 0")
    add("--heartbeat", type=int, metavar="SECONDS", help=f"when a silent process counts as lost (default: {HEARTBEAT})")


def join_processes(config: ConfigDict, flags: argparse.Namespace) -> None:
    """Sets what a config asks of JAX and makes this process one of several, as checked flags or the launcher say.

    Ends the process with exit code 2 where the others do not come in time.

    Raises:
      UserError: there is no launcher, or the coordinator's port is taken.
    """
    if flags.process == 0:
        _check_port(int(flags.coordinator.rpartition(":")[2]))
    configure_jax(config)
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    heartbeat = flags.heartbeat or HEARTBEAT
    where = f"--coordinator: {flags.coordinator or 'of the launcher'}"

    def give_up() -> None:
        print(f"error: {where}: not all processes came within {heartbeat} seconds (--heartbeat)", file=sys.stderr, flush=True)
        os._exit(USAGE)  # what waits is compiled code, which would end in a stack trace

    timer = threading.Timer(heartbeat, give_up)
    timer.start()
    try:
        jax.distributed.initialize(
            flags.coordinator,
            flags.processes,
            flags.process,
            initialization_timeout=2 * heartbeat,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
        jax.devices()
    except ValueError as error:
        raise UserError("--distributed: no launcher found; give --coordinator=HOST:PORT --processes=N --process=I") from error
    finally:
        timer.cancel()


def check_process_flags(flags: argparse.Namespace) -> None:
    """Checks the flags that describe the processes.

    Raises:
      UserError: they do not fit together.
    """
    given = {f"--{name}": getattr(flags, name) for name in ("coordinator", "processes", "process")}
    named = [name for name, value in given.items() if value is not None]
    if not flags.distributed and (flags.heartbeat is not None or named):
        raise UserError(f"{(named or ['--heartbeat'])[0]}: says how several processes find each other; give --distributed too")
    if flags.heartbeat is not None and flags.heartbeat < 1:
        raise UserError(f"--heartbeat: {flags.heartbeat} is not a whole number of seconds from 1")
    if named and len(named) < len(given):
        missing = " and ".join(name for name in given if name not in named)
        raise UserError(f"{named[0]}: needs {missing} too, or none of them under a launcher such as Slurm")
    if not named:
        return
    port = re.fullmatch(r".+:(\d{1,5})", flags.coordinator)
    if port is None or not 0 < int(port[1]) < 2**16:
        raise UserError(f"--coordinator: {flags.coordinator!r} is not HOST:PORT")
    if not 0 <= flags.process < flags.processes:
        raise UserError(f"--process: {flags.process} of --processes={flags.processes}; it counts from 0")


def _check_port(port: int) -> None:
    """Jaxlib 0.12.0.1 crashes where it cannot listen."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UserError(f"--coordinator: port {port}: {os.strerror(error.errno or 0).lower()}") from error


def _rebuild_damaged(cache: Path) -> None:
    """Deletes a cache entry that JAX says it cannot read: JAX warns before it compiles anew, and then stores the result."""
    show = warnings.showwarning

    def showwarning(message: Warning | str, *arguments: Any, **keywords: Any) -> None:
        text = str(message)
        if "persistent compilation cache entry" not in text:
            show(message, *arguments, **keywords)
        elif "Error reading" in text and "'" in text:
            module = text.split("'")[1]
            for entry in cache.glob(f"{module}-*"):
                entry.unlink(missing_ok=True)
            logging.getLogger(__name__).warning("a damaged entry of %s was deleted and is rebuilt: %s", cache, module)

    warnings.showwarning = showwarning
