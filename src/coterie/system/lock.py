"""A lock for one writer to a run folder. Readers take none: what they read appears whole or not at all.

The lock is the operating system's (``flock`` through ``filelock``), so that it goes with the process that holds it,
however that dies; a file beside it names the holder. On file systems without ``flock``, ``filelock`` uses a marker file
that names host and process.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from coterie.errors import ArtifactError
from coterie.system.files import read_regular, refuse_irregular, write_whole
from coterie.system.json_text import from_json, to_json

LOCK = ".lock"
HOLDER = ".lock.json"
# Characters of the holder's command line in a message: some commands carry a whole program.
COMMAND_SHOWN = 400
HOLDER_BYTES = 2**20


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only writer to a folder, which is made where it is missing.

    Raises:
        ArtifactError: another process holds it, which is named; or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    lock = _acquire(folder)
    try:
        write_whole(folder / HOLDER, to_json(_this_process()))
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def refuse_if_held(folder: Path) -> None:
    """Raise what ``hold`` would raise, and write nothing.

    Raises:
        ArtifactError: as ``hold``.
    """
    if os.path.lexists(folder / LOCK):
        _acquire(folder).release()
        return
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise _cannot_write(folder, error) from None


def _acquire(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        # A link would be made or emptied wherever it leads, and a pipe is never let go.
        with contextlib.suppress(FileNotFoundError):
            refuse_irregular(folder / LOCK, (folder / LOCK).lstat())
        lock.acquire()
    except Timeout:
        raise ArtifactError(_who_holds(folder)) from None
    except OSError as error:
        raise _cannot_write(folder, error) from None
    return lock


def _cannot_write(folder: Path, error: OSError) -> ArtifactError:
    return ArtifactError(f"cannot write to {folder}: {error.strerror}. Choose another --out")


def _this_process() -> dict[str, Any]:
    started = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": f"{started:%Y-%m-%d %H:%M:%S} UTC",
        # Of an argument that is no text, as names of files can be, what can be written.
        "command": shlex.join(sys.orig_argv).encode(errors="replace").decode(),
    }


def _who_holds(folder: Path) -> str:
    try:
        holder = from_json(read_regular(folder / HOLDER, HOLDER_BYTES))
        who = f"process {holder['pid']} on {holder['host']}, started {holder['started']}: "
        who += textwrap.shorten(str(holder["command"]), COMMAND_SHOWN, placeholder=" ...")
        elsewhere = holder["host"] != platform.node()
    except (OSError, ValueError, LookupError, TypeError):  # between taking the lock and saying so
        who, elsewhere = "another process", False
    hint = f" (if that machine is gone for good, delete {folder / LOCK})" if elsewhere else ""
    return f"{folder} is being written by {who}. Wait for it or stop it{hint}, or choose another --out"
