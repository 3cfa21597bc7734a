"""Work shared out to threads: numpy and scipy let go of the interpreter's lock in the loops used here.

A matrix product by several threads of a BLAS has other last bits than one by one thread, and where vectors are all but
random, last bits decide between clusters. So products run on one thread each, in blocks that do not depend on the
machine, and blocks are shared out: a partition is the same with however many cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from coterie.system.load import n_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def machine_memory() -> int | None:
    """Bytes of the machine's memory; None where the system does not say."""
    names = getattr(os, "sysconf_names", {})
    known = "SC_PAGE_SIZE" in names and "SC_PHYS_PAGES" in names
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else None


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map`` over threads, one per core, in the order of the items. An interrupt drops what has not begun."""
    items = list(items)
    # Starting threads costs more than one item does, and one core would only switch between them.
    if len(items) < 2 or n_cores() == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(min(n_cores(), len(items)))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def each_in_threads(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """``in_threads`` for work without a result."""
    for _ in in_threads(work, items):
        pass


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Matrix products and decompositions on one thread each."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Found once: numpy and scipy bring their BLAS with their import, and the search takes some milliseconds."""
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


def spans(n: int, parts: int) -> list[slice]:
    """At most ``parts`` slices of nearly equal length that cover ``n``."""
    stops = [n * (k + 1) // parts for k in range(parts)]
    return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False) if stop > start]
