"""Networks with fresh weights, by name: those of coterie, of other libraries, and of the user's functions."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from coterie.backbones.convnet import ConvNet
from coterie.backbones.initial import no_download
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
from coterie.system.units import how_many


def is_passed(name: str) -> bool:
    """Whether a name is that of a network which was passed from Python: only the caller can make another."""
    return name.startswith("python:")


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
        if is_passed(name):
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
        return build_timm(name.removeprefix("timm:"), n_classes, preprocessing)
    if name.startswith("torchvision:"):
        return build_torchvision(name.removeprefix("torchvision:"), n_classes, channels, preprocessing.height)
    if name.startswith(TRANSFORMERS):
        return load_transformers(name.removeprefix(TRANSFORMERS), preprocessing)[0]
    raise BackboneError(
        f"unknown backbone {name!r}; allowed for images: convnet-WIDTH (convnet-64), wrn-DEPTH-WIDTH (wrn-28-10), "
        "timm:NAME, torchvision:NAME, transformers:DIR, module:function"
    )


def download_timm(name: str, n_classes: int, preprocessing: Preprocessing) -> nn.Module:
    """A model of timm with the pretrained weights that it downloads, and a new head.

    Raises:
        BackboneError: it offers none, or cannot download them; or as ``build_timm``.
    """
    assert isinstance(preprocessing, ImagePreprocessing)  # timm's models take nothing else
    plain, wanted = build_timm(name.removeprefix("timm:"), n_classes, preprocessing), name.removeprefix("timm:")
    config: dict[str, Any] = dict(plain.pretrained_cfg)  # type: ignore[arg-type] # every model of timm has one
    place, url = config.get("hf_hub_id") or "", config.get("url") or ""
    if not place and not url:
        raise BackboneError(f"--init pretrained: timm offers no pretrained weights for {wanted}; give --init FILE")
    try:
        return build_timm(wanted, n_classes, preprocessing, pretrained=True)
    except Exception as error:  # no network, and whatever timm's models raise
        file = "model.safetensors" if place else url.rpartition("/")[2]
        raise BackboneError(no_download(name, file, place or url, error)) from None


def build_timm(name: str, n_classes: int, preprocessing: ImagePreprocessing, *, pretrained: bool = False) -> nn.Module:
    """A model of timm, with fresh weights or those that it downloads, for images of any size that it takes.

    Raises:
        BackboneError: timm is not installed, has no such model, or cannot build it so.
    """
    try:
        import timm
    except ImportError:
        raise BackboneError(f"timm:{name} needs timm, which is not installed: pip install 'coterie[timm]'") from None
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:8]
        raise BackboneError(f"timm has no model {name!r}" + (f"; did you mean {', '.join(close)}?" if close else ""))
    channels, size = preprocessing.channels, (preprocessing.height, preprocessing.width)
    options: dict[str, Any] = {"num_classes": n_classes, "in_chans": channels}
    config = timm.get_pretrained_cfg(name)
    # Vision transformers are built for one size, and are told of another.
    if config is not None and config.fixed_input_size and tuple(config.input_size[1:]) != size:
        options["img_size"] = size
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # timm's models raise whatever their code raises
        if pretrained:
            raise
        pixels = f" and {size[0]} x {size[1]} pixels" if "img_size" in options else ""
        shape = f"{how_many(channels, 'channel')}{pixels}"
        raise BackboneError(f"timm cannot build {name!r} for {shape}: {error}") from error
    return model
