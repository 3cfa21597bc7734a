"""Wide residual networks as in the literature (Zagoruyko and Komodakis 2016, arXiv 1605.07146)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.errors import BackboneError


class WideResNet(nn.Module):
    """WRN-d-k without dropout: three groups of (d - 4) / 6 pre-activation blocks of 16k, 32k and 64k channels.

    Args:
        depth: d; d - 4 is a multiple of 6 (10, 16, 22, 28, 40, ...).
        widen: k, at least 1.
        n_classes: C, the width of the linear head.
        channels: of the images.

    Raises:
        BackboneError: depth or width make no such network.
    """

    def __init__(self, depth: int, widen: int, n_classes: int, channels: int = 3) -> None:
        if depth < 10 or (depth - 4) % 6 or widen < 1:
            raise BackboneError(
                f"wrn-{depth}-{widen}: the depth must be 6n + 4 (10, 16, 22, 28, ...) and the width at least 1"
            )
        super().__init__()
        blocks = (depth - 4) // 6
        widths = (16, 16 * widen, 32 * widen, 64 * widen)
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.groups = nn.Sequential(
            *(
                nn.Sequential(
                    _Block(widths[group], widths[group + 1], 1 if group == 0 else 2),
                    *(_Block(widths[group + 1], widths[group + 1], 1) for _ in range(blocks - 1)),
                )
                for group in range(3)
            )
        )
        self.norm = nn.BatchNorm2d(widths[3])
        self.head = nn.Linear(widths[3], n_classes)
        # As the paper's code starts it.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, channels, H, W) to logits (B, C)."""
        features = F.relu(self.norm(self.groups(self.stem(x))), inplace=True)
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        # Where the shape changes, the shortcut too starts from the activation, as in the reference implementation.
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        residual: Tensor = self.conv2(F.relu(self.norm2(self.conv1(activated)), inplace=True))
        return shortcut + residual
