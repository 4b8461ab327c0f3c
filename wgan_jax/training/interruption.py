"""SIGINT, SIGTERM, SIGHUP and SIGUSR2: kept until the state is saved where there is something to save, else obeyed at once."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

from wgan_jax.errors import Interrupted

# A person's, a system's, a closed terminal's, and a cluster's when the time is nearly up; Windows has only the first two.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2") if hasattr(signal, name)]
LOOK = 0.1  # seconds between looks at whether a signal came


def is_handled(number: int) -> bool:
    """Says whether a signal is to be handled: not the SIGHUP that nohup has this process ignore."""
    return number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) is not signal.SIG_IGN


class Signals:
    """Within its context a signal raises Interrupted, or, while `deferred`, only sets `received` and calls `tell`.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.received = 0
        self.deferred = False
        self.tell: Callable[[int], None] = lambda number: None
        self._old: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._handle) for number in SIGNALS if is_handled(number)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def obey(self) -> None:
        """Ends the deferral.

        Raises:
          Interrupted: a signal came meanwhile.
        """
        self.deferred = False
        if self.received:
            raise Interrupted(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        heard, self.received = self.received, number
        if not self.deferred:
            raise Interrupted(number)
        if not heard:  # in a thread: what the signal interrupted may be printing, and hold the locks of it
            threading.Thread(target=self.tell, args=(number,), daemon=True).start()


def in_background[T](work: Callable[[], T]) -> T:
    """Returns work(), run in another thread, so that a signal is handled while it stays in compiled code for seconds."""
    thread, result = _started(work)
    thread.join()
    return result()


def unless_interrupted[T](work: Callable[[], T], signals: Signals) -> T | None:
    """Returns work(), which is not None; or None as soon as a deferred signal is received."""
    thread, result = _started(work)
    while thread.is_alive() and not signals.received:
        thread.join(LOOK)
    return None if signals.received else result()


def _started[T](work: Callable[[], T]) -> tuple[threading.Thread, Callable[[], T]]:
    """Returns the thread in which work() is begun, and what gives its result, or raises its error, once that has ended."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    def result() -> T:
        if errors:
            raise errors[0]
        return results[0]

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result
