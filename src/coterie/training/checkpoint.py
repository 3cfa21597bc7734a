"""The state of a training between two steps, as named tensors, from which it goes on with the same bits.

Batches and dropout depend on the seed and the step's number alone, so no random state is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from coterie.system.files import write_whole

State = dict[str, Tensor]
DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoint(Protocol):
    """Where the state of a training is kept."""

    def save(self, state: State) -> None:
        """Keep a state instead of the one before."""
        return

    def load(self) -> State | None:
        """The state that was saved last; None where there is none."""
        return None


class _NoCheckpoint(Checkpoint): ...


NO_CHECKPOINT: Checkpoint = _NoCheckpoint()


class CheckpointFile(Checkpoint):
    """One state on disk. The file begins with the sha256 of the rest, so that no other file has to be written with it:
    a state replaces the one before in a single rename, and one of the two is always there, whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def save(self, state: State) -> None:
        """Keep a state instead of the one before.

        Raises:
            ArtifactError: the disk is full or cannot be written; the state before is intact.
        """
        content = state_bytes(state)
        write_whole(self.path, hashlib.sha256(content).digest() + content)

    @override
    def load(self) -> State | None:
        """The state that was saved last; None where there is none, or it is damaged."""
        if not self.path.exists():
            return None
        stored = self.path.read_bytes()
        digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        # A damaged state is no error: the training begins again, as it would without any.
        return safetensors.torch.load(content) if hashlib.sha256(content).digest() == digest else None

    def delete(self) -> None:
        """Delete the state of a training that is done."""
        self.path.unlink(missing_ok=True)


def state_bytes(state: State) -> bytes:
    """A state as safetensors."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})


def capture(
    network: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    history: list[tuple[float, float]],
    steps_K2: NDArray[np.float32],
) -> State:
    """The state of a training: network, optimizer and schedule; its history, a row (loss, accuracy) an epoch; and the
    same of the K steps of the epoch under way.
    """
    optimizer_state = optimizer.state_dict()
    plain = {"groups": optimizer_state["param_groups"], "schedule": schedule.state_dict(), "history": history}
    return {
        **{f"network.{name}": tensor.detach().cpu() for name, tensor in network.state_dict().items()},
        **{
            f"optimizer.{index}.{name}": value.detach().cpu()
            for index, values in optimizer_state["state"].items()
            for name, value in values.items()
        },
        # JSON has every float64 exactly, and loading it runs no code, as a pickle would.
        "plain": torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8),
        "steps": torch.from_numpy(steps_K2),
    }


def restore(
    state: Mapping[str, Tensor], network: nn.Module, optimizer: Optimizer, schedule: LRScheduler
) -> tuple[list[tuple[float, float]], NDArray[np.float32]]:
    """Put a captured state back into fresh objects of the same kinds, in place.

    Returns:
        The history; and loss and accuracy (K, 2) of the steps of the epoch that was under way.
    """
    plain: dict[str, Any] = json.loads(bytes(state["plain"].tolist()))
    network.load_state_dict({name: state[f"network.{name}"] for name in network.state_dict()})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            index, _, name = rest.partition(".")
            like = parameters[int(index)]
            # A fused step walks parameter and buffers as they lie in memory, so both must have one order; files have
            # only one, and weights of convolutions another. Of another shape are scalars, such as the step's number.
            ordered = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            moments.setdefault(int(index), {})[name] = ordered
    optimizer.load_state_dict({"state": moments, "param_groups": plain["groups"]})
    schedule.load_state_dict(plain["schedule"])
    return [(loss, accuracy) for loss, accuracy in plain["history"]], state["steps"].numpy()
