"""Which column holds what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from coterie import data
from coterie.config import DataSettings
from coterie.data.additions import read_additions
from coterie.errors import DataError
from data_files import (
    KINDS,
    TEXTS,
    labels_of,
    load,
    png,
    sizes,
    write,
    write_parquet,
)


def test_two_label_columns_are_refused_naming_both_and_the_option(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, coarse=["x", "y"] * 5, fine=["v", "w"] * 5)
    with pytest.raises(DataError, match=r"coarse, fine.*--data\.label"):
        load(f"parquet:{tmp_path}", ignore=("label",))
    assert "the label is the column 'label' (--data.label)" in load(f"parquet:{tmp_path}").about
    assert load(f"parquet:{tmp_path}", label="coarse").labels.names == ("x", "y")


def test_of_two_columns_of_texts_that_of_messages_is_no_label(tmp_path: Path) -> None:
    splits = load(write(tmp_path / "rows.csv", {"message": TEXTS, "queue": KINDS}))
    assert splits.labels.names == ("fruit", "tree")
    assert "the label is the column 'queue' (--data.label)" in splits.about
    # Rows without a label are left out of the column that is found, too.
    gaps = [None, *KINDS[1:]]
    splits = load(write(tmp_path / "gaps.csv", {"message": TEXTS, "queue": gaps}), skip_broken=True)
    assert "1 row of train without a label left out" in splits.about
    with pytest.raises(DataError, match=r"2 columns could be the label: queue, branch; choose one with --data\.label"):
        load(write(tmp_path / "two.csv", {"message": TEXTS, "queue": KINDS, "branch": KINDS[::-1]}))
    with pytest.raises(DataError, match="2 columns could be the label: message, answer"):
        load(write(tmp_path / "none.csv", {"message": TEXTS, "answer": TEXTS[::-1]}))
    with pytest.raises(DataError, match="2 columns could be the label: price, rooms"):  # a csv file's numbers are none
        load(write(tmp_path / "numbers.csv", {"price": range(100, 120), "rooms": [1, 2, 3, 4] * 5}))


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-0{}",
        "2026-01-0{} 10:30",
        "2026-01-0{}T10:30:00Z",
        "0{}.01.2026",
        "1/{}/26, 9:30 PM",
        "{}-1-2026 10:30:00",
    ],
)
def test_dates_are_no_label_and_beside_texts_no_part_of_a_table(written: str, tmp_path: Path) -> None:
    created = [written.format(1 + k // 3) for k in range(20)]
    rows = {"id": range(20), "message": TEXTS, "queue": KINDS, "created": created, "language": ["en"] * 20}
    splits = load(write(tmp_path / "tickets.csv", rows))
    assert splits.preprocessing.modality == "text"
    assert splits.labels.names == ("fruit", "tree")
    assert "ignored, for they hold dates, or one text throughout: created, language (--data.ignore)" in splits.about
    again = data.load(DataSettings(source=write(tmp_path / "new.csv", rows)), 0, splits.preprocessing)
    assert again.preprocessing == splits.preprocessing
    assert len(again.test) == len(splits.test)
    # One class alone is a label yet, as of samples that are added.
    one = {"message": TEXTS, "queue": ["fruit"] * 20}
    assert list(read_additions(write(tmp_path / "one.csv", one), splits.preprocessing, DataSettings())) == ["fruit"]
    # Who wants a table has it, and beside other values dates are one of them.
    assert load(write(tmp_path / "asked.csv", rows), modality="table").preprocessing.modality == "table"
    rows["price"] = range(100, 120)
    assert load(write(tmp_path / "rows.csv", rows), label="queue").preprocessing.modality == "table"


def test_a_class_column_goes_before_text(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=["cat", "dog"])
    write_parquet(tmp_path / "train.parquet", [0, 1] * 5, label=feature, caption=["some text"] * 10)
    assert load(f"parquet:{tmp_path}").labels.names == ("cat", "dog")


def test_two_image_columns_are_refused_naming_both(tmp_path: Path) -> None:
    image = [{"bytes": png(k), "path": None} for k in range(10)]
    columns = {"front": image, "back": image, "label": ["a", "b"] * 5}
    features = datasets.Features(front=datasets.Image(), back=datasets.Image(), label=datasets.Value("string"))
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"front, back.*--data\.image"):
        load(f"parquet:{tmp_path}")
    assert sum(sizes(load(f"parquet:{tmp_path}", image="back"))) == 10


def test_no_label_column(tmp_path: Path) -> None:
    records = [{"bytes": png(k), "path": None} for k in range(4)]
    features = datasets.Features(image=datasets.Image(), weight=datasets.Value("float32"))
    table = datasets.Dataset.from_dict({"image": records, "weight": [0.5] * 4}, features=features)
    table.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no label column: none of image, weight"):
        load(f"parquet:{tmp_path}")
    with pytest.raises(DataError, match=r"labels in 'weight' must be classes; 0\.5 is a quantity"):
        load(f"parquet:{tmp_path}", label="weight")
    with pytest.raises(DataError, match="'image' cannot be the label"):
        load(f"parquet:{tmp_path}", label="image")


def test_no_image_column(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a"], "label": [1]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no image column: none of text, label"):
        load(f"parquet:{tmp_path}", modality="image")


@pytest.mark.parametrize("option", ["image", "label"])
def test_an_unknown_column_is_answered_with_those_there_are(tmp_path: Path, option: str) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5)
    with pytest.raises(DataError, match=r"no column 'nosuch' .*image, label"):
        load(f"parquet:{tmp_path}", **{option: "nosuch"})


def test_texts_that_look_like_numbers_are_texts_where_they_are_asked_for(tmp_path: Path) -> None:
    rows = [f"{k:03},{'ab'[k % 2]},{k}" for k in range(20)]
    (tmp_path / "all.csv").write_text("\n".join(["body,y,size", *rows]) + "\n")
    splits = load(f"csv:{tmp_path}/all.csv", label="y", text="size")
    assert {splits.train.samples.show(k) for k in range(len(splits.train))} <= {str(k) for k in range(20)}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("values", "names"), [([True, False], ("False", "True")), ([1.0, 2.0], ("1", "2"))])
def test_a_column_called_label_is_the_label_whatever_it_holds(
    tmp_path: Path, suffix: str, values: list[Any], names: tuple[str, ...]
) -> None:
    source = write(tmp_path / f"rows.{suffix}", {"size": [1, 2, 3, 4] * 5, "label": values * 10})
    splits = load(source)
    spelled = suffix == "csv" and values == [1.0, 2.0]
    assert splits.labels.names == (("1.0", "2.0") if spelled else names)


def test_a_label_beside_truths_is_said(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", {"size": [1, 2, 3, 4] * 5, "spam": [True, False] * 10})
    assert "the label is the column 'size' (--data.label)" in load(source).about


def test_a_coordinate_called_y_is_no_label(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", {"x": [0.5, 1.5] * 10, "y": [1.0, 2.0] * 10, "kind": KINDS})
    assert load(source).labels.names == ("fruit", "tree")


def test_the_column_of_texts_in_any_case(tmp_path: Path) -> None:
    splits = load(write(tmp_path / "rows.csv", {"Text": TEXTS, "Klasse": KINDS}))
    assert splits.labels.names == ("fruit", "tree")
    assert TEXTS[0] in labels_of(splits)
