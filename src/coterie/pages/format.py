"""Numbers as pages and terminals show them. In templates each of these functions is a filter of the same name."""

from __future__ import annotations

import math
from collections.abc import Callable

from coterie.measures.significance import Interval

NO_BREAK = "\N{NO-BREAK SPACE}"


def percent(share: float, digits: int = 2) -> str:
    """A share of 1 in per cent: ``71.23 %``, with a space that does not break."""
    return f"{hundredths(share, digits)}{NO_BREAK}%"


def hundredths(share: float, digits: int = 2) -> str:
    """A share of 1 in per cent without the sign, for columns that have it in their heading: ``71.23``."""
    return f"{100 * share:.{digits}f}"


def points(difference: float, digits: int = 2) -> str:
    """A difference of two shares in percentage points, signed unless it rounds to 0: ``+1.03``."""
    number = f"{100 * abs(difference):.{digits}f}"
    if not float(number):
        return number
    return ("+" if difference > 0 else "\N{MINUS SIGN}") + number


def interval(low: float, high: float, digits: int = 2) -> str:
    """The ends of an interval of a difference, in points: ``+0.41 to +1.65``."""
    return f"{points(low, digits)} to {points(high, digits)}"


def gain(found: Interval) -> str:
    """A difference in points with its interval: ``+1.03 (+0.41 to +1.65)``; of one seed, which has none, alone."""
    return points(found.mean) + (f" ({interval(found.low, found.high)})" if math.isfinite(found.low) else "")


def zero(low: float, high: float) -> str:
    """Whether an interval includes zero, in words."""
    return f"the interval {'excludes' if low > 0 or high < 0 else 'includes'} zero"


def mean_share(found: Interval) -> str:
    """A mean over seeds in per cent, with half the interval's width: ``71.23 ±0.31``; of one seed, alone."""
    half = f" ±{hundredths(found.high - found.mean)}" if math.isfinite(found.high) else ""
    return hundredths(found.mean) + half


def chance(p: float | None) -> str:
    """A p-value with two digits; nothing for None."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.2g}"


def decimal(number: float, digits: int = 2) -> str:
    """A number with a fixed count of digits: passes, multiples of the base's cost, scores."""
    return f"{number:.{digits}f}"


def count(number: float) -> str:
    """A whole number with its thousands set apart: ``1,234,567``."""
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """A measured duration in the two largest units that it fills: ``2.3 s``, ``12 min 5 s``, ``1 h 2 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def rough_duration(seconds: float) -> str:
    """An estimated duration: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def milliseconds(duration_ms: float) -> str:
    """A duration given in ms."""
    return f"{duration_ms:.2f} ms" if duration_ms < 100 else f"{duration_ms:,.0f} ms"


def size(n_bytes: float) -> str:
    """A number of bytes in decimal units, as weights are told: ``128.6 MB``."""
    for unit in ("kB", "MB"):
        n_bytes /= 1000
        if n_bytes < 1000:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1000:.1f} GB"


def mebibytes(n_bytes: float, digits: int = 0) -> str:
    """A number of bytes in the unit that limits are given in: ``1,024 MiB``."""
    return f"{n_bytes / 2**20:,.{digits}f} MiB"


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        percent,
        hundredths,
        points,
        interval,
        gain,
        zero,
        mean_share,
        chance,
        decimal,
        count,
        duration,
        rough_duration,
        milliseconds,
        size,
        mebibytes,
    )
}
