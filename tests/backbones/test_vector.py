import pytest
import torch

from coterie.backbones.vector import MLP, LinearNet
from coterie.errors import BackboneError


def test_a_linear_network_is_its_head() -> None:
    network, x = LinearNet(3, 4), torch.randn(5, 3)
    torch.testing.assert_close(network(x), x @ network.head.weight.T + network.head.bias)


def test_an_mlp_normalises_rectifies_and_then_applies_its_head() -> None:
    network, x = MLP(6, 3, 4), torch.randn(50, 3)
    network.hidden[3].p = 0.0  # the reference drops nothing
    linear = x @ network.hidden[0].weight.T
    normed = (linear - linear.mean(0)) / (linear.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(network(x), network.head(normed.clamp(min=0)), atol=1e-5, rtol=1e-4)


def test_half_of_the_units_are_dropped_in_training_alone() -> None:
    torch.manual_seed(0)
    network = MLP(1000, 3, 4)
    dropped = (network.hidden[3](torch.ones(1, 1000)) == 0).float().mean()
    assert 0.4 < float(dropped) < 0.6
    assert not (network.eval().hidden[3](torch.ones(1, 1000)) == 0).any()


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(BackboneError, match="mlp-0: the width must be at least 1"):
        MLP(0, 3, 4)
