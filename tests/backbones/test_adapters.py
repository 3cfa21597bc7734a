import copy

import pytest
import torch
from torch import nn

from coterie.backbones import adapters, find_head
from coterie.backbones.adapters import add_adapters, weights_of
from coterie.backbones.deltas import DOWN, UP, decode, encode
from coterie.backbones.parts import trained_part
from coterie.errors import BackboneError

GREY = torch.randn((4, 1, 12, 12), generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """A convolution, a grouped one, a norm, linear layers, and the transposed one of transformers."""

    def __init__(self) -> None:
        super().__init__()
        from transformers.pytorch_utils import Conv1D

        self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 6, 3, groups=6)
        self.norm = nn.BatchNorm2d(6)
        self.square = Conv1D(6, 6)
        self.wide = Conv1D(9, 6)
        self.inner = nn.Linear(9, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.grouped(torch.relu(self.conv(x)))).mean((2, 3))
        return self.head(torch.relu(self.inner(torch.tanh(self.wide(self.square(x))))))


def adapted(network: nn.Module, rank: int = 2, seed: int = 0) -> nn.Module:
    """As ``lora-R`` says, before it is trained."""
    changed = copy.deepcopy(network).train()
    trained_part(network, find_head(network, 5, GREY), GREY, f"lora-{rank}").prepare(changed, seed)
    return changed


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Mixed().eval()


def test_each_layer_gets_an_adapter_and_only_these_and_the_head_are_trained(network: nn.Module) -> None:
    changed = adapted(network)
    trained = {name for name, parameter in changed.named_parameters() if parameter.requires_grad}
    layers = ("conv", "square", "wide", "inner")
    assert trained == {
        "head.weight",
        "head.bias",
        *(f"{layer}.lora_{factor}.coterie.weight" for layer in layers for factor in "AB"),
    }


def test_it_adds_nothing_until_it_is_trained_and_is_drawn_by_the_seed_alone(network: nn.Module) -> None:
    before = torch.random.get_rng_state()
    first, second, other = adapted(network, seed=3), adapted(network, seed=3), adapted(network, seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.testing.assert_close(first.eval()(GREY), network(GREY))
    drawn = [net.inner.lora_A["coterie"].weight for net in (first, second, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_what_is_kept_of_it_gives_the_bases_network_the_same_answers(network: nn.Module) -> None:
    changed, base = adapted(network), weights_of(network)
    optimizer = torch.optim.SGD([p for p in changed.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(changed(GREY), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
    kept = encode(weights_of(changed), base, 32)
    factors = {f"{name}.weight{mark}" for name in ("conv", "square", "wide", "inner") for mark in (UP, DOWN)}
    statistics = {f"norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(kept) == factors | statistics | {"head.weight", "head.bias"}
    assert kept[f"wide.weight{UP}"].shape == (6, 2)  # a row per input, as its matrix has
    again = copy.deepcopy(network)
    again.load_state_dict({**base, **decode(kept, base)})
    assert not torch.allclose(again(GREY), network(GREY), atol=1e-3)
    torch.testing.assert_close(again(GREY), changed.eval()(GREY))


def test_adapters_that_a_base_brings_are_not_put_out_of_use_and_count_as_its_weights(network: nn.Module) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=1, target_modules=["inner"]), network)
    assert {"inner.base_layer.weight", "inner.lora_A.default.weight"} <= set(weights_of(network))
    with pytest.raises(BackboneError, match=r"lora-2: Mixed has adapters of its own; merge them first"):
        adapted(network)


def test_what_was_frozen_stays_so(network: nn.Module) -> None:
    network.head.bias.requires_grad_(False)
    assert not adapted(network).head.bias.requires_grad


def test_ranks_that_no_layer_has_and_networks_without_layers_are_refused(network: nn.Module) -> None:
    for choice in ("lora-0", "lora-9"):
        with pytest.raises(BackboneError, match=rf"{choice}: the layers of Mixed have .*allowed: lora-1 to lora-8"):
            adapted(network, int(choice[5:]))
    bare = nn.Sequential(nn.Flatten(), nn.Linear(144, 5))
    with pytest.raises(BackboneError, match="Sequential has no linear layer or convolution before its head"):
        adapted(bare)


def test_without_peft_its_extra_is_named_before_anything_is_trained(network: nn.Module, monkeypatch) -> None:
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"needs peft: pip install 'coterie\[lora\]'"):
        adapted(network)
    with pytest.raises(BackboneError, match="needs peft"):
        add_adapters(network, ("inner",), 1, 0)
