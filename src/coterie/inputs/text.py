"""Texts: as hashed n-grams, which need no weights, or as sentence embeddings of a frozen encoder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy.sparse import hstack
from torch import Tensor
from typing_extensions import override

from coterie.errors import InputError
from coterie.inputs.encoder import Encoder, encode
from coterie.inputs.features import Scale
from coterie.inputs.preprocessing import Preprocessing
from coterie.inputs.samples import DescribedSamples, MemorySamples, RaggedSamples
from coterie.vocabulary import Modality

MOST_BUCKETS = 2**24
WORD_OR_SIGN = r"(?u)\w+|[^\w\s]"
# Half of a pair that stands for one character; alone it is none, and no encoding has it.
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class TextPreprocessing(Preprocessing):
    """Preprocessing of texts."""

    modality: ClassVar[Modality] = "text"

    @property
    @override
    def wanted(self) -> str:
        return "a list of texts, at least one, none of them empty"


@dataclass(frozen=True)
class NGramPreprocessing(TextPreprocessing):
    """Words, pairs of words, and the 3 to 5 characters long parts of words, each hashed to one of ``buckets`` numbers,
    half of them for words: the inputs of fastText (Joulin et al. 2017, arXiv 1607.01759; Bojanowski et al. 2017, arXiv
    1607.04606). An n-gram counts once, however often a text has it; of a long text the first ``longest`` are kept, by
    their numbers.
    """

    buckets: int
    longest: int
    kind: Literal["ngrams"] = "ngrams"

    def __post_init__(self) -> None:
        if not 2 <= self.buckets <= MOST_BUCKETS or self.longest < 1:
            raise InputError(
                f"n-grams need 2 to {MOST_BUCKETS:,} buckets and a length of at least 1; got {self.buckets} and "
                f"{self.longest}"
            )

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return (-1,)

    @override
    def __call__(self, batch: Tensor) -> Tensor:
        """int64 (B, L): the numbers of a text's n-grams, then -1."""
        return batch

    @override
    def example(self) -> Tensor:
        return torch.randint(self.buckets, (2, 8), generator=torch.Generator().manual_seed(0))

    @override
    def samples(self, raw: Any) -> DescribedSamples:
        """A list of texts."""
        from sklearn.feature_extraction.text import HashingVectorizer  # of no use to a run of images

        texts = check_texts(raw, self.wanted)
        # Each n-gram once, without sign or norm: the network takes the mean of their embeddings.
        options = {"n_features": self.buckets // 2, "alternate_sign": False, "norm": None, "binary": True}
        words = HashingVectorizer(token_pattern=WORD_OR_SIGN, ngram_range=(1, 2), dtype=np.float32, **options)
        parts = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float32, **options)
        found = hstack([words.transform(texts), parts.transform(texts)], format="csr")
        # By number, so that those kept of a long text do not depend on the order in which the library hashes.
        found.sort_indices()
        return DescribedSamples(RaggedSamples.cut(found.indices, found.indptr, self.longest), texts.__getitem__)


@dataclass(frozen=True)
class SentencePreprocessing(TextPreprocessing):
    """Sentence embeddings of a frozen encoder, standardised. They are computed once and kept in the cache folder."""

    encoder: Encoder
    scale: Scale
    kind: Literal["sentences"] = "sentences"
    precise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.scale.mean:
            raise InputError("sentence embeddings need a width of at least 1; got a scale of none")

    @classmethod
    def measure(cls, encoder: Encoder, texts: Sequence[str], *, standardize: bool = True) -> SentencePreprocessing:
        """Measure the scale over the embeddings of texts, or leave them as they are.

        Raises:
            InputError: the encoder is not installed, or cannot be read.
        """
        return cls(encoder, Scale.of(encode(encoder, texts), standardize=standardize))

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return (len(self.scale.mean),)

    @override
    def __call__(self, batch: Tensor) -> Tensor:
        """float32 (B, F), standardised."""
        return self.scale(batch)

    @override
    def example(self) -> Tensor:
        return torch.randn((2, *self.shape), generator=torch.Generator().manual_seed(0))

    @override
    def samples(self, raw: Any) -> DescribedSamples:
        """A list of texts."""
        texts = check_texts(raw, self.wanted)
        return DescribedSamples(MemorySamples(torch.from_numpy(encode(self.encoder, texts))), texts.__getitem__)


def check_texts(raw: Any, wanted: str) -> list[str]:
    """A list of texts.

    Raises:
        InputError: it is something else, or a text is empty or no Unicode.
    """
    if isinstance(raw, str | bytes) or not isinstance(raw, Sequence | np.ndarray) or len(raw) == 0:
        shown = repr(raw[:40]) if isinstance(raw, str | bytes) else type(raw).__name__
        raise InputError(f"the networks take {wanted}; got {shown}")
    bad = [row for row, text in enumerate(raw) if not isinstance(text, str) or not text.strip()]
    if bad:
        raise InputError(f"the networks take {wanted}; number {bad[0]} is {_shortened(raw[bad[0]])}")
    texts = [str(text) for text in raw]
    half = next((row for row, text in enumerate(texts) if not text.isascii() and LONE_SURROGATE.search(text)), None)
    if half is not None:
        raise InputError(
            f"the networks take {wanted}; number {half} is not Unicode, for it holds half of a surrogate pair: "
            + _shortened(texts[half])
        )
    return texts


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
