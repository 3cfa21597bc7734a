import base64
import hashlib
import json

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


def rules(**values: object) -> str:
    """A tokenizer with other rules than its own."""
    return json.dumps({**json.loads(make_tokenizer().backend_tokenizer.to_str()), **values})


def precompiled(table: bytes) -> dict[str, str]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": 100 * "a"}
ENDLESS = {"type": "Sequence", "normalizers": [GROWING] * 4}
SPECIAL = {"type": "BertProcessing", "sep": ["x", 2**31], "cls": ["y", 0]}
TEMPLATE = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "Q", "type_id": 0}}], "pair": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[1]", "cannot be read"),
        ("{}", "fails on its own rules"),
        (rules(model={"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}), "fails on its own rules"),
        (rules(model={"type": "WordLevel", "vocab": {"a": 2**31}, "unk_token": "a"}), "numbers up to 2147483648"),
        (rules(model={"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}), "no words"),
        # Of these tables, the first makes the library ask for 4 GiB and end the process, the second panic.
        (rules(normalizer=precompiled((2**32 - 4).to_bytes(4, "little") + b"abcd")), "claims to be longer than it is"),
        (rules(normalizer=precompiled(bytes(4))), "fails on"),
        (rules(normalizer=ENDLESS), "a text would not end"),
        (rules(normalizer={"type": "Prepend", "prepend": 10**6 * "a"}), "a text would not end"),
        (rules(pre_tokenizer={"type": "FixedLength", "length": 0}), "fails on"),
        (rules(post_processor=SPECIAL), "numbers up to 2147483648"),
        (rules(post_processor={**TEMPLATE, "special_tokens": {}}), "fails on"),
    ],
)
def test_a_tokenizer_that_would_crash_or_never_end_is_named(text: str, message: str) -> None:
    form = TokenPreprocessing(hashlib.sha256(text.encode()).hexdigest(), 16, 0)
    with pytest.raises(InputError, match=message):
        form.with_tokenizer(text).example()


def test_another_tokenizer_than_the_one_that_was_kept_is_named() -> None:
    text = rules()
    form = TokenPreprocessing.of(text, longest=8, padding=0, cut="right")
    assert form.with_tokenizer(text).n_marks == 1 + max(make_tokenizer()("").input_ids)
    with pytest.raises(InputError, match="another tokenizer than the one with the SHA-256 sum"):
        form.with_tokenizer(rules(padding=None, truncation=None, version="1.1"))


@pytest.mark.parametrize(("longest", "padding"), [(0, 0), (8, -1), (2**40, 0)])
def test_lengths_that_are_none_are_named(longest: int, padding: int) -> None:
    with pytest.raises(InputError, match=f"got {longest} and {padding}"):
        TokenPreprocessing("", longest, padding)
