import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="needs the extra `transformers`")

from coterie.errors import InputError
from coterie.inputs import TokenPreprocessing
from language import MOST_TOKENS, WORDS, make_tokenizer

SOME_WORDS = st.lists(st.sampled_from([*WORDS, "this", "unheard", "[SEP]"]), min_size=1, max_size=2 * MOST_TOKENS)


@given(st.lists(SOME_WORDS.map(" ".join), min_size=1, max_size=5))
def test_texts_are_the_tokens_that_transformers_makes_of_them(texts: list[str]) -> None:
    tokenizer = make_tokenizer()
    preprocessing = TokenPreprocessing.of(
        tokenizer.backend_tokenizer.to_str(), longest=MOST_TOKENS, padding=0, cut="right"
    )
    theirs = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    samples = preprocessing.samples(texts)
    expected = theirs.input_ids.masked_fill(theirs.attention_mask == 0, -1)
    assert torch.equal(preprocessing(samples.read(torch.arange(len(texts)))), expected)
    long = [row for row, ids in enumerate(tokenizer(texts).input_ids) if len(ids) > MOST_TOKENS]
    assert samples.shortened() == long
    assert samples.take(torch.tensor([0])).shortened() == [0] * (0 in long)


def test_a_text_in_which_the_tokenizer_finds_nothing_is_named() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"oak": 0}, unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit("-")
    preprocessing = TokenPreprocessing.of(tokenizer.to_str(), longest=8, padding=0, cut="right")
    with pytest.raises(InputError, match="the tokenizer finds nothing in text 2 of 2: '---'"):
        preprocessing.samples(["oak", "---"])
