"""The state of a training between two epochs, as named tensors: what it takes to go on as if nothing had happened.

Batches and dropout depend on the seed and the epoch's number alone, so no random state needs keeping.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

State = dict[str, Tensor]


class Checkpoint:
    """Where a training keeps its state between epochs. This one keeps none."""

    def load(self) -> State | None:
        """The state that was saved last, if there is one."""
        return None

    def save(self, state: State) -> None:
        """Keep a state instead of the one before."""


def capture(
    network: nn.Module, optimizer: Optimizer, schedule: LRScheduler, history: list[tuple[float, float]]
) -> State:
    """Everything that the next epoch depends on, and the history so far, one row an epoch."""
    optimizer_state = optimizer.state_dict()
    plain = {"groups": optimizer_state["param_groups"], "schedule": schedule.state_dict(), "history": history}
    return {
        **{f"network.{name}": tensor.detach().cpu() for name, tensor in network.state_dict().items()},
        **{
            f"optimizer.{index}.{name}": value.detach().cpu()
            for index, values in optimizer_state["state"].items()
            for name, value in values.items()
        },
        "plain": torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8),
    }


def restore(
    state: Mapping[str, Tensor], network: nn.Module, optimizer: Optimizer, schedule: LRScheduler
) -> list[tuple[float, float]]:
    """Put a captured state back into fresh objects of the same kinds, in place; returns the history."""
    plain: dict[str, Any] = json.loads(bytes(state["plain"].tolist()))
    network.load_state_dict({name: state[f"network.{name}"] for name in network.state_dict()})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            index, _, name = rest.partition(".")
            like = parameters[int(index)]
            # A fused step wants its buffers in the memory order of the parameter; files know only one order.
            ordered = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            moments.setdefault(int(index), {})[name] = ordered
    optimizer.load_state_dict({"state": moments, "param_groups": plain["groups"]})
    schedule.load_state_dict(plain["schedule"])
    return [(loss, accuracy) for loss, accuracy in plain["history"]]
