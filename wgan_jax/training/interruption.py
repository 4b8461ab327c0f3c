"""SIGINT, SIGTERM and SIGUSR2: kept until the state is saved where there is something to save, obeyed at once elsewhere."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

from wgan_jax.errors import Interrupted

# A person's, a system's, and the one by which a cluster says that the time is nearly up; Windows has only the first two.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR2") if hasattr(signal, name)]


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
            self._old = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        heard, self.received = self.received, number
        if not self.deferred:
            raise Interrupted(number)
        if not heard:  # in a thread: what the signal interrupted may be printing, and hold the locks of it
            threading.Thread(target=self.tell, args=(number,), daemon=True).start()


def in_background[T](work: Callable[[], T]) -> T:
    """Returns work(), run in another thread, so that a signal is handled while it stays in compiled code for seconds."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
