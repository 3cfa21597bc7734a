"""Sources by their kinds, and by paths alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie.config import DataSettings, full_source
from coterie.errors import SettingsError


@pytest.mark.parametrize("source", ["glyphs", "cifar100", "csv:a.csv", "hub:user/name", "features:x.npz", "folder:."])
def test_what_names_its_kind_is_left_as_it_is(source: str) -> None:
    assert full_source(source) == source
    assert DataSettings(source=source).source == source


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[("a.csv", "csv"), ("a.TSV", "csv"), ("a.csv.gz", "csv"), ("a.json", "jsonl"), ("a.ndjson", "jsonl")],
        *[("a.parquet", "parquet"), ("a.feather", "arrow"), ("a.npz", "features"), ("a.XLSX", "csv")],
    ],
)
def test_files_are_of_the_kind_that_their_names_tell(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert full_source(str(tmp_path / name)) == f"{kind}:{tmp_path}/{name}"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["cat/1.jpg", "dog/2.png"], "folder"),
        (["cat/1.jpg", "dog/2.png", "labels.csv"], "folder"),
        (["images/1.jpg", "metadata.csv"], "folder"),
        (["images/1.jpg", "train.csv", "test.csv"], "csv"),
        (["images/1.jpg", "train.csv", "test.jsonl"], "folder"),
        (["train/1.jpg", "test/2.jpg", "train.csv", "sample.csv"], "csv"),
        (["train/cat/1.jpg", "test/cat/2.jpg", "classes.csv"], "folder"),
        (["train/1.jpg", "bus/2.jpg", "classes.csv"], "folder"),
        (["1.jpg", "data/train.parquet"], "parquet"),
        (["train/data-00000-of-00001.arrow", "train/state.json", "dataset_dict.json"], "arrow"),
        (["train.csv", "test.csv", "README.md", "dataset-metadata.json", ".git/x.png"], "csv"),
        (["cat/1.heic"], "folder"),
        ([], "folder"),
    ],
)
def test_folders_are_of_the_kind_that_lies_in_them(names: list[str], kind: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert full_source(str(tmp_path)) == f"{kind}:{tmp_path}"


@pytest.mark.parametrize("names", [["pics/1.jpg", "labels.csv"], ["1.jpg", "labels.csv"]])
def test_images_of_one_folder_are_those_that_the_table_beside_it_names(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    for name in names:
        (tmp_path / name).touch()
    assert full_source(str(tmp_path)) == f"csv:{tmp_path}/labels.csv"


@pytest.mark.parametrize("source", ["", "csv:", "glyphs:x", "ftp:a", "notes.docx", "nosuch.csv"])
def test_anything_else_is_refused_with_what_is_allowed(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.docx").touch()
    with pytest.raises(SettingsError, match=r"must be glyphs, .*csv:FILE.*or the path of a file or folder") as raised:
        DataSettings(source=source)
    assert ("no file or folder has this name" in str(raised.value)) == (source not in ("notes.docx", ""))
