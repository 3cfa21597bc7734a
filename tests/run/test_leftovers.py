"""What killed processes leave: no run yet, and swept."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie.errors import ArtifactError
from coterie.run.leftovers import delete, is_free, leftovers
from coterie.system.files import write_whole


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("checkpoint/base.safetensors", True),
        (".lock", True),
        (".manifest.json.0123456789abcdef.tmp", True),
        ("checkpoint.txt", False),
        ("manifest.json", False),
        ("notes/a.txt", False),
    ],
)
def test_a_run_begins_where_there_is_nothing_but_leftovers(tmp_path: Path, name: str, free: bool) -> None:
    assert is_free(tmp_path)
    assert is_free(tmp_path / "new")
    write_whole(tmp_path / name, b"")
    assert is_free(tmp_path) == free
    (tmp_path / "a").write_bytes(b"")
    assert not is_free(tmp_path / "a")


def test_leftovers_are_what_the_manifest_does_not_name_where_stages_write(tmp_path: Path) -> None:
    kept = ["base.safetensors", "logits/test.safetensors", "specialists/2/0.safetensors", "notes.txt"]
    left = [
        ".report.html.tmp",
        "logits/.test.safetensors.0123456789abcdef.tmp",
        "logits/stages/base.safetensors",
        "specialists/2/1.safetensors",
        "checkpoint/base.safetensors",
    ]
    under_way = ["checkpoint/specialists/2/1.safetensors"]
    for name in (*kept, *left, *under_way):
        write_whole(tmp_path / name, b"x")
    # The user's own file at the top is nobody's leftover.
    found = leftovers(tmp_path, kept[:-1])
    assert sorted(str(file.relative_to(tmp_path)) for file in found) == sorted(left)
    delete(found)
    assert leftovers(tmp_path, kept[:-1]) == set()
    assert all((tmp_path / name).exists() for name in (*kept, *under_way))


def test_what_cannot_be_deleted_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot delete .*Is a directory|cannot delete .*not permitted"):
        delete([tmp_path])
    delete([tmp_path / "gone"])
