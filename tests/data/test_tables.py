"""What is at a place: files, folders and the hub, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

from coterie.errors import DataError
from data_files import (
    KINDS,
    TEXTS,
    labels_of,
    load,
    picture,
    pixels,
    png,
    shown,
    sizes,
    write,
    write_folder,
    write_parquet,
)


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_a_missing_path(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nosuch: No such file"):
        load(f"{kind}:{tmp_path}/nosuch")


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_an_unreadable_path(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:  # permissions do not hold for root, whom tests may run as
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot read .*: Permission denied"):
        load(f"{kind}:{tmp_path}")


@pytest.mark.parametrize(("kind", "what"), [("parquet", "no .parquet file"), ("folder", "no image file")])
def test_an_empty_folder(tmp_path: Path, kind: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        load(f"{kind}:{tmp_path}")


def test_parquet_files_without_train(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", ["a", "b"])
    write_parquet(tmp_path / "val.parquet", ["a", "b"])
    with pytest.raises(DataError, match=r"no train split .*found: test, validation"):
        load(f"parquet:{tmp_path}")


def test_the_only_split_is_all_there_is(tmp_path: Path) -> None:
    """As a single file is, whatever its name: a folder of samples to judge a run on may hold test.parquet alone."""
    for number in range(2):
        write_parquet(tmp_path / f"test-{number}.parquet", ["a", "b"] * 5)
    splits = load(f"parquet:{tmp_path}")
    assert sum(sizes(splits)) == 20
    assert splits.cut == ("validation", "test")
    assert "test is the only split, and taken for all samples" in splits.about


@pytest.mark.parametrize("keep", [0, 3, 400])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "train.parquet"
    write_parquet(path, ["a", "b"] * 5)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train\.parquet is not a parquet file, or is cut off"):
        load(f"parquet:{tmp_path}")


def test_a_parquet_file_damaged_inside_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_parquet(path, ["a", "b"] * 5)
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(192) + content[-8:])
    with pytest.raises(DataError, match="cannot load parquet:") as caught:
        load(f"parquet:{tmp_path}")
    assert len(str(caught.value).splitlines()) < 20


def test_files_with_different_columns_are_a_data_error(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", ["a", "b"] * 5)
    write_parquet(tmp_path / "train-1.parquet", ["a", "b"] * 5, more=["x"] * 10)
    with pytest.raises(DataError, match="cannot load parquet:"):
        load(f"parquet:{tmp_path}")


def test_a_folder_per_class(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog", "yak"])
    splits = load(f"folder:{tmp_path}")
    assert splits.labels.names == ("cat", "dog", "yak")
    assert sizes(splits) == [19, 5, 6]
    expected = {np.asarray(picture(100 * c + k)).tobytes(): c for c in range(3) for k in range(10)}
    for split in (splits.train, splits.validation, splits.test):
        for image, label in zip(pixels(split), split.labels_N.tolist(), strict=True):
            assert expected[image.tobytes()] == label


def test_a_folder_per_split(tmp_path: Path) -> None:
    for name, n_images in (("train", 6), ("valid", 3), ("test", 2)):
        write_folder(tmp_path / name, ["cat", "dog"], n_images)
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "docs").mkdir()
    splits = load(f"folder:{tmp_path}")
    assert sizes(splits) == [12, 6, 4]
    assert "docs" in splits.about


def test_classes_called_like_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, ["bus", "train", "test"])
    assert load(f"folder:{tmp_path}").labels.names == ("bus", "test", "train")


def test_folders_of_splits_without_classes_are_no_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, ["test", "train"])
    with pytest.raises(DataError, match=r"test, train of .* hold images, and no folder for each class; where a table"):
        load(f"folder:{tmp_path}")


def test_odd_characters_in_folder_names(tmp_path: Path) -> None:
    write_folder(tmp_path / "a [b] *c", ["cat [small]", "dog?"])
    assert load(f"folder:{tmp_path}/a [b] *c").labels.names == ("cat [small]", "dog?")


def test_labels_from_a_metadata_file(tmp_path: Path) -> None:
    lines = []
    for k in range(10):
        (tmp_path / f"{k}.png").write_bytes(png(k))
        lines.append(json.dumps({"file_name": f"{k}.png", "species": "cat" if k % 2 else "dog"}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert load(f"folder:{tmp_path}").labels.names == ("cat", "dog")


def test_a_first_row_that_may_be_no_names_is_said(tmp_path: Path) -> None:
    for names, said in (("5.1,3.5,kind", True), ("5,5,kind", False), ("2019,2020,kind", False), ("-2.5,3,kind", True)):
        (tmp_path / "all.csv").write_text("\n".join([names, *(f"{k}.5,{k},{KINDS[k]}" for k in range(20))]))
        about = load(f"csv:{tmp_path}/all.csv", label="kind").about
        assert (f"its first row is taken for the names of columns: {names.replace(',', ', ')}" in about) == said


@pytest.mark.parametrize(
    ("first", "is_said"),
    [("0.1,0.2,0", True), ("0,0,1", True), ("7,7,c", False), ("0,1,label", False), ("1,2,3", False), ("a,a,c", False)],
)
def test_names_of_columns_that_may_be_a_row_of_numbers(tmp_path: Path, first: str, is_said: bool) -> None:
    row = ",".join(["1.5"] * first.count(","))
    (tmp_path / "a.csv").write_text(f"{first}\n" + "".join(f"{row},{'ab'[k % 2]}\n" for k in range(20)))
    label = first.rpartition(",")[2]
    assert ("its first row is taken for the names" in load(f"csv:{tmp_path}/a.csv", label=label).about) is is_said


def test_a_name_that_is_a_class_in_its_column_is_said(tmp_path: Path) -> None:
    rows = "".join(f"text {k},{'ab'[k % 2]}\n" for k in range(20))
    for first, is_said in (("some words,a", True), ("text 3,kind", False), ("text,kind", False)):
        (tmp_path / "a.csv").write_text(f"{first}\n{rows}")
        about = load(f"csv:{tmp_path}/a.csv", text=first.split(",")[0], label=first.split(",")[1]).about
        assert ("its first row is taken for the names" in about) is is_said


def test_files_without_a_suffix_are_named_where_there_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0").write_bytes(png(0))
    with pytest.raises(DataError, match=r"no image file in .*, but .*0: not an image file \(no suffix\)"):
        load(f"folder:{tmp_path}")


def test_a_metadata_file_is_read_as_any_csv_file(tmp_path: Path) -> None:
    for k in range(10):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    rows = [f"{k}.png;{'Käse' if k % 2 else 'Brot'}" for k in range(10)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name;species", *rows]), encoding="cp1252")
    splits = load(f"folder:{tmp_path}")
    assert splits.labels.names == ("Brot", "Käse")
    assert "read as csv with semicolons between cells (--data.separator), encoding cp1252" in splits.about


@pytest.mark.parametrize(
    ("name", "reason"),
    [("bad.png", "not an image in any known format"), ("notes.txt", r"not an image file \(\.txt\)")],
)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, name: str, reason: str) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    (tmp_path / "dog" / name).write_text("not pixels")
    with pytest.raises(DataError, match=rf"dog/{name}: {reason}"):
        load(f"folder:{tmp_path}")
    splits = load(f"folder:{tmp_path}", skip_broken=True)
    assert sum(sizes(splits)) == 20
    assert str(tmp_path / "dog" / name) in splits.skipped[0]


def test_what_file_managers_leave_behind_is_no_image_and_no_problem(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    (tmp_path / "dog" / ".DS_Store").write_text("")
    (tmp_path / "dog" / "Thumbs.db").write_text("")
    assert sum(sizes(load(f"folder:{tmp_path}"))) == 20


def test_an_empty_class_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    (tmp_path / "yak").mkdir()
    with pytest.raises(DataError, match=r"no training sample for 1 class: yak"):
        load(f"folder:{tmp_path}")


def test_a_folder_of_images_without_classes(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    with pytest.raises(DataError, match=r"no label column: .* needs a folder per class"):
        load(f"folder:{tmp_path}")


def test_a_name_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"cannot load hub:owner/name .*network.*Couldn't reach"):
        load("hub:owner/name")


def published(*names: str) -> datasets.DatasetDict:
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    columns = {"image": [{"bytes": png(k), "path": None} for k in range(10)], "label": [0, 1] * 5}
    return datasets.DatasetDict({name: datasets.Dataset.from_dict(columns, features=features) for name in names})


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("train", "valid", "eval"), [10, 10, 10]), (("all",), [6, 2, 2]), (("train", "extra"), [6, 2, 2])],
)
def test_splits_of_the_hub(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], expected: list[int]) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda _: published(*names))
    splits = load("hub:owner/name")
    assert sizes(splits) == expected
    assert ("extra" in splits.about) == ("extra" in names)


def test_hub_splits_without_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda _: published("first", "second"))
    with pytest.raises(DataError, match=r"no train split .*first, second"):
        load("hub:owner/name")


def test_splits_by_file_name_and_a_folder_of_files(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"text": TEXTS, "kind": KINDS})
    write(tmp_path / "test.csv", {"text": ["apple tree"], "kind": ["tree"]})
    assert shown(load(f"csv:{tmp_path}").test) == ["apple tree"]


def test_one_file_is_cut_whatever_its_name(tmp_path: Path) -> None:
    assert "cut from train" in load(write(tmp_path / "test.csv", {"text": TEXTS, "kind": KINDS})).about


def test_a_configuration_of_the_hub_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def published(path: str, name: str | None = None) -> datasets.DatasetDict:
        if name is None:
            raise ValueError("Config name is missing. Please pick one among: ['small', 'plus']")
        table = datasets.Dataset.from_dict({"text": [f"{name} {text}" for text in TEXTS], "kind": KINDS})
        return datasets.DatasetDict(train=table)

    monkeypatch.setattr(datasets, "load_dataset", published)
    with pytest.raises(DataError, match=r"--data\.configuration.*'small', 'plus'"):
        load("hub:owner/name")
    assert all(text.startswith("plus ") for text in labels_of(load("hub:owner/name", configuration="plus")))


def test_progress_bars_are_silent_and_left_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5)
    capsys.readouterr()
    datasets.enable_progress_bars()
    load(f"parquet:{tmp_path}")
    assert not datasets.are_progress_bars_disabled()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_split_that_lacks_a_column_is_named(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"train.{suffix}", {"text": TEXTS, "kind": KINDS})
    write(tmp_path / f"test.{suffix}", {"kind": KINDS})
    with pytest.raises(DataError, match=rf"test of {suffix}:.* lacks columns that train has: text"):
        load(f"{suffix}:{tmp_path}")


def test_json_files_of_a_folder_are_taken_or_named(tmp_path: Path) -> None:
    rows = {"text": TEXTS, "label": KINDS}
    write(tmp_path / "train.jsonl", rows).removeprefix("jsonl:")
    (tmp_path / "train.jsonl").rename(tmp_path / "rows.json")
    assert sum(sizes(load(f"jsonl:{tmp_path}"))) == 20
    write(tmp_path / "train.jsonl", rows)
    splits = load(f"jsonl:{tmp_path}")
    assert sum(sizes(splits)) == 20
    assert "left out as of no split: rows.json" in splits.about
