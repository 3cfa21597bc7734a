"""Files against what a manifest records of them: read for no more than their size, and hashed once."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from coterie.run.manifest import FileRecord
from coterie.system.files import open_regular, refuse_unreadable


@dataclass
class Checks:
    """The files whose checksum was right: they are not hashed again while checksum, size, time and inode stay."""

    _passed: dict[Path, tuple[str, int, int, int]] = field(default_factory=dict)

    def read(self, place: Path, record: FileRecord) -> tuple[bytes, str | None]:
        """A file's bytes, and what is wrong with them: nothing, or why none are returned."""
        try:
            with open_regular(place) as (stream, status):
                # Before it is read: no more than was recorded is held in memory.
                if status.st_size != record.bytes:
                    return b"", _other_size(status.st_size, record)
                refuse_unreadable(stream, record.bytes)
                content = stream.read(record.bytes)
        except FileNotFoundError:
            return b"", "missing"
        except OSError as error:
            return b"", _unreadable(error)
        except MemoryError:
            return b"", f"unreadable ({record.bytes:,} bytes do not fit in memory)"
        checked = (record.sha256, *_signature(status))
        if self._passed.get(place) != checked:
            if hashlib.sha256(content).hexdigest() != record.sha256:
                return b"", "its bytes have changed (sha256 differs)"
            self._passed[place] = checked
        return content, None

    def passed(self, place: Path, record: FileRecord) -> bool:
        """Whether a file was read before, and its checksum was right."""
        status = _status(place)
        return status is not None and self._passed.get(place) == (record.sha256, *_signature(status))


def size_fault(place: Path, record: FileRecord) -> str | None:
    """What a look at a file tells without opening it: that it is missing or of another size, or nothing."""
    status = _status(place)
    if status is None:
        return "missing"
    return None if status.st_size == record.bytes else _other_size(status.st_size, record)


def open_fault(place: Path, record: FileRecord) -> str | None:
    """What is wrong with a file before its bytes are read: as ``size_fault``, or it cannot be read for its size."""
    if fault := size_fault(place, record):
        return fault
    try:
        with open_regular(place) as (stream, _):
            refuse_unreadable(stream, record.bytes)
    except OSError as error:
        return _unreadable(error)
    return None


def _status(place: Path) -> os.stat_result | None:
    """None where there is no such file."""
    try:
        return place.lstat()
    except OSError:
        return None


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _unreadable(error: OSError) -> str:
    return f"unreadable ({error.strerror})"


def _other_size(n_bytes: int, record: FileRecord) -> str:
    return f"{n_bytes} bytes instead of {record.bytes}"
