"""A column that says which rows are of train, validation and test."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np

from coterie.config import DataSettings
from coterie.config.data import NO_SPLIT
from coterie.config.source import SPLIT_WORDS
from coterie.data.columns import cells_of
from coterie.data.tables import Source
from coterie.errors import DataError
from coterie.system.units import how_many

# What people call it.
NAMES = ("split", "splits", "data_split", "dataset_split", "subset", "set", "partition", "fold")


def split_by_column(
    source: Source, settings: DataSettings, taken: Collection[str | None], *, lenient: bool = False
) -> Source:
    """A source whose rows are split as a column says, without that column.

    Args:
        source: its files may be splits by their names, which go before a column that is not asked for.
        settings: the column that is asked for; default: found by its name, if it holds nothing but names of splits.
        taken: columns that are something else.
        lenient: whether other data than a run's own may lack the column.

    Raises:
        DataError: the column that is asked for is not there, or holds something else; or files are splits already;
            unless ``lenient``.
    """
    train = source.tables["train"]
    if settings.split is not None and settings.split != NO_SPLIT:
        fault = _fault(source, settings.split)
        if fault and not lenient:
            raise DataError(fault)
        return source if fault else _split(source, settings.split)
    names = [name for name in train.column_names if name.strip().lower() in NAMES and name not in taken]
    found = [name for name in names if all(_holds_splits(table, name) for table in source.tables.values())]
    if settings.split == NO_SPLIT or not found:
        return source
    if len(source.tables) > 1:
        tables = {split: table.remove_columns(found) for split, table in source.tables.items()}
        return replace(source, tables=tables).noted(f"files are the splits; not used: column {found[0]!r}")
    return _split(source, found[0]) if len(found) == 1 and "train" in _splits(train, found[0]) else source


def _holds_splits(table: datasets.Dataset, name: str) -> bool:
    """Whether each cell that is not empty is the name of a split."""
    if name not in table.column_names or table.features[name] not in map(datasets.Value, ("string", "large_string")):
        return False
    cells = cells_of(table, name)
    distinct = cells.unique().drop_null()
    return 0 < len(distinct) <= 20 and all(_split_of(cell) for cell in distinct.to_pylist())


def _split_of(cell: str) -> str | None:
    return next((split for split, words in SPLIT_WORDS.items() if cell.strip().lower() in words), None)


def _splits(table: datasets.Dataset, name: str) -> dict[str, np.ndarray]:
    """The rows of each split, ascending; of no row in a split of none."""
    split_N = [_split_of(cell) if cell else None for cell in cells_of(table, name).to_pylist()]
    rows = {split: np.array([row for row, own in enumerate(split_N) if own == split]) for split in SPLIT_WORDS}
    return {split: some for split, some in rows.items() if len(some)}


def _split(source: Source, name: str) -> Source:
    train = source.tables["train"]
    rows = _splits(train, name)
    rest = train.remove_columns([name])
    n_without = len(train) - sum(map(len, rows.values()))
    return replace(
        source,
        tables={split: rest.select(some) for split, some in rows.items()},
        origins=_origins(source.origins, rows),
        rows=rows,
    ).noted(
        f"the splits are those of the column {name!r} (--data.split)",
        f"left out, for they are of no split: {how_many(n_without, 'row')}" if n_without else "",
    )


def _origins(
    origins: Mapping[str, Sequence[tuple[Path, int]]], rows: Mapping[str, np.ndarray]
) -> dict[str, list[tuple[Path, int]]]:
    """How many rows of each split come from each file."""
    if "train" not in origins:
        return {}
    folders, counts = zip(*origins["train"], strict=True)
    ends = np.cumsum(counts)
    return {
        split: list(zip(folders, np.diff(np.searchsorted(some, ends), prepend=0).tolist(), strict=True))
        for split, some in rows.items()
    }


def _fault(source: Source, name: str) -> str:
    """Why a column cannot split rows; empty where it can."""
    train = source.tables["train"]
    if name not in train.column_names:
        return f"no column {name!r} (--data.split); columns: {', '.join(train.column_names)}"
    if len(source.tables) > 1:
        return f"cannot split by the column {name!r}: the files are splits by their names; --data.split no"
    if not _holds_splits(train, name) or "train" not in _splits(train, name):
        shown = ", ".join(map(str, cells_of(train, name).unique().to_pylist()[:5]))
        return (
            f"the column {name!r} must say train, and validation or test, of its rows (--data.split); it holds {shown}"
        )
    return ""
