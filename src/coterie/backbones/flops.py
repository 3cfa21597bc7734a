"""Operations of a network, counted by torch while it runs. A multiply and an add are two."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Two samples: a norm over one cannot be trained.
SAMPLES = 2


def inference_flops(network: nn.Module, example: torch.Tensor) -> float:
    """Operations of one forward pass of one sample.

    Args:
        network: any; it is left as it was.
        example: one input, of shape (1, ...).
    """
    network = copy.deepcopy(network).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(example.repeat_interleave(SAMPLES, 0).to(next(network.parameters()).device))
    return counter.get_total_flops() / SAMPLES


def training_flops(network: nn.Module, example: torch.Tensor) -> float:
    """Operations of one training step for one sample, forward and backward; frozen parts take no gradient."""
    # A copy: a pass in training mode changes running statistics, and a backward pass leaves gradients.
    network = copy.deepcopy(network).train()
    ours = {torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=ours) as counter:
        network(example.repeat_interleave(SAMPLES, 0).to(next(network.parameters()).device)).sum().backward()
    return counter.get_total_flops() / SAMPLES


def _convolution_backward(
    output_shape: Sequence[int], input_shape: Sequence[int], weight_shape: Sequence[int], *more: Any, **_: Any
) -> int:
    """Each of the two gradients takes what the forward pass does. Torch's own count of the weights' leaves the groups
    out, and makes it too large by their number: of a depthwise convolution, by the number of its channels.
    """
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, wanted = more[:8]
    places = math.prod((input_shape if transposed else output_shape)[2:])
    return 2 * input_shape[0] * places * math.prod(weight_shape) * sum(map(bool, wanted[:2]))
