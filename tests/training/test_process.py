import pytest
import torch

from coterie.config import HardwareSettings
from coterie.training.process import configure_process


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
