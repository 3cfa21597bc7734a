"""Where the training of a base starts: pretrained weights of a library, of an installed package, or of a file."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coterie.backbones.head import Head
from coterie.backbones.packages import installed_package, remedy
from coterie.backbones.weights import WeightsFile, read_weights
from coterie.errors import BackboneError, first_line

PRETRAINED = "pretrained"
NEW_HEAD_STD = 0.01


def initial_weights(backbone: str, init: str, names: list[str]) -> WeightsFile | None:
    """The weights that a base starts from, by the names of its network; None where the library loads them as it builds
    the network.

    Args:
        backbone: its name.
        init: ``pretrained``, or a file.
        names: of the network's tensors, in order.

    Raises:
        BackboneError: there are none, they cannot be read, or would need a download where there is no network.
    """
    if init != PRETRAINED:
        return read_weights(init)
    package = installed_package(backbone)
    if package is not None:
        found = read_weights(str(package.path))
        # The package has its own names for the same tensors in the same order.
        return WeightsFile(str(package), dict(zip(names, found.state.values(), strict=True)))
    if backbone.startswith("torchvision:"):
        return _of_torchvision(backbone)
    if backbone.startswith("timm:"):
        return None
    raise BackboneError(f"--init pretrained: {backbone} has no pretrained weights; give --init FILE, or leave it out")


def _of_torchvision(backbone: str) -> WeightsFile:
    from torchvision import models

    weights = models.get_model_weights(backbone.partition(":")[2]).DEFAULT
    try:
        return WeightsFile(f"torchvision ({weights})", weights.get_state_dict(progress=False, check_hash=True))
    except Exception as error:  # no network, or a file that was cut short
        raise BackboneError(no_download(backbone, weights.url.rpartition("/")[2], weights.url, error)) from None


def no_download(backbone: str, file: str, place: str, error: Exception) -> str:
    """The sentence for weights that cannot be downloaded."""
    return (
        f"the pretrained weights of {backbone} would be downloaded from {place}, which fails "
        f"({first_line(error, 120)}); with the file {file} at hand: --init {file}{remedy(backbone)}"
    )


def draw_head(network: nn.Module, head: Head, seed: int) -> None:
    """Fresh weights for a head on features that are trained already: so small that it begins with no opinion. Libraries
    draw larger ones, by the number of classes or inputs, and their first steps would wreck the features. Numbers beside
    its layers stay: they may be scales.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path in (head.path, *head.more):
            for tensor in _tensors_at(network, path):
                tensor.normal_(0, NEW_HEAD_STD if tensor.ndim > 1 else 0, generator=generator)


def _tensors_at(network: nn.Module, path: str) -> list[Tensor]:
    parent, _, name = path.rpartition(".")
    part = getattr(network.get_submodule(parent), name)
    if isinstance(part, nn.Module):
        return list(part.parameters())
    return [part] if isinstance(part, nn.Parameter) and part.ndim > 1 else []
