"""Device and precision, by Lightning Fabric."""

from __future__ import annotations

import ctypes
import sys
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from coterie.config import HardwareSettings
from coterie.errors import SettingsError
from coterie.system.ranks import Ranks


def make_fabric(hardware: HardwareSettings, ranks: Ranks = Ranks()) -> Fabric:  # noqa: B008 - frozen
    """Device and precision, by Lightning Fabric; with several ranks, joined to the others.

    Raises:
        SettingsError: the accelerator is not there.
    """
    _keep_freed_memory()
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    accelerator = hardware.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[accelerator]:
        here = ", ".join(name for name, there in available.items() if there)
        raise SettingsError(f"hardware.accelerator = {accelerator!r}: not on this machine; here: {here}")
    bf16 = hardware.precision == "bf16" or (hardware.precision == "auto" and _computes_in_bf16(accelerator))
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if bf16 else "32-true"
    if ranks.world == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=precision)
    nodes = ranks.world // ranks.here
    fabric = Fabric(
        accelerator=accelerator, devices=ranks.here, num_nodes=nodes, strategy=DDPStrategy(), precision=precision
    )
    fabric.launch()
    return fabric


def _keep_freed_memory() -> None:
    """Have glibc keep the memory of one step's activations for the next, instead of returning it to the kernel and
    getting it back page by page, zeroed. Training on CPUs is about a tenth faster for it.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**26)
        mallopt(mmap_max, 0)


def _computes_in_bf16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
