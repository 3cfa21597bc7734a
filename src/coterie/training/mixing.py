"""Mixup and cutmix: training on two images at once, and on both of their classes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from coterie.config import TrainingSettings

# Logits (B, C) and labels (B,) to a scalar.
Loss = Callable[[Tensor, Tensor], Tensor]


def mix(inputs: Tensor, labels: Tensor, settings: TrainingSettings, loss: Loss) -> tuple[Tensor, Loss]:
    """A batch of images, each with another of the batch in it, and the loss that weighs the labels of both alike; a
    batch of anything else, or without either method, as it is.

    Mixup (Zhang et al. 2018, arXiv 1710.09412) takes weighted means of images; cutmix (Yun et al. 2019, arXiv
    1905.04899) pastes a rectangle of one into the other. Where both are set, each batch is mixed by one of them. Draws
    come from torch's own generator of the CPU, which the loop seeds at each step.
    """
    if inputs.ndim != 4 or not (settings.mixup or settings.cutmix):
        return inputs, loss
    cuts = settings.cutmix > 0 and (not settings.mixup or bool(torch.rand(()) < 0.5))
    alpha = settings.cutmix if cuts else settings.mixup
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(inputs)).to(inputs.device)
    if cuts:
        mixed, share = _paste(inputs, inputs[other], share)
    else:
        mixed = torch.lerp(inputs[other], inputs, share)

    def loss_of_both(logits: Tensor, label_B: Tensor) -> Tensor:
        return share * loss(logits, label_B) + (1 - share) * loss(logits, label_B[other])

    return mixed, loss_of_both


def _paste(inputs: Tensor, others: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle of the others, and the share of the pixels that are left: at the border it is cut off."""
    height, width = inputs.shape[2:]
    spans = []
    for length in (height, width):
        half = int(length * math.sqrt(1 - share)) // 2
        centre = int(torch.randint(length, ()))
        spans.append(slice(max(0, centre - half), min(length, centre + half)))
    mixed = inputs.clone()
    mixed[:, :, spans[0], spans[1]] = others[:, :, spans[0], spans[1]]
    pasted = (spans[0].stop - spans[0].start) * (spans[1].stop - spans[1].start)
    return mixed, 1 - pasted / (height * width)
