import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from coterie.checkpoint import Checkpoint, capture, restore
from coterie.config import TrainingSettings
from coterie.training import make_optimizer, make_schedule


def trained(steps: int, optimizer: str, schedule: str):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    network.to(memory_format=torch.channels_last)
    settings = TrainingSettings(optimizer=optimizer, schedule=schedule, learning_rate=0.05)
    objects = network, (opt := make_optimizer(network, settings)), make_schedule(opt, settings, 10)
    step(objects, range(steps))
    return objects


def step(objects, numbers: range) -> None:
    network, optimizer, schedule = objects
    for number in numbers:
        x = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(number))
        network(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_a_restored_training_takes_the_same_steps_bit_for_bit(optimizer: str, schedule: str) -> None:
    whole = trained(9, optimizer, schedule)
    cut = trained(4, optimizer, schedule)
    # Through a file, which knows one memory order only.
    state = load(save({name: tensor.contiguous() for name, tensor in capture(*cut, [(1.5, 0.25)]).items()}))
    resumed = trained(0, optimizer, schedule)
    assert restore(state, *resumed) == [(1.5, 0.25)]
    step(resumed, range(4, 9))
    for mine, theirs in zip(resumed[0].state_dict().values(), whole[0].state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert resumed[2].get_last_lr() == whole[2].get_last_lr()


def test_by_default_nothing_is_kept() -> None:
    checkpoint = Checkpoint()
    checkpoint.save({"a": torch.ones(1)})
    assert checkpoint.load() is None
