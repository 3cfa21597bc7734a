"""Distillation: training on what a teacher answers, beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.training.mixing import Loss


@dataclass(frozen=True)
class Teacher:
    """Soft targets (Hinton, Vinyals and Dean 2015, arXiv 1503.02531).

    ``ask``: inputs (B, ...) to values (B, C) whose softmax is the teacher's probabilities; ``weight``: of its answers,
    a share of 1, the rest being the labels'; ``temperature``: by which the values of teacher and network are divided.
    """

    ask: Callable[[Tensor], Tensor]
    weight: float
    temperature: float

    def loss(self, inputs: Tensor, loss: Loss) -> Loss:
        """The loss of a batch: (1 - weight) of the labels' ``loss``, and weight times temperature squared of the
        divergence KL(teacher, network), the mean over samples, in nats.
        """
        with torch.no_grad():
            target_BC = F.softmax(self.ask(inputs).float() / self.temperature, dim=1)

        def taught(logits: Tensor, label_B: Tensor) -> Tensor:
            log_BC = F.log_softmax(logits.float() / self.temperature, dim=1)
            divergence = F.kl_div(log_BC, target_BC, reduction="batchmean")
            return (1 - self.weight) * loss(logits, label_B) + self.weight * self.temperature**2 * divergence

        return taught
