"""Files against their records: read once, hashed once, and what is wrong with them said."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from coterie.run import checks
from coterie.run.checks import Checks, open_fault, size_fault
from coterie.run.manifest import FileRecord

CONTENT = b"weights"


def record(content: bytes) -> FileRecord:
    return FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(CONTENT)
    return tmp_path / "a"


def test_a_file_that_was_right_is_hashed_again_only_after_a_change(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, hashes, sha256 = Checks(), [], hashlib.sha256
    right = record(CONTENT)
    monkeypatch.setattr(checks.hashlib, "sha256", lambda content: hashes.append(content) or sha256(content))
    assert not known.passed(file, right)
    assert known.read(file, right) == known.read(file, right) == (CONTENT, None)
    assert known.passed(file, right)
    assert len(hashes) == 1
    os.utime(file, (1, 1))
    assert not known.passed(file, right)
    assert known.read(file, right) == (CONTENT, None)
    assert len(hashes) == 2
    # The same file by another record is another question.
    assert not known.passed(file, FileRecord(bytes=len(CONTENT), sha256="0" * 64))


def test_what_is_wrong_is_said_as_soon_as_it_is_seen(file: Path) -> None:
    other = FileRecord(bytes=len(CONTENT), sha256="0" * 64)
    assert Checks().read(file, other) == (b"", "its bytes have changed (sha256 differs)")
    assert open_fault(file, other) is None
    longer = record(CONTENT * 2)
    for fault in (size_fault(file, longer), open_fault(file, longer), Checks().read(file, longer)[1]):
        assert fault == "7 bytes instead of 14"
    file.unlink()
    for fault in (size_fault(file, longer), open_fault(file, longer), Checks().read(file, longer)[1]):
        assert fault == "missing"


def test_what_is_no_regular_file_is_not_opened(file: Path) -> None:
    pipe = file.with_name("pipe")
    os.mkfifo(pipe)
    nothing = FileRecord(bytes=0, sha256=hashlib.sha256().hexdigest())
    assert open_fault(pipe, nothing) == "unreadable (pipe is not a regular file)"
    assert Checks().read(pipe, nothing) == (b"", "unreadable (pipe is not a regular file)")
