"""What other processes take of this machine's cores."""

from __future__ import annotations

import os
import time

import psutil


class OthersLoad:
    """How many of the cores that this process may use others keep busy, on average from when this is made."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.idle, self.own = _idle_seconds(), _own_seconds()

    def cores(self) -> float:
        """0 to the number of cores; this process and its children do not count."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        busy = seconds * len(usable_cores()) - (_idle_seconds() - self.idle) - (_own_seconds() - self.own)
        return min(max(busy / seconds, 0.0), float(len(usable_cores())))


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    allowed = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None
    return allowed or list(range(os.cpu_count() or 1))


def n_cores() -> int:
    """How many cores this process may use."""
    return len(usable_cores())


def _idle_seconds() -> float:
    times = psutil.cpu_times(percpu=True)
    return sum(times[core].idle + getattr(times[core], "iowait", 0.0) for core in usable_cores() if core < len(times))


def _own_seconds() -> float:
    """Of this process, of its children, and of those that have ended."""
    process, total = psutil.Process(), 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:  # it has ended meanwhile, and counts with its parent
            continue
        total += times.user + times.system
        total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total
