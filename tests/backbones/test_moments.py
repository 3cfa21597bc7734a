import pytest
import torch
from torch import nn

from coterie.backbones import moments
from coterie.backbones.deltas import decode, encode, quantise
from coterie.backbones.moments import input_moments


class Network(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.act = nn.ReLU()
        self.flat = nn.Flatten()
        self.hidden = nn.Linear(8 * 6 * 6, 5, bias=False)


IMAGES = torch.randn(700, 3, 16, 16, generator=torch.Generator().manual_seed(1))
NAMES = ["conv.weight", "norm.weight", "depthwise.weight", "hidden.weight", "unknown.weight"]


def test_they_give_the_sum_of_squares_of_what_each_layer_answers() -> None:
    network = Network()
    found = input_moments(network, NAMES, IMAGES)
    assert set(found) == {"conv.weight", "hidden.weight"}  # not of a convolution with groups, of which torch has others
    network.eval()
    with torch.no_grad():
        conv = network.conv(IMAGES)
        every = 700 * conv[0, 0].numel() // moments.ROWS
        between = network.flat(network.act(network.depthwise(network.norm(conv))))
    for name, answer_NR in (
        ("conv.weight", conv.flatten(2)[..., ::every].transpose(1, 2).flatten(0, 1)),
        ("hidden.weight", network.hidden(between)),
    ):
        weight_RK = network.get_parameter(name).detach().flatten(1)
        square_R = ((weight_RK @ found[name]) * weight_RK).sum(1)
        torch.testing.assert_close(square_R, answer_NR.detach().square().sum(0), rtol=1e-3, atol=1e-2)


def test_a_network_stays_as_it_is_and_its_moments_do_not_hang_on_how_many_are_gathered_at_once(monkeypatch) -> None:
    network = Network().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = input_moments(network, NAMES, IMAGES)
    monkeypatch.setattr(moments, "MOST_BYTES", 1)
    one_by_one = input_moments(network, NAMES, IMAGES)
    for name, moment_KK in found.items():
        torch.testing.assert_close(one_by_one[name], moment_KK, rtol=0, atol=0)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_of_a_network_that_diverged_there_are_none_and_it_is_kept_all_the_same() -> None:
    network = Network()
    with torch.no_grad():
        network.conv.weight.fill_(1e30)
    assert set(input_moments(network, NAMES, IMAGES)) == {"conv.weight"}
    for wrong in (1e38, float("inf"), float("nan")):
        kept = encode({"w": torch.full((4, 9), wrong)}, {"w": torch.zeros(4, 9)}, 2)
        assert set(kept) == {"w:codes", "w:step"}
        decode(kept, {"w": torch.zeros(4, 9)})


def test_of_too_few_inputs_there_are_none() -> None:
    assert set(input_moments(Network(), NAMES, IMAGES[:20])) == {"conv.weight"}
    assert input_moments(Network(), NAMES, IMAGES[:0]) == {}


@pytest.mark.parametrize(("bits", "share"), [(1.3, 1), (1.6, 0.5), (2, 0.5), (3, 0.5)])
def test_rounded_by_moments_a_matrix_answers_nearer_to_what_it_did(bits: float, share: float) -> None:
    generator = torch.Generator().manual_seed(2)
    delta_RK = 0.1 * torch.randn(64, 144, generator=generator)
    # As pixels are: neighbours are alike.
    input_NK = torch.randn(2000, 152, generator=generator).unfold(1, 9, 1).mean(2)
    errors = []
    for moment_KK in (None, input_NK.T @ input_NK):
        kept = encode({"w": delta_RK}, {"w": torch.zeros(64, 144)}, bits, {} if moment_KK is None else {"w": moment_KK})
        assert 8 * kept["w:codes"].numel() <= bits * delta_RK.numel()
        wrong_RK = decode(kept, {"w": torch.zeros(64, 144)})["w"] - delta_RK
        errors.append(float((input_NK @ wrong_RK.T).square().mean()))
    assert errors[1] <= share * errors[0]


def test_where_inputs_are_unlike_each_other_there_is_nothing_to_make_up_for() -> None:
    delta_RK = torch.randn(16, 96, generator=torch.Generator().manual_seed(3))
    plain, with_moments = quantise(delta_RK, 3), quantise(delta_RK, 3, torch.eye(96))
    # The step is sought anew, in coarser halvings.
    ratio = float(with_moments[1][0] / plain[1][0])
    assert 1 <= ratio < 1.05


def test_inputs_that_are_never_seen_do_no_harm() -> None:
    delta_RK = torch.randn(8, 40, generator=torch.Generator().manual_seed(4))
    input_NK = torch.randn(500, 40, generator=torch.Generator().manual_seed(5))
    input_NK[:, 10:30] = 0
    for moment_KK in (input_NK.T @ input_NK, torch.zeros(40, 40)):
        kept = encode({"w": delta_RK}, {"w": torch.zeros(8, 40)}, 2.5, {"w": moment_KK})
        back_RK = decode(kept, {"w": torch.zeros(8, 40)})["w"]
        assert back_RK.isfinite().all()
        assert float((back_RK - delta_RK).square().mean()) < 0.1
