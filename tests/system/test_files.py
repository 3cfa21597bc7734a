import errno
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coterie.errors import ArtifactError
from coterie.system import files
from coterie.system.files import (
    bytes_below,
    files_below,
    open_regular,
    place_below,
    read_regular,
    refuse_unreadable,
    write_whole,
)


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


def test_no_link_is_followed_and_no_other_file_touched(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_bytes(b"precious")
    folder.mkdir()
    for name in (".report.html.tmp", "report.html"):  # where earlier versions wrote, and where the file will be
        (folder / name).symlink_to(victim)
    write_whole(folder / "report.html", b"new")
    assert victim.read_bytes() == b"precious"
    assert (folder / "report.html").read_bytes() == b"new"
    assert not (folder / "report.html").is_symlink()


def test_a_temporary_name_is_taken_only_where_there_is_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "known")
    (tmp_path / ".file.known.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(ArtifactError, match="File exists"):
        write_whole(tmp_path / "file", b"content")
    assert not (tmp_path / "victim").exists()


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_whole(tmp_path / "file", content), contents * 5))
    assert (tmp_path / "file").read_bytes() in contents
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_place_is_below_its_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "logits").mkdir(parents=True)
    (tmp_path / "given").symlink_to(run)  # by the user, who may
    assert place_below(tmp_path / "given", "logits/test") == tmp_path / "given/logits/test"
    assert place_below(run, "not/yet/there") == run / "not/yet/there"
    (run / "inside").symlink_to("logits")
    assert place_below(run, "inside/test") == run / "inside/test"
    for name, target in (("out", ".."), ("far", "/etc"), ("gone", "../nowhere/yet"), ("circle", "circle")):
        (run / name).symlink_to(target)
        with pytest.raises(ArtifactError, match=rf"{name}/passwd (leads out of|:)|cannot use"):
            place_below(run, f"{name}/passwd")


def test_files_below_are_found_without_following_links(tmp_path: Path) -> None:
    write_whole(tmp_path / "docs" / "thesis.tex", bytes(1000))
    run = tmp_path / "run"
    write_whole(run / "logits" / "test", bytes(10))
    (run / "logits" / "docs").symlink_to(tmp_path / "docs")
    (run / "logits" / "thesis").symlink_to(tmp_path / "docs" / "thesis.tex")
    (run / "specialists").symlink_to(tmp_path / "docs")
    assert set(files_below(run / "logits")) == {run / "logits" / "test", run / "logits" / "thesis"}
    assert list(files_below(run / "specialists")) == []
    assert bytes_below(run) == 10
    (tmp_path / "given").symlink_to(run)
    assert bytes_below(tmp_path / "given") == 10


def test_no_more_is_read_than_was_allowed(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", bytes(100))
    assert read_regular(tmp_path / "file", 100) == bytes(100)
    with pytest.raises(OSError, match="larger than 99 bytes"):
        read_regular(tmp_path / "file", 99)


def test_a_file_that_was_never_written_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SMALL_BYTES", 2**16)
    holes, whole, half = (tmp_path / name for name in ("holes", "whole", "half"))
    for file, written in ((holes, 2**18), (whole, 2**20), (half, 2**19)):
        with file.open("wb") as stream:
            stream.write(b"x" * written)
            stream.truncate(2**20)
    for file in (whole, half):
        with open_regular(file) as (stream, status):
            refuse_unreadable(stream, status.st_size)
            assert len(stream.read()) == 2**20  # from its beginning
    with open_regular(holes) as (stream, status), pytest.raises(OSError, match="most of which were never written"):
        refuse_unreadable(stream, status.st_size)


def test_what_does_not_fit_in_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+") as stream:
        stream.truncate(2**42)
        with pytest.raises(OSError, match=r"4,398,046,511,104 bytes do not fit in memory"):
            refuse_unreadable(stream, 2**42)
