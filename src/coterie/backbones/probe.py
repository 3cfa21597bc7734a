"""Run a network on made-up inputs, to observe what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from coterie.errors import BackboneError
from coterie.system.units import how_many

Hook = Callable[[nn.Module, Any, Any], Any]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients; afterwards each module has its own mode again."""
    # Module by module: of a network that is trained in part, some are in evaluation mode already.
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def hooked(hooks: dict[nn.Module, Hook]) -> Iterator[None]:
    """Put forward hooks on some modules; afterwards they are removed."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def fitting(example: Tensor, network: nn.Module) -> Tensor:
    """The example on the network's device; numbers in the network's precision, indices as they are."""
    # By a parameter of floating point: counters and indices say nothing of a network's precision. Without one, torch's
    # defaults hold.
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    return example.to(like.device, like.dtype if example.is_floating_point() else example.dtype)


def run(network: nn.Module, example: Tensor) -> Any:
    """The network's output for the example, in evaluation mode.

    Raises:
        BackboneError: it cannot run on such inputs.
    """
    with evaluating(network):
        try:
            return network(fitting(example, network))
        except Exception as error:  # whatever a foreign network raises on a shape it does not take
            raise BackboneError(
                f"{type(network).__name__} cannot run on {describe_inputs(example)}: {_first_lines(error)}"
            ) from error


def describe_inputs(example: Tensor) -> str:
    """Inputs in words, for messages."""
    if example.ndim == 4:
        channels, height, width = example.shape[1:]
        return f"images of {height} x {width} pixels with {how_many(channels, 'channel')}"
    return f"inputs of shape {tuple(example.shape)}, {example.dtype}"


def _first_lines(error: Exception) -> str:
    # Errors of compiled modules quote their source and would fill several screens.
    return "\n".join(str(error).splitlines()[:8])
