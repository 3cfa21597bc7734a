"""Limits of a run: how long it may take from a start, and how much memory it may hold."""

from __future__ import annotations

import time

import psutil
from typing_extensions import override

from coterie.errors import LimitError
from coterie.progress import Progress
from coterie.system.units import bytes_of, seconds_of

# Asking the kernel for the memory of each child takes some milliseconds.
SECONDS_PER_LOOK = 1.0


class Limits:
    """Limits on time and memory.

    Time counts from when this is made, by a clock that does not jump. Memory is the resident set of this process and
    its children; pages that they share count for each.

    Args:
        max_time: such as ``10m``; None: no limit.
        max_memory: such as ``4GiB``; None: no limit.
    """

    def __init__(self, max_time: str | None = None, max_memory: str | None = None) -> None:
        self.max_time = max_time
        self.max_memory = max_memory
        self.started = self.looked = time.monotonic()

    def check(self) -> None:
        """Check both limits; called where a run can be stopped without losing work.

        Raises:
            LimitError: a limit is reached.
        """
        now = time.monotonic()
        if self.max_time is not None and now - self.started >= seconds_of(self.max_time):
            raise LimitError(f"--max-time {self.max_time} is over")
        if self.max_memory is not None and now - self.looked >= SECONDS_PER_LOOK:
            self.looked = now
            held = resident_bytes()
            if held > bytes_of(self.max_memory):
                raise LimitError(
                    f"--max-memory {self.max_memory} is reached: this process and its children hold "
                    f"{held / 2**30:.2f} GiB. Allow more, or hold less: fewer --data.workers, a lower --data.memory-gib"
                )


NO_LIMITS = Limits()


class LimitedProgress(Progress):
    """Stops a training in another process at a step that it reports; the last state that it sent is kept."""

    def __init__(self, inner: Progress, limits: Limits) -> None:
        self.inner = inner
        self.limits = limits

    @override
    def stage(self, title: str, steps: int) -> None:
        self.inner.stage(title, steps)

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        self.inner.advance(steps, n_images, loss, accuracy)
        self.limits.check()

    @override
    def note(self, text: str) -> None:
        self.inner.note(text)

    @override
    def lane(self) -> Progress:
        return LimitedProgress(self.inner.lane(), self.limits)


def resident_bytes() -> int:
    """Bytes in the resident set of this process and its children."""
    process = psutil.Process()
    held = 0
    for each in (process, *process.children(recursive=True)):
        try:
            held += each.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended meanwhile
            continue
    return held
