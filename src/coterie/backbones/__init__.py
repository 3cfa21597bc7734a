"""What builds a network, and what finds its linear head."""

from __future__ import annotations

import re

import torch
from torch import nn

from coterie.backbones.convnet import ConvNet
from coterie.backbones.head import Head, find_head, replace_head
from coterie.backbones.libraries import build_torchvision, call_function, is_function, load_transformers
from coterie.backbones.output import LogitsOf, logit_parts
from coterie.backbones.wide_resnet import WideResNet
from coterie.errors import BackboneError

__all__ = ["ConvNet", "Head", "LogitsOf", "WideResNet", "build", "find_head", "logit_parts", "replace_head"]


def build(name: str, n_classes: int, channels: int, seed: int) -> nn.Module:
    """A network with fresh weights, by name.

    Args:
        name: ``convnet-WIDTH``, ``wrn-DEPTH-WIDTH``, ``timm:NAME``, ``torchvision:NAME``, ``transformers:DIR``, whose
            configuration says all, or ``module:function``, which is called.
        n_classes: C, the width of its output.
        channels: of the images: 1 grey, 3 RGB.
        seed: of the weights; the global generator is left as it was.

    Raises:
        BackboneError: the name is unknown, its sizes do not make a network, or timm is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if match := re.fullmatch(r"convnet-(\d+)", name):
            return ConvNet(int(match[1]), n_classes, channels)
        if match := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
            return WideResNet(int(match[1]), int(match[2]), n_classes, channels)
        if name.startswith("timm:"):
            return _build_timm(name.removeprefix("timm:"), n_classes, channels)
        if name.startswith("torchvision:"):
            return build_torchvision(name.removeprefix("torchvision:"), n_classes, channels)
        if name.startswith("transformers:"):
            return load_transformers(name.removeprefix("transformers:"))[0]
        if is_function(name):
            return call_function(name)
    if name.startswith("python:"):
        raise BackboneError(f"{name} was passed from Python, and is needed again: coterie.fit(..., base=network)")
    raise BackboneError(
        f"unknown backbone {name!r}; allowed: convnet-WIDTH (convnet-64), wrn-DEPTH-WIDTH (wrn-28-10), timm:NAME, "
        "torchvision:NAME, transformers:DIR, module:function"
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
