import logging
import os

import pytest
import torch

from coterie.config import HardwareSettings
from coterie.training.fabric import ANNOUNCERS, make_fabric


def test_making_a_fabric_changes_nothing_else() -> None:
    loggers = [logging.getLogger(name) for name in ("", "lightning_fabric", *ANNOUNCERS)]

    def state() -> tuple:
        return (
            torch.get_num_threads(),
            dict(os.environ),
            [(logger.level, list(logger.filters), list(logger.handlers)) for logger in loggers],
        )

    before = state()
    make_fabric(HardwareSettings(accelerator="cpu", precision="bf16", threads=torch.get_num_threads() + 1))
    assert state() == before


def test_fabric_announces_nothing_but_warnings(caplog) -> None:
    # Whatever level its user has chosen.
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "lightning_fabric"):
        logger = logging.getLogger("lightning_fabric")
        logger.addHandler(caplog.handler)  # without a handler at the root, Lightning keeps its records to itself
        try:
            make_fabric(HardwareSettings(accelerator="cpu", precision="bf16"))
            assert caplog.records == []
            logging.getLogger(ANNOUNCERS[0]).info("of something else")
        finally:
            logger.removeHandler(caplog.handler)
    assert "of something else" in caplog.text


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_fabric_computes_in_the_precision_of_the_settings(precision: str, dtype: torch.dtype) -> None:
    fabric = make_fabric(HardwareSettings(accelerator="cpu", precision=precision))
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert fabric.device == torch.device("cpu")
