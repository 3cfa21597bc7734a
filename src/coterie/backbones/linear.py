"""Linear layers in any guise: torch's own, convolutions, subclasses, layers with low-rank adapters."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from torch.nn.modules.conv import _ConvNd

from coterie.backbones.probe import evaluating


def is_plain(layer: nn.Module) -> bool:
    """Whether it computes as torch's own linear layers and convolutions do: a subclass may normalise its weights."""
    if isinstance(layer, _ConvNd):
        return layer.groups == 1 and type(layer).forward in (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)
    if not isinstance(layer, nn.Linear):
        return False
    return type(layer).forward is nn.Linear.forward or _agree(layer, layer.weight, layer.bias)


def _agree(layer: nn.Module, weight_CD: Tensor, bias_C: Tensor | None) -> bool:
    """Whether the layer gives on noise what a linear layer with these rows does."""
    # No layer that does more agrees on noise by chance.
    noise = torch.randn((3, weight_CD.shape[1]), generator=torch.Generator().manual_seed(4)).to(weight_CD)
    with evaluating(layer):
        return torch.allclose(layer(noise), F.linear(noise, weight_CD, bias_C), rtol=1e-3, atol=1e-4)


def as_linear(layer: nn.Module) -> nn.Linear:
    """The layer itself; for a convolution, one with its rows; for what is linear in another guise, such as a layer with
    low-rank adapters, the one that it amounts to.
    """
    if isinstance(layer, nn.Linear) and is_plain(layer):
        return layer
    if isinstance(layer, _ConvNd):
        return linear_of(layer.weight.detach().flatten(1), layer.bias)
    # In double precision, so that the rows are exact in single.
    like = next(layer.parameters())
    width = next(child.in_features for child in layer.modules() if isinstance(child, nn.Linear))
    exact = copy.deepcopy(layer).double()
    with evaluating(exact):
        bias_C = exact(torch.zeros(1, width, dtype=torch.float64, device=like.device))[0]
        # A linear function is known by its values at 0 and at the unit vectors.
        weight_DC = exact(torch.eye(width, dtype=torch.float64, device=like.device)) - bias_C
    return linear_of(weight_DC.T.to(like.dtype), bias_C.to(like.dtype))


def is_linear(layer: nn.Module) -> bool:
    """Whether the layer computes a linear function, so that ``as_linear`` applies."""
    if is_plain(layer):
        return True
    try:
        linear = as_linear(layer)
        return _agree(layer, linear.weight, linear.bias)
    except Exception:  # a layer of another kind, which does not take a matrix
        return False


def cut_layer(layer: nn.Module, classes: Tensor) -> nn.Module:
    """A layer with the rows of some classes only, in that order."""
    if isinstance(layer, _ConvNd):
        # A copy keeps stride, padding and dilation, which a new layer would have to be told.
        cut = copy.deepcopy(layer)
        cut.out_channels = len(classes)
        cut.weight = nn.Parameter(layer.weight.detach()[classes])
        if layer.bias is not None:
            cut.bias = nn.Parameter(layer.bias.detach()[classes])
        return cut
    linear = as_linear(layer)
    return linear_of(linear.weight[classes], None if linear.bias is None else linear.bias[classes])


def linear_of(weight_CD: Tensor, bias_C: Tensor | None) -> nn.Linear:
    """A linear layer with these rows."""
    classes, width = weight_CD.shape
    layer = nn.Linear(width, classes, bias=bias_C is not None, device=weight_CD.device, dtype=weight_CD.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight_CD)
        if bias_C is not None:
            layer.bias.copy_(bias_C)
    return layer
