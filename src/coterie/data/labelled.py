"""Rows that have no label, or one that train does not know: which are left out, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np

from coterie.config import DataSettings
from coterie.data.columns import cells_of, label_column
from coterie.data.tables import Source
from coterie.errors import DataError
from coterie.labels import spelling
from coterie.system.units import how_many

# What published test sets have in place of labels that are withheld.
WITHHELD = (-1, "-1", -1.0)


def with_labels(source: Source, label: str, settings: DataSettings) -> Source:
    """A source without the splits that have no labels, and the rows that the settings leave out.

    Raises:
        DataError: no sample of a split is of a class that train has.
    """
    values = {split: _values(table, label) for split, table in source.tables.items()}
    numbers = {split: source.numbers(split) for split in source.tables}
    rows, notes, n_unknown = choose_rows(values, settings, numbers)
    tables = {
        split: table if len(rows[split]) == len(table) else table.select(rows[split])
        for split, table in source.tables.items()
        if split in rows
    }
    kept = {split: numbers[split][some] for split, some in rows.items()}
    return replace(source.noted(*notes), tables=tables, n_unknown=n_unknown, rows=kept)


def without_unlabelled(source: Source, settings: DataSettings) -> Source:
    """A source without the splits that lack no column of train but that of labels."""
    train = source.tables["train"]
    tables, notes = {"train": train}, []
    for split, table in source.tables.items():
        missing = [name for name in train.column_names if name not in table.column_names]
        if len(missing) == 1 and missing[0] == _label(train, settings):
            notes.append(f"{split} has no column {missing[0]!r}, and is left out")
        else:
            tables[split] = table
    if not notes:
        return source
    return replace(source.noted(*notes), tables=tables)


def choose_rows(
    values: Mapping[str, Sequence[Any]], settings: DataSettings, numbers: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str], int]:
    """The rows to keep of each split that has labels, what to say of the others, and how many test samples are left out
    for their class.

    Args:
        values: the labels of each split; None where there is none.
        settings: whether rows without a label, and those of classes that train lacks, are left out.
        numbers: what rows are called by, see ``Source.numbers``.

    Raises:
        DataError: no sample of a split is of a class that train has.
    """
    rows: dict[str, np.ndarray] = {}
    notes = []
    n_unknown = 0
    known = {_key(value, settings) for value in values["train"]}
    for split, some in values.items():
        missing = np.array([value is None for value in some])
        if split != "train" and (missing.all() or (known.isdisjoint(WITHHELD) and all(v in WITHHELD for v in some))):
            notes.append(f"{split} has no labels, and is left out")
            continue
        keep = np.ones(len(some), bool)
        if settings.skip_broken and missing.any():
            keep &= ~missing
            notes.append(
                f"{how_many(missing.sum(), 'row')} of {split} without a label left out, the first is row "
                f"{numbers[split][missing.argmax()]}"
            )
        if settings.skip_unknown and split != "train":
            unknown = np.array([value is not None and _key(value, settings) not in known for value in some])
            keep &= ~unknown
            notes += _said(split, [value for value, left in zip(some, unknown, strict=True) if left], len(some))
            n_unknown += int(unknown.sum()) if split == "test" else 0
            if not keep.any():
                raise DataError(f"no sample of {split} is of a class that train has")
        rows[split] = np.flatnonzero(keep)
    return rows, notes, n_unknown


def named_or_none(value: Any) -> Any:
    """A label, or None for what stands for a missing one: NaN, and an empty text."""
    return None if value != value or value == "" else value


def _said(split: str, unknown: Sequence[Any], n: int) -> list[str]:
    if not unknown:
        return []
    names = sorted({str(value) for value in unknown})
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    lacked = f"{how_many(len(names), 'class')} that train lacks ({shown})"
    return [f"{len(unknown):,} of {n:,} {split} samples are of {lacked}, and are left out"]


def _key(value: Any, settings: DataSettings) -> Any:
    return spelling(value) if settings.merge_names and isinstance(value, str) else value


def _values(table: datasets.Dataset, label: str) -> list[Any]:
    values = cells_of(table, label).to_pylist()
    feature = table.features[label]
    if isinstance(feature, datasets.ClassLabel):
        return [None if value is None or value < 0 else feature.names[value] for value in values]
    return [named_or_none(value) for value in values]


def _label(train: datasets.Dataset, settings: DataSettings) -> str:
    try:
        return label_column(train.features, settings.label, settings.text, train)
    except DataError:  # said when the label is needed
        return ""
