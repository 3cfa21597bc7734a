"""From rows with labels to splits, for everything but images: cut first, then learn the preprocessing from train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from coterie.config import DataSettings
from coterie.data.cut import cut_missing, cut_splits, sizes_of
from coterie.data.splits import Split, Splits
from coterie.errors import DataError, InputError
from coterie.inputs import MemorySamples, Preprocessing
from coterie.labels import LabelSpace

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Rows(Generic[T]):
    """Labelled rows as a file holds them: ``raw`` and class indices by split, and what the source is called.

    ``take`` picks rows of a split's raw form; ``learn`` makes the preprocessing of the training rows; ``notes`` says
    sentences about all parts once they are cut; ``unit`` is what rows are called. ``n_in_validation`` counts the rows
    of test that are also in validation.
    """

    raw: Mapping[str, T]
    labels: Mapping[str, np.ndarray]
    names: LabelSpace
    source: str
    unit: str
    take: Callable[[T, np.ndarray], T]
    learn: Callable[[T], Preprocessing]
    notes: Callable[[Mapping[str, T]], list[str]] = lambda _: []
    n_in_validation: Callable[[Mapping[str, T]], int] = lambda _: 0
    skipped: tuple[str, ...] = ()


def assemble(rows: Rows[T], settings: DataSettings, seed: int, preprocessing: Preprocessing | None) -> Splits:
    """Cut the splits that are missing, and make samples of all of them.

    Args:
        rows: what was read.
        settings: how splits are cut.
        seed: of the cut.
        preprocessing: of the run whose networks take the samples; default: learned from train.

    Raises:
        DataError: too few rows to cut, a class without a training row, or rows that the preprocessing cannot take.
    """
    # Row numbers stand in for rows, since samples can be made only once train is known, which teaches the
    # preprocessing.
    found = {
        name: Split(MemorySamples(torch.arange(len(labels_N))), torch.from_numpy(labels_N))
        for name, labels_N in rows.labels.items()
    }
    numbers = cut_missing(found, settings, seed)
    parts = {}
    for name, split in numbers.items():
        row_N = split.samples.read(torch.arange(len(split))).numpy()
        parts[name] = rows.take(rows.raw[name if name in found else "train"], row_N)
    try:
        preprocessing = rows.learn(parts["train"]) if preprocessing is None else preprocessing
        splits = {name: Split(preprocessing.samples(parts[name]), split.labels_N) for name, split in numbers.items()}
    except InputError as error:
        raise DataError(f"{rows.source}: {error}") from None
    about = f"{rows.source}: {len(rows.names)} classes, {sizes_of(splits, found)} {rows.unit}"
    return Splits(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        labels=rows.names,
        preprocessing=preprocessing,
        about="; ".join([about, *_shortened(splits), *rows.notes(parts)]),
        flip=False,
        skipped=rows.skipped,
        cut=cut_splits(found),
        n_in_validation=rows.n_in_validation(parts),
    )


def _shortened(splits: Mapping[str, Split]) -> list[str]:
    counts = {name: len(split.samples.shortened()) for name, split in splits.items()}
    shown = ", ".join(f"{counts[name]:,} of {name}" for name in ("train", "validation", "test") if counts[name])
    return [f"too long, and cut: {shown}"] if shown else []
