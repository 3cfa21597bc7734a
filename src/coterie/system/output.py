"""Standard output and error: control characters are shown, not sent, and no character or full disk ends a command.

Names of classes, files and columns come from strangers' runs. Whatever a command or a library prints passes through the
streams that ``guarded_streams`` puts in place, and what rich draws through ``SafeConsole``.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

# What controls a terminal (C0 and C1 but for tab and line feed), breaks a line, or changes the order in which letters
# are shown; and halves of surrogate pairs, which no encoding has, such as bytes of a file's name that are no UTF-8.
CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff]"
_CONTROL = re.compile(CONTROL)
# What libraries send to draw bars and colours: they begin a line again, go up one, clear it, or change colour.
_DRAWING = re.compile(rf"(?P<drawing>\r|\x1b\[[0-9;]*[mAK])|{CONTROL}")
# Our own signs, and those of rich, for encodings that lack them.
SIGNS = {"\N{CHECK MARK}": "x", "\N{HORIZONTAL ELLIPSIS}": "...", "\N{MINUS SIGN}": "-", "\xa0": " ", "\xb1": "+-"}
FALL_BACK = "coterie.signs"


class OutputLost(KeyboardInterrupt):
    """Standard output takes nothing any more: the command ends as by Ctrl-C, so that what is finished is kept."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def shown(text: str) -> str:
    """The text with its control characters escaped as Python does; line feeds and tabs stay."""
    return _CONTROL.sub(lambda match: _escaped(match[0]), text)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON, on one line or indented, in which nothing controls a terminal or breaks a line; values are exact."""
    # Where the stream cannot take every letter, all but ASCII is escaped, by the rules of JSON.
    text = json.dumps(value, ensure_ascii=not _is_unicode(sys.stdout), indent=indent)
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def say(text: str) -> None:
    """Print a message to standard error, if there is one."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(shown(text), file=sys.stderr)  # noqa: T201 - the one place for messages


class GuardedStream:
    """A text stream that shows control characters; in all else the stream beneath it.

    Args:
        stream: what is written to.
        lost: is told that it takes nothing any more.
        clean: from what is written to what is sent.
    """

    def __init__(self, stream: TextIO, lost: Callable[[OSError], None], clean: Callable[[str], str]) -> None:
        self.stream = stream
        self.lost = lost
        self.clean = clean

    def write(self, text: str) -> int:
        """Write a text; the number of its characters."""
        try:
            self.stream.write(self.clean(text))
        except OSError as error:
            self.lost(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send what is held back."""
        try:
            self.stream.flush()
        except OSError as error:
            self.lost(error)

    def unfiltered(self) -> GuardedStream:
        """The same for one who cleans texts itself, and has to control the terminal."""
        return GuardedStream(self.stream, self.lost, str)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Put guards before standard output and error. What is lost of the first ends the command; of the second, nothing.
    Where a stream was closed, what is written goes nowhere, and there is nothing to read.

    Raises:
        OutputLost: standard output takes nothing any more.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    with _open(before[0], "r") as sys.stdin, _taking_all_signs(before[1]) as out, _taking_all_signs(before[2]) as err:
        sys.stdout = cast("TextIO", GuardedStream(out, _end, _clean_but_for_drawing))
        sys.stderr = cast("TextIO", GuardedStream(err, lambda _: None, _clean_but_for_drawing))
        try:
            try:
                yield
            finally:
                sys.stdout.flush()
        except OutputLost:
            _discard(out)
            raise
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


def _end(error: OSError) -> None:
    raise OutputLost(error)


def _clean_but_for_drawing(text: str) -> str:
    return _DRAWING.sub(lambda match: match["drawing"] or _escaped(match[0]), text)


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _is_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


@contextmanager
def _open(stream: TextIO | None, mode: str) -> Iterator[TextIO]:
    """The stream; where it was closed, an empty one in its place, so that no file gets its number."""
    if stream is not None:
        yield stream
        return
    with open(os.devnull, mode, encoding="utf-8") as nowhere:  # noqa: PTH123 - no file
        yield cast("TextIO", nowhere)


@contextmanager
def _taking_all_signs(stream: TextIO | None) -> Iterator[TextIO]:
    """A stream that has a way to write what its encoding lacks."""
    with _open(stream, "w") as there:
        reconfigure, errors = getattr(there, "reconfigure", None), getattr(there, "errors", None)
        if reconfigure is None:
            yield there
            return
        reconfigure(errors=FALL_BACK)
        try:
            yield there
        finally:
            reconfigure(errors=errors)


def _fall_back(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(SIGNS.get(sign) or _escaped(sign) for sign in missing), error.end


codecs.register_error(FALL_BACK, _fall_back)


def _discard(stream: TextIO) -> None:
    """Have what the stream still holds go nowhere: the interpreter tries again to write it when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # no file beneath
        pass
