"""Files that appear whole or not at all, at whatever moment the process dies or the power fails."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from coterie.errors import ArtifactError

# No space left, quota exceeded, file too large: there is something to delete.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(file: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it, and sync the folder that names it.

    Raises:
        ArtifactError: the disk is full, or the folder cannot be written; what was there before is intact.
    """
    # In the same folder: a rename is atomic within one file system only.
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
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
            f"cannot write {file} ({len(content):,} bytes): {error.strerror}. What was written before is intact; "
            f"{advice}"
        ) from None
    except BaseException:  # Ctrl-C between the lines: leave no half file behind
        _discard(temporary)
        raise


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


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
