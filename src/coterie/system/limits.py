"""How long a start of a run may take, and how much memory it may hold; and the units in which this is said."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import psutil
from typing_extensions import override

from coterie.errors import LimitError
from coterie.progress import Progress

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Asking the kernel for the memory of each child takes some milliseconds.
SECONDS_PER_LOOK = 1.0


def seconds_of(text: str) -> float:
    """``90s``, ``10m``, ``2h``, ``3d`` as seconds.

    Raises:
        ValueError: it is none of these.
    """
    return _amount(text, SECONDS, "90s, 10m, 2h or 3d")


def bytes_of(text: str) -> float:
    """``500MiB``, ``4GiB``, ``1TiB`` as bytes.

    Raises:
        ValueError: it is none of these.
    """
    return _amount(text, BYTES, "500MiB, 4GiB or 1TiB")


def _amount(text: str, units: Mapping[str, int], examples: str) -> float:
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)({'|'.join(units)})", text)
    amount = float(found[1]) * units[found[2]] if found else 0.0
    if not amount:
        raise ValueError(f"must be a number above 0 and a unit, as in {examples}")
    return amount


class Limits:
    """Time counts from when this is made, by a clock that does not jump. Memory is the resident set of this process
    and its children; pages that they share count for each.
    """

    def __init__(self, max_time: str | None = None, max_memory: str | None = None) -> None:
        self.max_time = max_time
        self.max_memory = max_memory
        self.started = self.looked = time.monotonic()

    def check(self) -> None:
        """To be called where the run can be stopped.

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


class LimitedProgress(Progress):
    """Stops a training that another process does, wherever it says how far it is; its last state is kept."""

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
    """The resident set of this process and its children."""
    process = psutil.Process()
    held = 0
    for each in (process, *process.children(recursive=True)):
        try:
            held += each.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended meanwhile
            continue
    return held
