"""Models of transformers for texts as networks from one tensor of tokens to logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from typing_extensions import override

from coterie.errors import InputError

PoolingName: TypeAlias = Literal["mean", "first"]


class TextClassifier(nn.Module):
    """Hides from the network what only fills up a batch.

    Args:
        network: a sequence classifier of transformers.
        padding: the token that stands where there is none. The network's configuration gets it too: some read the
            class off a text's last token, which they know by what is not padding.
    """

    def __init__(self, network: Any, padding: int) -> None:
        super().__init__()
        self.network = network
        self.network.config.pad_token_id = padding
        self.padding = padding

    @property
    def n_tokens(self) -> float:
        """The numbers of the tokens that the network knows are below this; infinity where it does not say."""
        return float(getattr(self.network.get_input_embeddings(), "num_embeddings", math.inf))

    @property
    def longest(self) -> float:
        """Tokens of a text that the network has places for; infinity where it does not say."""
        return float(getattr(self.network.config, "max_position_embeddings", None) or math.inf)

    @override
    def forward(self, token_BL: Tensor) -> Tensor:
        """Tokens (B, L), each text's followed by -1, to logits (B, C)."""
        there_BL = token_BL >= 0
        # Any id will do where the mask hides it, but -1 is none.
        input_BL = token_BL.masked_fill(~there_BL, self.padding)
        try:
            logits: Tensor = self.network(input_ids=input_BL, attention_mask=there_BL.long()).logits
        except IndexError:  # a tokenizer may know words that its network does not
            raise InputError(
                f"a text has the token {int(input_BL.max())}; the network knows those below {self.n_tokens:.0f}"
            ) from None
        return logits


@dataclass(frozen=True, eq=False)
class Answer:
    """What a sequence classifier returns, of which the logits count."""

    logits: Tensor


class SentenceClassifier(nn.Module):
    """A sentence encoder with a linear head on one vector of a text: the mean of its tokens' vectors, or the first. It
    is called as the sequence classifiers of transformers are.

    Args:
        encoder: a model of transformers without a head.
        pooling: as the encoder was trained.
        n_classes: C.
    """

    def __init__(self, encoder: Any, pooling: PoolingName, n_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        # Not in use here: weights without a gradient would stop several ranks.
        self.encoder.pooler = None
        self.pooling = pooling
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(encoder.config.hidden_size, n_classes)

    @property
    def config(self) -> Any:
        """That of the encoder, which names the classes."""
        return self.encoder.config

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's, as models of transformers give them."""
        embeddings: nn.Module = self.encoder.get_input_embeddings()
        return embeddings

    @override
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Answer:
        """Tokens and their mask, (B, L) each, to logits (B, C)."""
        vector_BLD = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "first":
            return Answer(self.head(self.dropout(vector_BLD[:, 0])))
        weight_BL1 = attention_mask.unsqueeze(2).to(vector_BLD.dtype)
        return Answer(self.head(self.dropout((vector_BLD * weight_BL1).sum(1) / weight_BL1.sum(1))))
