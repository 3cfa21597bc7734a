"""Further samples of a run's classes, and splits that are joined with them."""

import io
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coterie.config import DataSettings
from coterie.data.additions import JoinedSamples, read_additions
from coterie.data.splits import Columns
from coterie.errors import DataError
from coterie.inputs import FeaturePreprocessing, NGramPreprocessing, RaggedSamples, Scale
from helpers import image_form

PREPROCESSING = NGramPreprocessing(64, 100)


def ragged(sequences: list[list[int]]) -> RaggedSamples:
    starts = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    return RaggedSamples.cut(np.array([k for sequence in sequences for k in sequence], np.int64), starts, 4)


SEQUENCES = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5)


@given(SEQUENCES, SEQUENCES, st.data())
def test_joined_samples_are_those_of_one_list(
    first: list[list[int]], second: list[list[int]], data: st.DataObject
) -> None:
    whole = [*first, *second]
    rows = data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1))
    joined = JoinedSamples(ragged(first), ragged(second)).take(torch.tensor(rows))
    expected = ragged(whole).take(torch.tensor(rows))
    every = torch.arange(len(rows))
    read, known = joined.read(every), expected.read(every)
    assert torch.equal(read[:, : known.shape[1]], known)
    assert bool((read[:, known.shape[1] :] == -1).all())
    assert joined.shortened() == expected.shortened() == [k for k, row in enumerate(rows) if len(whole[row]) > 4]


def test_texts_come_by_class_from_every_split_and_one_class_is_enough(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a b", "c"], "kind": ["new", "new"]}).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"text": ["d"], "kind": ["old"]}).to_csv(tmp_path / "test.csv", index=False)
    found = read_additions(f"csv:{tmp_path}", PREPROCESSING, DataSettings())
    assert {name: [samples.show(k) for k in range(len(samples))] for name, samples in found.items()} == {
        "new": ["a b", "c"],
        "old": ["d"],
    }
    (tmp_path / "test.csv").write_text('text,kind\n" ",new\nx,new\n')
    with pytest.raises(DataError, match=r"1 text is empty"):
        read_additions(f"csv:{tmp_path}/test.csv", PREPROCESSING, DataSettings())
    assert len(read_additions(f"csv:{tmp_path}/test.csv", PREPROCESSING, DataSettings(skip_broken=True))["new"]) == 1
    (tmp_path / "test.csv").write_text("text,kind\na,1\nb,\n")
    with pytest.raises(DataError, match=r"1 row of .* without kind"):
        read_additions(f"csv:{tmp_path}/test.csv", PREPROCESSING, DataSettings(label="kind"))


def test_the_columns_of_the_run_are_taken_where_they_are_there(tmp_path: Path) -> None:
    rows = {"message": ["a b", "c"], "queue": ["old", "new"], "answer": ["d", "e"]}
    pd.DataFrame(rows).to_csv(tmp_path / "few.csv", index=False)
    source, columns = f"csv:{tmp_path}/few.csv", Columns("queue", "message")
    found = read_additions(source, PREPROCESSING, DataSettings(), columns)
    assert {name: samples.show(0) for name, samples in found.items()} == {"old": "a b", "new": "c"}
    with pytest.raises(DataError, match=r"3 columns could be the label"):
        read_additions(source, PREPROCESSING, DataSettings(), Columns("kind", "text"))
    named = read_additions(source, PREPROCESSING, DataSettings(label="answer", text="queue"), columns)
    assert {name: samples.show(0) for name, samples in named.items()} == {"d": "old", "e": "new"}


def test_images_come_by_class_from_parquet(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.fromarray(np.full((12, 12), 7, np.uint8)).save(encoded, "PNG")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    rows = {"image": [{"bytes": encoded.getvalue(), "path": None}] * 3, "label": [1, 0, 1]}
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "more.parquet")
    found = read_additions(f"parquet:{tmp_path}", image_form(1, side=12), DataSettings())
    assert {name: len(images) for name, images in found.items()} == {"a": 1, "b": 2}
    assert torch.equal(found["b"].read(torch.tensor([1])), torch.full((1, 12, 12, 1), 7, dtype=torch.uint8))


@pytest.mark.parametrize("source", ["glyphs", "folder:x", "csv:", "features:x.npz"])
def test_sources_of_another_kind_are_refused(source: str) -> None:
    with pytest.raises(DataError, match=f"--source '{source}' is not allowed here; allowed: parquet:DIR, csv:FILE"):
        read_additions(source, PREPROCESSING, DataSettings())


def test_images_and_features_come_from_tables_that_write_them_out(tmp_path: Path) -> None:
    for k in range(4):
        Image.fromarray(np.full((8, 8, 3), 60 * k, np.uint8)).save(tmp_path / f"{k}.png")
    pd.DataFrame({"path": [f"{k}.png" for k in range(4)], "label": ["a", "b", "b", "a"]}).to_csv(
        tmp_path / "all.tsv", sep="\t"
    )
    found = read_additions(f"csv:{tmp_path}/all.tsv", image_form(3, 8), DataSettings())
    assert [found["a"].read(torch.tensor([k]))[0, 0, 0].tolist() for k in range(2)] == [[0] * 3, [180] * 3]
    pd.DataFrame({"emb": ["[1, 2]", "[3, 4]"], "label": ["a", "b"]}).to_csv(tmp_path / "all.csv")
    preprocessing = FeaturePreprocessing(Scale.of(np.zeros((2, 2), np.float32), standardize=False))
    found = read_additions(f"csv:{tmp_path}/all.csv", preprocessing, DataSettings())
    assert found["b"].read(torch.tensor([0])).tolist() == [[3, 4]]
