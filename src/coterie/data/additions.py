"""Further labelled images for a trained run: of some of its classes, or of a new one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from coterie.config import DataSettings
from coterie.data.cut import cut_missing
from coterie.data.decode import EncodedImages, FileImages, Form, read_images
from coterie.data.splits import Split, Splits
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, Preprocessing, Samples
from coterie.labels import LabelSpace

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# One for each split.
FEWEST = 3


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
        values = torch.cat([self.first.read(places[~later]), self.second.read(places[later] - len(self.first))])
        # Those of the first came first: back to the order that was asked for.
        order = torch.cat([torch.nonzero(~later), torch.nonzero(later)]).squeeze(1)
        return values[torch.argsort(order)]

    @override
    def take(self, rows: Tensor) -> JoinedSamples:
        return JoinedSamples(self.first, self.second, self.rows[rows])

    @override
    def show(self, row: int) -> str:
        place = int(self.rows[row])
        n_first = len(self.first)
        return self.first.show(place) if place < n_first else self.second.show(place - n_first)


def read_additions(source: str, preprocessing: Preprocessing, settings: DataSettings) -> dict[str, Samples]:
    """The images of each class of a source, in the form that a run's networks take.

    Args:
        source: ``folder:DIR`` with a folder per class, one being enough; or ``parquet:DIR`` with an image and a label
            column.
        preprocessing: of the run, which must be of images.
        settings: of the run's data, for the names of the columns.

    Raises:
        DataError: the run is of something else; the source cannot be read, holds no image, or one that cannot be
            decoded; named.
    """
    if not isinstance(preprocessing, ImagePreprocessing):
        raise DataError("further samples can be added to a run of images only; this run is not")
    kind, _, place = source.partition(":")
    if kind == "folder" and place:
        return _read_folder(Path(place), preprocessing, skip_broken=settings.skip_broken)
    if kind == "parquet" and place:
        return _read_parquet(place, preprocessing, settings)
    raise DataError(
        f"--source {source!r} is not allowed here; allowed: folder:DIR with a folder per class, parquet:DIR"
    )


def extended(splits: Splits, labels: LabelSpace, additions: dict[str, Samples], settings: DataSettings) -> Splits:
    """Splits with further images, cut by the same shares as the run's own where it lacked a split.

    Args:
        splits: of the run.
        labels: the classes that there are now: those of the run, and those that are new at the end.
        additions: images by class name, each among ``labels``.
        settings: shares and seed of the cut.

    Raises:
        DataError: too few images of a class to cut.
    """
    few = [f"{name} ({len(images)})" for name, images in additions.items() if len(images) < FEWEST]
    if few:
        raise DataError(f"at least {FEWEST} images of a class are needed, one for each split; got {', '.join(few)}")
    settings = settings.model_copy(update={"imbalance": None})  # it is the run's, and was made once
    parts: dict[str, Split] = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    for name, images in additions.items():
        label_N = torch.full((len(images),), labels.names.index(name), dtype=torch.int64)
        cut = cut_missing({"train": Split(images, label_N)}, settings, settings.split_seed or 0)
        parts = {part: _joined(parts[part], cut[part]) for part in parts}
    return Splits(
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        labels=labels,
        preprocessing=splits.preprocessing,
        about=f"{splits.about}; more images of {', '.join(additions)}",
        flip=splits.flip,
    )


def _joined(one: Split, other: Split) -> Split:
    return Split(JoinedSamples(one.samples, other.samples), torch.cat([one.labels_N, other.labels_N]))


def _read_folder(root: Path, preprocessing: ImagePreprocessing, *, skip_broken: bool) -> dict[str, Samples]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    found: dict[str, Samples] = {}
    for folder in sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")):
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        if files:
            found[folder.name] = read_images(files, preprocessing, skip_broken=skip_broken)[0]
    if not found:
        raise DataError(f"no images in {root}: it needs a folder per class ({', '.join(SUFFIXES[:3])} and the like)")
    return found


def _read_parquet(place: str, preprocessing: ImagePreprocessing, settings: DataSettings) -> dict[str, Samples]:
    import datasets

    from coterie.data.columns import image_column, label_column

    files = sorted(str(file) for file in Path(place).rglob("*.parquet")) if Path(place).is_dir() else [place]
    try:
        table = datasets.load_dataset("parquet", data_files=files, split="train")
    except Exception as error:  # the library raises some twenty kinds
        raise DataError(f"cannot load parquet:{place}: {str(error).splitlines()[0][:400]}") from None
    image, label = image_column(table.features, settings.image), label_column(table.features, settings.label)
    feature, values = table.features[label], np.asarray(table[label])
    names = np.array(
        [feature.names[value] if isinstance(feature, datasets.ClassLabel) else str(value) for value in values]
    )
    encoded = EncodedImages(
        table.select_columns([image]).cast_column(image, datasets.Image(decode=False)), image, place
    )
    form = Form(preprocessing.height, preprocessing.width, preprocessing.channels)
    return {
        name: FileImages(encoded, form, torch.from_numpy(np.flatnonzero(names == name))) for name in sorted(set(names))
    }
