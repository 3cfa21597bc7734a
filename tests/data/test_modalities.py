"""Texts, tables and features out of files, and what is wrong with some."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from coterie import data
from coterie.config import DataSettings
from coterie.data import read_new
from coterie.data.splits import Split, Splits
from coterie.errors import CoterieError, DataError, InputError, SettingsError
from coterie.inputs import FeaturePreprocessing, NGramPreprocessing, SentencePreprocessing, TablePreprocessing, encoder
from helpers import SHARED_DATA

CLINC150 = SHARED_DATA / "clinc150"
TEXTS = [f"{word} number {k}" for k in range(10) for word in ("apple", "pear")]
KINDS = ["fruit", "tree"] * 10


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def load(source: str, seed: int = 0, **settings: Any) -> Splits:
    return data.load(DataSettings(source=source, **settings), seed)


def write(path: Path, columns: dict[str, list[Any]]) -> str:
    """As its suffix says; returns the source."""
    frame = pd.DataFrame(columns)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    return f"{path.suffix.removeprefix('.')}:{path}"


def shown(split: Split) -> list[str]:
    return [split.samples.show(row) for row in range(len(split))]


def labels_of(splits: Splits) -> dict[str, str]:
    """The class of every sample, by what can be read of it."""
    return {
        text: splits.labels.names[k]
        for split in (splits.train, splits.validation, splits.test)
        for text, k in zip(shown(split), split.labels_N.tolist(), strict=True)
    }


# --- texts ---------------------------------------------------------------------------------------------------------


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


def test_splits_by_file_name_and_a_folder_of_files(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"text": TEXTS, "kind": KINDS})
    write(tmp_path / "test.csv", {"text": ["apple tree"], "kind": ["tree"]})
    assert shown(load(f"csv:{tmp_path}").test) == ["apple tree"]


def test_one_file_is_cut_whatever_its_name(tmp_path: Path) -> None:
    assert "cut from train" in load(write(tmp_path / "test.csv", {"text": TEXTS, "kind": KINDS})).about


def test_two_columns_of_texts_are_named_with_the_option(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {"title": TEXTS, "body": TEXTS, "label": [0, 1] * 10})
    with pytest.raises(DataError, match=r"title, body.*--data\.text NAME"):
        load(source, label="label", modality="text")
    assert shown(load(source, label="label", text="body").train)[0] in TEXTS
    assert isinstance(load(source, label="label").preprocessing, TablePreprocessing)  # two columns are a table


@pytest.mark.parametrize("empty", ["", "   ", None])
def test_empty_texts_are_named_or_left_out(tmp_path: Path, empty: str | None) -> None:
    source = write(tmp_path / "all.parquet", {"text": [*TEXTS, empty], "kind": [*KINDS, "tree"]})
    with pytest.raises(DataError, match=r"1 text\(s\) are empty \(--data\.skip-broken .*\n  row 20 of train: an empty"):
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
    write(tmp_path / "validation.csv", {"text": ["newer", "newest"], "kind": KINDS[:2]})
    about = load(f"csv:{tmp_path}").about
    assert "texts that are also in train: 2 of test" in about
    assert "1 training texts repeat another" in about


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
    with pytest.raises(DataError, match=r"1 row\(s\) of train have no y: rows 1"):
        load(source, label="y")


def test_a_quantity_is_no_label(tmp_path: Path) -> None:
    source = write(tmp_path / "all.csv", {"text": TEXTS, "y": [1.5, 2] * 10})
    with pytest.raises(DataError, match=r"the labels in 'y' must be classes; 1\.5 is a quantity"):
        load(source, label="y")


def test_one_class_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 2 classes; found 1"):
        load(write(tmp_path / "all.csv", {"text": TEXTS, "kind": ["fruit"] * 20}))


@pytest.mark.skipif(not CLINC150.is_dir(), reason="CLINC150 is not in ../shared/data")
def test_clinc150_is_read_without_being_told_more_than_its_label() -> None:
    splits = load(f"parquet:{CLINC150}", label="intent")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [15_000, 3_000, 4_500]
    assert len(splits.labels) == 150


# --- tables --------------------------------------------------------------------------------------------------------

TABLE = {"size": [1.5, None] * 10, "colour": ["red", "blue"] * 10, "void": [None] * 20, "zip": [7, 8] * 10}


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
    with pytest.raises(DataError, match=r"no column 'area'.*besides the label: size, colour, void, zip"):
        load(source, label="kind", columns=("area",))
    with pytest.raises(DataError, match=r"every column .* is empty: void"):
        load(source, label="kind", columns=("void",), modality="table")


def test_a_table_of_nothing_but_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column but the label 'kind'"):
        load(write(tmp_path / "all.csv", {"kind": KINDS}))


def test_columns_that_are_neither_numbers_nor_categories_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "all.parquet", {"size": [1] * 20, "tags": [["a"]] * 20, "kind": KINDS})
    with pytest.raises(DataError, match=r"1 column\(s\) are neither .*tags .*--data\.columns"):
        load(source, label="kind")


def test_the_preprocessing_is_learned_from_train_alone(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"size": [1, 3] * 10, "kind": KINDS})
    write(tmp_path / "test.csv", {"size": [1000], "kind": ["tree"]})
    preprocessing = load(f"csv:{tmp_path}", label="kind").preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    assert 1.8 < preprocessing.scale.mean[0] < 2.2


def test_infinite_values_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "all.parquet", {"size": [1.0, np.inf] * 10, "kind": KINDS})
    with pytest.raises(DataError, match=r"column 'size' holds .* infinite"):
        load(source, label="kind")


# --- features ------------------------------------------------------------------------------------------------------

FEATURES = np.random.default_rng(0).normal(size=(20, 3))


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
        ({"features": np.full((8, 2), np.nan), "labels": [0, 1] * 4}, "NaN or infinity"),
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


def test_vectors_of_several_lengths(tmp_path: Path) -> None:
    vectors = [[1.0, 2.0]] * 19 + [[1.0]]
    source = write(tmp_path / "all.parquet", {"vector": vectors, "kind": KINDS})
    with pytest.raises(DataError, match=r"vectors of one length, 2 as the first; row 19 has 1"):
        load(source, label="kind")


# --- a long tail ---------------------------------------------------------------------------------------------------


def test_a_long_tail_is_exponential_in_train_only_and_seeded(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(5), 100)
    np.savez(tmp_path / "all.npz", features=np.arange(500.0)[:, None], labels=labels)
    source = f"features:{tmp_path}/all.npz"
    whole, thin, other = load(source), load(source, imbalance=64), load(source, seed=1, imbalance=64)
    assert torch.bincount(thin.train.labels_N).tolist() == [64, 22, 8, 2, 1]  # 64 * 64 ** (-k / 4)
    assert thin.test.labels_N.tolist() == whole.test.labels_N.tolist()
    kept = {splits: set(splits.train.samples.read(torch.arange(97)).flatten().tolist()) for splits in (thin, other)}
    assert kept[thin] <= set(whole.train.samples.read(torch.arange(320)).flatten().tolist())
    assert kept[thin] != kept[other]


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "csv:x.csv", "configuration": "plus"}, "only a data set of the hub has configurations"),
        ({"source": "csv:"}, "must be glyphs"),
        ({"modality": "sound"}, "'image', 'text', 'table' or 'features'"),
        ({"imbalance": 0.5}, "greater than or equal to 1"),
        ({"text_as": "bert"}, "'ngrams' or 'minilm'"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DataSettings(**values)


def test_a_configuration_of_the_hub_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def published(path: str, name: str | None = None) -> datasets.DatasetDict:
        if name is None:
            raise ValueError("Config name is missing. Please pick one among: ['small', 'plus']")
        table = datasets.Dataset.from_dict({"text": [f"{name} {text}" for text in TEXTS], "kind": KINDS})
        return datasets.DatasetDict(train=table)

    monkeypatch.setattr(datasets, "load_dataset", published)
    with pytest.raises(DataError, match=r"--data\.configuration.*'small', 'plus'"):
        load("hub:owner/name")
    assert all(text.startswith("plus ") for text in labels_of(load("hub:owner/name", configuration="plus")))


# --- new samples ---------------------------------------------------------------------------------------------------


def test_new_texts_come_from_arguments_and_files(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("first\nsecond\n")
    new = read_new(NGramPreprocessing(64, 8), ["a text?", str(tmp_path / "lines.txt")])
    assert new.names == ("a text?", "first", "second")
    assert len(new.samples) == 3


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_new_texts_come_from_a_column_of_a_file(tmp_path: Path, suffix: str) -> None:
    preprocessing, file = NGramPreprocessing(64, 8), tmp_path / f"new.{suffix}"
    write(file, {"text": ["first", "second"], "title": ["a", "b"]})
    assert read_new(preprocessing, [str(file), "third"]).names == ("first", "second", "third")
    assert read_new(preprocessing, [str(file)], text="title").names == ("a", "b")
    write(file, {"number": [1], "body": ["only"]})
    assert read_new(preprocessing, [str(file)]).names == ("only",)
    write(file, {"title": ["a"], "body": ["b"]})
    with pytest.raises(DataError, match="has no column 'text' of texts; columns: title, body"):
        read_new(preprocessing, [str(file)])


@pytest.mark.parametrize(
    ("argument", "message"),
    [("nosuch.txt", "cannot read nosuch.txt: no such file"), ("", "text 1 of 1: empty. --skip-broken leaves")],
)
def test_new_texts_that_are_none(argument: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_new(NGramPreprocessing(64, 8), [argument])
    with pytest.raises(DataError, match=message.split(":")[0] if argument else "no text to classify"):
        read_new(NGramPreprocessing(64, 8), [argument], skip_broken=True)


def test_a_file_of_other_bytes_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_new(NGramPreprocessing(64, 8), [str(tmp_path / "a.txt")])


def test_new_rows_and_features(tmp_path: Path) -> None:
    preprocessing = load(write(tmp_path / "all.csv", {**TABLE, "kind": KINDS}), label="kind").preprocessing
    write(tmp_path / "new.jsonl", {"colour": ["red"], "zip": [8], "size": [2.0], "more": [1]})
    new = read_new(preprocessing, [str(tmp_path / "new.jsonl")])
    assert new.samples.show(0) == "size = 2, zip = 8, colour = red"
    assert new.names == (f"{tmp_path}/new.jsonl row 1",)
    write(tmp_path / "less.csv", {"size": [2.0]})
    with pytest.raises(InputError, match="missing: zip, colour; there: size"):
        read_new(preprocessing, [str(tmp_path / "less.csv")])
    with pytest.raises(DataError, match=r"cannot tell what .*rows\.txt is"):
        read_new(preprocessing, [str(tmp_path / "rows.txt")])
    np.savez(tmp_path / "all.npz", features=FEATURES, labels=np.array(KINDS))
    preprocessing = load(f"features:{tmp_path}/all.npz").preprocessing
    np.save(tmp_path / "new.npy", FEATURES[:4])
    assert len(read_new(preprocessing, [str(tmp_path / "new.npy"), str(tmp_path / "all.npz")]).samples) == 24
    np.save(tmp_path / "other.npy", FEATURES[:, :2])
    with pytest.raises(InputError, match="3 features"):
        read_new(preprocessing, [str(tmp_path / "other.npy")])


def test_every_message_fits_on_a_screen(tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps({"text": "", "kind": "a"}) for _ in range(5000)))
    with pytest.raises(CoterieError) as caught:
        load(f"jsonl:{tmp_path}/all.jsonl")
    assert len(str(caught.value).splitlines()) < 20
