"""Networks that return more than a tensor of logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from coterie.backbones.probe import fitting, run
from coterie.errors import BackboneError

Part = str | int


class LogitsOf(nn.Module):
    """A network of which only one part of the output is returned: the logits.

    What it returns as a plain tensor, as networks with auxiliary heads do in evaluation mode, passes as it is.

    Args:
        network: returns a mapping, a tuple or a dataclass, at least at times.
        part: key, attribute or position of the logits.
    """

    def __init__(self, network: nn.Module, part: Part) -> None:
        super().__init__()
        self.network = network
        self.part = part

    @override
    def forward(self, *inputs: Any) -> Tensor:
        output = self.network(*inputs)
        logits: Tensor = output if isinstance(output, Tensor) else dict(parts_of(output))[self.part]
        return logits


def parts_of(output: Any) -> list[tuple[Part, Any]]:
    """The parts of a structured output by key, field or position."""
    if isinstance(output, Mapping):  # transformers' outputs are dataclasses too, of which this leaves out empty fields
        return list(output.items())
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    if isinstance(output, tuple) and hasattr(output, "_fields"):  # a named tuple is known by its fields
        return list(zip(output._fields, output, strict=True))
    return list(enumerate(output)) if isinstance(output, tuple | list) else []


def output_width(network: nn.Module, example: Tensor) -> int | None:
    """How many outputs a sample has; None where several parts of what the network returns could be its logits."""
    output = run(network, example)
    logits = output if isinstance(output, Tensor) else dict(parts_of(output)).get("logits")
    return int(logits.shape[1]) if isinstance(logits, Tensor) and logits.ndim == 2 else None


def logit_parts(network: nn.Module, n_classes: int, example: Tensor) -> list[Part | None]:
    """Which parts of the network's output may be the logits: None stands for a network that returns a plain tensor.

    A part named ``logits`` settles it, whatever its width.

    Raises:
        BackboneError: no part has one value per class; all are named with their shapes.
    """
    output = run(network, example)
    if isinstance(output, Tensor):
        # One tensor now may be one part of several in training, where auxiliary heads run too.
        in_training = _parts_in_training(network, example)
        return ["logits" if any(part == "logits" for part, _ in in_training) else None]
    parts = parts_of(output)
    # The name goes before the width: if the width is wrong, find_head says so with both numbers.
    if any(part == "logits" and isinstance(value, Tensor) for part, value in parts):
        return ["logits"]
    wanted = (len(example), n_classes)
    fitting_parts = [part for part, value in parts if isinstance(value, Tensor) and tuple(value.shape) == wanted]
    if fitting_parts:
        return list(fitting_parts)
    shown = "; ".join(f"{part}: {_describe(value)}" for part, value in parts) or "nothing that is known"
    raise BackboneError(
        f"{type(network).__name__} returns a {type(output).__name__} for {len(example)} samples; a tensor of logits of "
        f"shape {wanted} is needed, for the data has {n_classes} classes. It holds {shown}. "
        "Wrap it in a module that returns its logits"
    )


def _parts_in_training(network: nn.Module, example: Tensor) -> list[tuple[Part, Any]]:
    """Auxiliary heads show in training mode only. Running statistics and random state are left as they were."""
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    was_training = {module: module.training for module in network.modules()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output = network.train()(fitting(example, network))
    except Exception:  # two samples may be too few for a network in training mode
        return []
    finally:
        for module, training in was_training.items():
            module.training = training
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])
    return parts_of(output)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
