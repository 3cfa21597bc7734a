"""Networks of other libraries, and of the user: by name, without running code that was not asked for."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from torch import nn

from coterie.errors import BackboneError

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")
LIBRARIES = ("timm", "torchvision", "transformers", "python")


def is_function(name: str) -> bool:
    """Whether a backbone's name is ``module:function``, which runs the user's code."""
    return FUNCTION.fullmatch(name) is not None and name.partition(":")[0] not in LIBRARIES


def call_function(name: str) -> nn.Module:
    """The network that a function of the user's builds; called without arguments.

    Args:
        name: ``module:function``; modules are found as by ``python -m``, the current folder first.

    Raises:
        BackboneError: no such module or function, it fails, or does not return a network.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        network = function()
    except Exception as error:  # whatever the user's code raises
        raise BackboneError(f"{name} builds no network: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    if not isinstance(network, nn.Module):
        raise BackboneError(f"{name} returns a {type(network).__name__}; a torch.nn.Module is needed")
    return network


def build_torchvision(name: str, n_classes: int, channels: int) -> nn.Module:
    """A classification model of torchvision with fresh weights.

    Raises:
        BackboneError: it has no such classification model, or the images are not RGB.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        close = [other for other in known if name in other or other in name][:8]
        raise BackboneError(
            f"torchvision has no classification model {name!r}"
            + (f"; did you mean {', '.join(close)}?" if close else "")
        )
    if channels != 3:
        raise BackboneError(f"torchvision:{name} takes RGB images; these have {channels} channel(s)")
    # Of these two, which initialise themselves, the start is said outright: otherwise they warn.
    options = {"init_weights": True} if name in {"googlenet", "inception_v3"} else {}
    network: nn.Module = models.get_model(name, weights=None, num_classes=n_classes, **options)
    return network


def load_transformers(place: str) -> tuple[nn.Module, bool]:
    """An image classifier of transformers, and whether it came with weights.

    Args:
        place: a folder with its config.json, and weights if it is trained; or a name on the hub.

    Raises:
        BackboneError: transformers is not installed, or does not know the model as an image classifier.
    """
    transformers = _transformers(place)
    folder = Path(place)
    has_weights = not folder.is_dir() or any(folder.glob("*.safetensors"))
    try:
        if has_weights:
            return transformers.AutoModelForImageClassification.from_pretrained(
                place, trust_remote_code=False, use_safetensors=True
            ), True
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # the library raises OSError, ValueError and others
        raise BackboneError(f"transformers cannot load {place}: {_first_line(error)}") from error
    return build_transformers(config.to_dict()), False


def build_transformers(config: dict[str, Any]) -> nn.Module:
    """An image classifier of transformers with fresh weights, from its configuration. Code that this names is not run.

    Raises:
        BackboneError: transformers is not installed, or knows no such image classifier.
    """
    transformers = _transformers(str(config.get("model_type")))
    values = {name: value for name, value in config.items() if name not in ("model_type", "auto_map")}
    try:
        known = transformers.AutoConfig.for_model(config["model_type"], **values)
        known.architectures = known.architectures or []  # of some kinds there are several, and it looks here
        network: nn.Module = transformers.AutoModelForImageClassification.from_config(known, trust_remote_code=False)
    except Exception as error:
        raise BackboneError(f"transformers cannot build this image classifier: {_first_line(error)}") from error
    return network


def _transformers(place: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise BackboneError(
            f"transformers:{place} needs transformers, which is not installed: pip install 'coterie[transformers]'"
        ) from None
    return transformers


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:400]
