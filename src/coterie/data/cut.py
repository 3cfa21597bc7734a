"""Cutting a split that a source lacks out of its training samples, and a long tail out of these."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch

from coterie.config import DataSettings
from coterie.data.splits import CutSplit, Split
from coterie.errors import DataError
from coterie.system.units import how_many


class TooFewToCutError(DataError):
    """Train has too few samples to cut ``splits`` out of it."""

    def __init__(self, message: str, splits: tuple[CutSplit, ...]) -> None:
        super().__init__(message)
        self.splits = splits


def cut_missing(found: Mapping[str, Split], settings: DataSettings, seed: int) -> dict[str, Split]:
    """Train, validation and test: those that were found, and the others cut out of train, test first.

    Raises:
        TooFewToCutError: no class of train has two samples.
    """
    random = np.random.default_rng(seed)
    splits = dict(found)
    # Test first, so that the validation share does not change it.
    for name, share in (("test", settings.test_share), ("validation", settings.validation_share)):
        if name not in splits:
            train = splits["train"]
            try:
                stay, cut = map(torch.from_numpy, stratified_cut(train.labels_N.numpy(), share, random))
            except DataError as error:
                raise TooFewToCutError(str(error), cut_splits(found)) from None
            splits["train"] = Split(train.samples.take(stay), train.labels_N[stay])
            splits[name] = Split(train.samples.take(cut), train.labels_N[cut])
    if settings.imbalance is not None:
        splits["train"] = thin(splits["train"], settings.imbalance, random)
    return splits


def cut_splits(found: Collection[str]) -> tuple[CutSplit, ...]:
    """The splits that ``cut_missing`` cuts."""
    wanted: tuple[CutSplit, ...] = ("validation", "test")
    return tuple(name for name in wanted if name not in found)


def sizes_of(splits: Mapping[str, Split], found: Collection[str]) -> str:
    """How many samples each split has, and which were cut from train, as the line about the data says it."""
    return ", ".join(
        f"{len(splits[name]):,} {name}" + ("" if name in found else " (cut from train)")
        for name in ("train", "validation", "test")
    )


def thin(train: Split, imbalance: float, random: np.random.Generator) -> Split:
    """A long tail out of a balanced split: of class k, in their order, at most n ``imbalance`` ^ (-k / (C - 1)) samples
    stay, chosen at random, where n is what the largest class has; at least one stays (Cao et al. 2019, arXiv
    1906.07413).
    """
    labels_N = train.labels_N.numpy()
    count_C = np.bincount(labels_N)
    share_C = imbalance ** (-np.arange(len(count_C)) / max(1, len(count_C) - 1))
    # A share that is exact on paper may come out just below a whole number.
    most_C = np.maximum(1, (count_C.max() * share_C + 1e-9).astype(np.int64))
    shuffled = random.permutation(len(labels_N))
    by_class = shuffled[np.argsort(labels_N[shuffled], kind="stable")]
    place_N = np.arange(len(labels_N)) - (np.cumsum(count_C) - count_C)[labels_N[by_class]]
    rows = torch.from_numpy(np.sort(by_class[place_N < most_C[labels_N[by_class]]]))
    return Split(train.samples.take(rows), train.labels_N[rows])


def stratified_cut(labels_N: np.ndarray, share: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split rows in two, each class by the same share: (rows that stay, rows cut out), both ascending.

    The cut takes ``round(share * N)`` rows where it can. Every class keeps at least one row, so that a class
    with a single row loses none; scikit-learn's stratified splitters refuse such a class.

    Raises:
        DataError: nothing can be cut, because no class has two rows.
    """
    count_C = np.bincount(labels_N)
    if not (count_C > 1).any():
        raise DataError(
            f"cannot cut {share:.0%} of the training samples for another split: "
            f"none of the {how_many(int((count_C > 0).sum()), 'class')} has two samples"
        )
    take_C = _apportion(count_C, share, random)
    # Shuffled, then sorted by class with ties in place: the rows of each class come at random.
    shuffled = random.permutation(len(labels_N))
    by_class = shuffled[np.argsort(labels_N[shuffled], kind="stable")]
    starts_C = np.cumsum(count_C) - count_C
    place_in_class_N = np.arange(len(labels_N)) - starts_C[labels_N[by_class]]
    is_cut_N = place_in_class_N < take_C[labels_N[by_class]]
    return np.sort(by_class[~is_cut_N]), np.sort(by_class[is_cut_N])


def _apportion(count_C: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Rows to take per class: its quota's whole part, one more for the largest remainders; ties by lot."""
    # A row of each class stays, since a class without a training sample cannot be learned.
    limit_C = np.maximum(count_C - 1, 0)
    quota_C = count_C * share
    take_C: np.ndarray = np.minimum(np.floor(quota_C).astype(np.int64), limit_C)
    # Each class rounded by itself could miss the total by half a row a class.
    wanted = max(1, round(float(quota_C.sum()))) - int(take_C.sum())
    open_C = np.flatnonzero(take_C < limit_C)
    order = random.permutation(len(open_C))
    order = order[np.argsort((take_C - quota_C)[open_C][order], kind="stable")]
    take_C[open_C[order[: max(0, wanted)]]] += 1
    return take_C
