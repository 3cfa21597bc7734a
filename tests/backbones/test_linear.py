"""Linear layers in another guise, each against torch's own."""

import pytest
import torch
from torch import nn

from coterie.backbones.linear import as_linear, cut_layer, is_linear, is_plain
from networks import CosineLinear


class Adapted(nn.Module):
    """A linear layer with a low-rank adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(6, 5)
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + 0.5 * self.up(self.down(x))


class Renamed(nn.Linear):
    """A subclass that computes as its parent does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T + self.bias


@pytest.mark.parametrize(
    ("layer", "plain", "linear"),
    [
        (nn.Linear(6, 5), True, True),
        (nn.Conv2d(6, 5, 1), True, True),
        (nn.Conv2d(6, 6, 1, groups=6), False, False),
        (Renamed(6, 5), True, True),
        (CosineLinear(6, 5, bias=False), False, False),
        (Adapted(), False, True),
        (nn.Sequential(nn.Linear(6, 5), nn.Tanh()), False, False),
        (nn.LayerNorm(6), False, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_layers_are_linear(layer: nn.Module, plain: bool, linear: bool) -> None:
    assert is_plain(layer) == plain
    assert is_linear(layer) == linear


@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 5), lambda: Renamed(6, 5), Adapted])
def test_the_plain_layer_gives_the_same_outputs_and_a_cut_one_some_of_them(make) -> None:
    layer, x = make(), torch.randn(3, 6)
    torch.testing.assert_close(as_linear(layer)(x), layer(x))
    torch.testing.assert_close(cut_layer(layer, torch.tensor([4, 0]))(x), layer(x)[:, [4, 0]])


def test_a_convolution_is_cut_as_one_and_its_rows_are_its_weights() -> None:
    layer, x = nn.Conv2d(6, 5, 3), torch.randn(2, 6, 4, 4)
    assert torch.equal(as_linear(layer).weight, layer.weight.flatten(1))
    cut = cut_layer(layer, torch.tensor([4, 0]))
    torch.testing.assert_close(cut(x), layer(x)[:, [4, 0]])
    assert cut.out_channels == 2
