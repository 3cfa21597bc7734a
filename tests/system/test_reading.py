from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.system.reading import read_text, reason, regular, split_lines


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))), st.sampled_from(["\n", "\r\n"]))
def test_lines_come_back_whatever_they_hold(lines: list[str], ending: str) -> None:
    assert split_lines("".join(line + ending for line in lines)) == lines


def test_the_last_line_needs_no_end() -> None:
    assert split_lines("a\nb") == ["a", "b"]
    assert split_lines("") == []
    assert split_lines("\n") == [""]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\u2028b\r\n", encoding="utf-8-sig", newline="")
    assert read_text(tmp_path / "a.txt") == "a\u2028b\r\n"


def test_links_to_regular_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("here")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_text(str(tmp_path / "link")) == "here"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nosuch", "No such file"),
        ("n" * 300, "File name too long"),
        ("a\0b", "null"),
        (".", "Is a directory"),
        ("pipe", "not a regular file"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, name: str, why: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=why) as caught:
        regular(tmp_path / name)
    assert why in reason(caught.value)


def test_a_device_has_no_end() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read_text("/dev/zero")
