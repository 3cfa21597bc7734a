"""Arrays of .npz and .npy files, whose headers are compared with the file's size before any memory is taken."""

from __future__ import annotations

import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from coterie.arrays import native
from coterie.system.reading import regular

# An archive may unpack to so many times its size; below MOST_BYTES, to as many as it likes. Zeros compress to a
# thousandth, numbers that tell something to a tenth at best.
MOST_TIMES = 100
MOST_BYTES = 2**28
# What broken bytes end in, besides OSError and ValueError.
BROKEN = (EOFError, KeyError, RuntimeError, MemoryError, OverflowError, TypeError, struct.error)
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and type of an array on disk."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_headers(place: str | Path) -> dict[str, ArrayHeader]:
    """The arrays of a .npz file by name; of a .npy file one, without a name. Nothing but headers is read.

    Raises:
        OSError: no such regular file, or it cannot be read.
        ValueError: it is neither, is damaged, holds objects, or claims more than it holds.
    """
    path = regular(place)
    with _as_value_errors():
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                return {"": _header(stream, path.stat().st_size, "the array")}
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > max(MOST_BYTES, MOST_TIMES * path.stat().st_size):
                raise ValueError(
                    f"{path.stat().st_size:,} bytes would unpack to {unpacked:,}; np.savez stores such arrays as "
                    "they are"
                )
            headers = {}
            for member in members:
                with archive.open(member) as stream:
                    headers[member.filename.removesuffix(".npy")] = _header(stream, member.file_size, member.filename)
            return headers


def read_arrays(place: str | Path) -> dict[str, NDArray[Any]]:
    """All arrays of a .npz file, in the machine's byte order; of a .npy file one, without a name.

    Raises:
        OSError: as ``read_headers``.
        ValueError: as ``read_headers``.
    """
    read_headers(place)
    with _as_value_errors():
        loaded = np.load(regular(place), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": native(loaded)}
        with loaded:
            return {name: native(loaded[name]) for name in loaded.files}


@contextmanager
def _as_value_errors() -> Iterator[None]:
    try:
        yield
    except (*BROKEN, *BROKEN_ARCHIVE) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _header(stream: IO[bytes], size: int, name: str) -> ArrayHeader:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} is of version {version[0]}.{version[1]}; known: 1.0 and 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(stream)
    except Exception as error:
        # numpy evaluates the header as Python: on broken bytes it raises whatever it trips over.
        raise ValueError(f"the header of {name} cannot be read: {type(error).__name__}") from None
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, which are pickled: reading them would run code")
    claimed, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or claimed != there:
        shown = f"{claimed:,}" if claimed < 2**63 else "more than 2^63"
        raise ValueError(f"{name} claims {shown} bytes for shape {str(shape)[:80]}, and has {there:,}")
    return ArrayHeader(tuple(shape), dtype)
