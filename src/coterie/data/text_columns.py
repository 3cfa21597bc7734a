"""Texts of a table: in which of several columns they are, and as one where they are in several, as a subject and its
body are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from coterie.config import DataSettings
from coterie.data.columns import FLOATS, INTEGERS, STRINGS, cells_of, hardly_repeat, is_value, text_column
from coterie.data.pieces import TEXT, join_texts, name_of
from coterie.data.reading import as_dataset
from coterie.data.tables import Source

# Texts have words: a cell so many at least on average, and those of a row together. Names and codes have fewer; beside
# numbers more are asked for, where a row of a table may well have the name of a person.
WORDS_OF_CELL, WORDS_OF_ROW, BESIDE_NUMBERS = 2, 3, 5
# Short ones repeat, and are texts by their names.
SHORT = ("subject", "title", "headline")


def with_texts(source: Source, label: str, settings: DataSettings, *, perhaps_others: bool) -> Source:
    """A source that says in which columns its texts are, where settings name several or none; with several as one.

    Args:
        source: its columns, as what they mean.
        label: the column of labels.
        settings: for the columns that are named there.
        perhaps_others: whether it is not known yet that samples are texts.

    Raises:
        DataError: a column that is named is not there, or not of texts.
    """
    train = source.tables["train"]
    if settings.text is not None:
        names = [text_column(source.features, train.features, name, label) for name in settings.text]
        return _joined(source, names) if len(names) > 1 else source
    if settings.columns is not None or settings.categorical:
        return source
    names = _columns_of_words(source, label)
    others = [name for name in source.features if name not in (label, *names)]
    if not names or not (others or names[1:]):
        return source
    source = _joined(source, names) if names[1:] else replace(source, texts=tuple(names))
    said = f"texts are the column {names[0]!r}"
    if names[1:]:
        said = f"texts are the columns {', '.join(map(repr, names))}, joined"
    table = "; --data.modality table takes all columns" if perhaps_others else ""
    return source.noted(f"{said} (--data.text{table})")


def _columns_of_words(source: Source, label: str) -> list[str]:
    """As ``columns_of_words``; none where a column holds what is no text, number or truth."""
    train, features = source.tables["train"], source.features
    if any(not isinstance(feature, datasets.Value | datasets.ClassLabel) for feature in features.values()):
        return []
    others = {name: feature for name, feature in features.items() if name != label}
    texts = {name: cells_of(train, name) for name, feature in others.items() if is_value(feature, STRINGS)}
    numbers = any(is_value(feature, (*INTEGERS, *FLOATS)) for feature in others.values())
    return columns_of_words(texts, beside_numbers=numbers)


def columns_of_words(texts: Mapping[str, pa.ChunkedArray], *, beside_numbers: bool) -> list[str]:
    """The columns whose texts hardly repeat and have words, if these are enough, or the one of them that is called
    ``text``.
    """
    names, in_row = [], 0.0
    for name, cells in texts.items():
        some = cells.drop_null()
        n_words = pc.sum(pc.count_substring_regex(some, r"\S+")).as_py() or 0
        of_words = n_words >= WORDS_OF_CELL * len(some) > 0 and hardly_repeat(some)
        if of_words or name.strip().lower() in SHORT:
            names.append(name)
            in_row += n_words / len(cells)
    named = [name for name in names if name.strip().lower() == TEXT]
    if len(named) == 1:
        return named
    return names if in_row >= (BESIDE_NUMBERS if beside_numbers else WORDS_OF_ROW) else []


def _joined(source: Source, names: Sequence[str]) -> Source:
    def one(table: datasets.Dataset) -> datasets.Dataset:
        texts = pa.array(join_texts([cells_of(table, name).to_pylist() for name in names]), pa.string())
        rest = [name for name in table.column_names if name not in names]
        cells = table.with_format("arrow")[:].select(rest).append_column(name_of(names), [texts])
        features = {**{name: table.features[name] for name in rest}, name_of(names): datasets.Value("string")}
        return as_dataset(cells.cast(datasets.Features(features).arrow_schema))

    return replace(source, tables={split: one(table) for split, table in source.tables.items()}, texts=tuple(names))
