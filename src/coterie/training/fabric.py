"""Device and precision, by Lightning Fabric; and what a training wants of the whole process."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from coterie.config import HardwareSettings
from coterie.errors import SettingsError
from coterie.system.ranks import ALONE, Ranks

# Where Fabric announces its precision, a device's tensor cores and its ranks, each time that one is made.
ANNOUNCERS = ("lightning_fabric.utilities.rank_zero", "lightning_fabric.utilities.distributed")


def configure_process(hardware: HardwareSettings) -> None:
    """Set torch's number of CPU threads, where the settings name one, and how the C library keeps freed memory.

    Both hold for the whole process, so only the command line and the pipeline call this, never a class or a loader.
    """
    _keep_freed_memory()
    if hardware.threads:
        torch.set_num_threads(hardware.threads)


def make_fabric(hardware: HardwareSettings, ranks: Ranks = ALONE, index: int | None = None) -> Fabric:
    """Device and precision, by Lightning Fabric; with several ranks, joined to the others.

    Args:
        hardware: device and precision.
        ranks: this process's and the others'.
        index: which of several devices; default: the first.

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
    bf16 = hardware.precision == "bf16" or (hardware.precision == "auto" and _computes_in_bf16(accelerator))
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if bf16 else "32-true"
    with _without_announcements():
        if ranks.world == 1:
            return Fabric(accelerator=accelerator, devices=[index] if index else 1, precision=precision)
        nodes = ranks.world // ranks.here
        fabric = Fabric(
            accelerator=accelerator, devices=ranks.here, num_nodes=nodes, strategy=DDPStrategy(), precision=precision
        )
        fabric.launch()
        return fabric


@contextlib.contextmanager
def _without_announcements() -> Iterator[None]:
    """Drop what Fabric announces. A filter, not a level: the level of a logger is the user's to choose."""

    def is_warning(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    loggers = [logging.getLogger(name) for name in ANNOUNCERS]
    for logger in loggers:
        logger.addFilter(is_warning)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_warning)


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
        # CUDA cards without bf16 units emulate it, slower than fp32.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
