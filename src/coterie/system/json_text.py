"""JSON that strangers may have written: parsed within bounds, and nothing that could not be written back."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

# Levels of lists and objects. What coterie writes has some ten.
DEEPEST = 64
# Small values take thirty times their length in memory. The largest file, of half a million epochs, has 50 MB.
MOST_BYTES = 2**26
# Characters in a message of the place of a wrong value: keys are anybody's.
WHERE_SHOWN = 200


def to_json(value: Any) -> bytes:
    """Plain values as JSON, for people too.

    Raises:
        ValueError: NaN or infinity, or half a character (a lone surrogate).
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode()


def from_json(content: bytes) -> Any:
    """The inverse of ``to_json``.

    Raises:
        ValueError: it is not JSON, too long or too deep, or holds what ``to_json`` refuses; the message says which.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has {len(content):,} bytes; at most {MOST_BYTES:,} are read")
    try:
        value = json.loads(content.decode("utf-8"))
        if is_deep(value):
            raise _too_deep()
        # A number such as 1e999 is infinity by now, and a text may hold a lone surrogate.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise _too_deep() from None
    return value


def first_fault(error: ValidationError) -> str:
    """Where values are wrong first, and how, in a line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "top level"
    return f"{where[:WHERE_SHOWN]}: {first['msg']}"


def is_deep(value: Any) -> bool:
    """Whether lists and objects lie in more than ``DEEPEST`` levels."""
    level = [value]
    for _ in range(DEEPEST):
        level = [item for each in level for item in _items(each) if isinstance(item, dict | list)]
    return bool(level)


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {DEEPEST} deep")
