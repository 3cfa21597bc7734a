"""CIFAR-100 by torchvision's own download."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import torchvision.datasets

from coterie.config import DataSettings
from coterie.data.cut import cut_missing, cut_splits, sizes_of
from coterie.data.decode import resize_pixels
from coterie.data.splits import Split, Splits
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, MemorySamples
from coterie.labels import LabelSpace
from coterie.system.cache import cache_folder


def load(settings: DataSettings, seed: int) -> Splits:
    """CIFAR-100 with its 100 fine classes; downloads 170 MB into the user's cache folder the first time.

    Raises:
        DataError: the download fails, or what it left behind is damaged.
    """
    parts = {"train": _read(train=True), "test": _read(train=False)}
    found = {
        name: Split(
            MemorySamples(resize_pixels(torch.from_numpy(np.ascontiguousarray(part.data)), settings.image_size)),
            torch.tensor(part.targets),
        )
        for name, part in parts.items()
    }
    splits = cut_missing(found, settings, seed)
    height, width, _ = splits["train"].samples.shape
    return Splits(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        labels=LabelSpace(tuple(parts["train"].classes)),
        preprocessing=ImagePreprocessing.measure(splits["train"].samples),
        about=(
            f"cifar100 (torchvision's download): 100 classes, {sizes_of(splits, found)} images of {width} x {height} "
            "pixels, RGB"
        ),
        cut=cut_splits(found),
    )


def _read(*, train: bool) -> Any:
    folder = cache_folder()
    try:
        with warnings.catch_warnings():
            # The archive's pickles are older than numpy's present rules: nothing the user can mend.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            return torchvision.datasets.CIFAR100(folder, train=train, download=True)
    except (OSError, RuntimeError, EOFError) as error:  # no network; a damaged archive; a cut-off one
        raise DataError(
            f"cannot download CIFAR-100 from {torchvision.datasets.CIFAR100.url} into {folder}: {error}; "
            "XDG_CACHE_HOME names another folder; data on disk works without a network: parquet:DIR or folder:DIR"
        ) from error
