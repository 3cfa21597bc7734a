"""Work shared out to threads: numpy and scipy let go of the interpreter's lock in the loops used here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory() -> int | None:
    """Bytes of the machine's memory; None where the system does not say."""
    names = getattr(os, "sysconf_names", {})
    known = "SC_PAGE_SIZE" in names and "SC_PHYS_PAGES" in names
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else None


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map`` over threads, one per core. An interrupt drops what has not begun."""
    pool = ThreadPoolExecutor(n_cores())
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Matrix products on one thread each, for work that is shared out to threads already."""
    with threadpool_limits(1, user_api="blas"):
        yield


def spans(n: int, parts: int) -> list[slice]:
    """At most ``parts`` slices of nearly equal length that cover ``n``."""
    stops = [n * (k + 1) // parts for k in range(parts)]
    return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False) if stop > start]
