from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coterie.errors import DataError
from coterie.inputs import FeaturePreprocessing
from data_files import FEATURES, KINDS, load, sizes, write


def test_features_of_an_npz_file_are_cut_or_come_by_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", features=FEATURES, labels=np.array(KINDS))
    splits = load(f"features:{tmp_path}/all.npz")
    assert isinstance(splits.preprocessing, FeaturePreprocessing)
    assert splits.labels.names == ("fruit", "tree")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [13, 3, 4]
    arrays = {"train_features": FEATURES, "train_labels": [0, 1] * 10, "test_features": FEATURES[:2]}
    np.savez(tmp_path / "split.npz", **arrays, test_labels=[0, 1], classes=np.array(["no", "yes"]))
    splits = load(f"features:{tmp_path}/split.npz")
    torch.testing.assert_close(splits.test.samples.read(torch.arange(2)).numpy(), FEATURES[:2].astype(np.float32))
    assert splits.labels.names == ("no", "yes")


def test_a_column_of_vectors_is_features(tmp_path: Path) -> None:
    source = write(tmp_path / "all.parquet", {"vector": list(FEATURES), "id": range(20), "kind": KINDS})
    for place in (source, source.replace("parquet:", "features:")):
        splits = load(place, label="kind")
        assert isinstance(splits.preprocessing, FeaturePreprocessing)
        assert splits.train.samples.shape == (3,)
    with pytest.raises(DataError, match=r"'id' cannot be the columns: it must hold lists of numbers"):
        load(source, label="kind", columns=("id",), modality="features")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": [0, 1]}, "no array 'features' .*there: labels"),
        ({"features": np.zeros((2, 3)), "labels": [0, 1, 1]}, r"one per row.*\(3,\) and \(2, 3\)"),
        ({"features": np.zeros(4), "labels": [0, 1] * 2}, r"shape \(N, F\)"),
        ({"features": np.full((8, 2), np.nan), "labels": [0, 1] * 4}, "NaN, infinity or what is beyond float32"),
        ({"features": np.zeros((8, 2)), "labels": [0] * 8}, "at least 2 classes"),
        (
            {"features": np.zeros((8, 2)), "labels": [0, 1] * 4, "classes": ["a", "b", "c"]},
            "3 names for the labels 0, 1",
        ),
        ({"features": np.array([{}] * 4), "labels": [0, 1] * 2}, "numbers and texts only"),
        ({"test_features": np.zeros((4, 2)), "test_labels": [0, 1] * 2}, "no array 'train_features'"),
    ],
)
def test_bad_features_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "all.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(f"features:{tmp_path}/all.npz")


@pytest.mark.parametrize("content", [None, b"", b"not an archive", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_npz(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "all.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot read"):
        load(f"features:{tmp_path}/all.npz")


def test_a_folder_is_refused_with_what_may_stand_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder; allowed: one \.npz file .* or parquet:DIR"):
        load(f"features:{tmp_path}")


def test_vectors_of_several_lengths(tmp_path: Path) -> None:
    vectors = [[1.0, 2.0]] * 19 + [[1.0]]
    source = write(tmp_path / "all.parquet", {"vector": vectors, "kind": KINDS})
    with pytest.raises(DataError, match=r"vectors of one length, 2 as the first; row 19 has 1"):
        load(source, label="kind")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((4, 2)) * 1j, "labels": [0, 1] * 2}, "must be numbers .*complex128"),
        ({"features": np.ones((4, 2)), "labels": np.array([0, 1, 0, 1]) * 1j}, "must be numbers or texts; got complex"),
        ({"features": np.full((8, 2), 1e300), "labels": [0, 1] * 4}, "NaN, infinity or what is beyond float32"),
        ({"features": np.float64(1), "labels": [0, 1] * 4}, "one per row"),
    ],
)
def test_numbers_that_no_network_takes_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "all.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(f"features:{tmp_path}/all.npz")


def test_rows_that_no_network_takes_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    features, label_N = FEATURES.copy(), np.array([""] + ["a", "b"] * 9 + ["a"])
    features[7, 1], features[9, 0] = np.nan, np.inf
    np.savez(tmp_path / "all.npz", features=features, labels=label_N)
    with pytest.raises(DataError, match=r"^2 rows of train with NaN, infinity or what is .*, the first is row 7$"):
        load(f"features:{tmp_path}/all.npz", skip_broken=True)
    with pytest.raises(DataError, match=r"1 row of train without labels: rows 0;"):
        load(f"features:{tmp_path}/all.npz")


def test_features_of_the_other_byte_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", features=FEATURES.astype(">f4"), labels=np.array([0, 1] * 10, ">i8"))
    np.savez(tmp_path / "native.npz", features=FEATURES.astype("f4"), labels=[0, 1] * 10)
    one, other = (load(f"features:{tmp_path}/{name}.npz") for name in ("all", "native"))
    assert torch.equal(one.train.samples.read(torch.arange(5)), other.train.samples.read(torch.arange(5)))


def test_splits_by_any_of_the_usual_words_and_arrays_that_are_not_used(tmp_path: Path) -> None:
    label_N = np.arange(20) % 2
    arrays = {"train_features": FEATURES, "train_labels": label_N, "val_features": FEATURES, "val_labels": label_N}
    np.savez(tmp_path / "a.npz", **arrays, extra=label_N)
    splits = load(f"features:{tmp_path}/a.npz")
    assert sizes(splits) == [16, 20, 4]
    assert "arrays that are not used: extra" in splits.about
    # As an earlier version read it.
    assert sizes(load(f"features:{tmp_path}/a.npz", split="no")) == [13, 3, 4]


@pytest.mark.parametrize("labels", [[["a"], ["b"]] * 10, [b"a", b"b"] * 10])
def test_labels_of_a_column_and_of_bytes(tmp_path: Path, labels: list[Any]) -> None:
    np.savez(tmp_path / "a.npz", features=FEATURES, labels=np.array(labels))
    assert load(f"features:{tmp_path}/a.npz").labels.names == ("a", "b")


def test_one_hot_labels_are_refused_with_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=FEATURES, labels=np.eye(2)[np.arange(20) % 2])
    with pytest.raises(DataError, match=r"got shapes \(20, 2\) and \(20, 3\) \(of rows that are one-hot, take argmax"):
        load(f"features:{tmp_path}/a.npz")
