"""Durations, sizes and numbers of things as people write them: 90s, 10m, 4GiB, 1 row, 2 rows."""

from __future__ import annotations

import re
from collections.abc import Mapping

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Of a share: no budget is a million times what it is a share of.
MOST_TIMES = 10**6
BYTES = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def how_many(number: int, one: str, many: str | None = None) -> str:
    """A number of things, its thousands set apart.

    Args:
        number: how many.
        one: what a single one is called, with its verb if need be.
        many: what several are; default: ``one`` with an s, or es after an s.

    Examples:
        >>> how_many(1, "row"), how_many(1200, "row"), how_many(2, "class"), how_many(2, "text is", "texts are")
        ('1 row', '1,200 rows', '2 classes', '2 texts are')
    """
    several = one + ("es" if one.endswith("s") else "s")
    return f"{number:,} {one if number == 1 else many or several}"


def seconds_of(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``10m``, ``2h`` or ``3d``.

    Raises:
        ValueError: it has another form, or is 0.

    Examples:
        >>> seconds_of("1.5h")
        5400.0
    """
    return _amount(text, SECONDS, "90s, 10m, 2h or 3d")


def share_or_seconds(text: str) -> tuple[float, bool]:
    """A share such as ``0.5``, or the seconds of a duration, and whether it is a share.

    Raises:
        ValueError: it is neither, or is 0.

    Examples:
        >>> share_or_seconds("0.5"), share_or_seconds("20m")
        ((0.5, True), (1200.0, False))
    """
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        if not 0 < float(text) <= MOST_TIMES:
            raise ValueError(f"must be above 0 and at most {MOST_TIMES}")
        return float(text), True
    try:
        return seconds_of(text), False
    except ValueError:
        raise ValueError("must be a share, as in 0.5, or a duration, as in 90s, 20m or 2h") from None


def bytes_of(text: str) -> float:
    """Bytes of a size such as ``500MiB``, ``4GiB`` or ``1TiB``.

    Raises:
        ValueError: it has another form, or is 0.

    Examples:
        >>> bytes_of("0.5GiB")
        536870912.0
    """
    return _amount(text, BYTES, "500MiB, 4GiB or 1TiB")


def _amount(text: str, units: Mapping[str, int], examples: str) -> float:
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)({'|'.join(units)})", text)
    amount = float(found[1]) * units[found[2]] if found else 0.0
    if not amount:
        raise ValueError(f"must be a number above 0 and a unit, as in {examples}")
    return amount
