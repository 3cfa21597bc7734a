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
