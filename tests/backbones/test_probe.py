from contextlib import suppress

import pytest
import torch
from torch import nn

from coterie.backbones.probe import evaluating, fitting, hooked, run
from coterie.errors import BackboneError


def test_each_module_gets_its_own_mode_back_also_after_an_error() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    network[1].eval()
    before = [module.training for module in network.modules()]
    with suppress(KeyError), evaluating(network):
        assert not any(module.training for module in network.modules())
        assert not torch.is_grad_enabled()
        raise KeyError
    assert [module.training for module in network.modules()] == before
    assert torch.is_grad_enabled()


def test_hooks_are_gone_afterwards() -> None:
    layer, seen = nn.Identity(), []
    with hooked({layer: lambda _, __, output: seen.append(output.item())}):
        layer(torch.tensor(3.0))
    layer(torch.tensor(4.0))
    assert seen == [3.0]


def test_numbers_take_the_precision_of_the_network_and_indices_keep_theirs() -> None:
    network = nn.Linear(2, 2).half()
    assert fitting(torch.zeros(1, 2), network).dtype == torch.float16
    assert fitting(torch.zeros(1, 2, dtype=torch.int64), network).dtype == torch.int64
    assert fitting(torch.zeros(1, 2), nn.Identity()).dtype == torch.float32


def test_a_network_that_cannot_run_is_named_with_its_inputs() -> None:
    network = nn.Linear(3, 2)
    assert run(network, torch.zeros(2, 3)).shape == (2, 2)
    with pytest.raises(BackboneError, match=r"Linear cannot run on inputs of shape \(2, 4\), torch.float32: mat1"):
        run(network, torch.zeros(2, 4))
