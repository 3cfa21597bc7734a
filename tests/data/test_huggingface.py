from __future__ import annotations

import io
import json
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from coterie import data
from coterie.config import DataSettings
from coterie.data.decode import FileImages
from coterie.data.splits import Split, Splits
from coterie.errors import DataError
from coterie.inputs import MemorySamples, Samples
from coterie.labels import LabelSpace
from helpers import SHARED_DATA

CIFAR100 = SHARED_DATA / "cifar100"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    """Random pixels; ``size`` is (width, height)."""
    shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> bytes:
    return encode(picture(seed, size, mode))


def write_parquet(
    path: Path, labels: Sequence[Any], images: Sequence[bytes | None] | None = None, label: Any = None, **more: Any
) -> None:
    """A table with columns image and label; ``label`` is the label's feature, ``more`` other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [png(k) for k in range(len(labels))] if images is None else images
    feature = label or datasets.Value("string" if isinstance(labels[0], str) else "int64")
    features = {"image": datasets.Image(), "label": feature}
    features |= {name: datasets.Value("string") for name in more}
    records = [None if item is None else {"bytes": item, "path": None} for item in images]
    columns = {"image": records, "label": list(labels), **more}
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(path)


def write_folder(root: Path, classes: Sequence[str], n_images: int = 10, size: tuple[int, int] = (12, 12)) -> None:
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(n_images):
            (root / name / f"{k}.png").write_bytes(png(100 * c + k, size))


def load(source: str, seed: int = 0, **settings: Any) -> Splits:
    return data.load(DataSettings(source=source, **settings), seed)


def pixels(split: Split) -> np.ndarray:
    return split.samples.read(torch.arange(len(split))).numpy()


def sizes(splits: Splits) -> list[int]:
    return [len(splits.train), len(splits.validation), len(splits.test)]


# --- parquet -------------------------------------------------------------------------------------------------------


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


# --- groups --------------------------------------------------------------------------------------------------------


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
        ("torn", "abc", r"1 class\(es\) lie in several groups of column 'torn': b \(x, y\); allowed: one"),
        ("empty", "abc", r"1 row\(s\) of train have no empty"),
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
    with pytest.raises(DataError, match=r"1 row\(s\) of train are unlabelled \(coarse = -1\)"):
        groups(f"parquet:{tmp_path}", "coarse", "ab")


def test_generated_data_have_no_columns() -> None:
    with pytest.raises(DataError, match=r"glyphs has no column 'coarse' for groups; files and the hub may"):
        groups("glyphs", "coarse")


# --- columns -------------------------------------------------------------------------------------------------------


def test_two_label_columns_are_refused_naming_both_and_the_option(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, coarse=["x", "y"] * 5)
    with pytest.raises(DataError, match=r"label, coarse.*--data\.label"):
        load(f"parquet:{tmp_path}")
    assert load(f"parquet:{tmp_path}", label="coarse").labels.names == ("x", "y")


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


# --- labels --------------------------------------------------------------------------------------------------------


def test_rows_without_a_label(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", None, "b", None])
    with pytest.raises(DataError, match=r"2 row\(s\) of train have no label: rows 1, 3"):
        load(f"parquet:{tmp_path}")


def test_withheld_labels(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=["cat", "dog"])
    write_parquet(tmp_path / "train.parquet", [0, 1] * 5, label=feature)
    write_parquet(tmp_path / "test.parquet", [-1, -1], label=feature)
    with pytest.raises(DataError, match=r"2 row\(s\) of test are unlabelled"):
        load(f"parquet:{tmp_path}")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_classes_that_train_does_not_know(tmp_path: Path, split: str) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5)
    write_parquet(tmp_path / f"{split}.parquet", ["a", "zebra", "yak"])
    with pytest.raises(DataError, match=rf"{split} has 2 class\(es\).*yak, zebra"):
        load(f"parquet:{tmp_path}")


def test_declared_classes_that_only_another_split_has(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=["cat", "dog", "yak"])
    write_parquet(tmp_path / "train.parquet", [0, 1] * 5, label=feature)
    write_parquet(tmp_path / "test.parquet", [0, 2], label=feature)
    with pytest.raises(DataError, match=r"test has 1 class\(es\).*yak"):
        load(f"parquet:{tmp_path}")


def test_a_declared_class_without_a_training_image(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=["cat", "yak", "dog"])
    write_parquet(tmp_path / "train.parquet", [0, 2] * 5, label=feature)
    with pytest.raises(DataError, match=r"no training sample for 1 class\(es\): yak"):
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


# --- places --------------------------------------------------------------------------------------------------------


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
    with pytest.raises(DataError, match=r"no train split .*found: test"):
        load(f"parquet:{tmp_path}")


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


# --- images --------------------------------------------------------------------------------------------------------


def broken_images() -> dict[str, bytes | None]:
    whole = png(0, (64, 64))
    return {
        "truncated PNG": whole[: len(whole) // 2],
        "truncated JPEG": encode(picture(0, (64, 64)), "JPEG")[:900],
        "not an image": b"these are not pixels",
        "empty": b"",
        "missing": None,
    }


@pytest.mark.parametrize("what", broken_images())
@pytest.mark.parametrize("memory_gib", [1, 0])
def test_a_broken_image_is_named_by_its_row(tmp_path: Path, what: str, memory_gib: float) -> None:
    images = [png(k, (64, 64)) for k in range(10)]
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, [*images[:7], broken_images()[what], *images[8:]])
    write_parquet(tmp_path / "test.parquet", ["a", "b"], images[:2])
    with pytest.raises(DataError, match=r"(?s)1 image\(s\).*--data\.skip-broken.*row 7 of train: \w+"):
        load(f"parquet:{tmp_path}", memory_gib=memory_gib)
    splits = load(f"parquet:{tmp_path}", memory_gib=memory_gib, skip_broken=True)
    assert len(splits.train) + len(splits.validation) == 9
    assert len(splits.skipped) == 1
    assert "row 7 of train" in splits.skipped[0]
    expected = {np.asarray(picture(k, (64, 64))).tobytes(): k % 2 for k in range(10) if k != 7}
    for split in (splits.train, splits.validation):
        for image, label in zip(pixels(split), split.labels_N.tolist(), strict=True):
            assert expected[image.tobytes()] == label


def test_many_broken_images_fit_on_one_screen(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 50, [png(0), png(1)] + [b"no"] * 98)
    with pytest.raises(DataError, match=r"98 image\(s\)") as caught:
        load(f"parquet:{tmp_path}")
    assert len(str(caught.value).splitlines()) < 20


def test_no_good_image_at_all(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, [b"no"] * 10)
    with pytest.raises(DataError, match="no image can be read; row 9 of train: not an image"):
        load(f"parquet:{tmp_path}")


def test_a_class_whose_images_are_all_broken(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b", "c"] * 4, [png(0), png(1), b"no"] * 4)
    with pytest.raises(DataError, match=r"no training sample for 1 class\(es\): c"):
        load(f"parquet:{tmp_path}", skip_broken=True)


def test_several_sizes_are_refused_with_an_example_and_the_option(tmp_path: Path) -> None:
    images = [png(0), png(1), png(2, (20, 12)), png(3, (9, 9))] * 4
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 8, images)
    with pytest.raises(DataError, match=r"3 sizes.*12 x 12.*20 x 12 \(row 2 of train\).*--data\.image-size"):
        load(f"parquet:{tmp_path}")


def test_image_size_scales_the_shorter_side_and_crops_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, :16], wide[:, 16:32], wide[:, 32:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    tall = wide.transpose(1, 0, 2)
    images = [encode(Image.fromarray(array)) for array in (wide, np.ascontiguousarray(tall))] * 5
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, images)
    splits = load(f"parquet:{tmp_path}", image_size=8)
    assert splits.train.samples.shape == (8, 8, 3)
    inner = pixels(splits.train)[:, 1:-1, 1:-1]  # antialiasing mixes the borders
    assert (inner == [0, 255, 0]).all()


def test_grey_only_if_all_images_are(tmp_path: Path) -> None:
    grey, colour = [png(k, mode="L") for k in range(10)], [png(k) for k in range(10)]
    write_parquet(tmp_path / "grey" / "train.parquet", ["a", "b"] * 5, grey)
    write_parquet(tmp_path / "mixed" / "train.parquet", ["a", "b"] * 5, [*grey[:9], colour[9]])
    assert load(f"parquet:{tmp_path}/grey").train.samples.shape == (12, 12, 1)
    assert load(f"parquet:{tmp_path}/mixed").train.samples.shape == (12, 12, 3)


def test_many_kinds_of_pixels(tmp_path: Path) -> None:
    """Palettes, transparency, 16 bits, bilevel, CMYK: decoded without a warning, to the colours they stand for."""
    red = Image.new("RGB", (12, 12), (255, 0, 0))
    palette = Image.new("P", (12, 12), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    images = [
        encode(palette, transparency=bytes([255, 0])),
        encode(red.convert("RGBA")),
        encode(red.convert("CMYK"), "TIFF"),
        encode(red, "GIF"),
    ]
    write_parquet(tmp_path / "c" / "train.parquet", ["a", "b"] * 4, images * 2)
    splits = load(f"parquet:{tmp_path}/c")
    assert (pixels(splits.train) == [255, 0, 0]).all()
    deep = Image.fromarray(np.full((12, 12), 128 * 256, np.uint16))
    write_parquet(tmp_path / "g" / "train.parquet", ["a", "b"] * 4, [encode(deep)] * 8)
    assert (pixels(load(f"parquet:{tmp_path}/g").train) == 128).all()
    floating = Image.fromarray(np.zeros((12, 12), np.float32))
    write_parquet(tmp_path / "f" / "train.parquet", ["a", "b"] * 4, [png(0)] * 7 + [encode(floating, "TIFF")])
    with pytest.raises(DataError, match="row 7 of train: pixels of mode F"):
        load(f"parquet:{tmp_path}/f")


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, [encode(image, "JPEG", exif=exif, quality=95)] * 10)
    splits = load(f"parquet:{tmp_path}")
    assert splits.train.samples.shape == (32, 16, 3)
    top, bottom = pixels(splits.train)[0, :14], pixels(splits.train)[0, 18:]
    assert top.min() > 200
    assert bottom.max() < 50


# --- images that do not fit into memory ----------------------------------------------------------------------------


def read_all(images: Samples) -> np.ndarray:
    return images.read(torch.arange(len(images))).numpy()


def test_beyond_memory_images_stay_encoded_and_are_the_same(tmp_path: Path) -> None:
    images = [png(k, (20 + k % 3, 24)) for k in range(40)]
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 20, images)
    inside, outside = (load(f"parquet:{tmp_path}", image_size=16, memory_gib=gib) for gib in (1, 0))
    for name in ("train", "validation", "test"):
        memory, files = getattr(inside, name), getattr(outside, name)
        assert isinstance(memory.samples, MemorySamples)
        assert isinstance(files.samples, FileImages)
        assert torch.equal(memory.labels_N, files.labels_N)
        assert memory.samples.shape == files.samples.shape == (16, 16, 3)
        np.testing.assert_array_equal(read_all(memory.samples), read_all(files.samples))
        rows = torch.tensor([3, 1, 3])
        np.testing.assert_array_equal(read_all(memory.samples.take(rows)), read_all(files.samples.take(rows)))


def test_the_limit_is_on_all_splits_together(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 20)
    n_bytes = 40 * 12 * 12 * 3
    assert isinstance(load(f"parquet:{tmp_path}", memory_gib=n_bytes / 2**30).train.samples, MemorySamples)
    assert isinstance(load(f"parquet:{tmp_path}", memory_gib=(n_bytes - 1) / 2**30).train.samples, FileImages)


def test_encoded_images_go_to_workers(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 20)
    images = load(f"parquet:{tmp_path}", memory_gib=0).train.samples
    copied = pickle.loads(pickle.dumps(images))  # as a DataLoader does
    np.testing.assert_array_equal(read_all(copied), read_all(images))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of fork in a process with threads
        loader = DataLoader(_Rows(images), batch_size=7, num_workers=1)
        np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in loader]), read_all(images))


class _Rows(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, images: Samples) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.images.read(torch.tensor([row]))[0]


def test_a_file_that_breaks_after_loading_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    images = load(f"folder:{tmp_path}", memory_gib=0).train.samples
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no")
    with pytest.raises(DataError, match=r"cannot decode .*\.png: not an image"):
        read_all(images)


# --- folders -------------------------------------------------------------------------------------------------------


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
    with pytest.raises(DataError, match=r"no training sample for 1 class\(es\): yak"):
        load(f"folder:{tmp_path}")


def test_a_folder_of_images_without_classes(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    with pytest.raises(DataError, match=r"no label column: .* needs a folder per class"):
        load(f"folder:{tmp_path}")


# --- hub -----------------------------------------------------------------------------------------------------------


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


# --- manners -------------------------------------------------------------------------------------------------------


def test_progress_bars_are_silent_and_left_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5)
    capsys.readouterr()
    datasets.enable_progress_bars()
    load(f"parquet:{tmp_path}")
    assert not datasets.are_progress_bars_disabled()
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(not CIFAR100.is_dir(), reason="CIFAR-100 is not in ../shared/data")
def test_cifar100_is_refused_without_a_label_column() -> None:
    with pytest.raises(DataError, match=r"fine_label, coarse_label.*--data\.label"):
        load(f"parquet:{CIFAR100}")
