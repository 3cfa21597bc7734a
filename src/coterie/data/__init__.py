"""Labelled samples from several sources, behind one function."""

from __future__ import annotations

from coterie.config import DataSettings
from coterie.data.new import read_new
from coterie.data.splits import Splits

__all__ = ["load", "read_new"]


def load(settings: DataSettings, seed: int) -> Splits:
    """Load (or generate) training, validation and test images; the same seed cuts the same splits.

    Args:
        settings: source and form of the images.
        seed: of the splits, where ``settings.split_seed`` leaves it open.

    Raises:
        DataError: the source is missing, broken, or unfit for classification; the message says which and why.
    """
    seed = seed if settings.split_seed is None else settings.split_seed
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
