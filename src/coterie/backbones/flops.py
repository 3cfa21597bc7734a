"""Operations of a network, counted by torch while it runs. A multiply and an add are two."""

from __future__ import annotations

import copy

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
    with FlopCounterMode(display=False) as counter:
        network(example.repeat_interleave(SAMPLES, 0).to(next(network.parameters()).device)).sum().backward()
    return counter.get_total_flops() / SAMPLES
