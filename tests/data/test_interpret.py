"""What columns mean: names of rows, paths of images, vectors that are written out, labels."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coterie.config import DataSettings
from coterie.data.additions import read_additions
from coterie.data.interpret import ROW_NAME, open_labelled
from coterie.data.sources import kind_of
from coterie.errors import DataError
from coterie.inputs import TablePreprocessing
from data_files import FEATURES, KINDS, TEXTS, load, pixels, png, shown, sizes, write, write_pictures

IDS = [f"u{k:03}" for k in range(20)]


@pytest.mark.parametrize(
    "name",
    [
        "Unnamed: 0",
        "Unnamed: 0.1",
        "__index_level_0__",
        "id",
        "ID",
        "user_id",
        "#",
        "row",
        "PassengerId",
        "imageID",
        "index",
        "uuid",
    ],
)
def test_names_of_columns_that_name_rows(name: str) -> None:
    assert ROW_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["grid", "paid", "width", "video", "Humid", "income", "text", "indexed", "Unnamed"])
def test_names_of_other_columns(name: str) -> None:
    assert not ROW_NAME.fullmatch(name)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("ids", [list(range(20)), list(range(40, 20, -1)), IDS])
def test_columns_that_name_rows_are_ignored_and_said(tmp_path: Path, ids: list[Any], suffix: str) -> None:
    source = write(tmp_path / f"all.{suffix}", {"id": ids, "text": TEXTS, "kind": KINDS})
    splits = load(source)
    assert splits.preprocessing.modality == "text"
    assert splits.labels.names == ("fruit", "tree")
    assert "ignored, for they number or name rows: id (--data.ignore)" in splits.about
    assert kind_of(DataSettings(source=source)) == ("text", None)


def test_an_index_without_a_name(tmp_path: Path) -> None:
    pd.DataFrame({"text": TEXTS, "kind": KINDS}).to_csv(tmp_path / "all.csv")
    assert "rows: Unnamed: 0 (--data.ignore)" in load(f"csv:{tmp_path}/all.csv").about


def test_numbers_that_may_be_features_are_not_ignored(tmp_path: Path) -> None:
    columns = {"income": range(20), "size": np.arange(20) / 7, "user_id": [1, 2] * 10, "id": np.arange(20) + 0.5}
    preprocessing = load(write(tmp_path / "all.csv", {**columns, "kind": KINDS}), label="kind").preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    assert preprocessing.numeric == ("income", "size", "user_id", "id")


def test_what_is_ignored_is_chosen(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {"id": range(20), "a": range(20), "b": range(20), "kind": KINDS})
    for ignore, numeric in (((), ("id", "a", "b")), (("a",), ("id", "b")), (("a", "b"), ("id",)), (None, ("a", "b"))):
        preprocessing = load(source, label="kind", ignore=ignore).preprocessing
        assert isinstance(preprocessing, TablePreprocessing)
        assert preprocessing.numeric == numeric
    preprocessing = load(source, label="kind", columns=("id",)).preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    assert preprocessing.numeric == ("id",)
    for ignore in ("size", "kind"):
        with pytest.raises(
            DataError, match=rf"cannot ignore column '{ignore}' \(--data\.ignore\); columns: id, a, b, kind"
        ):
            load(source, label="kind", ignore=ignore)


def test_a_run_keeps_its_columns(tmp_path: Path) -> None:
    table = {"batch_id": [1, 2] * 10, "size": range(20), "kind": KINDS}
    preprocessing = load(write(tmp_path / "all.csv", table), label="kind").preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    new = {"id": range(3), "batch_id": [1, 2, 3], "size": [None] * 3, "kind": ["new"] * 3}
    settings = DataSettings(source="csv:all.csv", label="kind", ignore=("other",))
    [samples] = read_additions(write(tmp_path / "new.csv", new), preprocessing, settings).values()
    assert samples.show(1) == "batch_id = 2, size = missing"


def test_columns_that_are_ignored_may_be_missing_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"id": range(20), "text": TEXTS, "kind": KINDS})
    write(tmp_path / "test.csv", {"kind": ["tree"], "text": ["apple tree"]})
    assert shown(load(f"csv:{tmp_path}").test) == ["apple tree"]


def test_a_separator_at_the_end_of_lines_is_no_column(tmp_path: Path) -> None:
    rows = [f"{text};{kind};" for text, kind in zip(TEXTS, KINDS, strict=True)]
    (tmp_path / "all.csv").write_text("\n".join(["text;kind;", *rows]))
    splits = load(f"csv:{tmp_path}/all.csv")
    assert splits.preprocessing.modality == "text"
    assert "left out, for they hold nothing: Unnamed: 2" in splits.about


def test_the_label_by_its_usual_name(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {"city": KINDS, "Label": ["a", "b"] * 10, "sentence": TEXTS})
    assert open_labelled("csv", source[4:], DataSettings(source=source))[1] == "Label"
    assert "the label is the column 'Label' (--data.label)" in load(source, text="sentence").about
    assert "the label is" not in load(source, text="sentence", label="city").about
    source = write(tmp_path / "all.csv", {"label": KINDS, "Label": KINDS, "sentence": TEXTS})
    with pytest.raises(DataError, match="label, Label; choose one with"):
        load(source)


def test_the_column_of_texts_by_its_name(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {"title": TEXTS[::-1], "text": TEXTS, "label": KINDS})
    splits = load(source)
    assert sorted(zip(shown(splits.train), splits.train.labels_N.tolist(), strict=True)) == sorted(
        (text, ("fruit", "tree").index(kind))
        for text, kind in zip(TEXTS, KINDS, strict=True)
        if text in shown(splits.train)
    )


@pytest.mark.parametrize(
    "form",
    [
        lambda row: str(row.tolist()),
        str,
        lambda row: f" [ {', '.join(map(str, row))} ] ",
        lambda row: repr(row.astype(np.float32)),
        lambda row: f"tensor({row.tolist()})",
    ],
)
def test_lists_of_numbers_in_texts_are_features(tmp_path: Path, form: Any) -> None:
    columns = {"emb": [form(row.round(4)) for row in FEATURES], "label": KINDS}
    splits = load(write(tmp_path / "all.csv", columns), standardize=False)
    assert splits.preprocessing.modality == "features"
    assert "the lists of numbers in 'emb' are features (--data.modality)" in splits.about
    of = {tuple(row.round(4).astype(np.float32)): kind for row, kind in zip(FEATURES, KINDS, strict=True)}
    for row, label in zip(pixels(splits.train), splits.train.labels_N.tolist(), strict=True):
        assert of[tuple(row)] == splits.labels.names[label]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("[1, 2]", r"must hold vectors of one length, 3 as the first; row 19 has 2"),
        ("none", r"must hold lists of numbers.*'none'"),
        ("[1 ... 3]", r"must hold lists of numbers.*'\.\.\.'"),
        (None, r"row 19 has none"),
    ],
)
def test_a_text_that_is_no_vector_among_others_is_named(tmp_path: Path, cell: str | None, message: str) -> None:
    source = write(tmp_path / "all.csv", {"emb": [*map(str, FEATURES[:19]), cell], "label": KINDS})
    with pytest.raises(DataError, match=message):
        load(source)


def test_many_numbers_in_a_text_are_features_without_brackets(tmp_path: Path) -> None:
    cells = [" ".join(str(7 * k % (n + 2)) for n in range(16)) for k in range(20)]
    splits = load(write(tmp_path / "all.csv", {"emotion": KINDS, "pixels": cells}), label="emotion")
    assert splits.train.samples.shape == (16,)
    few = [" ".join(cell.split()[:4]) for cell in cells]
    assert load(write(tmp_path / "all.csv", {"phone": few, "label": KINDS})).preprocessing.modality == "text"


def test_texts_in_brackets_stay_texts(tmp_path: Path) -> None:
    assert load(
        write(tmp_path / "all.csv", {"a": ["[removed]", "[5]"] * 10, "label": KINDS})
    ).preprocessing.modality == ("text")
    source = write(tmp_path / "all.csv", {"a": [*map(str, FEATURES)], "label": KINDS})
    assert load(source, modality="text").preprocessing.modality == "text"


def test_images_beside_features_are_asked_about(tmp_path: Path) -> None:
    columns = {"image": write_pictures(tmp_path / "pics"), "emb": [*map(str, FEATURES)], "label": KINDS}
    source = write(tmp_path / "all.csv", columns)
    with pytest.raises(DataError, match=r"'image' names images and 'emb' holds features; choose by --data\.modality"):
        load(source)
    for modality in ("image", "features"):
        assert load(source, modality=modality, label="label").preprocessing.modality == modality


@pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
def test_images_in_letters_are_not_learned_as_texts(tmp_path: Path, before: str) -> None:
    cells = [before + base64.b64encode(png(k)).decode() for k in range(20)]
    source = write(tmp_path / "a.csv", {"image": cells, "label": KINDS})
    with pytest.raises(DataError, match=r"column 'image' holds images in base64, as texts; decode them"):
        load(source)
    assert load(source, modality="text").preprocessing.modality == "text"


def test_addresses_of_pages_are_texts(tmp_path: Path) -> None:
    assert (
        sum(sizes(load(write(tmp_path / "a.csv", {"url": [f"https://a.org/{k}" for k in range(20)], "label": KINDS}))))
        == 20
    )


def test_lists_of_numbers_that_are_named_as_images_are_paths(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", {"vector": [f"[{k}, 1.5]" for k in range(20)], "label": KINDS})
    with pytest.raises(DataError, match=r"no image file that column 'vector' names exists"):
        load(source, image="vector")
