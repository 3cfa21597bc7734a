from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coterie.errors import CoterieError, DataError
from coterie.inputs import (
    NGramPreprocessing,
    SentencePreprocessing,
    TablePreprocessing,
    encoder,
)
from data_files import KINDS, TEXTS, labels_of, load, shown, write
from helpers import SHARED_DATA


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_of_texts_keeps_its_labels_in_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    splits = load(write(tmp_path / f"all.{suffix}", {"words": TEXTS, "kind": KINDS}), label="kind")
    assert isinstance(splits.preprocessing, NGramPreprocessing)
    assert labels_of(splits) == dict(zip(TEXTS, KINDS, strict=True))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [13, 3, 4]
    assert "13 train, 3 validation (cut from train), 4 test (cut from train) texts" in splits.about
    assert not splits.flip


def test_a_column_called_text_is_not_the_label(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {"text": TEXTS, "kind": KINDS})
    assert load(source).labels.names == ("fruit", "tree")


def test_two_columns_of_codes_are_named_with_the_option(tmp_path: Path) -> None:
    codes = [f"{kind}-{k}" for k, kind in enumerate(KINDS)]
    source = write(tmp_path / "all.csv", {"code": codes, "part": codes[::-1], "label": [0, 1] * 10})
    with pytest.raises(DataError, match=r"code, part.*--data\.text NAME"):
        load(source, label="label", modality="text")
    assert shown(load(source, label="label", text="part").train)[0] in codes
    with pytest.raises(DataError, match=r"no text of code, part is there twice.*--data\.text"):
        load(source, label="label")
    source = write(tmp_path / "all.csv", {"code": codes, "part": KINDS, "label": [0, 1] * 10})
    assert isinstance(load(source, label="label").preprocessing, TablePreprocessing)  # two columns are a table


@pytest.mark.parametrize("empty", ["", "   ", None])
def test_empty_texts_are_named_or_left_out(tmp_path: Path, empty: str | None) -> None:
    source = write(tmp_path / "all.parquet", {"text": [*TEXTS, empty], "kind": [*KINDS, "tree"]})
    with pytest.raises(DataError, match=r"1 text is empty \(--data\.skip-broken .*\n  row 20 of train: an empty"):
        load(source)
    splits = load(source, skip_broken=True)
    assert len(labels_of(splits)) == 20
    assert splits.skipped == ("row 20 of train: an empty text",)


def test_texts_that_are_all_empty(tmp_path: Path) -> None:
    source = write(tmp_path / "all.parquet", {"text": [""] * 4, "kind": KINDS[:4]})
    with pytest.raises(DataError, match="every text of train is empty"):
        load(source, skip_broken=True)


def test_texts_that_train_and_test_share_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"text": [*TEXTS, TEXTS[0]], "kind": [*KINDS, "fruit"]})
    write(tmp_path / "test.csv", {"text": [TEXTS[0], TEXTS[1], "new"], "kind": KINDS[:3]})
    write(tmp_path / "validation.csv", {"text": ["new", "newest"], "kind": KINDS[:2]})
    splits = load(f"csv:{tmp_path}")
    about = splits.about
    assert splits.n_in_validation == 1
    assert "texts of test that are also in validation, by which rules are chosen: 1" in about
    assert "texts that are also in train: 2 of test" in about
    assert "1 training texts repeat another" in about


def test_texts_that_look_like_numbers_are_said(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", {"value": [f"{k} {k:03d}" for k in range(1, 21)], "label": KINDS})
    assert "texts, though they look like numbers or dates: '" in load(source).about
    source = write(tmp_path / "a.csv", {"value": TEXTS, "label": KINDS})
    assert "look like" not in load(source).about


def test_columns_beside_the_texts_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"title": TEXTS[::-1], "text": TEXTS, "label": KINDS})
    assert "; no part of the samples: title" in load(source, label="label").about


def test_texts_that_are_cut_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"text": TEXTS, "kind": KINDS})
    write(tmp_path / "test.csv", {"text": ["many " + " ".join(map(str, range(90))), "few"], "kind": KINDS[:2]})
    splits = load(f"csv:{tmp_path}", longest=60)
    assert "too long, and cut: 1 of test" in splits.about
    assert splits.test.samples.shortened() == [0]
    assert "too long" not in load(f"csv:{tmp_path}").about


def test_texts_as_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_compute", lambda _, texts: np.array([[len(t), 1] for t in texts], np.float32))
    splits = load(write(tmp_path / "all.csv", {"text": TEXTS, "kind": KINDS}), text_as="minilm")
    assert isinstance(splits.preprocessing, SentencePreprocessing)
    assert splits.train.samples.shape == (2,)


CLINC150 = SHARED_DATA / "clinc150"


@pytest.mark.skipif(not CLINC150.is_dir(), reason="CLINC150 is not in ../shared/data")
def test_clinc150_is_read_without_being_told_more_than_its_label() -> None:
    splits = load(f"parquet:{CLINC150}", label="intent")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [15_000, 3_000, 4_500]
    assert len(splits.labels) == 150


def test_every_message_fits_on_a_screen(tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps({"text": "", "kind": "a"}) for _ in range(5000)))
    with pytest.raises(CoterieError) as caught:
        load(f"jsonl:{tmp_path}/all.jsonl")
    assert len(str(caught.value).splitlines()) < 20
