"""Images as files that the cells of a table name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from coterie.config import DataSettings
from coterie.data.sources import kind_of
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, TablePreprocessing
from data_files import KINDS, load, picture, pixels, png, sizes, write, write_pictures


def assert_pictures(source: str, **settings: Any) -> str:
    splits = load(source, **settings)
    assert isinstance(splits.preprocessing, ImagePreprocessing)
    assert kind_of(DataSettings(source=source, **settings)) == ("image", (12, 12))
    of = {np.asarray(picture(k)).tobytes(): kind for k, kind in enumerate(KINDS)}
    seen = [
        (of.pop(image.tobytes()), splits.labels.names[label])
        for split in (splits.train, splits.validation, splits.test)
        for image, label in zip(pixels(split), split.labels_N.tolist(), strict=True)
    ]
    assert not of
    assert all(kind == label for kind, label in seen)
    return splits.about


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["image", "Bild"])
def test_paths_of_images_are_images(tmp_path: Path, suffix: str, name: str) -> None:
    paths = write_pictures(tmp_path / "pics")
    source = write(tmp_path / f"all.{suffix}", {name: paths, "label": KINDS})
    assert f"images are the files that {name!r} names in {tmp_path} (--data.root)" in assert_pictures(source)
    size = list(np.arange(20) / 7)
    assert_pictures(write(tmp_path / f"all.{suffix}", {"size": size, "label": KINDS, name: paths, "city": KINDS}))
    preprocessing = load(source, label="label", modality="table").preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    assert preprocessing.numeric == ("size",)


def test_paths_begin_in_the_folder_of_their_table_or_the_one_named_or_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_pictures(tmp_path / "far" / "pics")
    source = write(tmp_path / "all.csv", {"image": [Path(path).name for path in paths], "label": KINDS})
    with pytest.raises(DataError, match=r"no image file that column 'image' names exists: .*/0\.png, .*--data\.root"):
        load(source)
    with pytest.raises(DataError, match="no image file that column 'image' names exists"):
        load(source, root=str(tmp_path))
    assert_pictures(source, root=str(tmp_path / "far" / "pics"))
    monkeypatch.chdir(tmp_path / "far" / "pics")
    assert_pictures(source)
    absolute = [str(tmp_path / "far" / path) for path in paths]
    assert_pictures(write(tmp_path / "all.csv", {"image": absolute, "label": KINDS}))
    windows = write(
        tmp_path / "far" / "all.csv", {"image": [path.replace("/", "\\") for path in paths], "label": KINDS}
    )
    assert_pictures(windows)


@pytest.mark.parametrize("column", ["image", "image_id"])
@pytest.mark.parametrize("ending", [".png", ""])
def test_paths_may_begin_in_the_one_folder_beside_the_table_that_has_them(
    tmp_path: Path, column: str, ending: str
) -> None:
    names = [Path(path).stem + ending for path in write_pictures(tmp_path / "pics")]
    (tmp_path / "notes").mkdir()
    source = write(tmp_path / "all.csv", {column: [f"a{name}" for name in names], "label": KINDS})
    for k, name in enumerate(names):
        (tmp_path / "pics" / f"{k}.png").rename(tmp_path / "pics" / f"a{name.removesuffix('.png')}.png")
    assert f"images are the files that {column!r} names in {tmp_path}/pics (--data.root)" in assert_pictures(source)
    assert_pictures(source, root=str(tmp_path / "pics"))
    with pytest.raises(DataError, match="no image file that column"):
        load(source, root=str(tmp_path), image=column)
    shutil.copytree(tmp_path / "pics", tmp_path / "again")  # which of the two?
    with pytest.raises(DataError, match="no image file that column"):
        load(source, image=column)


def test_names_of_rows_are_no_images_where_another_column_names_them(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pics")
    columns = {"id": range(20), "path": paths, "label": KINDS}
    about = assert_pictures(write(tmp_path / "pics" / "all.csv", {**columns, "path": [path[5:] for path in paths]}))
    assert "ignored, for they number or name rows: id" in about
    assert "that 'path' names" in about
    about = assert_pictures(write(tmp_path / "pics" / "all.csv", {"id": range(20), "label": KINDS}))
    assert "that 'id' names" in about
    texts = load(write(tmp_path / "pics" / "all.csv", {"id": range(20), "text": paths, "label": KINDS}), text="text")
    assert "ignored, for they number or name rows: id" in texts.about


def test_each_file_has_its_own_folder(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 50)):
        (tmp_path / split).mkdir()
        for k in range(20):
            (tmp_path / split / f"{k}.png").write_bytes(png(first + k))
        write(tmp_path / split / "all.csv", {"image": [f"{k}.png" for k in range(20)], "label": KINDS})
    splits = load(f"csv:{tmp_path}")
    np.testing.assert_array_equal(pixels(splits.test), [np.asarray(picture(50 + k)) for k in range(20)])


@pytest.mark.parametrize("cell", ["{} ", " {}", "{}\t"])
def test_spaces_around_paths_are_no_part_of_them(tmp_path: Path, cell: str) -> None:
    paths = write_pictures(tmp_path / "pics")
    source = write(tmp_path / "all.csv", {"image": [cell.format(path) for path in paths], "label": KINDS})
    assert_pictures(source)


def test_lists_of_paths_are_not_learned_as_texts(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pics")
    source = write(tmp_path / "all.csv", {"image": [str([path]) for path in paths], "label": KINDS})
    with pytest.raises(DataError, match="no image file that column 'image' names exists"):
        load(source)


def test_images_that_do_not_exist_are_named(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pics")
    (tmp_path / "pics" / "7.png").unlink()
    source = write(tmp_path / "all.csv", {"image": paths, "label": KINDS})
    with pytest.raises(DataError, match=r"1 of 20 image files that column 'image' names do not exist .*pics/7\.png"):
        load(source)
    splits = load(source, skip_broken=True)
    assert sum(sizes(splits)) == 19
    assert "pics/7.png" in splits.skipped[0]


def test_files_are_images_whatever_they_are_called(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pics")
    for path in paths:
        (tmp_path / path).rename((tmp_path / path).with_suffix(""))
    source = write(tmp_path / "all.csv", {"sample": [path.removesuffix(".png") for path in paths], "label": KINDS})
    assert_pictures(source)
    (tmp_path / "pics" / "3").write_text("a text")
    with pytest.raises(DataError, match=r"pics/3: not an image"):
        load(source)


def test_names_of_images_that_are_not_there_beside_numbers_are_names_of_rows(tmp_path: Path) -> None:
    columns = {"image": [f"{k}.png" for k in range(20)], "size": np.arange(20) / 7, "label": KINDS}
    splits = load(write(tmp_path / "all.csv", columns))
    assert splits.preprocessing.modality == "table"
    assert "ignored, for no text is there twice: image" in splits.about
    with pytest.raises(DataError, match="no image file that column 'image' names exists"):
        load(write(tmp_path / "all.csv", columns), image="image")


@pytest.mark.parametrize("declared", [False, True])
def test_records_with_a_path_and_no_bytes(tmp_path: Path, declared: bool) -> None:
    paths = write_pictures(tmp_path / "pics")
    records = [{"bytes": png(k) if k % 3 else None, "path": path} for k, path in enumerate(paths)]
    table = pa.table({"image": records, "label": KINDS})
    if declared:
        features = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
        table = table.cast(features.arrow_schema)
    pa.parquet.write_table(table, tmp_path / "all.parquet")
    assert_pictures(f"parquet:{tmp_path}/all.parquet")
    (tmp_path / "pics" / "3.png").unlink()
    with pytest.raises(DataError, match=r"pics/3\.png: No such file"):
        load(f"parquet:{tmp_path}/all.parquet")


@pytest.mark.parametrize("cells", [pa.array([True, False]), pa.array([{"width": 3}, {"width": 4}])])
def test_records_in_train_and_something_else_in_test(tmp_path: Path, cells: pa.Array) -> None:
    records = pa.array([{"bytes": png(0), "path": None}] * 4)
    pa.parquet.write_table(pa.table({"image": records, "label": list("abab")}), tmp_path / "train.parquet")
    pa.parquet.write_table(pa.table({"image": cells, "label": list("ab")}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"do not fit together|cannot hold images|no image in this row"):
        load(f"parquet:{tmp_path}")


def test_addresses_are_not_downloaded(tmp_path: Path) -> None:
    for end in ("", "?width=300"):
        source = write(
            tmp_path / "a.csv", {"image": [f"https://a.org/{k}.jpg{end}" for k in range(20)], "label": KINDS}
        )
        with pytest.raises(DataError, match=r"column 'image' holds addresses, and nothing is downloaded"):
            load(source)
        assert sum(sizes(load(source, modality="text"))) == 20
