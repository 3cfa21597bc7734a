"""What is learned from a teacher."""

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.training.distilling import Teacher


def reference(logits: list[float], answer: list[float], label: int, weight: float, temperature: float) -> float:
    def softmax(values: list[float]) -> list[float]:
        powers = [math.exp(value) for value in values]
        return [power / sum(powers) for power in powers]

    p, q = (softmax([value / temperature for value in values]) for values in (answer, logits))
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)
    return -(1 - weight) * math.log(softmax(logits)[label]) + weight * temperature**2 * divergence


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_the_one_written_by_hand(weight: float) -> None:
    # The second sample's teacher is sure that it is not of the last class.
    logits, answers = [[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], [[0.2, 0.1, 2.0], [1.0, 2.0, -math.inf]]
    labels = [2, 0]
    inputs = torch.zeros(2, 5)
    teacher = Teacher(lambda asked: torch.tensor(answers) + asked.sum(), weight, 2.0)
    values_BC = torch.tensor(logits, requires_grad=True)
    found = teacher.loss(inputs, F.cross_entropy)(values_BC, torch.tensor(labels))
    expected = [reference(*each, weight, 2.0) for each in zip(logits, answers, labels, strict=True)]
    assert found.item() == pytest.approx(sum(expected) / 2, rel=1e-5)
    found.backward()
    assert torch.isfinite(values_BC.grad).all()


def test_no_gradient_reaches_the_teacher() -> None:
    network = torch.nn.Linear(5, 3)
    loss = Teacher(network, 1.0, 2.0).loss(torch.ones(2, 5), F.cross_entropy)
    loss(torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 1])).backward()
    assert network.weight.grad is None
