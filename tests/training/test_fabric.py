import logging
import os

import pytest
import torch

from coterie.config import HardwareSettings
from coterie.errors import SettingsError
from coterie.training.fabric import ANNOUNCERS, configure_process, make_fabric


@pytest.fixture
def threads():
    """Of this process, which gets them back."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_configuring_the_process_sets_its_threads_where_the_settings_name_them(threads: int) -> None:
    configure_process(HardwareSettings(threads=threads + 1))
    assert torch.get_num_threads() == threads + 1
    configure_process(HardwareSettings())
    assert torch.get_num_threads() == threads + 1


def test_making_a_fabric_changes_nothing_else(threads: int) -> None:
    loggers = [logging.getLogger(name) for name in ("", "lightning_fabric", *ANNOUNCERS)]

    def state() -> tuple:
        return (
            torch.get_num_threads(),
            dict(os.environ),
            [(logger.level, list(logger.filters), list(logger.handlers)) for logger in loggers],
        )

    before = state()
    make_fabric(HardwareSettings(accelerator="cpu", precision="bf16", threads=threads + 1))
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


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert make_fabric(HardwareSettings()).device.type == expected


def test_an_accelerator_that_is_not_there_is_named_with_those_that_are() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has MPS")
    with pytest.raises(SettingsError, match="'mps': not on this machine; here: cpu"):
        make_fabric(HardwareSettings(accelerator="mps"))
