import errno
import os
from pathlib import Path

import pytest

from coterie.errors import ArtifactError
from coterie.system.files import bytes_below, write_whole


def test_a_file_appears_with_its_folders_and_replaces_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "run" / "logits" / "test"
    for content in (b"first", b"", b"second"):
        write_whole(file, content)
        assert file.read_bytes() == content
        assert list(file.parent.iterdir()) == [file]


def test_content_and_name_are_on_disk_before_it_returns(tmp_path: Path, monkeypatch) -> None:
    """In the one order that survives a power cut: content, rename, folder."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append("folder" if place.is_dir() else place.name)
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(tmp_path / "file", b"content")
    assert [name if name in ("rename", "folder") else "content" for name in calls] == ["content", "rename", "folder"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room and start the same command again"),
        (errno.EDQUOT, "make room and start the same command again"),
        (errno.EACCES, "choose a folder that you own"),
    ],
)
def test_a_disk_that_takes_no_more_leaves_what_was_there(tmp_path: Path, monkeypatch, number: int, advice: str) -> None:
    write_whole(tmp_path / "file", b"before")

    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(ArtifactError, match=rf"cannot write .*file \(1,000 bytes\): .*is intact; {advice}"):
        write_whole(tmp_path / "file", bytes(1000))
    assert (tmp_path / "file").read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_ctrl_c_leaves_no_half_file(tmp_path: Path, monkeypatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"cannot write .*below"):
        write_whole(tmp_path / "file" / "below", b"")


def test_bytes_are_those_of_all_files_below(tmp_path: Path) -> None:
    assert bytes_below(tmp_path) == 0
    for name, size in (("a", 3), ("b/c", 40), ("b/d/e", 500)):
        write_whole(tmp_path / name, bytes(size))
    assert bytes_below(tmp_path) == 543
