"""Nothing leaves the machine for a while: for what a stranger wrote must not decide what is fetched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

from coterie.errors import ArtifactError

# What Python tells of before it reaches out: to a name server, or to another machine.
REACHING_OUT = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"})

_purpose: ContextVar[str | None] = ContextVar("purpose", default=None)


@contextmanager
def offline(purpose: str) -> Iterator[None]:
    """Refuse all connections of this thread.

    Whatever library makes them: each has a switch of its own, some read theirs when they are imported, and some have
    none. Other threads are left alone.

    Args:
        purpose: what is done meanwhile, for the message.

    Raises:
        ArtifactError: something was to be fetched; names the host.
    """
    _watch()
    token = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(token)


@cache
def _watch() -> None:
    # Once, and only where it is needed: Python offers no way to take such a hook off again. It holds what it needs,
    # since it is also called when Python, at its end, has emptied this module.
    sys.addaudithook(partial(_refuse, REACHING_OUT, _purpose))


def _refuse(watched: frozenset[str], for_what: ContextVar[str | None], event: str, arguments: tuple[Any, ...]) -> None:
    if event in watched and (purpose := for_what.get()) is not None:
        # A name server is asked for a host; a socket is connected to an address, which begins with it.
        place = arguments[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else arguments[1]
        host = place[0] if isinstance(place, tuple) else place
        raise ArtifactError(f"{purpose} would fetch something from {host}, and never leaves the machine")
