"""A network on rows of tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coterie.backbones.vector import hidden_layer


class TableMLP(nn.Module):
    """Two hidden layers of W units on the numbers and an embedding of each categorical column (Guo and Berkhahn 2016,
    arXiv 1604.06737), whose width grows with the root of its number of codes.

    Args:
        width: W.
        n_numbers: of each row, indicators of missing values included.
        cardinalities: number of codes of each categorical column.
        n_classes: C, the width of the linear head.

    Raises:
        BackboneError: the width is not positive.
    """

    def __init__(self, width: int, n_numbers: int, cardinalities: Sequence[int], n_classes: int) -> None:
        super().__init__()
        self.n_numbers = n_numbers
        widths = [min(50, round(1.6 * codes**0.5)) for codes in cardinalities]
        self.embeddings = nn.ModuleList(map(nn.Embedding, cardinalities, widths))
        self.hidden = nn.Sequential(
            hidden_layer("table-mlp", n_numbers + sum(widths), width, dropout=0.1),
            hidden_layer("table-mlp", width, width, dropout=0.1),
        )
        self.head = nn.Linear(width, n_classes)

    def forward(self, row_BF: Tensor) -> Tensor:
        """Numbers, then codes, (B, F) to logits (B, C)."""
        # Codes come as floats in one tensor with the numbers; they are exact below 2**24, and there are a thousand at
        # most.
        number_BF, code_BK = row_BF[:, : self.n_numbers], row_BF[:, self.n_numbers :].long()
        embedded = [embedding(code_BK[:, k]) for k, embedding in enumerate(self.embeddings)]
        logits: Tensor = self.head(self.hidden(torch.cat([number_BF, *embedded], dim=1)))
        return logits
