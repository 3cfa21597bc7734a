import pytest
import torch
from sklearn.feature_extraction.text import HashingVectorizer

from coterie.errors import InputError
from coterie.inputs import (
    NGramPreprocessing,
)

TEXTS = ["How do I say hello?", "hello hello", "¿Qué hora es?", "天气怎么样"]


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
        (b"one text", "got b'one text'"),
        ([b"text"], "number 0 is b'text'"),
        ({"a": "text"}, "got dict"),
        (["good", "half a \ud83d pair"], r"number 1 is not Unicode.*half a \\ud83d pair"),
        ([10**200], "number 0 is 10000000000000000000000000000000000000000000000000000"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        NGramPreprocessing(64, 8).samples(raw)


def test_half_a_character_is_named() -> None:
    with pytest.raises(InputError, match=r"number 1 is not Unicode, for it holds half of a surrogate pair: 'a\\ud800'"):
        NGramPreprocessing(64, 8).samples(["good \U0001f600", "a\ud800"])
