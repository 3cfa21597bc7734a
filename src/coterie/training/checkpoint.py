"""The state of a training between two steps, as named tensors, from which it goes on with the same bits.

Batches and dropout depend on the seed and the step's number alone, so no random state is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from coterie.backbones.weights import put_weights
from coterie.system.files import open_regular, refuse_unreadable, write_whole
from coterie.system.json_text import first_fault

State = dict[str, Tensor]
DIGEST_BYTES = hashlib.sha256().digest_size
# What the optimizers of the loop keep of each parameter.
MOMENTS: dict[type[Optimizer], frozenset[str]] = {
    torch.optim.SGD: frozenset({"momentum_buffer"}),
    torch.optim.AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}),
}


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
        try:
            with open_regular(self.path) as (stream, status):
                refuse_unreadable(stream, status.st_size)
                stored = stream.read(status.st_size)
        except OSError:  # whatever else lies there, a link, a pipe, or bytes without end, is no state that was saved
            return None
        digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        # A damaged state is no error: the training begins again, as it would without any.
        if hashlib.sha256(content).digest() != digest:
            return None
        try:
            return safetensors.torch.load(content)
        except SafetensorError:
            return None

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
    """Put a captured state back into fresh objects of the same kinds, in place. Only what a training changes is taken
    from it: what the settings say is as it was made.

    Returns:
        The history; and loss and accuracy (K, 2) of the steps of the epoch that was under way.

    Raises:
        ValueError: the state is of another training, or of none.
    """
    plain = _plain_values(state)
    steps_K2 = tensor_of(state, "steps", torch.float32)
    if steps_K2.ndim != 2 or steps_K2.shape[1] != 2:
        raise ValueError(f"steps of shape {tuple(steps_K2.shape)}")
    put_weights(with_prefix(state, "network."), network)
    groups = optimizer.state_dict()["param_groups"]
    if not len(groups) == len(plain.rates) == len(plain.schedule.last_lr):
        raise ValueError(f"{len(plain.rates)} groups of parameters, where there are {len(groups)}")
    now = [{**group, "lr": rate} for group, rate in zip(groups, plain.rates, strict=True)]
    optimizer.load_state_dict({"state": _moments(state, optimizer), "param_groups": now})
    schedule.load_state_dict(plain.schedule.model_dump(by_alias=True))
    return [(loss, accuracy) for loss, accuracy in plain.history], steps_K2.numpy()


def tensor_of(state: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> Tensor:
    """A tensor of a state.

    Raises:
        ValueError: there is none, or it is of another type.
    """
    if name not in state or state[name].dtype != dtype:
        raise ValueError(f"no {name} of type {dtype}")
    return state[name]


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """The tensors whose names begin so, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Group(_Frozen):
    lr: float


class _Schedule(_Frozen):
    last_epoch: int = Field(ge=0)
    step_count: int = Field(ge=0, alias="_step_count")
    last_lr: tuple[float, ...] = Field(alias="_last_lr")


class _Plain(_Frozen):
    """What a state holds besides tensors, of which a training changes these."""

    groups: tuple[_Group, ...]
    schedule: _Schedule
    history: tuple[tuple[float, float], ...]

    @property
    def rates(self) -> tuple[float, ...]:
        return tuple(group.lr for group in self.groups)


def _plain_values(state: Mapping[str, Tensor]) -> _Plain:
    content = tensor_of(state, "plain", torch.uint8).numpy().tobytes()
    try:
        return _Plain.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"plain values: {first_fault(error)}") from None


def _moments(state: Mapping[str, Tensor], optimizer: Optimizer) -> dict[int, dict[str, Tensor]]:
    """What the optimizer knows of each parameter, by its number."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = MOMENTS[type(optimizer)]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in with_prefix(state, "optimizer.").items():
        index, _, name = key.partition(".")
        if not (index.isdecimal() and index.isascii() and int(index) < len(parameters) and name in names):
            raise ValueError(f"optimizer.{key}, which this optimizer has not got")
        like = parameters[int(index)]
        shape = torch.Size() if name == "step" else like.shape
        if tensor.shape != shape or not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"optimizer.{key} of shape {tuple(tensor.shape)}, or not finite; needed: {tuple(shape)}")
        # A fused step walks parameter and buffers as they lie in memory, so both must have one order; files have only
        # one, and weights of convolutions another.
        ordered = tensor if name == "step" else torch.empty_like(like).copy_(tensor)
        moments.setdefault(int(index), {})[name] = ordered
    for number, known in moments.items():
        if known.keys() != names:
            raise ValueError(f"optimizer.{number} with {', '.join(known)}; needed: {', '.join(sorted(names))}")
    if moments and isinstance(optimizer, torch.optim.SGD):
        # A fused step takes buffers of all parameters or of none; zeros are what a parameter without a step has.
        for number, parameter in enumerate(parameters):
            moments.setdefault(number, {"momentum_buffer": torch.zeros_like(parameter)})
    return moments
