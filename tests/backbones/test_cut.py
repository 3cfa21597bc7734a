import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.backbones import build, cut_points, find_head
from coterie.backbones.cut import TrunkOutput, can_be_cut, is_overwritten, make_observable, run_trunk, tail_of
from coterie.errors import BackboneError
from helpers import image_form


class Branching(nn.Module):
    """Its own code looks at values, at the input again, or at whether it is being trained."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.trunk, self.norm, self.head = nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor, twice: bool = False) -> torch.Tensor:
        h = self.trunk(x)
        if self.kind == "values" and h.sum() > 0:
            h = -h
        if self.kind == "input":
            h = h + x
        if self.kind == "mode":
            h = F.dropout(h, 0.5, self.training)
        if self.kind == "size":
            h = h.view(len(x), 2, 3).flatten(1)
        if twice:
            h = 2 * h
        return self.head(self.norm(h))


@pytest.mark.parametrize("name", ["convnet-8", "wrn-16-1", "timm:resnet10t", "timm:test_vit", "torchvision:resnet18"])
def test_a_tail_goes_on_from_every_cut_point_as_the_network_does(name: str) -> None:
    example = torch.randn(2, 3, *(2 * (160 if "vit" in name else 32,)))
    network = build(name, 5, image_form(3), 0).eval()
    points = cut_points(network, find_head(network, 5, example), example)
    for point in points[-4:]:
        assert can_be_cut(network, point, example)
        tail = tail_of(network, point, example)
        with torch.no_grad(), TrunkOutput(make_observable(network, point)) as output:
            logits = network(example)
            torch.testing.assert_close(tail(output.latest), logits, rtol=0, atol=0)
        ours = dict(network.named_parameters())
        assert all(parameter is ours[path] for path, parameter in tail.named_parameters())
        assert not any(path.startswith(f"{point}.") for path, _ in tail.named_parameters())


def test_the_trunks_output_is_what_the_module_gave_whatever_was_done_to_it_after() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    x = torch.randn(5, 3)
    with torch.no_grad(), TrunkOutput(make_observable(network, "0")) as output:
        network(x)
        torch.testing.assert_close(output.latest, network[0](x), rtol=0, atol=0)
        assert (output.latest < 0).any()


@pytest.mark.parametrize("mode", [False, True])
def test_whether_something_works_in_place_on_the_trunks_output_is_found_whatever_the_values(mode: bool) -> None:
    overwrites = nn.Sequential(nn.Identity(), nn.ReLU(), nn.ReLU(inplace=True), nn.Linear(3, 2)).eval()
    of_a_view = nn.Sequential(nn.Linear(3, 3), nn.Flatten(), nn.ReLU(inplace=True)).eval()
    with torch.inference_mode(mode):
        x = torch.ones(5, 3)  # which no ReLU changes
        assert is_overwritten(overwrites, "1", x)
        assert is_overwritten(of_a_view, "0", x)
        assert not is_overwritten(overwrites, "2", x)
        assert not is_overwritten(overwrites, "0", x)


def test_a_trunk_is_run_no_further_than_the_cut() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(4, 2))  # the last does not fit the others
    x = torch.randn(5, 3)
    torch.testing.assert_close(run_trunk(network, "1", x), network[0](x).relu(), rtol=0, atol=0)
    with pytest.raises(RuntimeError):
        network(x)
    network[2] = nn.Linear(3, 2)
    assert network(x).shape == (5, 2)  # nothing stops it any more


def test_no_network_is_cut_behind_a_module_that_runs_twice_or_never() -> None:
    repeated = nn.Linear(6, 6)
    assert not can_be_cut(nn.Sequential(repeated, repeated, nn.Linear(6, 4)), "0", torch.randn(2, 6))
    network = Branching("mode")
    network.unused = nn.Linear(6, 6)
    assert not can_be_cut(network, "unused", torch.randn(2, 6))
    with pytest.raises(BackboneError, match="Branching does not run its module unused"):
        run_trunk(network, "unused", torch.randn(2, 6))


@pytest.mark.parametrize("kind", ["values", "input", "size"])
def test_a_network_that_cannot_be_cut_is_refused_by_name(kind: str) -> None:
    network = Branching(kind)
    assert not can_be_cut(network, "trunk", torch.randn(2, 6))
    if kind == "size":  # which only another batch shows
        return
    with pytest.raises(BackboneError, match="Branching cannot be cut in two behind its module trunk"):
        tail_of(network, "trunk", torch.randn(2, 6))


def test_a_tail_is_in_the_networks_mode_and_leaves_out_what_is_left_out() -> None:
    network = Branching("mode")
    example, h = torch.randn(2, 6), torch.randn(3, 6)
    torch.testing.assert_close(tail_of(network.eval(), "trunk", example)(h), network.head(network.norm(h)))
    torch.manual_seed(0)
    dropped = tail_of(network.train(), "trunk", example)(h)
    torch.manual_seed(0)
    torch.testing.assert_close(dropped, network.head(network.norm(F.dropout(h, 0.5))))
