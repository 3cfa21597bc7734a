"""Texts that are found among other columns, and those that stand in several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie import data
from coterie.config import DataSettings
from coterie.data.additions import read_additions
from coterie.data.pieces import join_cells, join_texts, name_of
from coterie.data.splits import Columns
from coterie.errors import DataError
from coterie.inputs import TablePreprocessing
from data_files import KINDS, TEXTS, load, shown, write

BODIES = [f"would you send {text} to me" for text in TEXTS]
SUBJECTS = ["question", "a question", "request", "one more"] * 5
DESK = {"subject": SUBJECTS, "body": BODIES, "priority": ["low", "high"] * 10, "queue": KINDS}
BOTH = [f"{subject}\n{body}" for subject, body in zip(SUBJECTS, BODIES, strict=True)]


@given(st.lists(st.lists(st.none() | st.text(" \nab\ud7ff", max_size=4), min_size=2, max_size=2), min_size=1))
def test_cells_are_joined_as_columns_are(rows: list[list[str | None]]) -> None:
    expected = ["\n".join(cell for cell in row if cell and cell.strip(" \n")) for row in rows]
    assert join_texts(list(zip(*rows, strict=True))) == expected
    assert [join_cells(row) for row in rows] == expected


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_subject_and_its_body_are_one_text(suffix: str, tmp_path: Path) -> None:
    source = write(tmp_path / f"desk.{suffix}", DESK)
    splits = load(source, label="queue")
    assert splits.preprocessing.modality == "text"
    parts = (splits.train, splits.validation, splits.test)
    assert sorted(text for part in parts for text in shown(part)) == sorted(BOTH)
    assert "texts are the columns 'subject', 'body', joined (--data.text; --data.modality table takes" in splits.about
    assert "no part of the samples: priority" in splits.about
    assert splits.columns == Columns("queue", ("subject", "body"))
    assert name_of(("subject", "body")) == "subject + body"
    # A run's columns are those of new files, whatever else is in these; and what is named goes first.
    rows = {"body": BODIES[:4], "note": BODIES[4:8], "subject": SUBJECTS[:4], "queue": KINDS[:4]}
    new = write(tmp_path / f"new.{suffix}", rows)
    found = read_additions(new, splits.preprocessing, DataSettings(), splits.columns)
    assert sorted(samples.show(k) for samples in found.values() for k in range(len(samples))) == sorted(BOTH[:4])
    settings = DataSettings(source=source, label="queue", text="body")
    again = data.load(settings, 0, splits.preprocessing, splits.columns)
    assert set(shown(again.train)) <= set(BODIES)
    assert again.columns == Columns("queue", "body")


def test_columns_that_are_named_are_joined_in_their_order(tmp_path: Path) -> None:
    source = write(tmp_path / "desk.csv", DESK)
    splits = load(source, label="queue", text=("body", "priority"))
    assert shown(splits.train)[0].split("\n")[1] in ("low", "high")
    with pytest.raises(DataError, match=r"no column 'title' \(--data\.text\)"):
        load(source, label="queue", text=("title", "body"))
    assert isinstance(load(source, label="queue", modality="table").preprocessing, TablePreprocessing)


def test_a_row_is_empty_where_all_its_texts_are(tmp_path: Path) -> None:
    rows: dict[str, Any] = {**DESK, "subject": ["", None, *SUBJECTS[2:]], "body": ["", *BODIES[1:]]}
    source = write(tmp_path / "desk.jsonl", rows)
    with pytest.raises(DataError, match=r"1 text is empty .*\n  row 0 of train"):
        load(source, label="queue")
    splits = load(source, label="queue", skip_broken=True)
    assert BODIES[1] in {text for part in (splits.train, splits.validation, splits.test) for text in shown(part)}


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ({"body": BODIES, "customer": ["new", "old"] * 10}, "body"),
        ({"body": BODIES, "price": range(100, 120)}, "body"),
        ({"text": TEXTS, "likes": range(100, 120)}, "text"),
        ({"text": TEXTS, "title": BODIES}, "text"),
        # What has too few words beside numbers, or hardly any, is no text.
        ({"person": [f"{text.split()[0]} Smith" for text in BODIES], "age": range(100, 120)}, None),
        ({"code": [f"a-{k}" for k in range(20)], "part": KINDS}, None),
    ],
)
def test_texts_are_told_from_what_tables_hold(rows: dict[str, Any], columns: str | None, tmp_path: Path) -> None:
    splits = load(write(tmp_path / "all.csv", {**rows, "label": KINDS}))
    assert splits.preprocessing.modality == ("text" if columns else "table")
    assert splits.columns == Columns("label", columns)
