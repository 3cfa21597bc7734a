import contextlib
import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from coterie.config import HardwareSettings
from coterie.training.depthwise import DepthwiseGradients, depthwise_gradients
from coterie.training.fabric import make_fabric

BF16 = HardwareSettings(accelerator="cpu", precision="bf16")


def gradients(layer: nn.Module, x: torch.Tensor, context: contextlib.AbstractContextManager[object]):
    """The output, and the gradients of input and parameters, of a layer under autocast in the context."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), context:
        out = layer(x)
    # Not all ones: a gradient that is the same everywhere would hide where one went.
    (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return out, x.grad, [parameter.grad.clone() for parameter in layer.parameters() if parameter.requires_grad]


@given(
    channels=st.integers(2, 9),
    multiplier=st.integers(1, 2),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    channels_last=st.booleans(),
)
def test_gradients_are_those_of_fp32(channels, multiplier, kernel, stride, dilation, bias, channels_last) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(
        channels, channels * multiplier, kernel, stride, dilation * kernel // 2, dilation, groups=channels, bias=bias
    )
    # Numbers that bf16 holds exactly, so that fp32 sees the same.
    layer.load_state_dict({name: value.bfloat16().float() for name, value in layer.state_dict().items()})
    x = torch.randn(3, channels, 9, 11).bfloat16().float()
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    out, of_x, of_parameters = gradients(layer, x, DepthwiseGradients())
    assert out.dtype == torch.bfloat16
    plain, _, _ = gradients(layer, x, contextlib.nullcontext())
    torch.testing.assert_close(out, plain)

    exact_layer, exact_x = copy.deepcopy(layer).double(), x.double().requires_grad_()
    exact_layer.zero_grad()
    exact = exact_layer(exact_x)
    upstream = torch.linspace(-1, 1, exact.numel()).view_as(exact).bfloat16().double()
    (exact * upstream).sum().backward()
    torch.testing.assert_close(of_x.double(), exact_x.grad, rtol=1e-2, atol=1e-2)
    for found, expected in zip(of_parameters, exact_layer.parameters(), strict=True):
        torch.testing.assert_close(found.double(), expected.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, groups=4),
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(1, 8, 3),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.Conv1d(8, 8, 3, groups=8),
    ],
    ids=["grouped", "plain", "one channel", "padding by a word", "one dimension"],
)
def test_others_are_left_alone(layer) -> None:
    x = torch.randn(2, layer.in_channels, *[8] * (layer.weight.ndim - 2))
    found, expected = gradients(layer, x, DepthwiseGradients()), gradients(layer, x, contextlib.nullcontext())
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_in_fp32_nothing_is_replaced() -> None:
    layer, x = nn.Conv2d(4, 4, 3, groups=4), torch.randn(2, 4, 8, 8)
    with DepthwiseGradients():
        out = layer(x)
    assert out.dtype == torch.float32
    assert torch.equal(out, layer(x))


def test_what_is_frozen_gets_no_gradient() -> None:
    layer = nn.Conv2d(4, 4, 3, groups=4)
    layer.weight.requires_grad_(False)
    _, of_x, of_parameters = gradients(layer, torch.randn(2, 4, 8, 8), DepthwiseGradients())
    assert layer.weight.grad is None
    assert of_x is not None
    assert len(of_parameters) == 1


@pytest.mark.parametrize(
    ("network", "hardware", "replaced"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4)), BF16, True),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4)), HardwareSettings(precision="fp32"), False),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 4)), BF16, False),
    ],
    ids=["depthwise", "in fp32", "without any"],
)
def test_only_where_there_is_something_to_replace(network, hardware, replaced) -> None:
    fabric = make_fabric(hardware.model_copy(update={"accelerator": "cpu"}))
    assert isinstance(depthwise_gradients(fabric, network), DepthwiseGradients) == replaced
