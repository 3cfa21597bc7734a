"""Files that may be compressed by gzip, unpacked as they are read and no further than is plausible."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from coterie.system.npz import MOST_BYTES, MOST_TIMES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP = b"\x1f\x8b"
BLOCK = 2**20


class _Unpacked(io.RawIOBase):
    """The content of a gzip file; an archive of a few bytes may claim to hold terabytes."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.most = max(MOST_BYTES, MOST_TIMES * self.size)
        self.count = 0
        self.stream = gzip.open(path)  # noqa: SIM115 - closed with this one

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: WriteableBuffer) -> int:
        block = self.stream.read(memoryview(buffer).nbytes)
        self.count += len(block)
        if self.count > self.most:
            raise ValueError(
                f"{self.size:,} bytes unpack to more than {self.most:,}; unpack it by gunzip, if it is yours"
            )
        memoryview(buffer)[: len(block)] = block
        return len(block)

    @override
    def close(self) -> None:
        self.stream.close()
        super().close()


def open_unpacked(path: Path) -> io.BufferedReader:
    """The bytes of a file; of one compressed by gzip, whatever its name, those that it unpacks to.

    Raises:
        OSError: it cannot be read, or is damaged; also while it is read.
        ValueError: while it is read: it unpacks to more than 100 times its size and 256 MiB.
    """
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP
    return io.BufferedReader(_Unpacked(path), BLOCK) if packed else path.open("rb")
