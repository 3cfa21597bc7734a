"""Further labelled samples for a trained run: of some of its classes, or of a new one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from typing_extensions import override

from coterie.config import PLACES, DataSettings, full_source
from coterie.data.cut import cut_missing
from coterie.data.decode import read_images
from coterie.data.splits import Columns, Split, Splits
from coterie.errors import DataError, InputError
from coterie.inputs import ImagePreprocessing, Preprocessing, Samples
from coterie.labels import LabelSpace, join_names
from coterie.vocabulary import Modality

# One for each split.
FEWEST = 3
ROWS = ("parquet", "csv", "jsonl", "arrow", "hub")
KINDS: dict[Modality, tuple[str, ...]] = {
    "image": ("folder", *ROWS),
    "text": ROWS,
    "table": ROWS,
    "features": ("features", *ROWS),
}


class JoinedSamples(Samples):
    """The samples of ``first``, then those of ``second``; ``rows`` picks and orders some of them."""

    def __init__(self, first: Samples, second: Samples, rows: Tensor | None = None) -> None:
        self.first, self.second = first, second
        self.rows = torch.arange(len(first) + len(second)) if rows is None else rows

    @override
    def __len__(self) -> int:
        return len(self.rows)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return self.first.shape

    @override
    def read(self, rows_B: Tensor) -> Tensor:
        places = self.rows[rows_B]
        later = places >= len(self.first)
        parts = [self.first.read(places[~later]), self.second.read(places[later] - len(self.first))]
        if -1 in self.shape:  # how far they are padded depends on those that are read with them
            longest = max(part.shape[1] for part in parts)
            parts = [F.pad(part, (0, longest - part.shape[1]), value=-1) for part in parts]
        values = torch.cat(parts)
        # Those of the first came first: back to the order that was asked for.
        order = torch.cat([torch.nonzero(~later), torch.nonzero(later)]).squeeze(1)
        return values[torch.argsort(order)]

    @override
    def take(self, rows: Tensor) -> JoinedSamples:
        return JoinedSamples(self.first, self.second, self.rows[rows])

    @override
    def shortened(self) -> list[int]:
        there = [*self.first.shortened(), *(len(self.first) + row for row in self.second.shortened())]
        rows: list[int] = (
            torch.nonzero(torch.isin(self.rows, torch.tensor(there, dtype=torch.int64))).flatten().tolist()
        )
        return rows

    @override
    def show(self, row: int) -> str:
        place = int(self.rows[row])
        n_first = len(self.first)
        return self.first.show(place) if place < n_first else self.second.show(place - n_first)


def read_additions(
    source: str, preprocessing: Preprocessing, settings: DataSettings, columns: Columns | None = None
) -> dict[str, Samples]:
    """The samples of each class of a source, as a run's networks take them; one class is enough.

    Args:
        source: as ``data.source``, but for those that are generated or downloaded; its splits count alike.
        preprocessing: of the run.
        settings: of the run's data, for the names of the columns.
        columns: those of the run's own data; heeded where the settings name none and they are there.

    Raises:
        DataError: the source cannot be read, holds no sample, or one that is broken; named.
    """
    with suppress(ValueError):  # said below
        source = full_source(source)
    kind, _, place = source.partition(":")
    allowed = KINDS[preprocessing.modality]
    if kind not in allowed or not place:
        listed = ", ".join(f"{kind}:{PLACES[kind]}" for kind in allowed)
        raise DataError(f"--source {source!r} is not allowed here; allowed: {listed}")
    if kind == "folder" and isinstance(preprocessing, ImagePreprocessing):
        return _read_folder(place, preprocessing, settings)
    try:
        samples, names = _read_rows(kind, place, preprocessing, settings, columns)
    except InputError as error:
        raise DataError(f"{source}: {error}") from None
    chosen = join_names(Counter(names)) if settings.merge_names else {}
    name_N = np.array([chosen.get(name, name) for name in names])
    return {
        name: samples.take(torch.from_numpy(np.flatnonzero(name_N == name))) for name in sorted(set(name_N.tolist()))
    }


def _read_rows(
    kind: str, place: str, preprocessing: Preprocessing, settings: DataSettings, columns: Columns | None
) -> tuple[Samples, Sequence[str]]:
    if kind == "features" and not place.endswith(".parquet"):
        from coterie.data.features import read_named_npz

        feature_NF, names = read_named_npz(place)
        return preprocessing.samples(feature_NF), names
    from coterie.data.huggingface import read_named

    return read_named("parquet" if kind == "features" else kind, place, settings, preprocessing, columns)


def extended(splits: Splits, labels: LabelSpace, additions: dict[str, Samples], settings: DataSettings) -> Splits:
    """Splits with further samples, cut by the same shares as the run's own where it lacked a split.

    Args:
        splits: of the run.
        labels: the classes that there are now: those of the run, and those that are new at the end.
        additions: samples by class name, each among ``labels``.
        settings: shares and seed of the cut.

    Raises:
        DataError: too few samples of a class to cut.
    """
    few = [f"{name} ({len(samples)})" for name, samples in additions.items() if len(samples) < FEWEST]
    if few:
        raise DataError(f"at least {FEWEST} samples of a class are needed, one for each split; got {', '.join(few)}")
    settings = settings.model_copy(update={"imbalance": None})  # it is the run's, and was made once
    parts: dict[str, Split] = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    for name, samples in additions.items():
        label_N = torch.full((len(samples),), labels.names.index(name), dtype=torch.int64)
        cut = cut_missing({"train": Split(samples, label_N)}, settings, settings.split_seed or 0)
        parts = {part: _joined(parts[part], cut[part]) for part in parts}
    return Splits(
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        labels=labels,
        preprocessing=splits.preprocessing,
        about=f"{splits.about}; more samples of {', '.join(additions)}",
        flip=splits.flip,
        n_unknown=splits.n_unknown,
        encoding=splits.encoding,
        cut=splits.cut,
        n_in_validation=splits.n_in_validation,
        columns=splits.columns,
    )


def _joined(one: Split, other: Split) -> Split:
    return Split(JoinedSamples(one.samples, other.samples), torch.cat([one.labels_N, other.labels_N]))


def _read_folder(place: str, preprocessing: ImagePreprocessing, settings: DataSettings) -> dict[str, Samples]:
    from coterie.data.huggingface import read_image_files

    files = read_image_files(place, settings)
    chosen = join_names({name: len(some) for name, some in files.items()}) if settings.merge_names else {}
    by_class: dict[str, list[Path]] = defaultdict(list)
    for name, some in files.items():
        by_class[chosen.get(name, name)] += some
    return {
        name: read_images(some, preprocessing, skip_broken=settings.skip_broken)[0] for name, some in by_class.items()
    }
