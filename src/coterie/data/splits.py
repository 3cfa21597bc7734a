"""What every data source returns: three disjoint splits of labelled samples, and their preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from coterie.config import DataSettings
from coterie.errors import DataError
from coterie.inputs import Preprocessing, Samples
from coterie.labels import LabelSpace
from coterie.system.units import how_many

CutSplit = Literal["validation", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """N labelled samples. ``labels_N`` is int64, one class index per sample.

    Raises:
        DataError: as many labels as samples are needed, and at least one of each.
    """

    samples: Samples
    labels_N: Tensor

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.labels_N) or len(self.samples) == 0:
            raise DataError(
                f"a split needs samples and as many labels; got {len(self.samples)} samples, "
                f"{len(self.labels_N)} labels"
            )

    def __len__(self) -> int:
        return len(self.labels_N)

    def of_classes(self, classes: np.ndarray) -> Split:
        """The samples of some classes only, labelled by position in ``classes``."""
        # A class without a sample in this split may have a higher number than any label.
        position_C = torch.full((int(max(self.labels_N.max(), classes.max())) + 1,), -1, dtype=torch.int64)
        position_C[torch.from_numpy(classes)] = torch.arange(len(classes))
        local_N = position_C[self.labels_N]
        rows = torch.nonzero(local_N >= 0).squeeze(1)
        return Split(self.samples.take(rows), local_N[rows])


@dataclass(frozen=True)
class Columns:
    """The columns of files in which labels and samples were found; ``sample`` of None: all others, of a table; several:
    texts, which are joined.
    """

    label: str
    sample: str | tuple[str, ...] | None

    @property
    def samples(self) -> tuple[str, ...]:
        """The columns of samples, where these are not all."""
        return (self.sample,) if isinstance(self.sample, str) else self.sample or ()

    def over(self, settings: DataSettings, preprocessing: Preprocessing, there: Sequence[str]) -> DataSettings:
        """Settings that name these columns, of those that are there, where they name no other."""
        update: dict[str, object] = {}
        if settings.label is None and self.label in there:
            update["label"] = self.label
        all_there = bool(self.samples) and set(there).issuperset(self.samples)
        if preprocessing.modality == "text" and settings.text is None and all_there:
            update["text"] = self.samples
        if preprocessing.modality == "image" and settings.image is None and all_there:
            update["image"] = self.sample
        return settings.model_copy(update=update)


def sample_columns(settings: DataSettings, preprocessing: Preprocessing, columns: Columns | None) -> tuple[str, ...]:
    """The columns of texts or images that settings name, or else those of a run."""
    if preprocessing.modality == "text" and settings.text is not None:
        return settings.text
    if preprocessing.modality == "image" and settings.image is not None:
        return (settings.image,)
    return () if columns is None else columns.samples


@dataclass(frozen=True, eq=False)
class Splits:
    """Training, validation and test samples of one task.

    ``flip`` says whether a mirrored image keeps its class; ``about`` describes them in one sentence, with the source.
    ``n_unknown``: test samples that were left out, of classes that train lacks, which are errors of any classifier.
    ``encoding``: of the csv files that they were read from, where it is no Unicode. ``cut``: the splits that were cut
    from train. ``n_in_validation``: test samples that are also in validation; 0 of tables, whose rows repeat by nature.
    ``columns``: where they were found, in files that have columns.

    Raises:
        DataError: a class without a training sample, or an unknown class in a split; the class is named.
    """

    train: Split
    validation: Split
    test: Split
    labels: LabelSpace
    preprocessing: Preprocessing
    about: str
    flip: bool = True
    skipped: tuple[str, ...] = field(default=())
    n_unknown: int = 0
    encoding: str | None = None
    cut: tuple[CutSplit, ...] = ()
    n_in_validation: int = 0
    columns: Columns | None = None

    def __post_init__(self) -> None:
        n_classes = len(self.labels)
        for name in ("train", "validation", "test"):
            labels_N = getattr(self, name).labels_N
            if int(labels_N.min()) < 0 or int(labels_N.max()) >= n_classes:
                raise DataError(f"{name} has a class index outside 0..{n_classes - 1}")
        count_C = torch.bincount(self.train.labels_N, minlength=n_classes)
        missing = torch.nonzero(count_C == 0).squeeze(1).tolist()
        if missing:
            raise DataError(
                f"no training sample for {how_many(len(missing), 'class')}: {', '.join(self.labels.of(missing[:10]))}"
            )

    @property
    def train_counts(self) -> tuple[int, ...]:
        """Training samples of each class."""
        return tuple(torch.bincount(self.train.labels_N, minlength=len(self.labels)).tolist())
