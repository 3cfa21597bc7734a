"""Files that appear whole or not at all, at whatever moment the process dies or the power fails; and files of
strangers, read without following links or waiting for devices.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import psutil

from coterie.errors import ArtifactError

# No space left, quota exceeded, file too large: there is something to delete.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a process leaves that dies while it writes a file.
HALF_FILES = ".*.tmp"
# A smaller file is read whatever it is.
SMALL_BYTES = 2**26


def write_whole(file: Path, content: bytes) -> None:
    """Write a file as ``whole_file`` does.

    Raises:
        ArtifactError: as ``whole_file``.
    """
    with whole_file(file, f" ({len(content):,} bytes)") as stream:
        stream.write(content)


@contextlib.contextmanager
def whole_file(file: Path, size: str = "") -> Iterator[BinaryIO]:
    """Write to a file under a temporary name; at the end, sync it, rename it, and sync the folder that names it. A link
    in its place is replaced, not followed.

    Args:
        file: to write.
        size: of what is written, for the message.

    Raises:
        ArtifactError: the disk is full, or the folder cannot be written; what was there before is intact.
    """
    # In the same folder: a rename is atomic within one file system only. A name that nobody can foresee: two writers do
    # not meet, and no link waits there.
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:  # x: only where there is nothing, not even a link
            yield stream
            stream.flush()
            # Before the rename, which may reach the disk first otherwise: a name without its content.
            os.fsync(stream.fileno())
        temporary.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        _discard(temporary)
        advice = (
            "make room and start the same command again" if error.errno in NO_ROOM else "choose a folder that you own"
        )
        raise ArtifactError(
            f"cannot write {file}{size}: {error.strerror}. What was written before is intact; {advice}"
        ) from None
    except BaseException:  # Ctrl-C between the lines: leave no half file behind
        _discard(temporary)
        raise


def place_below(root: Path, name: str) -> Path:
    """The path of ``name`` below a folder. The folder itself may be a link; what lies below it may not lead out.

    Raises:
        ArtifactError: a link on the way leads out of the folder, or the way cannot be followed.
    """
    place = root / name
    try:
        inside = place.parent.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise ArtifactError(f"cannot use {place}: {error}") from None
    if not inside:
        raise ArtifactError(f"{place} leads out of {root}, through a link; coterie reads and writes nothing there")
    return place


@contextlib.contextmanager
def open_regular(file: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a regular file for reading, and tell its size and times. A link is not followed, and nothing else is
    opened: a pipe would wait, and a device has no end.

    Raises:
        OSError: it is missing, cannot be read, or is no regular file.
    """
    refuse_irregular(file, file.lstat())
    # What lies there may have changed since.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(file, flags), "rb") as stream:
        found = os.fstat(stream.fileno())
        refuse_irregular(file, found)
        yield stream, found


def refuse_irregular(file: Path, status: os.stat_result) -> None:
    """Raise OSError for a link, a folder, a pipe, a socket or a device."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"{file.name} is not a regular file")


def refuse_unreadable(stream: BinaryIO, n_bytes: int) -> None:
    """Refuse a file that would fill the memory before its content is known.

    Raises:
        OSError: it does not fit into memory twice, as bytes and as what they are; or most of it was never written.
    """
    if n_bytes <= SMALL_BYTES:
        return
    if 2 * n_bytes > psutil.virtual_memory().available:
        raise OSError(errno.EFBIG, f"{n_bytes:,} bytes do not fit in memory")
    if _has_holes(stream.fileno(), n_bytes):
        raise OSError(errno.EINVAL, f"{n_bytes:,} bytes, most of which were never written")


def _has_holes(descriptor: int, n_bytes: int) -> bool:
    """Whether more than half of a file takes no place on disk: a few bytes can claim to be any number."""
    if not hasattr(os, "SEEK_DATA"):
        return False
    place, holes = 0, 0
    try:
        while holes <= n_bytes // 2:
            data = os.lseek(descriptor, place, os.SEEK_DATA)
            holes += data - place
            place = os.lseek(descriptor, data, os.SEEK_HOLE)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a file system that does not know
            return False
        holes += n_bytes - place  # no more data
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return holes > n_bytes // 2


def read_regular(file: Path, most_bytes: int) -> bytes:
    """The content of a regular file that is not large.

    Raises:
        OSError: as ``open_regular``, or it has more bytes.
    """
    with open_regular(file) as (stream, _):
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes:,} bytes")
    return content


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, links among them; no link is followed, the folder itself being none."""
    if not folder.is_symlink():
        for place, _, names in os.walk(folder):
            yield from (Path(place, name) for name in names)


def bytes_below(folder: Path) -> int:
    """Bytes of all regular files below a folder, which itself may be a link."""
    found = 0
    for file in files_below(folder.resolve()):
        with contextlib.suppress(OSError):  # another process has deleted it, or it is not ours to see
            status = file.lstat()
            found += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return found


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # where a folder cannot be opened, nor needs to be
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
