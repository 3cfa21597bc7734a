import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from coterie.config import TrainingSettings
from coterie.training.checkpoint import CheckpointFile, State, capture, restore
from coterie.training.loop import make_optimizer, make_schedule


def trained(steps: int, optimizer: str, schedule: str) -> tuple[nn.Module, Optimizer, LRScheduler]:
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
def test_a_restored_training_takes_the_same_steps_bit_for_bit(optimizer: str, schedule: str, tmp_path: Path) -> None:
    whole = trained(9, optimizer, schedule)
    cut = trained(4, optimizer, schedule)
    # Through a file, which knows one memory order only.
    file = CheckpointFile(tmp_path / "checkpoint" / "base.safetensors")
    network, taken, schedule_of_cut = cut
    file.save(capture(network, taken, schedule_of_cut, [(1.5, 0.25)], np.full((3, 2), 0.1, dtype=np.float32)))
    resumed = trained(0, optimizer, schedule)
    history, steps_K2 = restore(file.load(), *resumed)
    assert history == [(1.5, 0.25)]
    np.testing.assert_array_equal(steps_K2, np.full((3, 2), 0.1, dtype=np.float32))
    step(resumed, range(4, 9))
    for mine, theirs in zip(resumed[0].state_dict().values(), whole[0].state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert resumed[2].get_last_lr() == whole[2].get_last_lr()


def test_a_state_replaces_the_one_before_and_goes_when_the_training_is_done(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "base.safetensors")
    assert file.load() is None
    for value in (1.0, 2.0):
        file.save({"a": torch.full((3,), value)})
        assert torch.equal(file.load()["a"], torch.full((3,), value))
    assert [path.name for path in tmp_path.iterdir()] == ["base.safetensors"]
    file.delete()
    assert file.load() is None


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:10], lambda b: b"", lambda b: b[:-1] + b"x"])
def test_a_damaged_state_counts_as_none(damage, tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "base.safetensors")
    file.save({"a": torch.ones(3)})
    file.path.write_bytes(damage(file.path.read_bytes()))
    assert file.load() is None


def plain(state: State, **values: object) -> State:
    """The state with other values beside its tensors."""
    found = json.loads(state["plain"].numpy().tobytes())
    content = json.dumps({**found, **values}).encode()
    return {**state, "plain": torch.frombuffer(bytearray(content), dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {}, "no plain of type torch.uint8"),
        (lambda state: {**state, "plain": state["plain"].float()}, "no plain of type"),
        (lambda state: {**state, "plain": state["plain"][:-3]}, "plain values: .*Invalid JSON"),
        (lambda state: plain(state, history=3), "plain values: history"),
        (lambda state: plain(state, history=[[1.0]]), r"plain values: history\.0\.1"),
        (lambda state: plain(state, groups=[]), "0 groups of parameters, where there are 2"),
        (lambda state: plain(state, groups=[{"lr": "fast"}, {"lr": 1}]), r"plain values: groups\.0\.lr"),
        (lambda state: plain(state, schedule={}), "plain values: schedule"),
        (lambda state: {**state, "steps": torch.zeros(3)}, r"steps of shape \(3,\)"),
        (lambda state: {**state, "network.0.weight": torch.zeros(3)}, "0.weight has shape"),
        (lambda state: {**state, "network.0.bias": torch.full((4,), torch.nan)}, "0.bias has NaN"),
        (lambda state: {k: v for k, v in state.items() if k != "network.0.bias"}, "the file lacks 0.bias"),
        (lambda state: {**state, "network.more": torch.zeros(3)}, "the network has no more"),
        (lambda state: {**state, "optimizer.99.exp_avg": torch.zeros(3)}, "optimizer.99.exp_avg, which"),
        (lambda state: {**state, "optimizer.x.exp_avg": torch.zeros(3)}, "optimizer.x.exp_avg, which"),
        (lambda state: {**state, "optimizer.0.speed": torch.zeros(3)}, "optimizer.0.speed, which"),
        (lambda state: {**state, "optimizer.0.exp_avg": torch.zeros(3)}, "optimizer.0.exp_avg of shape"),
        (lambda state: {k: v for k, v in state.items() if k != "optimizer.0.step"}, "optimizer.0 with "),
    ],
)
def test_a_state_of_another_training_is_named(change: Callable[[State], State], message: str) -> None:
    state = capture(*trained(4, "adamw", "one-cycle"), [(1.5, 0.25)], np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(ValueError, match=message):
        restore(change(state), *trained(0, "adamw", "one-cycle"))


def test_what_is_no_file_of_tensors_counts_as_no_state(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "base.safetensors")
    file.path.write_bytes(hashlib.sha256(b"text").digest() + b"text")
    assert file.load() is None
    file.path.unlink()
    os.mkfifo(file.path)
    assert file.load() is None
    file.path.unlink()
    file.path.symlink_to("/dev/zero")
    assert file.load() is None
    file.path.unlink()
    with file.path.open("wb") as stream:
        stream.truncate(2**42)
    assert file.load() is None


def test_a_state_that_lacks_a_momentum_goes_on_without_it() -> None:
    state = capture(*trained(4, "sgd", "one-cycle"), [], np.zeros((4, 2), dtype=np.float32))
    del state["optimizer.0.momentum_buffer"]
    objects = trained(0, "sgd", "one-cycle")
    restore(state, *objects)
    step(objects, range(4, 6))
    assert all(torch.isfinite(weight).all() for weight in objects[0].parameters())
