"""One of several processes that share a run's batches: the flags that describe them, and how they find each other."""

import argparse
import os
import re
import socket
import sys
import threading

from ml_collections import ConfigDict

from experiments import command
from experiments.last_line import filter_stderr
from wgan_jax import runtime
from wgan_jax.errors import LostError, UserError

HEARTBEAT = 100  # seconds; JAX's own
DAY = 24 * 3600


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --distributed and the flags that describe the processes."""
    add = parser.add_argument
    add("--distributed", action="store_true", help="as one of the processes that these flags or a launcher describe")
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    add("--processes", type=int, metavar="N", help="how many there are")
    add("--process", type=int, metavar="I", help="which of them this is, from 0")
    add("--heartbeat", type=int, metavar="SECONDS", help=f"when a silent process counts as lost (default: {HEARTBEAT})")


def join(config: ConfigDict, flags: argparse.Namespace) -> None:
    """Sets what a config asks of JAX and makes this process one of several, as checked flags or the launcher say.

    Ends the process with exit code 2 where the others do not come in time.

    Raises:
      UserError: there is no launcher, or the coordinator's port is taken.
      LostError: another process is gone before all have met.
    """
    if flags.process == 0:
        _check_port(int(flags.coordinator.rpartition(":")[2]))
    command.before_exit(filter_stderr(str(LostError())))
    runtime.set_jax(config)
    import jax

    from wgan_jax.training.processes import CONNECTION_ERRORS, is_of_others

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    heartbeat = flags.heartbeat or HEARTBEAT
    where = f"--coordinator: {flags.coordinator or 'of the launcher'}"

    def give_up() -> None:
        print(f"error: {where}: not all processes came within {heartbeat} seconds (--heartbeat)", file=sys.stderr)
        command.leave(command.USAGE)  # what waits is compiled code, which would end in a stack trace

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
    except CONNECTION_ERRORS as error:
        if is_of_others(error):
            raise LostError(str(error)) from error
        if not isinstance(error, ValueError):
            raise
        raise UserError("--distributed: no launcher found; give --coordinator=HOST:PORT --processes=N --process=I") from error
    finally:
        timer.cancel()


def check_flags(flags: argparse.Namespace) -> None:
    """Checks the flags that describe the processes.

    Raises:
      UserError: they do not fit together.
    """
    given = {f"--{name}": getattr(flags, name) for name in ("coordinator", "processes", "process")}
    named = [name for name, value in given.items() if value is not None]
    if not flags.distributed and (flags.heartbeat is not None or named):
        raise UserError(f"{(named or ['--heartbeat'])[0]}: says how several processes find each other; give --distributed too")
    if flags.heartbeat is not None:
        command.check_whole("--heartbeat", flags.heartbeat, 1, DAY)
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
