"""Small networks on vectors of features."""

from __future__ import annotations

from torch import Tensor, nn

from coterie.errors import BackboneError


class LinearNet(nn.Module):
    """Nothing but the head: multinomial logistic regression.

    Args:
        n_features: F.
        n_classes: C.
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, F) to logits (B, C)."""
        logits: Tensor = self.head(x)
        return logits


class MLP(nn.Module):
    """One hidden layer of W units, normalised over the batch, half of which are dropped in training.

    Args:
        width: W.
        n_features: F.
        n_classes: C, the width of the linear head.

    Raises:
        BackboneError: the width is not positive.
    """

    def __init__(self, width: int, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.hidden = hidden_layer("mlp", n_features, width, dropout=0.5)
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, F) to logits (B, C)."""
        logits: Tensor = self.head(self.hidden(x))
        return logits


def hidden_layer(name: str, inputs: int, width: int, dropout: float) -> nn.Sequential:
    """Linear, normalised over the batch, rectified, dropped.

    Raises:
        BackboneError: the width is not positive; ``name`` says of which network.
    """
    if width < 1:
        raise BackboneError(f"{name}-{width}: the width must be at least 1, such as 256")
    # The norm that follows has a bias of its own.
    return nn.Sequential(
        nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True), nn.Dropout(dropout)
    )
