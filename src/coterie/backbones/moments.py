"""Second moments of what the matrices of a network are multiplied with: by them, rounding a matrix costs least."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.backbones.probe import Hook, evaluating, hooked

# Inputs of a matrix that are looked at: more change nothing, and of fewer than this many times its columns the moments
# say too little.
ROWS, LEAST_ROWS = 16_384, 2
# Of moments that are gathered in one pass; where all of a network's are more, it is run several times.
MOST_BYTES = 2**30
BATCH = 64

Layer = nn.Linear | nn.Conv2d


def input_moments(network: nn.Module, names: Iterable[str], inputs: Tensor) -> dict[str, Tensor]:
    """For each matrix of a linear layer, or of a convolution without groups: the sum of x x^T over what its rows are
    multiplied with, float32 of shape (K, K). Where there are fewer of these x than twice K, or some are not finite,
    there is none.

    Args:
        network: that has the matrices; it is run in evaluation mode.
        names: of parameters.
        inputs: of the network, of shape (N, ...).
    """
    found: dict[str, Tensor] = {}
    layers = plain_layers(network)
    for part in _parts({name: layers[name] for name in names if name in layers}):
        gathered = {name: _Gathering(layer, len(inputs)) for name, layer in part.items()}
        hooks: dict[nn.Module, Hook] = {layer: gathered[name] for name, layer in part.items()}
        with evaluating(network), hooked(hooks):
            for batch in inputs.split(BATCH):
                network(batch)
        found |= {name: one.sum_KK for name, one in gathered.items() if one.suffices}
    return found


def plain_layers(network: nn.Module) -> dict[str, Layer]:
    """The layers whose matrices have moments, by the names of these matrices."""
    return {f"{path}.weight": layer for path, layer in network.named_modules() if _is_plain(layer)}


def _is_plain(layer: Any) -> TypeGuard[Layer]:
    # Not of a type made from these: what it does before it multiplies is not known.
    return type(layer) is nn.Linear or (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _parts(layers: dict[str, Layer]) -> Iterator[dict[str, Layer]]:
    """Layers, as many together as ``MOST_BYTES`` holds the moments of; at least one."""
    part: dict[str, Layer] = {}
    total = 0
    for name, layer in layers.items():
        n_bytes = 4 * layer.weight[0].numel() ** 2
        if part and total + n_bytes > MOST_BYTES:
            yield part
            part, total = {}, 0
        part[name] = layer
        total += n_bytes
    if part:
        yield part


class _Gathering:
    """A hook that adds up the products of a layer's inputs."""

    def __init__(self, layer: Layer, n_samples: int) -> None:
        self.n_samples, self.rows = n_samples, 0
        self.sum_KK = torch.zeros(2 * (layer.weight[0].numel(),))

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], _: object) -> None:
        of_sample_BLK = _multiplied(layer, args[0].float())
        # Evenly from all samples: neighbours are alike.
        every = max(1, self.n_samples * of_sample_BLK.shape[1] // ROWS)
        input_NK = of_sample_BLK[:, ::every].flatten(0, 1)
        self.rows += len(input_NK)
        self.sum_KK += (input_NK.T @ input_NK).cpu()

    @property
    def suffices(self) -> bool:
        """Whether there were inputs enough, and none that is not finite, as of a training that diverged."""
        return self.rows >= LEAST_ROWS * len(self.sum_KK) and bool(self.sum_KK.isfinite().all())


def _multiplied(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What the rows of a layer's matrix are multiplied with, of shape (B, L, K): L positions of each sample."""
    if isinstance(layer, nn.Conv2d):
        padding: Any = layer.padding
        return F.unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride).transpose(1, 2)
    return inputs[:, None] if inputs.ndim == 2 else inputs.flatten(1, -2)
