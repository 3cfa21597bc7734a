"""Texts as the tokens of a language model, by the tokenizer that it was trained with."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from coterie.errors import InputError
from coterie.inputs.samples import DescribedSamples, RaggedSamples
from coterie.inputs.text import TextPreprocessing, check_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Texts whose tokens, with all that the tokenizer knows of them, are in memory at once.
CHUNK = 1000
EXAMPLE_TOKENS = 8
# Numbers of tokens are kept as int32.
MOST_TOKENS = 2**31
# Letters that a tokenizer may make of one letter.
MOST_GROWTH = 10_000


@dataclass(frozen=True)
class TokenPreprocessing(TextPreprocessing):
    """Tokens of a text, those included that the tokenizer adds; of a longer text ``longest``, cut on the side ``cut``.

    ``tokenizer`` is what its ``tokenizer.json`` says: rules and a vocabulary, and no code. Since it may take many
    megabytes, a manifest holds its ``sha256``, and the run keeps it in a file of its own. ``padding`` is the token that
    the network gets where a text of a batch is shorter than others.
    """

    sha256: str
    longest: int
    padding: int
    cut: Literal["left", "right"] = "right"
    kind: Literal["tokens"] = "tokens"
    by_length: ClassVar[bool] = True
    tokenizer: Annotated[str, Field(exclude=True)] = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.longest < MOST_TOKENS or not 0 <= self.padding < MOST_TOKENS:
            raise InputError(
                f"tokens need a length of at least 1 and padding of at least 0; got {self.longest} and {self.padding}"
            )

    @classmethod
    def of(cls, tokenizer: str, *, longest: int, padding: int, cut: Literal["left", "right"]) -> TokenPreprocessing:
        """A preprocessing with the SHA-256 sum of the tokenizer."""
        digest = hashlib.sha256(tokenizer.encode()).hexdigest()
        return cls(digest, longest, padding, cut, tokenizer=tokenizer)

    def with_tokenizer(self, tokenizer: str) -> TokenPreprocessing:
        """The same with a tokenizer that was kept beside it.

        Raises:
            InputError: it is another one, or one that no library reads or that would not stay within its bounds.
        """
        if hashlib.sha256(tokenizer.encode("utf-8", "surrogatepass")).hexdigest() != self.sha256:
            raise InputError(f"another tokenizer than the one with the SHA-256 sum {self.sha256[:80]}")
        _check_rules(tokenizer)
        found = replace(self, tokenizer=tokenizer)
        vocabulary = found._encoder.get_vocab()
        most = max([found.n_marks - 1, *vocabulary.values()])
        if most >= MOST_TOKENS or not set(vocabulary) - found._special:
            raise InputError(f"a tokenizer of no words, or of numbers up to {most}")
        return found

    @property
    def n_marks(self) -> int:
        """The numbers of what it puts before, behind and after a text are below this. Of words, a tokenizer may know
        more than the network that it belongs to.
        """
        with _named_failure("an empty text"):
            return 1 + max([self.padding, *self._encoder.encode("").ids])

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return (-1,)

    @property
    @override
    def at_once(self) -> int:
        return 64

    @override
    def __call__(self, batch: Tensor) -> Tensor:
        """int64 (B, L): the tokens of each text, then -1."""
        return batch

    @override
    def example(self) -> Tensor:
        """Of the same length: a difference in padding would pass by what a network does with its tokens."""
        vocabulary = sorted(set(self._encoder.get_vocab()) - self._special)
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(len(vocabulary), (2, 2 * EXAMPLE_TOKENS), generator=generator).tolist()
        with _named_failure("made-up words"):
            tokens_T = self._cut_to(min(EXAMPLE_TOKENS, self.longest)).encode_batch(
                [" ".join(vocabulary[number] for number in row) for row in drawn]
            )
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(t.ids) for t in tokens_T], True, padding_value=-1)

    @override
    def samples(self, raw: Any) -> DescribedSamples:
        """A list of texts."""
        texts = check_texts(raw, self.wanted)
        with _named_failure("these texts"):
            encodings = [
                (np.array(encoding.ids, np.int32), bool(encoding.overflowing))
                for start in range(0, len(texts), CHUNK)
                for encoding in self._encoder.encode_batch_fast(texts[start : start + CHUNK])
            ]
        tokens, shortened = zip(*encodings, strict=True)
        length_N = np.array([len(ids) for ids in tokens])
        if not length_N.all():
            row = int(np.argmin(length_N))
            raise InputError(f"the tokenizer finds nothing in text {row + 1} of {len(texts)}: {texts[row][:40]!r}")
        start_K = np.concatenate([[0], np.cumsum(length_N)])
        samples = RaggedSamples(
            torch.from_numpy(np.concatenate(tokens)),
            torch.from_numpy(start_K),
            shortened_K=torch.tensor(shortened),
        )
        return DescribedSamples(samples, texts.__getitem__)

    @cached_property
    def _encoder(self) -> Tokenizer:
        return self._cut_to(self.longest)

    @property
    def _special(self) -> set[str]:
        return {token.content for token in self._encoder.get_added_tokens_decoder().values()}

    def _cut_to(self, longest: int) -> Tokenizer:
        from tokenizers import Tokenizer  # of no use to a run of images

        with _named_failure("its own rules"):
            tokenizer = Tokenizer.from_str(self.tokenizer)
            # What the file says of padding and length is undone: a batch is padded as a whole, and the run has a
            # length of its own.
            tokenizer.no_padding()
            tokenizer.enable_truncation(longest, direction=self.cut)
        return tokenizer


@contextmanager
def _named_failure(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # The library is written in Rust, whose panics are no Exceptions; and its errors have no class of their own.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"the tokenizer fails on {what}: {str(error)[:200]}") from None


def _check_rules(tokenizer: str) -> None:
    """Refuse rules by which the library would end the process, or never end itself.

    Raises:
        InputError: a table that claims to be longer than it is, or replacements by which a text grows without bound.
    """
    growth = 1
    try:
        for rule in _rules(json.loads(tokenizer)):
            table, new = rule.get("precompiled_charsmap"), rule.get("content", rule.get("prepend"))
            if table is not None:
                raw = base64.b64decode(table)
                if len(raw) < 4 + int.from_bytes(raw[:4], "little"):
                    raise InputError("the tokenizer has a table that claims to be longer than it is")
            growth *= max(1, len(new)) if isinstance(new, str) else 1
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"the tokenizer cannot be read: {str(error)[:200]}") from None
    if growth > MOST_GROWTH:
        raise InputError("the tokenizer replaces letters by texts, and these again, so that a text would not end")


def _rules(value: Any) -> Iterator[dict[str, Any]]:
    """What a tokenizer does to a text before its model sees it."""
    values = [value.get("normalizer"), value.get("pre_tokenizer")]
    while values:
        match values.pop():
            case dict() as rule:
                yield rule
                values += rule.values()
            case list() as rules:
                values += rules
