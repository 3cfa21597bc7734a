"""The body of a request to samples. Nothing in it names a file or an address that would be read."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import Any, NoReturn

from coterie.data.given import given_samples
from coterie.data.pieces import join_cells
from coterie.errors import DataError, InputError
from coterie.inputs import Preprocessing, Samples
from coterie.serve.batching import join
from coterie.vocabulary import Modality

# What a JSON body calls its samples.
KEYS: dict[Modality, str] = {"image": "images", "text": "texts", "table": "rows", "features": "features"}


@dataclass(frozen=True)
class Limits:
    """What one request may hold: bytes of its body, samples, and characters of a text."""

    body: int = 2**24
    samples: int = 256
    text: int = 100_000


class RefusedError(Exception):
    """A request is not answered, with the HTTP status that says whose fault it is, and one sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_samples(
    content_type: str, body: bytes, preprocessing: Preprocessing, limits: Limits, columns: tuple[str, ...] = ()
) -> Samples:
    """Samples of a body: JSON, images as the files of a form, or the bytes of one image. Texts that are joined of
    several ``columns`` may be objects of these.

    Raises:
        RefusedError: it is something else, holds too much, or not what the networks take.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        raw = _of_json(body, preprocessing.modality, limits)
        if preprocessing.modality == "text" and columns[1:]:
            raw = [_joined(value, f"texts {number}", columns, limits) for number, value in enumerate(raw)]
    elif kind == "multipart/form-data":
        raw = _files(body, _boundary(content_type), limits)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        raw = [body]
    else:
        raise RefusedError(
            415, f"Content-Type {kind[:60]!r}: allowed are application/json, multipart/form-data and image/..."
        )
    if kind != "application/json" and preprocessing.modality != "image":
        raise RefusedError(422, f"this run takes no images: it wants JSON, {{{KEYS[preprocessing.modality]!r}: [...]}}")
    try:
        # Only bytes go where a text would be a path.
        parts = given_samples(preprocessing, raw) if preprocessing.modality == "image" else [preprocessing.check(raw)]
        return join(list(parts))
    except (DataError, InputError) as error:
        raise RefusedError(422, str(error)) from error


def _boundary(content_type: str) -> str:
    header = Message()
    header["content-type"] = content_type
    found = header.get_param("boundary")
    return found if isinstance(found, str) else ""


def _of_json(body: bytes, modality: Modality, limits: Limits) -> list[Any]:
    key = KEYS[modality]
    try:
        values = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {str(error)[:200] or type(error).__name__}") from None
    if not isinstance(values, dict) or list(values) != [key]:
        got = ", ".join(map(repr, values))[:100] if isinstance(values, dict) else type(values).__name__
        raise RefusedError(422, f"this run takes {{{key!r}: [...]}}; got {got or 'nothing'}")
    given = values[key]
    alone = not isinstance(given, list) or (modality == "features" and bool(given) and not isinstance(given[0], list))
    many = [given] if alone else given
    _check_number(len(many), limits)
    return [_CHECKS[modality](value, f"{key} {number}", limits) for number, value in enumerate(many)]


def _refuse_constant(name: str) -> NoReturn:
    raise RefusedError(422, f"{name} is no number that JSON has; a cell of a row that is missing is null")


def _check_number(number: int, limits: Limits) -> None:
    if number == 0:
        raise RefusedError(422, "the request holds no sample")
    if number > limits.samples:
        raise RefusedError(413, f"the request holds {number:,} samples or more; at most {limits.samples:,} are taken")


def _image(value: Any, name: str, _: Limits) -> bytes:
    """The bytes that base64 stands for, also as a ``data:`` URL."""
    if not isinstance(value, str):
        raise RefusedError(422, f"{name} is of the type {type(value).__name__}, where base64 is wanted")
    try:
        return base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
    except (ValueError, binascii.Error):
        raise RefusedError(422, f"{name} is no base64: {value[:40]!r}; no address or path is read") from None


def _text(value: Any, name: str, limits: Limits) -> Any:
    if isinstance(value, str) and len(value) > limits.text:
        raise RefusedError(413, f"{name} has {len(value):,} characters; at most {limits.text:,} are taken")
    return value


def _joined(value: Any, name: str, columns: tuple[str, ...], limits: Limits) -> Any:
    """The text of an object of columns; anything else as it is."""
    if not isinstance(value, dict):
        return value
    if other := [column for column, cell in value.items() if column not in columns or not isinstance(cell, str | None)]:
        raise RefusedError(422, f"{name}: {other[0][:60]!r} is none of the texts {', '.join(map(repr, columns))}")
    return _text(join_cells(value.get(column) for column in columns), name, limits)


def _row(value: Any, name: str, limits: Limits) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedError(422, f"{name} is of the type {type(value).__name__}, where an object of columns is wanted")
    for column, cell in value.items():
        if isinstance(cell, dict | list):
            raise RefusedError(422, f"{name}: column {column[:60]!r} holds a {type(cell).__name__}")
        _text(cell, f"{name}, column {column[:60]!r}", limits)
    return value


# What numbers of JSON become; a bool is refused or counts as one, as in any array.
_NUMBERS = frozenset((int, float, bool))


def _vector(value: Any, name: str, _: Limits) -> Any:
    if not isinstance(value, list) or not _NUMBERS.issuperset(map(type, value)):
        raise RefusedError(422, f"{name} is no list of numbers")
    return value


_CHECKS: dict[Modality, Callable[[Any, str, Limits], Any]] = {
    "image": _image,
    "text": _text,
    "table": _row,
    "features": _vector,
}


def _files(body: bytes, boundary: str, limits: Limits) -> list[bytes]:
    """The files of a form, whatever their fields are called."""
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    # One beyond the limit is enough to refuse the rest.
    _, *parts = (b"\r\n" + body).split(delimiter, limits.samples + 2)
    if not boundary or not parts:
        raise RefusedError(400, "the form has no parts, or no boundary between them")
    _check_number(len(parts) - 1 if parts[-1].startswith(b"--") else len(parts), limits)
    if not parts.pop().startswith(b"--"):
        raise RefusedError(400, "the form is cut off: its last boundary is missing")
    files = []
    for part in parts:
        head, blank, content = part.partition(b"\r\n\r\n")
        if not blank or b"filename" not in head.lower():
            raise RefusedError(422, "the form has a part that is no file")
        files.append(content)
    return files
