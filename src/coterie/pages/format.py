"""Numbers as pages and tables show them."""

from __future__ import annotations


def percent(share: float, digits: int = 2) -> str:
    """A share of 1 in per cent, with a space that does not break."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def points(difference: float, digits: int = 2) -> str:
    """A difference of two shares in percentage points, always signed unless it rounds to 0."""
    number = f"{100 * abs(difference):.{digits}f}"
    if not float(number):
        return number
    return ("+" if difference > 0 else "\N{MINUS SIGN}") + number


def seconds(duration: float) -> str:
    """A duration in the two largest units that it fills."""
    if duration < 60:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def milliseconds(duration: float) -> str:
    """A duration given in ms."""
    return f"{duration:.2f} ms" if duration < 100 else f"{duration:,.0f} ms"


def size(n_bytes: float) -> str:
    """A number of bytes in decimal units."""
    for unit in ("kB", "MB"):
        n_bytes /= 1000
        if n_bytes < 1000:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1000:.1f} GB"


def count(number: int) -> str:
    """A whole number with its thousands set apart."""
    return f"{number:,}"
