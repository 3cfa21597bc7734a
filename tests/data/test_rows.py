from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coterie import data
from coterie.config import DataSettings
from coterie.errors import DataError
from coterie.inputs import TablePreprocessing
from data_files import KINDS, TABLE, load, write


def test_columns_are_numbers_or_categories_by_their_types(tmp_path: Path) -> None:
    splits = load(write(tmp_path / "all.csv", {**TABLE, "kind": KINDS}), label="kind")
    preprocessing = splits.preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    assert (preprocessing.numeric, preprocessing.categorical) == (("size", "zip"), ("colour",))
    assert "rows of 2 numeric and 1 categorical columns; left out, for they hold nothing: void" in splits.about
    assert splits.test.samples.show(0) in {
        "size = 1.5, zip = 7, colour = red",
        "size = missing, zip = 8, colour = blue",
    }


def test_columns_are_chosen_and_numbers_declared_categories(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {**TABLE, "kind": KINDS})
    preprocessing = load(source, label="kind", columns=("zip",), categorical=("zip",)).preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    assert (preprocessing.numeric, preprocessing.categorical, preprocessing.categories) == ((), ("zip",), (("7", "8"),))
    with pytest.raises(DataError, match=r"no column 'area'.*besides the label: size, colour, zip"):
        load(source, label="kind", columns=("area",))
    with pytest.raises(DataError, match=r"every column .* is empty: void"):
        load(source, label="kind", columns=("void",), modality="table")


def test_a_table_of_nothing_but_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column but the label 'kind'"):
        load(write(tmp_path / "all.csv", {"kind": KINDS}))


def test_columns_that_are_neither_numbers_nor_categories_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "all.parquet", {"size": [1] * 20, "tags": [["a"]] * 20, "kind": KINDS})
    with pytest.raises(DataError, match=r"1 column is neither .*tags .*--data\.columns"):
        load(source, label="kind")


def test_infinite_values_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "all.parquet", {"size": [1.0, np.inf] * 10, "kind": KINDS})
    with pytest.raises(DataError, match=r"column 'size' holds .* infinite"):
        load(source, label="kind")


def test_a_csv_column_is_numeric_or_categories_by_all_rows_of_train(tmp_path: Path) -> None:
    columns = ["size,code,zip,flag,mixed,kind", *(f"{k},{k % 2}x,0{k},True,{k},{KINDS[k]}" for k in range(19))]
    (tmp_path / "all.csv").write_text("\n".join([*columns, "NA,1x,10,False,A1,tree"]) + "\n")
    splits = load(f"csv:{tmp_path}/all.csv", label="kind")
    preprocessing = splits.preprocessing
    assert (preprocessing.numeric, preprocessing.categorical) == (("size", "flag"), ("code", "zip"))
    assert "ignored, for no text is there twice: mixed (--data.ignore, --data.text)" in splits.about
    assert "categories, for some begin with a zero: zip" in splits.about
    assert preprocessing.verbatim
    kept = load(f"csv:{tmp_path}/all.csv", label="kind", ignore=()).preprocessing
    assert isinstance(kept, TablePreprocessing)
    assert kept.categorical == ("code", "zip", "mixed")


def test_decimal_commas_are_numbers_where_no_comma_is_between_cells(tmp_path: Path) -> None:
    rows = [f"{k},25;1.00{k % 10},5;{k};{k / 8};{KINDS[k]}" for k in range(20)]
    (tmp_path / "all.csv").write_text("\n".join(["size;price;whole;point;kind", *rows]))
    splits = load(f"csv:{tmp_path}/all.csv", label="kind")
    preprocessing = splits.preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    assert preprocessing.numeric == ("size", "price", "whole", "point")
    assert preprocessing.commas == ("size", "price")
    assert "numbers with decimal commas: size, price (--data.categorical)" in splits.about
    assert "numbers with decimal points: point" in splits.about
    train = [int(splits.train.samples.show(row).split("whole = ")[1].split(",")[0]) for row in range(len(splits.train))]
    assert preprocessing.scale.mean[0] == pytest.approx(np.mean(train) + 0.25)
    assert preprocessing.scale.mean[1] == pytest.approx(np.mean([1000 + k % 10 + 0.5 for k in train]))
    (tmp_path / "all.csv").write_text("\n".join(["size,kind", *(f'"{k},25",{KINDS[k]}' for k in range(20))]))
    with pytest.raises(DataError, match="no text of size is there twice"):
        load(f"csv:{tmp_path}/all.csv", label="kind", modality="table")


def test_a_cell_that_is_no_number_is_named_with_its_column(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"size": range(20), "kind": KINDS})
    (tmp_path / "test.csv").write_text("size,kind\n1,tree\nlarge,tree\n")
    with pytest.raises(DataError, match=r"column 'size' must hold numbers: 'large' in row 1 is no number"):
        load(f"csv:{tmp_path}", label="kind", modality="table")


def test_columns_of_a_run_may_hold_other_values_each_time(tmp_path: Path) -> None:
    splits = load(
        write(tmp_path / "all.csv", {"colour": ["red", "blue"] * 10, "kind": KINDS}), label="kind", modality="table"
    )
    new = write(tmp_path / "new.csv", {"colour": [f"red {k}" for k in range(20)], "kind": KINDS})
    settings = DataSettings(source=new, label="kind")
    assert data.load(settings, 0, splits.preprocessing).preprocessing == splits.preprocessing
    with pytest.raises(DataError, match="no text of colour is there twice"):
        load(new, label="kind", modality="table")


@pytest.mark.parametrize(
    "cells",
    [
        ["1,000", "2,500"],
        ["12%", "7 %"],
        ["$3.50", "\u20ac 4"],
        ["31.12.2020", "1.1.2021"],
        ["4 kg", "5 m\u00b2"],
        ["1 234", "12\u00a0345"],
        ["1'234", "5'678"],
        ["\u22121.5", "2"],
        ["<5", "> 7"],
        ["(3)", "4*"],
    ],
)
def test_texts_that_look_like_numbers_are_said(tmp_path: Path, cells: list[str]) -> None:
    source = write(tmp_path / "rows.csv", {"size": [1, 2] * 10, "price": cells * 10, "label": KINDS})
    assert f"texts, though they look like numbers or dates: price ({cells[0]!r})" in load(source).about


def test_points_that_may_stand_between_thousands_are_said(tmp_path: Path) -> None:
    cells = [f"1.{k}00" if k % 2 else str(900 + k) for k in range(10)] * 2
    rows = "".join(f"{cell};{kind}\n" for cell, kind in zip(cells, KINDS, strict=True))
    (tmp_path / "a.csv").write_text(f"value;label\n{rows}")
    assert "numbers with decimal points: value" in load(f"csv:{tmp_path}/a.csv").about
    for separator, old, new in ((",", "1.", "1."), (";", "1.", "11.5")):
        (tmp_path / "a.csv").write_text(f"value;label\n{rows}".replace(old, new).replace(";", separator))
        assert "decimal points" not in load(f"csv:{tmp_path}/a.csv").about


def test_categories_are_no_numbers_at_sight(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", {"size": [1, 2] * 10, "model": ["A4", "Golf 2 plus"] * 10, "label": KINDS})
    assert "look like" not in load(source).about


def test_a_table_of_nothing_but_numbers_with_signs_is_refused_with_an_example(tmp_path: Path) -> None:
    source = write(
        tmp_path / "rows.csv",
        {"price": [f"1,{k:03d}" for k in range(20)], "b": [f"{k}%" for k in range(20)], "label": KINDS},
    )
    with pytest.raises(DataError, match=r"tell nothing, and no plain numbers: price \('1,000'\); b \('0%'\)"):
        load(source)
