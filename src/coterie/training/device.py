"""Device and precision of forward passes. Training has both of Lightning Fabric, which takes seconds to import."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from coterie.config import HardwareSettings
from coterie.errors import SettingsError
from coterie.inputs import Preprocessing

NOTHING = nullcontext()


class Computing(Protocol):
    """What passes are computed by: an ``Inference``, or Lightning's Fabric."""

    @property
    def device(self) -> torch.device:
        """Where the networks are."""

    def autocast(self) -> AbstractContextManager[Any]:
        """A context in which they compute in the precision of the settings."""


@dataclass(frozen=True)
class Inference:
    """The device and the precision in which finished networks are run."""

    device: torch.device
    bf16: bool

    def autocast(self) -> AbstractContextManager[Any]:
        """As ``Computing`` has it."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else NOTHING


def make_inference(
    hardware: HardwareSettings, preprocessing: Preprocessing | None = None, index: int | None = None
) -> Inference:
    """Device and precision of the settings.

    Args:
        hardware: device and precision.
        preprocessing: of the networks' inputs, which ``auto`` precision goes by.
        index: which of several devices; default: the first.

    Raises:
        SettingsError: the accelerator is not there.
    """
    accelerator, bf16 = chosen(hardware, preprocessing)
    device = torch.device(accelerator) if accelerator == "cpu" else torch.device(accelerator, index or 0)
    return Inference(device, bf16)


def chosen(hardware: HardwareSettings, preprocessing: Preprocessing | None) -> tuple[str, bool]:
    """The accelerator of the settings, and whether it computes in bf16: ``auto`` is what is fast there and does for the
    inputs.

    Raises:
        SettingsError: the accelerator is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    accelerator = hardware.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[accelerator]:
        here = ", ".join(name for name, there in available.items() if there)
        raise SettingsError(f"hardware.accelerator = {accelerator!r}: not on this machine; here: {here}")
    precise = preprocessing is not None and preprocessing.precise
    return accelerator, hardware.precision == "bf16" or (
        hardware.precision == "auto" and not precise and _computes_in_bf16(accelerator)
    )


def _computes_in_bf16(accelerator: str) -> bool:
    if accelerator == "cuda":
        # CUDA cards without bf16 units emulate it, slower than fp32.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
