"""A column that says which rows are train, validation and test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coterie import data
from coterie.config import DataSettings
from coterie.errors import DataError
from data_files import KINDS, TEXTS, load, shown, sizes, write

# Twelve rows of train, four of validation and four of test, in turns.
WORDS = ["train", "val", "train", "test", "train"] * 4


def _rows(**more: list[Any]) -> dict[str, list[Any]]:
    return {"text": TEXTS, "label": KINDS, **more}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["split", "Subset"])
def test_rows_are_split_as_a_column_says(tmp_path: Path, suffix: str, name: str) -> None:
    splits = load(write(tmp_path / f"rows.{suffix}", _rows(**{name: WORDS})))
    assert sizes(splits) == [12, 4, 4]
    assert shown(splits.test) == TEXTS[3::5]
    assert f"the splits are those of the column '{name}' (--data.split)" in splits.about


def test_words_that_people_have_for_splits(tmp_path: Path) -> None:
    words = ["Training ", "dev", "TRAIN", "Evaluation", "train"] * 4
    assert sizes(load(write(tmp_path / "rows.csv", _rows(fold=words)))) == [12, 4, 4]


def test_a_split_that_the_column_lacks_is_cut(tmp_path: Path) -> None:
    words = ["train", "train", "train", "train", "test"] * 4
    splits = load(write(tmp_path / "rows.csv", _rows(split=words)))
    assert sizes(splits) == [13, 3, 4]
    assert shown(splits.test) == TEXTS[4::5]


def test_rows_of_no_split_are_left_out_and_counted(tmp_path: Path) -> None:
    splits = load(write(tmp_path / "rows.jsonl", _rows(split=[None, *WORDS[1:]])))
    assert sizes(splits) == [11, 4, 4]
    assert "left out, for they are of no split: 1 row" in splits.about


@pytest.mark.parametrize("values", [["train", "station"] * 10, ["test", "val"] * 10, ["1", "2"] * 10, [None] * 20])
def test_other_values_make_a_plain_column(tmp_path: Path, values: list[Any]) -> None:
    splits = load(write(tmp_path / "rows.csv", {"size": list(range(20)), "label": KINDS, "split": values}))
    assert sizes(splits) == [13, 3, 4]
    assert "the splits are" not in splits.about


def test_a_column_of_splits_is_chosen_or_none(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", _rows(split=WORDS, part=WORDS[::-1]))
    assert sizes(load(source, split="no", label="label")) == [13, 3, 4]
    assert shown(load(source, split="part", label="label").test) == TEXTS[1::5]
    with pytest.raises(DataError, match=r"no column 'parts' \(--data.split\); columns: text, label, split, part"):
        load(source, split="parts")
    with pytest.raises(DataError, match=r"'label' must say train, and validation or test.*it holds fruit, tree"):
        load(source, split="label")


def test_a_column_that_is_named_for_something_else_is_no_split(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", {"size": [1, 2] * 10, "split": WORDS})
    assert load(source, label="split").labels.names == ("test", "train", "val")
    assert sizes(load(write(tmp_path / "more.csv", _rows(split=WORDS)), ignore=("split",))) == [13, 3, 4]


def test_files_that_are_splits_go_before_a_column(tmp_path: Path) -> None:
    for name in ("train", "test"):
        source = write(tmp_path / f"{name}.csv", _rows(split=[name] * 20))
    splits = load(f"csv:{tmp_path}")
    assert sizes(splits) == [16, 4, 20]
    assert "files are the splits; not used: column 'split'" in splits.about
    with pytest.raises(DataError, match="files are splits by their names"):
        load(f"csv:{tmp_path}", split="split")
    assert source.endswith("test.csv")


def test_images_are_found_beside_each_file(tmp_path: Path) -> None:
    from data_files import png

    for part, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        for k in range(10):
            (tmp_path / folder / f"{k}.png").write_bytes(png(10 * part + k))
        columns = {"path": [f"{k}.png" for k in range(10)], "label": KINDS[:10], "split": WORDS[:10]}
        write(tmp_path / folder / "rows.csv", columns)
    assert sizes(load(f"csv:{tmp_path}")) == [12, 4, 4]


def test_rows_are_called_as_in_their_file(tmp_path: Path) -> None:
    texts = [*TEXTS[:8], "", *TEXTS[9:]]
    with pytest.raises(DataError, match=r"row 8 of test: an empty text"):
        load(write(tmp_path / "rows.jsonl", {"text": texts, "label": KINDS, "split": WORDS}))
    labels = [None, *KINDS[1:]]
    splits = load(write(tmp_path / "holes.jsonl", {"text": texts, "label": labels}), skip_broken=True)
    assert splits.skipped == ("row 8 of train: an empty text",)


def test_images_and_vectors_are_called_as_in_their_file(tmp_path: Path) -> None:
    from data_files import png, write_parquet

    images = [b"none" if k == 8 else png(k) for k in range(20)]
    write_parquet(tmp_path / "images" / "rows.parquet", ["a", "b"] * 10, images, split=WORDS)
    with pytest.raises(DataError, match=r"row 8 of test: not an image"):
        load(f"parquet:{tmp_path / 'images'}")
    vectors = [[1.0, 2.0] if k != 8 else [1.0] for k in range(20)]
    source = write(tmp_path / "rows.parquet", {"vector": vectors, "label": KINDS, "split": WORDS})
    with pytest.raises(DataError, match=r"row 8 has 1"):
        load(source)


def test_labels_are_called_as_in_their_file(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", _rows(split=WORDS) | {"label": [*KINDS[:8], None, *KINDS[9:]]})
    with pytest.raises(DataError, match=r"1 row of test without label: rows 8;"):
        load(source)


def test_other_data_of_a_run_may_lack_the_column(tmp_path: Path) -> None:
    own = write(tmp_path / "own.csv", {"size": [1, 2] * 10, "label": KINDS, "part": WORDS})
    run = load(own, split="part", label="label").preprocessing
    other = write(tmp_path / "other.csv", {"size": [1, 2] * 10, "label": KINDS})
    settings = DataSettings(source=other, split="part", label="label")
    assert sizes(data.load(settings, 0, run)) == [13, 3, 4]
