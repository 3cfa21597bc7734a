"""Reading label vectors, class names and given groups from files. Vectors stay on disk where the format allows."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.errors import DataError
from coterie.system.npz import read_headers
from coterie.system.reading import read_text, reason, regular, split_lines
from coterie.vocabulary import VECTOR_FILES

# numpy has no bfloat16: its 16 bits are the upper half of a float32.
SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}

# A line of ImageNet's lists of classes.
SYNSET = re.compile(r"(n\d{8})[ \t]+(\S.*)")


def read_vectors(file: Path, array: str | None = None) -> NDArray[Any]:
    """A matrix of one row per class, memory-mapped from .npy and .safetensors. No code in the file is run.

    Args:
        file: .npy, .npz or .safetensors.
        array: name of the matrix; default: the only one in the file.

    Raises:
        DataError: no such file or array, several matrices and no name, or a damaged file.
    """
    try:
        regular(file)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist, or is not a file") from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {reason(error)}") from None
    if file.suffix not in VECTOR_FILES:
        raise DataError(
            f"{file} is not a file of label embeddings; allowed: {', '.join(VECTOR_FILES)}, or a run folder"
        )
    try:
        if file.suffix == ".safetensors":
            return _read_safetensors(file, array)
        headers = read_headers(file)
        if file.suffix == ".npy":
            vectors: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
            return vectors
        name = _choose(file, {name: header.shape for name, header in headers.items()}, array)
        with np.load(file, allow_pickle=False) as arrays:
            return arrays[name]
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(f"cannot read {file}: {reason(error)}") from None


def read_column(place: str, n_classes: int | None, what: str) -> tuple[str, ...]:
    """One text per class: names, or given groups.

    Args:
        place: a text file of one line per class; a .json list, or object from numbers to texts or from texts to
            numbers; or ``FILE.csv:COLUMN``. Spaces around a text and empty last lines do not count.
        n_classes: C; None: any number.
        what: name of the entries in messages, such as "class names".

    Raises:
        DataError: no such file or column, or another number of entries than of classes.
    """
    path, _, column = place.partition(".csv:")
    file = Path(f"{path}.csv" if column else place)
    try:
        text = read_text(file)
        entries = _entries(text, column, file)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"cannot read {what} from {file}: {reason(error)}") from None
    count = len(entries) if isinstance(entries, list) else 0
    if count == 0 or n_classes not in (None, count):
        raise DataError(f"{file} holds {count} {what} for {n_classes} classes; allowed: one for each class")
    none = next((entry for entry in entries if isinstance(entry, dict | list) or entry in (None, "")), "a text")
    if none != "a text":
        raise DataError(f"{file} holds {what} that are none: {json.dumps(none)[:60]} is number {entries.index(none)}")
    return tuple(str(entry).rstrip() for entry in entries)


def name_forms(names: Sequence[str]) -> list[tuple[str, ...]]:
    """What else names may be meant by, in the order in which to try: of "n01440764 tench, Tinca tinca" the whole, the
    WordNet number, all words, and the first of them.
    """
    found = [SYNSET.fullmatch(name) for name in names]
    if not all(found):
        return [tuple(names)]
    parts = [match.groups() for match in found if match]
    numbers, words = (tuple(column) for column in zip(*parts, strict=True))
    return [tuple(names), numbers, words, tuple(word.partition(",")[0].strip() for word in words)]


def _by_number(content: Any) -> Any:
    """A list as it is; an object from numbers to texts, or from texts to numbers, as the list of its texts."""
    if not isinstance(content, dict):
        return content
    numbered = all(isinstance(value, int) for value in content.values())
    pairs = sorted((value, name) if numbered else (int(name), value) for name, value in content.items())
    if [number for number, _ in pairs] != list(range(len(pairs))):
        raise ValueError(f"its numbers must be 0 to {len(pairs) - 1}, each once")
    return [name for _, name in pairs]


def _entries(text: str, column: str, file: Path) -> Any:
    if not column:
        return _by_number(json.loads(text)) if file.suffix == ".json" else split_lines(text.rstrip())
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if rows and column not in rows[0]:
        raise DataError(f"{file} has no column {column!r}; it has: {', '.join(map(str, rows[0]))}")
    return [row[column] for row in rows]


def _choose(file: Path, shapes: dict[str, tuple[int, ...]], array: str | None) -> str:
    """The array with the given name, or the only matrix."""
    listing = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in list(shapes.items())[:20])
    if array is not None:
        if array not in shapes:
            raise DataError(f"{file} has no array {array!r}; it has: {listing or 'none'}")
        return array
    matrices = [name for name, shape in shapes.items() if len(shape) == 2]
    if len(matrices) != 1:
        raise DataError(f"{file} holds {len(matrices)} matrices; name one with --array. It has: {listing or 'none'}")
    return matrices[0]


def _read_safetensors(file: Path, array: str | None) -> NDArray[Any]:
    """A memory map of one array in a .safetensors file."""
    # 8 bytes of length, a JSON header of that length, and the arrays. The library's own reader loads the whole array.
    with regular(file).open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > file.stat().st_size - 8:
            raise DataError(f"{file} is not a safetensors file, or was cut short")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    name = _choose(file, {key: tuple(entry["shape"]) for key, entry in header.items()}, array)
    entry = header[name]
    kind, shape, (first, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if kind not in SAFETENSORS_TYPES:
        raise DataError(f"{name} in {file} is {kind}; allowed: {', '.join(SAFETENSORS_TYPES)}")
    dtype = np.dtype(SAFETENSORS_TYPES[kind])
    if stop - first != math.prod(shape) * dtype.itemsize:
        raise DataError(f"{file} is damaged: {name} has {stop - first} bytes for shape {shape}")
    mapped = np.memmap(file, dtype, "r", offset=8 + length + first, shape=shape)
    return (mapped.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else mapped
