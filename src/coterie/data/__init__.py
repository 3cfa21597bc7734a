"""Labelled images from several sources, behind one function."""

from __future__ import annotations

from dataclasses import replace

from coterie.config import DataSettings
from coterie.data.decode import read_images
from coterie.data.splits import Splits
from coterie.errors import DataError
from coterie.labels import LabelSpace

__all__ = ["load", "read_groups", "read_images"]


def load(settings: DataSettings, seed: int) -> Splits:
    """Load (or generate) training, validation and test images; the same seed cuts the same splits.

    Args:
        settings: source and form of the images.
        seed: of the splits, where ``settings.split_seed`` leaves it open.

    Raises:
        DataError: the source is missing, broken, or unfit for classification; the message says which and why.
    """
    splits = _load(settings, seed if settings.split_seed is None else settings.split_seed)
    if settings.mean is None or settings.std is None:
        return splits
    form = splits.preprocessing
    if len(settings.mean) != form.channels:
        raise DataError(f"data.mean has {len(settings.mean)} numbers; the images have {form.channels} channel(s)")
    mean, std = (tuple(255 * value for value in values) for values in (settings.mean, settings.std))
    return replace(splits, preprocessing=replace(form, mean=mean, std=std))


def _load(settings: DataSettings, seed: int) -> Splits:
    # A source is imported when it is asked for: glyphs needs no `datasets`, parquet no fonts.
    kind, _, place = settings.source.partition(":")
    if kind == "glyphs":
        from coterie.data import glyphs

        return glyphs.load(settings, seed)
    if kind == "cifar100":
        from coterie.data import torchvision

        return torchvision.load(settings, seed)
    from coterie.data import huggingface

    return huggingface.load(kind, place, settings, seed)


def read_groups(settings: DataSettings, column: str, labels: LabelSpace) -> tuple[str, ...]:
    """The group of each class by a further label column of the source, in the order of the classes.

    Args:
        settings: source of the data.
        column: the one with the groups.
        labels: the classes.

    Raises:
        DataError: the source has no columns, or not this one; a class that lies in several groups; other classes.
    """
    kind, _, place = settings.source.partition(":")
    if kind in ("glyphs", "cifar100"):
        raise DataError(f"{settings.source} has no column {column!r} for groups; parquet, folder and hub may have one")
    from coterie.data import huggingface

    space, groups = huggingface.load_groups(kind, place, settings, column)
    if space != labels:
        raise DataError(f"the classes of {settings.source} are not those of the data in use: no groups by {column!r}")
    return groups
