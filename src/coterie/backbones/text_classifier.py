"""A sequence classifier of transformers as a network from one tensor of tokens to logits."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from coterie.errors import InputError


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
