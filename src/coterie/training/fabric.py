"""Device and precision of trainings, by Lightning Fabric."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Literal

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from coterie.config import HardwareSettings
from coterie.inputs import Preprocessing
from coterie.system.ranks import ALONE, Ranks
from coterie.training.device import chosen

# Where Fabric announces its precision, a device's tensor cores and its ranks, each time that one is made.
ANNOUNCERS = ("lightning_fabric.utilities.rank_zero", "lightning_fabric.utilities.distributed")


def make_fabric(hardware: HardwareSettings, preprocessing: Preprocessing | None = None, ranks: Ranks = ALONE) -> Fabric:
    """Device and precision, by Lightning Fabric; with several ranks, joined to the others.

    Args:
        hardware: device and precision.
        preprocessing: of the networks' inputs, which ``auto`` precision goes by.
        ranks: this process's and the others'.

    Raises:
        SettingsError: the accelerator is not there.
    """
    accelerator, bf16 = chosen(hardware, preprocessing)
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if bf16 else "32-true"
    with _without_announcements():
        if ranks.world == 1:
            return Fabric(accelerator=accelerator, devices=1, precision=precision)
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
