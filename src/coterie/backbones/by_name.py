"""Networks with fresh weights, by name: those of coterie, of other libraries, and of the user's functions."""

from __future__ import annotations

import re

import torch
from torch import nn

from coterie.backbones.convnet import ConvNet
from coterie.backbones.libraries import (
    TRANSFORMERS,
    build_torchvision,
    call_function,
    is_function,
    load_transformers,
)
from coterie.backbones.ngram import NGramNet
from coterie.backbones.table import TableMLP
from coterie.backbones.vector import MLP, LinearNet
from coterie.backbones.wide_resnet import WideResNet
from coterie.errors import BackboneError
from coterie.inputs import (
    FeaturePreprocessing,
    ImagePreprocessing,
    NGramPreprocessing,
    Preprocessing,
    SentencePreprocessing,
    TablePreprocessing,
    TokenPreprocessing,
)


def build(name: str, n_classes: int, preprocessing: Preprocessing, seed: int) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        name: ``convnet-WIDTH``, ``wrn-DEPTH-WIDTH``, ``timm:NAME``, ``torchvision:NAME`` or ``transformers:DIR``, whose
            configuration says all, for images and tokens of texts; ``linear`` or ``mlp-WIDTH`` for features and
            sentence embeddings; ``ngram-WIDTH`` for n-grams of texts; ``table-mlp-WIDTH`` for rows of tables;
            ``module:function``, which is called, for anything.
        n_classes: C, the width of its output.
        preprocessing: what makes its inputs, of which it has to know shape and sizes.
        seed: of the weights; the global generator is left as it was.

    Raises:
        BackboneError: the name is unknown or of another modality, its sizes do not make a network, or timm is not
            installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_function(name):
            return call_function(name)
        if name.startswith("python:"):
            raise BackboneError(f"{name} was passed from Python, and is needed again: coterie.fit(..., base=network)")
        if isinstance(preprocessing, ImagePreprocessing):
            return _build_image(name, n_classes, preprocessing)
        if isinstance(preprocessing, TokenPreprocessing) and name.startswith(TRANSFORMERS):
            return load_transformers(name.removeprefix(TRANSFORMERS), preprocessing)[0]
        network = _build_small(name, n_classes, preprocessing)
    if network is None:
        kind, allowed = _SMALL[type(preprocessing)]
        raise BackboneError(f"backbone {name!r} is not one for {kind}; allowed: {allowed}, module:function")
    return network


_SMALL: dict[type[Preprocessing], tuple[str, str]] = {
    FeaturePreprocessing: ("features", "linear, mlp-WIDTH (mlp-256)"),
    SentencePreprocessing: ("sentence embeddings", "linear, mlp-WIDTH (mlp-256)"),
    NGramPreprocessing: ("n-grams of texts", "ngram-WIDTH (ngram-64)"),
    TablePreprocessing: ("rows of tables", "table-mlp-WIDTH (table-mlp-128)"),
    TokenPreprocessing: ("tokens of texts", "transformers:DIR"),
}


def _build_small(name: str, n_classes: int, preprocessing: Preprocessing) -> nn.Module | None:
    """A network for anything but images; None where the name is none for this kind of input."""
    if isinstance(preprocessing, FeaturePreprocessing | SentencePreprocessing):
        if name == "linear":
            return LinearNet(preprocessing.shape[0], n_classes)
        if match := re.fullmatch(r"mlp-(\d+)", name):
            return MLP(int(match[1]), preprocessing.shape[0], n_classes)
    if isinstance(preprocessing, NGramPreprocessing) and (match := re.fullmatch(r"ngram-(\d+)", name)):
        return NGramNet(int(match[1]), preprocessing.buckets, n_classes)
    if isinstance(preprocessing, TablePreprocessing) and (match := re.fullmatch(r"table-mlp-(\d+)", name)):
        return TableMLP(int(match[1]), 2 * len(preprocessing.numeric), preprocessing.cardinalities, n_classes)
    return None


def _build_image(name: str, n_classes: int, preprocessing: ImagePreprocessing) -> nn.Module:
    channels = preprocessing.channels
    if match := re.fullmatch(r"convnet-(\d+)", name):
        return ConvNet(int(match[1]), n_classes, channels)
    if match := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
        return WideResNet(int(match[1]), int(match[2]), n_classes, channels)
    if name.startswith("timm:"):
        return _build_timm(name.removeprefix("timm:"), n_classes, channels)
    if name.startswith("torchvision:"):
        return build_torchvision(name.removeprefix("torchvision:"), n_classes, channels)
    if name.startswith(TRANSFORMERS):
        return load_transformers(name.removeprefix(TRANSFORMERS), preprocessing)[0]
    raise BackboneError(
        f"unknown backbone {name!r}; allowed for images: convnet-WIDTH (convnet-64), wrn-DEPTH-WIDTH (wrn-28-10), "
        "timm:NAME, torchvision:NAME, transformers:DIR, module:function"
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
