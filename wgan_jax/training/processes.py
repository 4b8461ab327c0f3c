"""Several processes that train as one: which of them writes, how they agree, and how all end when one does.

Before and after a collective of the program the processes meet: each says whether it goes on, and learns what the others said.
Whoever ends early says so at the meeting that the others come to next, so that nobody waits for it. One alone meets nobody.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from wgan_jax.errors import Interrupted, LostError, UserError

# JAX's errors of a connection to another process, and their words, which those of memory and of programs do not have
CONNECTION_ERRORS = (RuntimeError, ValueError)  # JaxRuntimeError is one of the former
OF_OTHERS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat", "coordination service")


class _OtherEndedError(Exception):
    def __init__(self, process: int, signum: int) -> None:
        super().__init__(process, signum)
        self.process, self.signum = process, signum


def is_first() -> bool:
    """Returns whether this process evaluates, writes the run directory and speaks to the user; the others only train."""
    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Ends all processes with the one that fails or is interrupted in this context, and joins them at its end.

    Raises:
      UserError: another process failed.
      Interrupted: another process was.
      LostError: another process is gone without a word.
    """
    try:
        yield
        agree(0.0, 0)  # the others wait here while the first evaluates
    except _OtherEndedError as other:
        _part()
        if other.signum:
            raise Interrupted(other.signum) from None
        raise UserError(f"process {other.process} of {jax.process_count()} ended; its own message says why") from None
    except BaseException as error:
        if is_of_others(error):
            raise LostError(str(error)) from error
        if isinstance(error, jax.errors.JaxRuntimeError):  # the others are in a collective, which ends with this process
            raise
        with contextlib.suppress(*CONNECTION_ERRORS):  # of others that have ended too
            _meet(0.0, getattr(error, "signum", 0), ended=True)
            _part()
        raise
    _part()


def _part() -> None:
    """Takes leave of the others: all is done, and those that are gone already are not missed any more."""
    with contextlib.suppress(*CONNECTION_ERRORS):
        jax.distributed.shutdown()


def is_of_others(error: BaseException) -> bool:
    """Returns whether an error is JAX's of a connection to another process."""
    return isinstance(error, CONNECTION_ERRORS) and any(word in str(error) for word in OF_OTHERS)


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """Lets the first process through this context before the others, which then find the caches that it left."""
    if not is_first():
        agree(0.0, 0)
    yield
    if is_first():
        agree(0.0, 0)


def agree(seconds: float, signum: int) -> tuple[float, int]:
    """Returns the first process's seconds, and the signal that any of the processes received, or 0."""
    if jax.process_count() == 1:
        return seconds, signum
    said = _meet(seconds, signum, ended=False)
    return float(said[0, 0]), int(said[:, 1].max())


def from_first(tree: Any) -> Any:
    """Returns the first process's arrays on every process."""
    if jax.process_count() == 1:
        return tree
    agree(0.0, 0)
    return multihost_utils.broadcast_one_to_all(jax.device_get(tree))


def _meet(seconds: float, signum: int, *, ended: bool) -> np.ndarray:
    """Returns [processes, 3]: what each said."""
    said: np.ndarray = multihost_utils.process_allgather(np.array([seconds, signum, ended], np.float32))
    if not ended and said[:, 2].any():
        process = int(said[:, 2].argmax())
        raise _OtherEndedError(process, int(said[process, 1]))
    return said
