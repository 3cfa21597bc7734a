"""Labelled samples of any modality out of the tables that Hugging Face `datasets` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import torch

from coterie.config import DataSettings
from coterie.data.classes import read_class_names, read_groups, read_labels
from coterie.data.columns import find_modality, image_column, text_column, vector_column
from coterie.data.cut import cut_missing, cut_splits, sizes_of
from coterie.data.decode import Decoded, FileImages, ImageShape, decode_splits
from coterie.data.encoded import Broken, EncodedImages, read_header
from coterie.data.interpret import open_labelled
from coterie.data.kinds import counted
from coterie.data.labelled import with_labels
from coterie.data.pieces import name_of
from coterie.data.reading import no_progress_bars
from coterie.data.splits import Columns, Split, Splits
from coterie.data.tables import Source, root_cause
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, Preprocessing, Samples
from coterie.inputs.image import prescribed_image
from coterie.labels import LabelSpace
from coterie.system.units import how_many
from coterie.vocabulary import Modality


def load(
    kind: str,
    place: str,
    settings: DataSettings,
    seed: int,
    preprocessing: Preprocessing | None = None,
    columns: Columns | None = None,
) -> Splits:
    """Read ``parquet``, ``csv``, ``jsonl``, ``arrow``, ``folder`` or ``hub`` data at a place; cut the splits that it
    lacks out of train.

    Args:
        kind: of the source.
        place: a file, a folder, or a name on the hub.
        settings: columns, and how splits are cut.
        seed: of the splits.
        preprocessing: of the run whose networks take the samples; default: learned from train.
        columns: of the run, as for ``open_labelled``.

    Raises:
        DataError: what is there cannot be read or does not describe labelled samples; see the message.
    """
    source, label = open_labelled(kind, place, settings, preprocessing, columns)
    source = with_labels(source, label, settings)
    modality = _modality(source, label, settings) if preprocessing is None else preprocessing.modality
    sample = _sample_column(modality, source, label, settings)
    splits = _load_labelled(source, label, sample, modality, settings, seed, preprocessing)
    found = Columns(label, (source.texts if source.texts[1:] else sample) or None)
    return replace(splits, n_unknown=source.n_unknown, encoding=source.encoding, columns=found)


def _load_labelled(
    source: Source,
    label: str,
    sample: str,
    modality: Modality,
    settings: DataSettings,
    seed: int,
    preprocessing: Preprocessing | None,
) -> Splits:
    if sample:
        others = [name for name in source.features if name not in (label, sample)]
        source = source.noted(f"no part of the samples: {', '.join(others[:10])}" if others else "")
    # Labels are read, and refused, before images are decoded, which may take minutes.
    classes = read_labels(
        source.tables,
        label,
        spelled=source.spelled,
        merge=settings.merge_names,
        trained=settings.skip_unknown,
        numbers=source.rows,
    )
    if modality == "image":
        return load_images(source, sample, *classes, settings, seed, preprocessing)
    left_out = _notes(source)
    if modality == "text":
        from coterie.data.texts import load_texts

        return load_texts(source.tables, sample, *classes, settings, seed, preprocessing, left_out, source.rows)
    if modality == "table":
        from coterie.data.rows import load_table

        return load_table(source, label, *classes, settings, seed, preprocessing, left_out)
    from coterie.data.features import load_features, read_vectors

    vectors = {
        split: read_vectors(table, sample, split, source.rows.get(split)) for split, table in source.tables.items()
    }
    return load_features(vectors, *classes, settings, seed, preprocessing, left_out)


def _modality(source: Source, label: str, settings: DataSettings) -> Modality:
    return find_modality(source.features, label, settings, source.texts)


def _sample_column(modality: Modality, source: Source, label: str, settings: DataSettings) -> str:
    """The name of the column that holds the samples; none of a table, where all do."""
    match modality:
        case "image":
            return image_column(source.features, settings.image)
        case "text":
            return _text_column(source, label, settings)
        case "features":
            return vector_column(source.features, settings.columns)
    return ""


def _text_column(source: Source, label: str, settings: DataSettings) -> str:
    named = source.texts or settings.text
    wanted = None if named is None else name_of(named)
    return text_column(source.features, source.tables["train"].features, wanted, label)


def kind_of(kind: str, place: str, settings: DataSettings) -> tuple[Modality, tuple[int, int] | None]:
    """As ``coterie.data.sources.kind_of``, of tables."""
    source, label = open_labelled(kind, place, settings)
    table, modality = source.tables["train"], _modality(source, label, settings)
    if modality != "image":
        return modality, None
    encoded = _encoded(table, image_column(table.features, settings.image), "train")
    header = read_header(encoded.read([0])[0])
    return modality, None if isinstance(header, str) or header.grey else header.size


def load_images(
    source: Source,
    image: str,
    space: LabelSpace,
    labels: Mapping[str, np.ndarray],
    settings: DataSettings,
    seed: int,
    preprocessing: Preprocessing | None,
) -> Splits:
    """Images that a source holds, decoded and cut, with labels that were read.

    Args:
        source: tables with a column of images.
        image: its name.
        space: the classes.
        labels: class indices, per split.
        settings: how images are represented and cut.
        seed: of the cut.
        preprocessing: that the network prescribes, or of a run.

    Raises:
        DataError: images cannot be decoded, differ in size, or are too few to cut.
    """
    encoded = {split: _encoded(table, image, split, source.rows.get(split)) for split, table in source.tables.items()}
    prescribed = prescribed_image(preprocessing)
    given = preprocessing if isinstance(preprocessing, ImagePreprocessing) else None
    shape, decoded, said = decode_splits(encoded, settings, given)
    broken = [*source.broken, *(item for part in decoded.values() for item in part.broken)]
    _refuse_broken(broken, settings.skip_broken)
    found = {split: _labelled(part, labels[split]) for split, part in decoded.items()}
    splits = cut_missing(found, settings, seed)
    form = prescribed or ImagePreprocessing.measure(splits["train"].samples)
    about = _about(settings.source, splits, len(space), shape, set(found))
    return Splits(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        labels=space,
        preprocessing=replace(form, levels=shape.levels, background=shape.background),
        about="; ".join([about, *said, *_notes(source)]),
        skipped=tuple(str(item) for item in broken),
        cut=cut_splits(found),
    )


def load_groups(kind: str, place: str, settings: DataSettings, column: str) -> tuple[LabelSpace, tuple[str, ...]]:
    """The classes of the data at a place, and the group of each by another column; no image is decoded.

    Raises:
        DataError: what is there cannot be read, or the column is not one group for each class.
    """
    source, label = open_labelled(kind, place, settings)
    tables = with_labels(source, label, settings).tables
    return read_groups(
        tables, label, column, spelled=source.spelled, merge=settings.merge_names, trained=settings.skip_unknown
    )


def read_named(
    kind: str, place: str, settings: DataSettings, preprocessing: Preprocessing, columns: Columns | None = None
) -> tuple[Samples, list[str]]:
    """All samples at a place, of all splits, as a run's networks take them, and the class name of each; ``columns``: as
    for ``open_labelled``.

    Raises:
        DataError: what is there cannot be read, or a row has no label, or an empty text, unless
            ``settings.skip_broken``.
        InputError: samples that the preprocessing cannot take.
    """
    source, label = open_labelled(kind, place, settings, preprocessing, columns)
    source = with_labels(source, label, settings)
    # Splits count alike: all of it is new to the run.
    table = _joined(source, place)
    names = read_class_names(table, label, place)
    if isinstance(preprocessing, ImagePreprocessing):
        encoded = _encoded(table, image_column(table.features, settings.image), place)
        return FileImages(encoded, ImageShape.of(preprocessing), torch.arange(len(table))), names
    if preprocessing.modality == "text":
        from coterie.data.texts import full_texts, refuse_empty

        texts, rows, empty = full_texts(table, _text_column(source, label, settings), place)
        refuse_empty(empty, settings.skip_broken)
        return preprocessing.samples(texts), [names[row] for row in rows]
    if preprocessing.modality == "table":
        return preprocessing.samples(table.with_format("arrow")[:]), names
    from coterie.data.features import read_vectors

    return preprocessing.samples(read_vectors(table, vector_column(table.features, settings.columns), place)), names


def _joined(source: Source, place: str) -> datasets.Dataset:
    train = source.tables["train"]
    try:
        with no_progress_bars():
            return datasets.concatenate_datasets(
                [
                    table
                    if table.features == train.features
                    else table.select_columns(train.column_names).cast(train.features)
                    for table in source.tables.values()
                ]
            )
    except Exception as error:
        raise DataError(f"the splits of {place} do not fit together: {root_cause(error)}") from None


def read_image_files(place: str, settings: DataSettings) -> dict[str, list[Path]]:
    """The image files of each class of a folder, of all its splits.

    Raises:
        DataError: as ``load``; or other files lie in folders of classes, unless ``settings.skip_broken``.
    """
    source, label = open_labelled("folder", place, settings)
    _refuse_broken(list(source.broken), settings.skip_broken)
    files: dict[str, list[Path]] = {}
    for table in source.tables.values():
        encoded = _encoded(table, "image", place)
        names = read_class_names(table, label, place)
        for name, record in zip(names, encoded.read(range(len(encoded))), strict=True):
            files.setdefault(name, []).append(Path(record["path"]))
    return files


def _encoded(table: datasets.Dataset, image: str, split: str, numbers: np.ndarray | None = None) -> EncodedImages:
    try:
        column = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    except Exception as error:
        raise DataError(f"column {image!r} of {split} cannot hold images: {root_cause(error)}") from error
    return EncodedImages(column, image, split, np.arange(len(table)) if numbers is None else numbers)


def _labelled(decoded: Decoded, labels_N: np.ndarray) -> Split:
    return Split(decoded.images, torch.from_numpy(labels_N[decoded.rows]))


def _refuse_broken(broken: list[Broken], skip: bool) -> None:
    if broken and not skip:
        shown = "\n".join(f"  {item}" for item in broken[:10])
        more = f"\n  and {len(broken) - 10} more" if len(broken) > 10 else ""
        kinds = counted(item.kind for item in broken if item.kind)
        among = f", of which {kinds}" if kinds else ""
        raise DataError(
            f"{how_many(len(broken), 'image')} cannot be decoded{among} (--data.skip-broken leaves them out):\n"
            f"{shown}{more}"
        )


def _about(
    source: str,
    splits: Mapping[str, Split],
    n_classes: int,
    shape: ImageShape,
    found: set[str],
) -> str:
    kind = "grey" if shape.channels == 1 else "RGB"
    pixels = f"{shape.width} x {shape.height} pixels, {kind}"
    return f"{source}: {n_classes} classes, {sizes_of(splits, found)} images of {pixels}"


def _notes(source: Source) -> list[str]:
    left_out = f"left out as of no split: {', '.join(source.unused[:10])}" if source.unused else ""
    return [note for note in (left_out, source.note) if note]
