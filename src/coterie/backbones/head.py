"""The head of a network, which holds one row per class: its rows, its inputs, and the network cut to some classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from torch.nn.modules.conv import _ConvNd

from coterie.backbones.linear import as_linear, cut_layer, linear_of
from coterie.backbones.probe import hooked
from coterie.errors import BackboneError


@dataclass(frozen=True)
class Head:
    """Where a network's head is: D inputs, C rows.

    ``path`` is that of a layer, as in ``nn.Module.get_submodule``, or of a parameter or buffer that the network
    computes with by itself, as cosine classifiers do, and those by text embeddings or prototypes. ``more``: what is cut
    along with it, further layers whose outputs are added to the first's, or tensors of a number a class. ``unit``: the
    rows' lengths do not matter.
    """

    path: str
    in_features: int
    out_features: int
    more: tuple[str, ...] = ()
    unit: bool = False

    def of(self, network: nn.Module) -> nn.Linear:
        """The head as one linear layer: the layer itself if it is linear, else a new one with the same C rows.

        The rows of heads that are added to each other stand side by side; those of a cosine classifier have length 1.
        """
        if isinstance(part_at(network, self.path), Tensor):
            # The network ignores the lengths of these rows, so label embeddings must not depend on them.
            rows_CD = _as_rows(part_at(network, self.path), self.out_features)
            return linear_of(F.normalize(rows_CD, dim=1) if self.unit else rows_CD, None)
        layers = [as_linear(layer) for layer in self.layers(network)]
        if len(layers) == 1:
            return layers[0]
        biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
        return linear_of(
            torch.cat([layer.weight for layer in layers], dim=1), torch.stack(biases).sum(dim=0) if biases else None
        )

    def layers(self, network: nn.Module) -> list[nn.Module]:
        """Those of its parts that are layers, of which a head that is a tensor has none."""
        parts = [part_at(network, path) for path in (self.path, *self.more)]
        return [part for part in parts if isinstance(part, nn.Module)]


def replace_head(network: nn.Module, head: Head, classes: Tensor) -> None:
    """Cut the head of ``network`` down, in place, to the rows of some classes, in that order.

    Layers that are linear in another guise, such as adapted ones, become plain linear layers.
    """
    for path in (head.path, *head.more):
        old = part_at(network, path)
        if isinstance(old, nn.Module):
            network.set_submodule(path, cut_layer(old, classes))
        else:
            _set(network, path, cut_tensor(old, classes, head.out_features))


@contextmanager
def head_inputs(network: nn.Module, head: Head) -> Iterator[list[Tensor]]:
    """Collect the inputs of the head: each pass of the network appends a float32 tensor of shape (B, D) to the list.

    The input of a convolution is averaged over places; those of several layers, whose outputs are added, stand side by
    side.

    Raises:
        BackboneError: the head is no layer, or sees more than one vector of a sample; the latter from the network.
    """
    layers = head.layers(network)
    if not layers:
        raise BackboneError(f"{type(network).__name__} multiplies with {head.path} itself: nothing says by what")
    seen: list[Tensor] = []
    latest: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, given: tuple[Tensor, ...], _: object) -> None:
        # What a convolution gives is averaged over places behind it: by linearity, that is its answer to the mean.
        features = given[0].flatten(2).mean(dim=2) if isinstance(layer, _ConvNd) else given[0]
        if features.ndim != 2:
            raise BackboneError(
                f"{head.path} of {type(network).__name__} takes inputs of shape {tuple(given[0].shape)}: it sees more "
                "than one vector of a sample"
            )
        latest[layer] = features.float()
        # Side by side in the order of the head's rows, in whatever order the layers ran.
        if len(latest) == len(layers):
            seen.append(torch.cat([latest[layer] for layer in layers], dim=1).cpu())
            latest.clear()

    with hooked(dict.fromkeys(layers, keep)):
        yield seen


def part_at(network: nn.Module, path: str) -> Any:
    """The module, parameter or buffer of that path."""
    parent, _, name = path.rpartition(".")
    return getattr(network.get_submodule(parent), name)


def cut_tensor(tensor: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    """A tensor of a head cut to some classes, which are its rows or columns; of a square matrix, its rows."""
    axis = 0 if len(tensor) == n_classes else 1
    cut = tensor.detach().index_select(axis, classes.to(tensor.device))
    return nn.Parameter(cut) if isinstance(tensor, nn.Parameter) else cut


def _set(network: nn.Module, path: str, value: Tensor) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, value)


def _as_rows(matrix: Tensor, n_classes: int) -> Tensor:
    return matrix.detach() if len(matrix) == n_classes else matrix.detach().T
