import pytest
import torch
from torch import nn

from coterie.backbones.flops import inference_flops, training_flops


def test_a_linear_layer_takes_two_operations_a_weight_and_training_three_times_as_many() -> None:
    network = nn.Sequential(nn.Linear(7, 11, bias=False), nn.ReLU(), nn.Linear(11, 5, bias=False))
    example = torch.randn(1, 7)
    assert inference_flops(network, example) == 2 * (7 * 11 + 11 * 5)
    # Backward: each layer's weights, and the inputs of all but the first.
    assert training_flops(network, example) == 2 * (7 * 11 + 11 * 5) + 2 * (7 * 11 + 11 * 5) + 2 * 11 * 5


def test_a_frozen_part_costs_no_gradient_and_the_network_is_left_alone() -> None:
    network = nn.Sequential(nn.Linear(7, 11, bias=False), nn.Linear(11, 5, bias=False)).eval()
    network[0].requires_grad_(False)
    example = torch.randn(1, 7)
    assert training_flops(network, example) == 2 * (7 * 11 + 11 * 5) + 2 * 11 * 5
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_the_gradients_of_a_convolution_take_what_its_forward_pass_does_in_each_group(groups: int) -> None:
    network = nn.Sequential(nn.Conv2d(8, 8, 3, groups=groups), nn.ConvTranspose2d(8, 8, 3, groups=groups))
    # Of each output of the first, and of each input of the second: 3 x 3 places, and the channels of its group.
    each = 2 * 4 * 4 * 8 * 3 * 3 * 8 // groups
    example = torch.randn(1, 8, 6, 6)
    assert inference_flops(network, example) == 2 * each
    assert training_flops(network, example) == 2 * each + each + 2 * each  # nobody wants the first's input's gradient
