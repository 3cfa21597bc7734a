"""The preprocessing of images that a network brings with it, as its library states it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from coterie.backbones.libraries import TRANSFORMERS, import_transformers
from coterie.backbones.packages import installed_package
from coterie.config import DataSettings
from coterie.errors import BackboneError
from coterie.inputs import ImagePreprocessing
from coterie.inputs.image import Interpolation

# What transformers calls the ways of resizing, as Pillow numbers them.
RESAMPLINGS: dict[int, Interpolation] = dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")))
MAKER = "preprocessor_config.json"


def prescribed_images(backbone: str, data: DataSettings, *, pretrained: bool) -> ImagePreprocessing | None:
    """How a network with trained weights takes its images; None where its library does not say.

    Args:
        backbone: ``timm:NAME``, ``torchvision:NAME`` or ``transformers:DIR``; others bring none.
        data: ``image_size`` goes over the network's own size, and leaves nothing to be cut off; ``mean`` and ``std``
            over its own.
        pretrained: whether its weights are those that the library, or a package, offers.

    Raises:
        BackboneError: its images are made in a way that is not known here.
    """
    library, _, name = backbone.partition(":")
    makers = {"timm": _of_timm, "torchvision": _of_torchvision, "transformers": _of_transformers}
    form = makers[library](name) if library in makers else None
    if form is None:
        return None
    package = installed_package(backbone) if pretrained else None
    if package is not None and package.mean:
        origin = f"{form.origin}, mean and std of {package}"
        form = replace(form, mean=package.mean, std=package.std, origin=origin)
    return _as_wished(form, data)


def _as_wished(form: ImagePreprocessing, data: DataSettings) -> ImagePreprocessing:
    """With the user's own options over it."""
    values: dict[str, Any] = {"levels": ()}  # no library says
    options = [name for name in ("image_size", "mean", "std") if getattr(data, name) is not None]
    if data.image_size is not None:
        size = data.image_size
        values |= {"height": size, "width": size, "resize": (size,)}
    if data.mean is not None and data.std is not None:
        # Settings count brightness from 0 to 1, pixels from 0 to 255.
        values |= {"mean": _of_255(data.mean), "std": _of_255(data.std)}
        values |= {"channels": len(data.mean)}
    said = ", ".join(f"--data.{name.replace('_', '-')}" for name in options)
    return replace(form, **values, origin=form.origin + (f", over it {said}" if options else ""))


def _of_timm(name: str) -> ImagePreprocessing | None:
    try:
        import timm
    except ImportError:  # said when the network is built
        return None
    library: Any = timm  # which has no types of its own here
    config = library.get_pretrained_cfg(name) if library.is_model(name) else None
    if config is None:
        return None
    found = library.data.resolve_data_config({}, pretrained_cfg=config.to_dict())
    if found["crop_mode"] == "border":
        raise BackboneError(f"timm:{name} takes images with a border around them, which is not made here")
    channels, height, width = found["input_size"]
    resize = tuple(math.floor(side / found["crop_pct"]) for side in (height, width))
    if found["crop_mode"] != "squash":  # by the shorter side; what is then cut off keeps its proportions
        resize = resize[:1]
    return ImagePreprocessing(
        height,
        width,
        channels,
        _of_255(found["mean"]),
        _of_255(found["std"]),
        resize,
        _known(found["interpolation"]),
        origin=f"of timm:{name} by its pretrained_cfg",
    )


def _of_torchvision(name: str) -> ImagePreprocessing | None:
    from torchvision import models

    if name not in models.list_models(module=models):
        return None
    made = models.get_model_weights(name).DEFAULT.transforms()
    return ImagePreprocessing(
        made.crop_size[0],
        made.crop_size[0],
        len(made.mean),
        _of_255(made.mean),
        _of_255(made.std),
        tuple(made.resize_size[:1]),
        _known(made.interpolation.value),
        origin=f"of torchvision:{name} by its weights' transforms()",
    )


def _of_transformers(place: str) -> ImagePreprocessing | None:
    """By the model's image processor; None for a folder without one."""
    transformers = import_transformers(place)
    if Path(place).is_dir() and not (Path(place) / MAKER).is_file():
        return None
    try:
        made = transformers.AutoImageProcessor.from_pretrained(place, trust_remote_code=False).to_dict()
    except Exception:  # a model of texts, or one that is not there: said when it is loaded
        return None
    return processor_form(made, f"of {TRANSFORMERS}{place} by its {MAKER}")


def processor_form(made: dict[str, Any], origin: str) -> ImagePreprocessing:
    """The preprocessing that the values of an image processor of transformers stand for.

    Raises:
        BackboneError: it turns channels round, or does not make all images one size.
    """
    if made.get("do_flip_channel_order"):
        raise BackboneError(f"the images {origin} have blue first: wrap the model in a function that turns them")
    size, crop = (_sides(made.get(name) or {}) for name in ("size", "crop_size"))
    if str(made.get("image_processor_type")).startswith("Levit") and len(size) == 1:
        size = (int(256 / 224 * size[0]),)  # its size is what is left of the margin that is cut off
    if made.get("crop_pct") and len(size) == 1 and size[0] < 384:  # ConvNeXt's: a margin that is cut off
        size, crop = (int(size[0] / made["crop_pct"]),), (size[0], size[0])
    elif made.get("crop_pct") and len(size) == 1:
        size = (size[0], size[0])
    cuts = bool(crop) and (made.get("do_center_crop", True) or made.get("crop_pct"))
    if not size or not made.get("do_resize", True) or (len(size) == 1 and not cuts):
        raise BackboneError(f"the images {origin} are not made of one size; give --data.image-size and the like")
    height, width = (crop * 2)[:2] if cuts else size
    scale = made.get("rescale_factor", 1 / 255) if made.get("do_rescale", True) else 1.0
    normalised = made.get("do_normalize", True)
    mean, std = (made["image_mean"], made["image_std"]) if normalised else ((0.0,) * 3, (1.0,) * 3)
    return ImagePreprocessing(
        height,
        width,
        len(mean),
        tuple(value / scale for value in mean),
        tuple(value / scale for value in std),
        size,
        RESAMPLINGS[int(made.get("resample", 2))],
        "floored",
        origin,
    )


def _sides(size: Any) -> tuple[int, ...]:
    """(shorter side,) or (height, width)."""
    if isinstance(size, int):
        return (size,)
    if "shortest_edge" in size:
        return (size["shortest_edge"],)
    return (size["height"], size["width"]) if "height" in size else ()


def _of_255(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(255 * value for value in values)


def _known(interpolation: str) -> Interpolation:
    # Of timm's models, some draw one at random in training; where nothing is said, bilinear is what it takes.
    return next((name for name in get_args(Interpolation) if name == interpolation), "bilinear")
