import numpy as np
import pytest
import torch
from torch import nn

from coterie.backbones import build, find_head, replace_head
from coterie.backbones.parts import WHOLE, cut_points, trained_part
from coterie.errors import BackboneError
from helpers import image_form
from networks import Net, Proxies, TextEmbeddings, Tied

GREY = torch.randn((2, 1, 16, 16), generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(6), nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.outer(torch.relu(self.inner(self.norm(x))))


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(256, 6))
        self.scale = nn.Parameter(torch.ones(6))
        self.blocks = nn.ModuleList([Residual(), Residual(), Residual()])
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x) * self.scale
        for block in self.blocks:
            x = block(self.drop(x))
        return self.head(self.norm(x))


def of(network: nn.Module, choice: str, n_classes: int = 4, example: torch.Tensor = GREY):
    return trained_part(network, find_head(network, n_classes, example), example, choice)


def trained(network: nn.Module, choice: str) -> set[str]:
    part = of(network, choice)
    return {name for name, _ in network.named_parameters() if part.trains(name)}


def test_a_network_can_be_cut_between_its_blocks_and_not_inside_them() -> None:
    network = Deep()
    points = cut_points(network, find_head(network, 4, GREY), GREY)
    assert points == ("embed", "blocks.0", "blocks.1", "blocks.2", "norm")


@pytest.mark.parametrize("name", ["convnet-8", "wrn-16-1", "timm:resnet10t", "timm:test_vit"])
def test_what_follows_a_cut_point_depends_on_its_output_alone(name: str) -> None:
    """Against autograd: no gradient reaches the input if that output is held."""
    size = 160 if "vit" in name else 32
    example = torch.randn(2, 3, size, size)
    network = build(name, 5, image_form(3), 0).eval()
    points = cut_points(network, find_head(network, 5, example), example)
    assert len(points) >= 4
    for point in points:
        inputs = example.clone().requires_grad_(True)
        handle = network.get_submodule(point).register_forward_hook(lambda _, __, output: output.detach())
        logits = network(inputs)
        handle.remove()
        assert inputs.grad is None
        assert not logits.requires_grad or torch.autograd.grad(logits.sum(), inputs, allow_unused=True)[0] is None


def test_all_is_all_and_freezes_nothing() -> None:
    network = Deep()
    network.embed[1].weight.requires_grad_(False)  # as the user has it
    part = of(network, "all")
    part.prepare(network.train(), 0)
    assert part is WHOLE
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["embed.1.weight"]
    assert all(module.training for module in network.modules())


def test_parts_by_depth() -> None:
    network = Deep()
    head = {"head.weight", "head.bias"}
    last = {f"blocks.2.{name}" for name, _ in network.blocks[2].named_parameters()} | {"norm.weight", "norm.bias"}
    assert trained(network, "head") == trained(network, "last-1") == head
    assert trained(network, "last-2") == head | last
    assert trained(network, "last-3") == head | last | {n for n, _ in network.named_parameters() if "blocks.1" in n}
    everything = {name for name, _ in network.named_parameters()}
    assert trained(network, "last-5") == everything
    with pytest.raises(BackboneError, match=r"last-6: Deep has 4 parts and a head; allowed: last-1 .* to last-5"):
        of(network, "last-6")


def test_parts_by_name() -> None:
    network = Deep()
    assert trained(network, "blocks.2") == trained(network, "last-2")
    assert trained(network, "norm") == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    for wrong in ("layer4", "", "last", "last-0"):
        with pytest.raises(BackboneError, match=r"last-1|allowed: all, head, last-N, lora-R, or the path of a module"):
            of(network, wrong)


def test_the_names_of_well_known_stages_work() -> None:
    network = build("timm:resnet10t", 4, image_form(1), 0)
    names = trained(network, "layer4")
    assert names == {n for n, _ in network.named_parameters() if n.startswith(("layer4.", "fc."))}


@pytest.mark.parametrize("make", [lambda: Tied(4), lambda: Proxies(4)])
def test_a_weight_that_the_trunk_uses_too_is_trained_as_the_heads_own_copy(make) -> None:
    network, small = make(), torch.randn(2, 1, 12, 12)
    head = find_head(network, 4, small)
    part = trained_part(network, head, small, "head")
    replace_head(network, head, torch.tensor([0, 2]))
    part.prepare(network.train(), 0)
    left = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert left == ({"head.weight"} if isinstance(network, Tied) else {"proxies", "offset"})


def test_what_is_frozen_stays_bit_for_bit_while_the_rest_is_trained() -> None:
    torch.manual_seed(0)
    network = Deep()
    part = of(network, "blocks.2")
    network.train()
    part.prepare(network, 0)
    assert not network.blocks[1].training
    assert network.norm.training  # it runs after the cut
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        network(torch.randn(8, 1, 16, 16)).square().sum().backward()
        optimizer.step()
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(before[name], tensor)}
    assert all(name.startswith(("blocks.2.", "norm.", "head.")) for name in moved)
    assert {"norm.running_mean", "head.weight", "blocks.2.inner.weight"} <= moved


def test_running_statistics_before_the_cut_stay() -> None:
    network = build("convnet-8", 4, image_form(1), 0)
    part = of(network, "head")
    network.train()
    part.prepare(network, 0)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(8, 1, 16, 16))
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())


def test_a_bare_head_can_only_be_trained_whole() -> None:
    network = Net(nn.Linear(6, 4))
    assert np.array_equal(
        sorted(
            n for n, _ in network.named_parameters() if of(network, "last-2", 4, torch.randn(2, 1, 12, 12)).trains(n)
        ),
        ["head.bias", "head.weight", "trunk.1.bias", "trunk.1.weight"],
    )


def test_a_head_that_is_a_buffer_cannot_be_what_is_trained() -> None:
    network, example = TextEmbeddings(5), torch.randn(3, 1, 12, 12)
    head = find_head(network, 5, example)
    with pytest.raises(BackboneError, match="head of TextEmbeddings, texts, is a buffer, which is not trained"):
        trained_part(network, head, example, "head")
    assert trained_part(network, head, example, "trunk.1").trains("trunk.1.weight")
