"""Small data files of every kind, and looks at what is loaded from them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch
from PIL import Image

from coterie import data
from coterie.config import DataSettings
from coterie.data.splits import Split, Splits

TEXTS = [f"{word} number {k}" for k in range(10) for word in ("apple", "pear")]

KINDS = ["fruit", "tree"] * 10

TABLE = {"size": [1.5, None] * 10, "colour": ["red", "blue"] * 10, "void": [None] * 20, "zip": [7, 8] * 10}

FEATURES = np.random.default_rng(0).normal(size=(20, 3))


def picture(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    """Random pixels; ``size`` is (width, height)."""
    shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> bytes:
    return encode(picture(seed, size, mode))


def write_pictures(folder: Path) -> list[str]:
    """Twenty pictures in a new folder; their paths beside it."""
    folder.mkdir(parents=True)
    for k in range(20):
        (folder / f"{k}.png").write_bytes(png(k))
    return [f"{folder.name}/{k}.png" for k in range(20)]


def write_parquet(
    path: Path, labels: Sequence[Any], images: Sequence[bytes | None] | None = None, label: Any = None, **more: Any
) -> None:
    """A table with columns image and label; ``label`` is the label's feature, ``more`` other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [png(k) for k in range(len(labels))] if images is None else images
    feature = label or datasets.Value("string" if isinstance(labels[0], str) else "int64")
    features = {"image": datasets.Image(), "label": feature}
    features |= {name: datasets.Value("string") for name in more}
    records = [None if item is None else {"bytes": item, "path": None} for item in images]
    columns = {"image": records, "label": list(labels), **more}
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(path)


def write_folder(root: Path, classes: Sequence[str], n_images: int = 10, size: tuple[int, int] = (12, 12)) -> None:
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(n_images):
            (root / name / f"{k}.png").write_bytes(png(100 * c + k, size))


def load(source: str, seed: int = 0, **settings: Any) -> Splits:
    return data.load(DataSettings(source=source, **settings), seed)


def pixels(split: Split) -> np.ndarray:
    return split.samples.read(torch.arange(len(split))).numpy()


def sizes(splits: Splits) -> list[int]:
    return [len(splits.train), len(splits.validation), len(splits.test)]


def write(path: Path, columns: dict[str, list[Any]]) -> str:
    """As its suffix says; returns the source."""
    frame = pd.DataFrame(columns)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    return f"{path.suffix.removeprefix('.')}:{path}"


def shown(split: Split) -> list[str]:
    return [split.samples.show(row) for row in range(len(split))]


def labels_of(splits: Splits) -> dict[str, str]:
    """The class of every sample, by what can be read of it."""
    return {
        text: splits.labels.names[k]
        for split in (splits.train, splits.validation, splits.test)
        for text, k in zip(shown(split), split.labels_N.tolist(), strict=True)
    }
