from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest

from coterie.errors import DataError
from data_files import (
    load,
    picture,
    pixels,
    png,
    sizes,
    write_parquet,
)
from helpers import SHARED_DATA

CIFAR100 = SHARED_DATA / "cifar100"


def test_parquet_files_by_split_keep_rows_pixels_and_labels(tmp_path: Path) -> None:
    for n_rows, name in ((8, "train-00000-of-00002"), (6, "train-00001-of-00002"), (4, "val-0"), (2, "test")):
        write_parquet(tmp_path / f"{name}.parquet", [k % 2 for k in range(n_rows)])
    splits = load(f"parquet:{tmp_path}")
    assert sizes(splits) == [14, 4, 2]
    assert splits.labels.names == ("0", "1")
    assert splits.train.samples.shape == (12, 12, 3)
    assert splits.train.labels_N.tolist() == [k % 2 for k in (*range(8), *range(6))]
    expected = np.stack([np.asarray(picture(k)) for k in (*range(8), *range(6))])
    np.testing.assert_array_equal(pixels(splits.train), expected)
    assert "12 x 12" in splits.about


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_split_names_of_files_and_folders(tmp_path: Path, name: str) -> None:
    write_parquet(tmp_path / "data" / "train.parquet", ["a", "b"] * 3)
    write_parquet(tmp_path / name / "0000.parquet", ["a", "b"] * 2)
    write_parquet(tmp_path / "oos_test.parquet", ["other"])
    splits = load(f"parquet:{tmp_path}", test_share=0.34)
    assert sizes(splits) == [4, 4, 2]
    assert "oos_test.parquet" in splits.about
    assert "2 test (cut from train)" in splits.about


def test_one_unsplit_file_is_train_and_the_rest_is_cut_the_same_way_each_time(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", ["b", "a"] * 25)
    splits, again, other = (load(f"parquet:{tmp_path}", seed=seed) for seed in (1, 1, 2))
    assert sizes(splits) == [32, 8, 10]
    assert splits.labels.names == ("a", "b")
    assert np.array_equal(pixels(splits.test), pixels(again.test))
    assert not np.array_equal(pixels(splits.test), pixels(other.test))
    pictures = [image.tobytes() for split in (splits.train, splits.validation, splits.test) for image in pixels(split)]
    assert len(set(pictures)) == 50


def test_a_single_file_may_be_given(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", ["b", "a"] * 5)
    assert sum(sizes(load(f"parquet:{tmp_path}/all.parquet"))) == 10


def test_odd_characters_in_a_path(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a [b] *c" / "train [1].parquet", ["b", "a"] * 5)
    assert sum(sizes(load(f"parquet:{tmp_path}/a [b] *c"))) == 10


def test_integer_labels_are_sorted_as_numbers(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [10, 9, 2] * 5)
    splits = load(f"parquet:{tmp_path}")
    assert splits.labels.names == ("2", "9", "10")


def test_plain_bytes_are_images_too(tmp_path: Path) -> None:
    columns = {"picture": [png(k) for k in range(10)], "label": ["a", "b"] * 5}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "train.parquet")
    assert load(f"parquet:{tmp_path}").train.samples.shape == (12, 12, 3)


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5)
    load(f"parquet:{tmp_path}")
    write_parquet(tmp_path / "train.parquet", ["c", "d"] * 6)
    splits = load(f"parquet:{tmp_path}")
    assert splits.labels.names == ("c", "d")
    assert sum(sizes(splits)) == 12


@pytest.mark.skipif(not CIFAR100.is_dir(), reason="CIFAR-100 is not in ../shared/data")
def test_cifar100_is_refused_without_a_label_column() -> None:
    with pytest.raises(DataError, match=r"fine_label, coarse_label.*--data\.label"):
        load(f"parquet:{CIFAR100}")
