"""Rows without labels, and of classes that train lacks, in tables, folders and arrays; names that are spelled alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from coterie.config import DataSettings
from coterie.data.additions import read_additions
from coterie.errors import DataError
from coterie.inputs import FeaturePreprocessing, Scale
from data_files import KINDS, TEXTS, labels_of, load, sizes, write, write_folder, write_parquet


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_test_file_without_the_label_is_left_out_and_a_test_split_is_cut(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"train.{suffix}", {"text": TEXTS, "kind": KINDS})
    write(tmp_path / f"test.{suffix}", {"text": TEXTS})
    splits = load(f"{suffix}:{tmp_path}", label="kind")
    assert sizes(splits) == [13, 3, 4]
    assert "test has no column 'kind', and is left out" in splits.about


@pytest.mark.parametrize("withheld", [[-1] * 3, [None] * 3])
def test_a_test_split_whose_labels_are_withheld_is_left_out(tmp_path: Path, withheld: list[Any]) -> None:
    plain, declared = datasets.Value("int64"), datasets.ClassLabel(names=["cat", "dog"])
    for folder, feature in ((tmp_path / "plain", plain), (tmp_path / "declared", declared)):
        write_parquet(folder / "train.parquet", [0, 1] * 10, label=feature)
        write_parquet(folder / "test.parquet", withheld, label=feature)
        splits = load(f"parquet:{folder}")
        assert sizes(splits) == [13, 3, 4]
        assert "test has no labels, and is left out" in splits.about


def test_rows_without_a_label_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", {"text": TEXTS, "kind": [None, *KINDS[1:]]})
    with pytest.raises(DataError, match=r"1 row of train without kind: rows 0; --data.skip-broken"):
        load(source, label="kind")
    splits = load(source, label="kind", skip_broken=True)
    assert sum(sizes(splits)) == 19
    assert TEXTS[0] not in labels_of(splits)
    assert "1 row of train without a label left out, the first is row 0" in splits.about


def test_minus_one_is_a_class_where_train_has_it(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [-1, 1] * 10)
    write_parquet(tmp_path / "test.parquet", [-1, -1])
    splits = load(f"parquet:{tmp_path}")
    assert splits.labels.names == ("-1", "1")
    assert splits.test.labels_N.tolist() == [0, 0]


def test_samples_of_classes_that_train_lacks_are_counted_and_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ["cat", "dog"])
    write_folder(tmp_path / "test", ["cat", "bird", "dog"], n_images=4)
    with pytest.raises(DataError, match=r"test has 1 class.*bird; --data\.skip-unknown leaves them out"):
        load(f"folder:{tmp_path}")
    splits = load(f"folder:{tmp_path}", skip_unknown=True)
    assert splits.labels.names == ("cat", "dog")
    assert splits.test.labels_N.tolist() == [0] * 4 + [1] * 4
    assert "4 of 12 test samples are of 1 class that train lacks (bird), and are left out" in splits.about
    assert splits.n_unknown == 4


def test_a_split_of_unknown_classes_alone_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5)
    write_parquet(tmp_path / "test.parquet", ["c", "d"])
    with pytest.raises(DataError, match="no sample of test is of a class that train has"):
        load(f"parquet:{tmp_path}", skip_unknown=True)


def test_arrays_are_treated_alike(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = np.tile([0.0, 1.0], 20)
    y[5] = np.nan
    file = tmp_path / "f.npz"
    arrays = {"train_features": x, "train_labels": y, "test_features": x[:4], "test_labels": np.full(4, -1)}
    np.savez(file, **arrays)
    splits = load(f"features:{file}", skip_broken=True)
    assert sum(sizes(splits)) == 39
    assert "1 row of train without a label left out, the first is row 5; test has no labels" in splits.about
    np.savez(file, **{**arrays, "train_labels": np.tile([0, 1], 20), "test_labels": np.array([1, 2, 0, 2])})
    splits = load(f"features:{file}", skip_unknown=True)
    assert splits.test.labels_N.tolist() == [1, 0]
    assert splits.n_unknown == 2


def test_names_that_are_spelled_alike_are_joined_to_the_commonest(tmp_path: Path) -> None:
    labels = ["cat"] * 6 + ["Cat"] * 3 + ["cat "] * 3 + ["café"] * 3 + ["cafe\u0301"] * 5
    source = write(tmp_path / "rows.csv", {"text": TEXTS, "kind": labels})
    assert len(load(source, label="kind", text="text").labels) == 5
    splits = load(source, label="kind", text="text", merge_names=True)
    assert splits.labels.names == ("cafe\u0301", "cat")
    found = labels_of(splits)
    assert [found[text] for text in TEXTS] == ["cat"] * 12 + ["cafe\u0301"] * 8
    assert r"other spellings of 2 classes joined: 'Cat', 'cat ' to 'cat'; 'caf\xe9' to 'cafe\u0301'" in splits.about


def test_folders_and_declared_names_are_joined_too(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ["cat", "dog", "Dog"], n_images=5)
    write_folder(tmp_path / "test", ["Cat", "dog"], n_images=2)
    splits = load(f"folder:{tmp_path}", merge_names=True)
    assert splits.labels.names == ("cat", "Dog")
    assert splits.test.labels_N.tolist() == [0, 0, 1, 1]
    assert splits.train_counts == (4, 8)


def test_additions_are_joined_among_themselves(tmp_path: Path) -> None:
    file = tmp_path / "f.npz"
    np.savez(file, features=np.eye(4, 3), labels=np.array(["cat", "Cat", "dog", "cat"]))
    form = FeaturePreprocessing(Scale((0.0,) * 3, (1.0,) * 3))
    found = read_additions(f"features:{file}", form, DataSettings(merge_names=True))
    assert {name: len(samples) for name, samples in found.items()} == {"cat": 3, "dog": 1}


def test_classes_without_a_sample_to_be_judged_on_are_counted(tmp_path: Path) -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2, 3])
    np.savez(tmp_path / "f.npz", features=np.random.default_rng(0).normal(size=(42, 3)), labels=labels)
    about = load(f"features:{tmp_path / 'f.npz'}").about
    assert "classes with no sample to be judged on: 2 none of validation, 2 none of test" in about
