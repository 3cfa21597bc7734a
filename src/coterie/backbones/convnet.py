"""A small residual network that trains fast on CPUs."""

from __future__ import annotations

from torch import Tensor, nn

from coterie.errors import BackboneError

# Half of the paper's 16, which would leave the narrowest networks no unit.
SQUEEZE = 8


class ConvNet(nn.Module):
    """Eight convolutions in four stages of W/4, W, 2W and 4W channels, the last two with a residual pair whose output
    is scaled channel by channel (squeeze and excitation: Hu et al. 2018, arXiv 1709.01507).

    Pooling early and few channels at full resolution: on a CPU, norms and activations over large maps cost as much as
    convolutions. At W = 64 it has 1.9 million weights and takes 85 million multiply-adds for a 32 x 32 image. Images
    of any size from 8 x 8 are taken.

    Args:
        width: W, a multiple of 4.
        n_classes: C, the width of the linear head.
        channels: of the images.

    Raises:
        BackboneError: the width is not a positive multiple of 4.
    """

    def __init__(self, width: int, n_classes: int, channels: int = 3) -> None:
        if width < 4 or width % 4:
            raise BackboneError(f"convnet-{width}: the width must be a positive multiple of 4, such as 32 or 64")
        super().__init__()
        self.stem = _convolution(channels, width // 4)
        self.stage1 = nn.Sequential(_convolution(width // 4, width), nn.MaxPool2d(2))
        self.stage2 = nn.Sequential(_convolution(width, 2 * width), nn.MaxPool2d(2), _ResidualPair(2 * width))
        self.stage3 = nn.Sequential(_convolution(2 * width, 4 * width), nn.MaxPool2d(2), _ResidualPair(4 * width))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, channels, H, W) to logits (B, C)."""
        logits: Tensor = self.head(self.pool(self.stage3(self.stage2(self.stage1(self.stem(x))))))
        return logits


class _ResidualPair(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(_convolution(width, width), _convolution(width, width))
        self.excitation = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, width // SQUEEZE),
            nn.ReLU(inplace=True),
            nn.Linear(width // SQUEEZE, width),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.convolutions(x)
        return x + residual * self.excitation(residual)[:, :, None, None]


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    # The norm that follows has a bias of its own.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
