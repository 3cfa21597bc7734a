"""The linear head of a network: found by running it, not by its name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coterie.errors import BackboneError


@dataclass(frozen=True)
class Head:
    """Where a network's linear head is: ``path`` as in ``nn.Module.get_submodule``, its D inputs and C outputs."""

    path: str
    in_features: int
    out_features: int

    def of(self, network: nn.Module) -> nn.Linear:
        """The head itself."""
        module = network.get_submodule(self.path)
        assert isinstance(module, nn.Linear)  # find_head saw it
        return module


def find_head(network: nn.Module, n_classes: int, example: Tensor) -> Head:
    """Find the linear layer whose output *is* the network's output.

    The network is run on made-up inputs, in evaluation mode. A linear layer is its head if the network returns whatever
    that layer is made to return: so nothing, not even a ReLU, comes after it.

    Args:
        network: any module from inputs (B, ...) to logits (B, C).
        n_classes: C.
        example: some inputs, as ``Preprocessing.example`` makes them.

    Raises:
        BackboneError: the network cannot run on such inputs, does not give one logit per class, or has no such layer.
    """
    output = _run_once(network, example)
    if output.ndim != 2 or output.shape[1] != n_classes:
        raise BackboneError(
            f"{type(network).__name__} gives an output of shape {tuple(output.shape)} for {len(example)} samples; "
            f"the data has {n_classes} classes, so ({len(example)}, {n_classes}) is needed"
        )
    linears = [(path, layer) for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    for path, layer in reversed(linears):
        if layer.out_features == n_classes and _is_last(network, layer, example):
            return Head(path, layer.in_features, layer.out_features)
    names = ", ".join(f"{path} ({layer})" for path, layer in linears[-3:]) or "none"
    raise BackboneError(
        f"{type(network).__name__} does not end in a linear layer: label embeddings are the weight rows of one. "
        f"Its last linear layers: {names}"
    )


def _is_last(network: nn.Module, layer: nn.Linear, example: Tensor) -> bool:
    """Whether the network returns what the layer returns, made up for the purpose."""
    made_up: list[Tensor] = []

    def replace(_: nn.Module, __: object, output: Tensor) -> Tensor:
        made_up.append(torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output))
        return made_up[-1]

    handle = layer.register_forward_hook(replace)
    try:
        output = _run_once(network, example)
    finally:
        handle.remove()
    return bool(made_up) and torch.equal(output, made_up[-1])


def replace_head(network: nn.Module, head: Head, classes: Tensor) -> None:
    """Cut the head of ``network`` down, in place, to the rows of some classes, in that order."""
    old = head.of(network)
    new = nn.Linear(old.in_features, len(classes), bias=old.bias is not None, dtype=old.weight.dtype)
    new.to(old.weight.device)
    with torch.no_grad():
        new.weight.copy_(old.weight[classes])
        if old.bias is not None:
            new.bias.copy_(old.bias[classes])
    network.set_submodule(head.path, new)


def _run_once(network: nn.Module, example: Tensor) -> Tensor:
    was_training = network.training
    parameter = next(network.parameters(), torch.empty(0))
    dtype = parameter.dtype if example.is_floating_point() else example.dtype
    network.eval()
    try:
        with torch.no_grad():
            output = network(example.to(parameter.device, dtype))
    except Exception as error:  # whatever a foreign network raises on a shape it does not take
        raise BackboneError(
            f"{type(network).__name__} cannot run on inputs of shape {tuple(example.shape)}, {example.dtype}: {error}"
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(output, Tensor):
        raise BackboneError(f"{type(network).__name__} returns a {type(output).__name__}; a tensor of logits is needed")
    return output
