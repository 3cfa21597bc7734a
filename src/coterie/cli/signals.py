"""Ctrl-C and SIGTERM while a command runs."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A second Ctrl-C within this time is the same wish; after it, the user will not wait for what is being put in order.
SAME_WISH_SECONDS = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM ends a command as Ctrl-C does."""


class _Handler:
    """The first signal is raised. What follows at once is not heard: it would break what the first has begun."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if now - self.first > SAME_WISH_SECONDS:
            # What a run folder holds is whole at any moment.
            os._exit(128 + number)

    def at_exit(self) -> None:
        """Python's last steps put the default action back, which would end the process by the signal, not its code."""
        if self.first is not None:
            # Of a signal that comes within these calls Python says, where nobody can catch it, that it was ignored.
            sys.unraisablehook = lambda _: None
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def interrupts(*, until_exit: bool) -> Iterator[None]:
    """Hear SIGINT, where it is heard by Python's own handler, and SIGTERM; in another than the main thread neither.

    Args:
        until_exit: the process ends with the command, so that after a signal the handler stays.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler()
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, handler)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, handler)
    if until_exit:
        atexit.register(handler.at_exit)
    try:
        yield
    finally:
        if handler.first is None or not until_exit:
            for number, its in before.items():
                signal.signal(number, its)
