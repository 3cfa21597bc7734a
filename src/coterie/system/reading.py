"""Files that users name, opened for reading: regular files alone, and texts split where a line ends."""

from __future__ import annotations

import codecs
import errno
import stat
from pathlib import Path


def regular(place: str | Path) -> Path:
    """The path of a regular file, or of a link to one; a pipe would wait for ever, and a device has no end.

    Raises:
        OSError: it is missing, cannot be looked at, or is something else; ``strerror`` says which.
    """
    path = Path(place).expanduser()
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a null character in the name
        raise OSError(errno.EINVAL, str(error)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


def reason(error: Exception) -> str:
    """Why a file cannot be read, without its name."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def read_text(place: str | Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 that says so, without the byte order mark that some editors put first.

    Raises:
        OSError: as ``regular``.
        ValueError: it is not UTF-8.
    """
    content = regular(place).read_bytes()
    return content.decode("utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")


def split_lines(text: str) -> list[str]:
    r"""Lines end with ``\n`` or ``\r\n`` alone: whatever else ``str.splitlines`` splits at may lie within a text.

    >>> split_lines("one\r\ntwo\u2028half\n")
    ['one', 'two\u2028half']
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
