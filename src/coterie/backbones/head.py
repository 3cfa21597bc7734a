"""The linear head of a network: found by running it, not by its name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

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


def find_head(network: nn.Module, n_classes: int, input_shape: tuple[int, int, int]) -> Head:
    """Find the linear layer whose output *is* the network's output.

    The network is run once on noise, in evaluation mode. A linear layer is its head if applying it to the input that
    it received gives the network's output: so nothing, not even a softmax, comes after it.

    Args:
        network: any module from (B, channels, H, W) to logits (B, C).
        n_classes: C.
        input_shape: channels, height, width.

    Raises:
        BackboneError: the network cannot run on this shape, does not give one logit per class, or has no such layer.
    """
    inputs_by_path: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, args, path=path: inputs_by_path.update({path: args[0]}))
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        output = _run_once(network, input_shape)
    finally:
        for handle in handles:
            handle.remove()
    if output.ndim != 2 or output.shape[1] != n_classes:
        raise BackboneError(
            f"{type(network).__name__} gives an output of shape {tuple(output.shape)} for 2 images; "
            f"the data has {n_classes} classes, so (2, {n_classes}) is needed"
        )
    for path, inputs in inputs_by_path.items():
        layer = network.get_submodule(path)
        assert isinstance(layer, nn.Linear)  # only such were hooked
        with torch.no_grad():
            again = F.linear(inputs, layer.weight, layer.bias)
        if again.shape == output.shape and torch.allclose(again, output, rtol=1e-4, atol=1e-5):
            return Head(path, layer.in_features, layer.out_features)
    linears = ", ".join(f"{path} ({network.get_submodule(path)})" for path in list(inputs_by_path)[-3:]) or "none"
    raise BackboneError(
        f"{type(network).__name__} does not end in a linear layer: label embeddings are the weight rows of one. "
        f"Its last linear layers: {linears}"
    )


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


def _run_once(network: nn.Module, input_shape: tuple[int, int, int]) -> Tensor:
    was_training = network.training
    parameter = next(network.parameters(), torch.empty(0))
    noise = torch.randn((2, *input_shape), generator=torch.Generator().manual_seed(0))
    network.eval()
    try:
        with torch.no_grad():
            output = network(noise.to(parameter.device, parameter.dtype))
    except Exception as error:  # whatever a foreign network raises on a shape it does not take
        raise BackboneError(
            f"{type(network).__name__} cannot run on images of {input_shape[1]} x {input_shape[2]} pixels with "
            f"{input_shape[0]} channel(s): {error}"
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(output, Tensor):
        raise BackboneError(f"{type(network).__name__} returns a {type(output).__name__}; a tensor of logits is needed")
    return output
