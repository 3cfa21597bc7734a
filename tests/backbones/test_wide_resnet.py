import pytest
from torch import nn

from coterie.backbones import WideResNet


@pytest.mark.parametrize(("depth", "widen", "millions"), [(28, 10, 36.5), (16, 4, 2.7), (16, 2, 0.7), (40, 4, 8.9)])
def test_wide_resnets_have_the_papers_number_of_weights(depth: int, widen: int, millions: float) -> None:
    # Table 4 of arXiv 1605.07146, for CIFAR-10.
    network = WideResNet(depth, widen, 10)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == pytest.approx(millions, abs=0.1)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == depth
