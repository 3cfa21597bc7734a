"""Texts as the tokens of a language model, by the tokenizer that it was trained with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    tokenizer: Annotated[str, Field(exclude=True)] = field(default="", compare=False, repr=False)

    @classmethod
    def of(cls, tokenizer: str, *, longest: int, padding: int, cut: Literal["left", "right"]) -> TokenPreprocessing:
        """A preprocessing with the SHA-256 sum of the tokenizer."""
        digest = hashlib.sha256(tokenizer.encode()).hexdigest()
        return cls(digest, longest, padding, cut, tokenizer=tokenizer)

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
        tokens_T = self._cut_to(min(EXAMPLE_TOKENS, self.longest)).encode_batch(
            [" ".join(vocabulary[number] for number in row) for row in drawn]
        )
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(t.ids) for t in tokens_T], True, padding_value=-1)

    @override
    def samples(self, raw: Any) -> DescribedSamples:
        """A list of texts."""
        texts = check_texts(raw, self.wanted)
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

        tokenizer = Tokenizer.from_str(self.tokenizer)
        # What the file says of padding and length is undone: a batch is padded as a whole, and the run has a length of
        # its own.
        tokenizer.no_padding()
        tokenizer.enable_truncation(longest, direction=self.cut)
        return tokenizer
