"""What the classes of a column of labels are, and their groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from coterie import data
from coterie.config import DataSettings
from coterie.errors import DataError
from coterie.labels import LabelSpace
from data_files import (
    KINDS,
    TEXTS,
    load,
    png,
    sizes,
    write,
    write_parquet,
)


def groups(source: str, column: str, names: Sequence[str] = ("a", "b", "c")) -> tuple[str, ...]:
    return data.read_groups(DataSettings(source=source, label="label"), column, LabelSpace(tuple(names)))


def test_a_second_label_column_gives_the_group_of_each_class(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["c", "b", "a"] * 3, coarse=["y", "x", "x"] * 3)
    write_parquet(tmp_path / "test.parquet", ["b"], coarse=["x"])
    assert groups(f"parquet:{tmp_path}", "coarse") == ("x", "x", "y")


def test_groups_of_a_declared_column_have_its_names(tmp_path: Path) -> None:
    columns = {"image": [png(k) for k in range(6)], "label": ["a", "b", "c"] * 2, "coarse": [1, 0, 1] * 2}
    coarse = datasets.ClassLabel(names=["trees", "fish"])
    features = {"image": datasets.Value("binary"), "label": datasets.Value("string"), "coarse": coarse}
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(tmp_path / "train.parquet")
    assert groups(f"parquet:{tmp_path}", "coarse") == ("fish", "trees", "fish")


@pytest.mark.parametrize(
    ("column", "names", "message"),
    [
        ("torn", "abc", r"1 class lies in several groups of column 'torn': b \(x, y\); allowed: one"),
        ("empty", "abc", r"1 row of train without empty"),
        ("missing", "abc", r"no column 'missing' for groups; columns: image, label, torn, empty"),
        ("image", "abc", r"column 'image' cannot hold groups"),
        ("label", "ab", r"the classes of parquet:.* are not those of the data in use"),
    ],
)
def test_groups_that_cannot_be(column: str, names: str, message: str, tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "train.parquet", ["a", "b", "c", "b"], torn=["x", "x", "y", "y"], empty=["x", None, "y", "y"]
    )
    with pytest.raises(DataError, match=message):
        groups(f"parquet:{tmp_path}", column, tuple(names))


def test_withheld_groups_are_refused(tmp_path: Path) -> None:
    columns = {"image": [png(k) for k in range(4)], "label": ["a", "b"] * 2, "coarse": [1, 0, 1, -1]}
    features = {"image": datasets.Value("binary"), "label": datasets.Value("string")}
    features["coarse"] = datasets.ClassLabel(names=["trees", "fish"])
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"1 unlabelled row of train \(coarse = -1\)"):
        groups(f"parquet:{tmp_path}", "coarse", "ab")


def test_rows_without_a_label(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", None, "b", None])
    with pytest.raises(DataError, match=r"2 rows of train without label: rows 1, 3"):
        load(f"parquet:{tmp_path}")


def test_withheld_labels(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=["cat", "dog"])
    write_parquet(tmp_path / "train.parquet", [0, 1] * 5, label=feature)
    write_parquet(tmp_path / "test.parquet", [1, -1, -1], label=feature)
    with pytest.raises(DataError, match=r"2 unlabelled rows of test"):
        load(f"parquet:{tmp_path}")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_classes_that_train_does_not_know(tmp_path: Path, split: str) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5)
    write_parquet(tmp_path / f"{split}.parquet", ["a", "zebra", "yak"])
    with pytest.raises(DataError, match=rf"{split} has 2 classes.*yak, zebra"):
        load(f"parquet:{tmp_path}")


def test_declared_classes_that_only_another_split_has(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=["cat", "dog", "yak"])
    write_parquet(tmp_path / "train.parquet", [0, 1] * 5, label=feature)
    write_parquet(tmp_path / "test.parquet", [0, 2], label=feature)
    with pytest.raises(DataError, match=r"test has 1 class.*yak"):
        load(f"parquet:{tmp_path}")


def test_a_declared_class_without_a_training_image(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=["cat", "yak", "dog"])
    write_parquet(tmp_path / "train.parquet", [0, 2] * 5, label=feature)
    with pytest.raises(DataError, match=r"no training sample for 1 class: yak"):
        load(f"parquet:{tmp_path}")


def test_a_class_with_one_image_stays_in_train(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a"] * 10 + ["rare"])
    splits = load(f"parquet:{tmp_path}")
    assert 1 in splits.train.labels_N
    assert 1 not in torch.cat([splits.validation.labels_N, splits.test.labels_N])


def test_nothing_can_be_cut_where_every_class_has_one_image(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b", "c"])
    with pytest.raises(DataError, match="none of the 3"):
        load(f"parquet:{tmp_path}")


def test_a_single_class_is_no_task(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a"] * 10)
    with pytest.raises(DataError, match="at least 2 classes"):
        load(f"parquet:{tmp_path}")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 9] * 10, ("9", "10")),
        ([2.0, 1.0] * 10, ("1", "2")),
        ([True, False] * 10, ("False", "True")),
        (["b", "a"] * 10, ("a", "b")),
    ],
)
def test_labels_of_every_kind(tmp_path: Path, labels: list[Any], names: tuple[str, ...]) -> None:
    assert load(write(tmp_path / "all.parquet", {"text": TEXTS, "y": labels}), label="y").labels.names == names


def test_whole_floats_with_a_gap_are_labels_with_a_gap(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {"text": TEXTS, "y": [1.0, np.nan] + [1, 2] * 9})
    with pytest.raises(DataError, match=r"1 row of train without y: rows 1"):
        load(source, label="y")


def test_a_quantity_is_no_label(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {"text": TEXTS, "y": [1.5, 2] * 10})
    with pytest.raises(DataError, match=r"the labels in 'y' must be classes; 1\.5 is a quantity"):
        load(source, label="y")


def test_one_class_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 2 classes; found 1"):
        load(write(tmp_path / "all.csv", {"text": TEXTS, "kind": ["fruit"] * 20}))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "2", "9"], ("2", "9", "10")),
        (["007", "7", "010", "NA"], ("007", "010", "7", "NA")),
        (["007", "7", "8", "010"], ("007", "7", "8", "010")),
        (["1e5", "100000", "1.0", "1"], ("1", "1.0", "100000", "1e5")),
        (["NA", "None", "null", "nan"], ("NA", "None", "nan", "null")),
        (["True", "true", "FALSE", "False"], ("FALSE", "False", "True", "true")),
    ],
)
def test_labels_of_a_csv_file_are_texts_whatever_they_look_like(
    tmp_path: Path, labels: list[str], names: tuple[str, ...]
) -> None:
    rows = [f"{text},{labels[k % 4]}" for k, text in enumerate(TEXTS)]
    (tmp_path / "all.csv").write_text("\n".join(["text,y", *rows]) + "\n")
    assert load(f"csv:{tmp_path}/all.csv", label="y").labels.names == names


def test_many_rows_of_one_class_do_not_change_what_others_are(tmp_path: Path) -> None:
    # A reader that types blocks of 10,000 rows makes five classes of these three.
    labels = ["1"] * 12_000 + ["A"] * 12_000 + ["2"] * 1000
    (tmp_path / "all.csv").write_text("text,y\n" + "".join(f"word {k},{y}\n" for k, y in enumerate(labels)))
    splits = load(f"csv:{tmp_path}/all.csv", label="y", longest=4)
    assert splits.labels.names == ("1", "2", "A")
    assert sum(sizes(splits)) == 25_000


def test_unknown_classes_that_are_spelled_alike_are_told_of_the_option(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"text": TEXTS, "label": KINDS})
    write(tmp_path / "test.csv", {"text": TEXTS, "label": [f"{kind} " for kind in KINDS]})
    with pytest.raises(
        DataError, match=r"--data\.merge-names joins those that are spelled alike, --data\.skip-unknown"
    ):
        load(f"csv:{tmp_path}")
