"""A network on hashed n-grams of texts."""

from __future__ import annotations

from torch import Tensor, nn

from coterie.errors import BackboneError


class NGramNet(nn.Module):
    """The mean of the embeddings of a text's n-grams, then the head: fastText (Joulin et al. 2017, arXiv 1607.01759),
    with a batch norm and dropout between the two.

    Args:
        width: W, of the embeddings.
        buckets: number of hash buckets of n-grams.
        n_classes: C, the width of the linear head.

    Raises:
        BackboneError: the width is not positive.
    """

    def __init__(self, width: int, buckets: int, n_classes: int) -> None:
        if width < 1:
            raise BackboneError(f"ngram-{width}: the width must be at least 1, such as 64")
        super().__init__()
        # One number more, for what fills up a batch: -1, moved up to 0, does not count in the mean.
        self.bag = nn.EmbeddingBag(buckets + 1, width, mode="mean", padding_idx=0)
        self.norm = nn.Sequential(nn.BatchNorm1d(width), nn.Dropout(0.2))
        self.head = nn.Linear(width, n_classes)

    def forward(self, ngram_BL: Tensor) -> Tensor:
        """Numbers of n-grams (B, L), -1 where there is none, to logits (B, C)."""
        logits: Tensor = self.head(self.norm(self.bag(ngram_BL + 1)))
        return logits
