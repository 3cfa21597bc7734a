from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets

from coterie import data
from coterie.config import DataSettings
from coterie.errors import DataError
from coterie.system.cache import cache_folder


class FakeCIFAR100:
    """Two classes, with the attributes of torchvision's own."""

    url = "https://example.org/cifar"
    classes = ("apple", "bear")

    def __init__(self, root: Path, *, train: bool, download: bool) -> None:
        assert download
        n_images = 40 if train else 10
        self.data = np.random.default_rng(train).integers(0, 256, (n_images, 32, 32, 3), np.uint8)
        self.targets = [k % 2 for k in range(n_images)]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_test_split_is_its_own_and_validation_is_cut_from_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", FakeCIFAR100)
    splits = data.load(DataSettings(source="cifar100", validation_share=0.25), 0)
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [30, 10, 10]
    assert splits.labels.names == ("apple", "bear")
    assert splits.flip
    assert "torchvision" in splits.about


def test_image_size_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", FakeCIFAR100)
    splits = data.load(DataSettings(source="cifar100", image_size=16), 0)
    assert splits.train.samples.shape == (16, 16, 3)


def test_downloads_go_to_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "coterie"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "coterie"


def test_without_a_network_the_message_names_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://127.0.0.1:9/cifar-100.tar.gz"  # nothing listens on the discard port
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "url", address)
    with pytest.raises(DataError, match="cannot download CIFAR-100") as caught:
        data.load(DataSettings(source="cifar100"), 0)
    assert address in str(caught.value)


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("file not found or corrupted"), EOFError()])
def test_a_failed_download_is_a_data_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Failing(FakeCIFAR100):
        def __init__(self, *_: Any, **__: Any) -> None:
            raise error

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Failing)
    with pytest.raises(DataError, match=r"cifar.*parquet:DIR"):
        data.load(DataSettings(source="cifar100"), 0)
