"""What builds a network, and what finds its linear head."""

from __future__ import annotations

import re

import torch
from torch import nn

from coterie.backbones.convnet import ConvNet
from coterie.backbones.head import Head, find_head, replace_head
from coterie.backbones.wide_resnet import WideResNet
from coterie.errors import BackboneError
from coterie.inputs import ImagePreprocessing, Preprocessing

__all__ = ["ConvNet", "Head", "WideResNet", "build", "find_head", "replace_head"]


def build(name: str, n_classes: int, preprocessing: Preprocessing, seed: int) -> nn.Module:
    """A network with fresh weights, by name.

    Args:
        name: ``convnet-WIDTH``, ``wrn-DEPTH-WIDTH`` or ``timm:NAME``.
        n_classes: C, the width of its output.
        preprocessing: what makes its inputs, of which it has to know shape and sizes.
        seed: of the weights; the global generator is left as it was.

    Raises:
        BackboneError: the name is unknown or of another modality, its sizes do not make a network, or timm is not
            installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(preprocessing, ImagePreprocessing):
            return _build_image(name, n_classes, preprocessing.channels)
    raise AssertionError(f"no networks for {preprocessing}")


def _build_image(name: str, n_classes: int, channels: int) -> nn.Module:
    if match := re.fullmatch(r"convnet-(\d+)", name):
        return ConvNet(int(match[1]), n_classes, channels)
    if match := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
        return WideResNet(int(match[1]), int(match[2]), n_classes, channels)
    if name.startswith("timm:"):
        return _build_timm(name.removeprefix("timm:"), n_classes, channels)
    raise BackboneError(
        f"unknown backbone {name!r}; allowed: convnet-WIDTH (convnet-64), wrn-DEPTH-WIDTH (wrn-28-10), timm:NAME"
    )


def _build_timm(name: str, n_classes: int, channels: int) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise BackboneError(f"timm:{name} needs timm, which is not installed: pip install 'coterie[timm]'") from None
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:8]
        raise BackboneError(f"timm has no model {name!r}" + (f"; did you mean {', '.join(close)}?" if close else ""))
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=n_classes, in_chans=channels)
    except Exception as error:  # timm's models raise whatever their code raises
        raise BackboneError(f"timm cannot build {name!r} for {channels} channel(s): {error}") from error
    return model
