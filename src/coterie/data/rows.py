"""Rows of a table: what its columns hold, and which of them a classifier can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import datasets
import numpy as np
import pyarrow as pa

from coterie.config import DataSettings
from coterie.data.assemble import Rows, assemble
from coterie.data.interpret import all_differ
from coterie.data.splits import Splits
from coterie.data.tables import Source
from coterie.errors import DataError
from coterie.inputs import Preprocessing, TablePreprocessing
from coterie.inputs.cells import Meaning, looks_numeric, may_have_thousands
from coterie.labels import LabelSpace
from coterie.system.units import how_many

# Columns of a csv file that mean this are numeric.
NUMBERS: tuple[Meaning, ...] = ("whole", "number", "decimal", "truth")


def load_table(
    source: Source,
    label: str,
    names: LabelSpace,
    labels: Mapping[str, np.ndarray],
    settings: DataSettings,
    seed: int,
    preprocessing: Preprocessing | None,
    left_out: Sequence[str],
) -> Splits:
    """Splits of rows.

    Raises:
        DataError: a column that was asked for is not there or can be neither number nor category; all columns are
            empty; or as ``assemble``.
    """
    wanted = _wanted_columns(source.tables["train"], label, settings)
    raw = {split: table.select_columns(wanted).with_format("arrow")[:] for split, table in source.tables.items()}
    # A column without a value in train teaches nothing, and has no type to go by.
    filled = [name for name in wanted if raw["train"][name].null_count < len(raw["train"])]
    if not filled:
        raise DataError(f"every column of {settings.source} but the label is empty: {', '.join(wanted[:10])}")
    meant = source.meanings
    usable = raw["train"].select(filled)
    # A run knows its columns, which may hold whatever they do in other rows.
    alone = _names_of_rows(usable, meant, settings) if preprocessing is None and settings.ignore is None else []
    numeric, categorical = _kinds(usable.drop_columns(alone), meant, settings)
    commas = [name for name in numeric if meant.get(name) == "decimal"]
    empty = [name for name in wanted if name not in filled]
    codes = [name for name in categorical if meant.get(name) == "code" and name not in settings.categorical]
    notes = [f"left out, for they hold nothing: {', '.join(empty)}"] if empty else []
    notes += [f"categories, for some begin with a zero: {', '.join(codes)}"] if codes else []
    notes += [f"ignored, for no text is there twice: {', '.join(alone)} (--data.ignore, --data.text)"] if alone else []
    notes += [f"numbers with decimal commas: {', '.join(commas)} (--data.categorical)"] if commas else []
    points = [name for name in numeric if meant.get(name) == "number"]
    points = [name for name in points if commas or (source.commas and may_have_thousands(usable[name]))]
    notes += [f"numbers with decimal points: {', '.join(points)}"] if points else []
    alike = _numeric_at_sight(usable, [name for name in (*categorical, *alone) if meant.get(name) == "text"])
    notes += [f"texts, though they look like numbers or dates: {'; '.join(alike)}"] if alike else []
    rows = Rows(
        raw=raw,
        labels=labels,
        names=names,
        source=settings.source,
        unit=f"rows of {len(numeric)} numeric and {len(categorical)} categorical columns",
        take=lambda table, rows: table.take(pa.array(rows)),
        learn=lambda train: TablePreprocessing.measure(train, numeric, categorical, commas),
        notes=lambda _: [*notes, *left_out],
    )
    return assemble(rows, settings, seed, preprocessing)


def _wanted_columns(table: datasets.Dataset, label: str, settings: DataSettings) -> list[str]:
    there = [name for name in table.column_names if name != label]
    wanted = list(settings.columns or there)
    missing = [name for name in (*wanted, *settings.categorical) if name not in there]
    if missing:
        raise DataError(
            f"no column {', '.join(map(repr, missing[:5]))} (--data.columns, --data.categorical); columns besides the "
            f"label: {', '.join(there[:30]) or 'none'}"
        )
    if not wanted:
        raise DataError(f"no column but the label {label!r}: there is nothing to tell its classes by")
    return wanted


def _names_of_rows(table: pa.Table, meant: Mapping[str, Meaning], settings: DataSettings) -> list[str]:
    """The columns of texts of which none is there twice.

    Raises:
        DataError: these are all.
    """
    named = (*(settings.columns or ()), *settings.categorical)
    alone = [
        field.name
        for field in table.schema
        if field.name not in named
        and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
        and meant.get(field.name) not in (*NUMBERS, "code")
        and all_differ(table[field.name])
    ]
    if len(alone) == table.num_columns:
        numeric = _numeric_at_sight(table, alone[:10])
        looks = f", and no plain numbers: {'; '.join(numeric)}" if numeric else ""
        raise DataError(
            f"no text of {', '.join(alone[:10])} is there twice: as categories they tell nothing{looks}; --data.text "
            "takes one of them as texts"
        )
    return alone


def _kinds(table: pa.Table, meant: Mapping[str, Meaning], settings: DataSettings) -> tuple[list[str], list[str]]:
    """Numeric and categorical columns, by their types, or by what is ``meant`` with their texts."""
    numeric, categorical, neither = [], [], []
    for field in table.schema:
        is_text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if field.name in settings.categorical or (is_text and meant.get(field.name) not in NUMBERS):
            categorical.append(field.name)
        elif is_text or _is_number(field.type):
            numeric.append(field.name)
        else:
            neither.append(f"{field.name} ({field.type})")
    if neither:
        raise DataError(
            f"{how_many(len(neither), 'column is', 'columns are')} neither numbers nor categories: "
            f"{', '.join(neither[:10])}; name those to use by --data.columns"
        )
    return numeric, categorical


def _numeric_at_sight(table: pa.Table, names: Sequence[str]) -> list[str]:
    """The columns whose first cells are digits with signs or units, or dates, each with an example."""
    return [f"{name} ({table[name].drop_null()[0].as_py()!r:.30})" for name in names if looks_numeric(table[name])]


def _is_number(type_: pa.DataType) -> bool:
    # Booleans, decimals and dates are numbers, too: their order tells something.
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(is_kind(type_) for is_kind in (*kinds, pa.types.is_timestamp, pa.types.is_date))
