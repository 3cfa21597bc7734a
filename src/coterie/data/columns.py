"""Which columns of a table hold what: images, texts, vectors, labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from coterie.config import DataSettings
from coterie.data.pieces import TEXT
from coterie.data.reading import as_dataset
from coterie.errors import DataError
from coterie.vocabulary import Modality

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
STRINGS = ("string", "large_string")
FLOATS = ("float16", "float32", "float64")
# What people call the column of labels, first those that can hardly be anything else.
LABEL_NAMES = ("label", "labels", "class", "target", "category", "y")
# Day, month and year, or month, day and year.
DATE = r"^\s*\d{1,2}([./-])\d{1,2}([./-])(\d{4}|\d{2})(,?\s+\d{1,2}:\d{2}(:\d{2})?(\s*[AaPp]\.?[Mm]\.?)?)?\s*$"
DATES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))  # without a time zone, and with one


def find_modality(
    features: datasets.Features, label: str, settings: DataSettings, texts: Sequence[str] = ()
) -> Modality:
    """What the columns besides the label's hold, by their types: images, vectors, one column of texts, or a table.

    What the settings name goes first: the modality, or the column of a modality. ``texts``: see ``Source.texts``.
    """
    others = {name: feature for name, feature in features.items() if name != label}
    if settings.modality is not None:
        return settings.modality
    if settings.text is not None or texts:
        return "text"
    if settings.image is not None or any(_holds_image(feature) for feature in others.values()):
        return "image"
    if any(_holds_vector(feature) for feature in others.values()) and settings.columns is None:
        return "features"
    if (len(others) == 1 or any(_is_text(name, None) for name in others)) and all(
        is_value(feature, STRINGS) for feature in others.values()
    ):
        return "text"
    return "table"


def text_column(features: datasets.Features, stored: datasets.Features, wanted: str | None, label: str) -> str:
    """The name of the column of texts: ``wanted``, or else the only one of texts besides the label's, or ``text``.

    ``features`` says what columns mean, ``stored`` how they are stored: texts that all look like numbers are taken
    where they are asked for, or where there are no others.

    Raises:
        DataError: none or several, or ``wanted`` is missing or of another type; the candidates are named.
    """
    meant, possible = (
        [name for name, feature in some.items() if name != label and is_value(feature, STRINGS)]
        for some in (features, stored)
    )
    candidates = possible if wanted is not None else meant or possible
    return _choose("text", "texts", stored, _usual(candidates, (TEXT,)) or candidates, wanted)


def vector_column(features: datasets.Features, wanted: tuple[str, ...] | None) -> str:
    """The name of the column of vectors: ``wanted``, or else the only one.

    Raises:
        DataError: none or several, or ``wanted`` is missing, several, or of another type; the candidates are named.
    """
    candidates = [name for name, feature in features.items() if _holds_vector(feature)]
    if wanted is not None and len(wanted) > 1:
        raise DataError(f"features are one column of vectors; --data.columns names {len(wanted)}: {', '.join(wanted)}")
    return _choose("columns", "lists of numbers", features, candidates, wanted[0] if wanted else None)


def image_column(features: datasets.Features, wanted: str | None) -> str:
    """The name of the column of encoded images: ``wanted``, or else the only one of that type.

    Raises:
        DataError: none or several, or ``wanted`` is missing or of another type; the candidates are named.
    """
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    # Files written without the library's metadata hold plain bytes, or a record of bytes and path.
    candidates = declared or [name for name, feature in features.items() if _holds_bytes(feature)]
    return _choose("image", "encoded images", features, candidates, wanted)


def label_column(
    features: datasets.Features, wanted: str | None, texts: Sequence[str] | None, train: datasets.Dataset
) -> str:
    """The name of the label column: ``wanted``, or else the only one of classes, or of text or integers that is not
    a column of texts: of ``texts``, or called text; of several, the one with a usual name, or the only one that
    is neither a side note nor made of texts most of which are in ``train`` once.

    Raises:
        DataError: none or several, or ``wanted`` is missing or of another type; the candidates are named.
    """
    if wanted is not None:
        # A column that was named may hold floats, as whole numbers are read where some are missing; unnamed, floats are
        # no label.
        types = (*INTEGERS, *STRINGS, *FLOATS, "bool")
        possible = [
            name for name, some in features.items() if isinstance(some, datasets.ClassLabel) or is_value(some, types)
        ]
        return _choose("label", "class names, text or whole numbers", features, possible, wanted)
    candidates = label_candidates(features, texts)
    named = [name for name, some in features.items() if is_value(some, (*FLOATS, "bool"))]
    if not any(isinstance(some, datasets.ClassLabel) for some in features.values()):
        # Not y, which is a coordinate as well.
        candidates += _usual(named, LABEL_NAMES[:-1]) or ([] if candidates else _usual(named, LABEL_NAMES))
    candidates = _usual(candidates, LABEL_NAMES) or candidates
    for is_other in (is_prose, is_side_note):
        if len(candidates) > 1:
            others = {name for name in candidates if is_value(features[name], STRINGS) and is_other(train, name)}
            candidates = [name for name in candidates if name not in others] or candidates
    return _choose("label", "class names, text or integers", features, candidates, None)


def label_candidates(features: datasets.Features, texts: Sequence[str] | None = None) -> list[str]:
    """Columns of classes; without any, those of text or integers that are no column of texts."""
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name, feature in features.items() if is_value(feature, INTEGERS + STRINGS)]
    return declared or [name for name in plain if not _is_text(name, texts)] or plain


def _is_text(name: str, texts: Sequence[str] | None) -> bool:
    """Whether a column is one of texts by its name."""
    return name.strip().lower() == TEXT if texts is None else name in texts


def _usual(candidates: Sequence[str], names: Sequence[str]) -> list[str]:
    """The candidate that bears the first of the names that any bears; none where two do."""
    by_name = [[name for name in candidates if name.strip().lower() == usual] for usual in names]
    first = next(filter(None, by_name), [])
    return first if len(first) == 1 else []


def is_prose(table: datasets.Dataset, name: str) -> bool:
    """Whether a column of texts has fewer than two of each, on average: messages, names of files."""
    return hardly_repeat(cells_of(table, name).drop_null())


def hardly_repeat(cells: pa.ChunkedArray) -> bool:
    """Whether there are fewer than two of each, on average."""
    return bool(2 * pc.count_distinct(cells).as_py() > len(cells))


def is_side_note(table: datasets.Dataset, name: str) -> bool:
    """Whether all texts of a column are dates, with or without a time, by ISO 8601 or with the year last, or all are
    one and the same.
    """
    cells = cells_of(table, name).drop_null()
    if pc.count_distinct(cells).as_py() < 2:
        return True
    if pc.all(pc.match_substring_regex(cells, DATE)).as_py():
        return True
    for kind in DATES:
        with suppress(pa.ArrowInvalid):
            cells.cast(kind)
            return True
    return False


def cells_of(table: datasets.Dataset, name: str) -> pa.ChunkedArray:
    """The cells of a column, as they are stored; no other column is read."""
    return table.select_columns([name]).with_format("arrow")[:][name]


def with_column(
    table: datasets.Dataset, name: str, column: pa.Array | pa.ChunkedArray, feature: object
) -> datasets.Dataset:
    """A table with another column of that name."""
    cells = table.with_format("arrow")[:]
    schema = datasets.Features({**table.features, name: feature}).arrow_schema
    return as_dataset(cells.set_column(cells.column_names.index(name), name, column).cast(schema))


def _holds_image(feature: Any) -> bool:
    return isinstance(feature, datasets.Image) or _holds_bytes(feature)


def _holds_vector(feature: Any) -> bool:
    return isinstance(feature, datasets.List | datasets.LargeList) and is_value(feature.feature, FLOATS + INTEGERS)


def _holds_bytes(feature: Any) -> bool:
    return is_value(feature, ("binary", "large_binary")) or (
        isinstance(feature, dict) and is_value(feature.get("bytes"), ("binary", "large_binary"))
    )


def is_value(feature: Any, types: tuple[str, ...]) -> bool:
    """Whether a column holds plain values of one of these types."""
    return isinstance(feature, datasets.Value) and feature.dtype in types


def _choose(role: str, content: str, features: datasets.Features, candidates: list[str], wanted: str | None) -> str:
    if wanted is not None and wanted not in features:
        raise DataError(f"no column {wanted!r} (--data.{role}); columns: {', '.join(features)}")
    if wanted is not None and wanted not in candidates:
        raise DataError(f"column {wanted!r} cannot be the {role}: it must hold {content}; it holds {features[wanted]}")
    if wanted is not None:
        return wanted
    if not candidates:
        raise DataError(f"no {role} column: none of {', '.join(features) or 'no columns'} holds {content}")
    if len(candidates) > 1:
        raise DataError(
            f"{len(candidates)} columns could be the {role}: {', '.join(candidates)}; "
            f"choose one with --data.{role} NAME"
        )
    return candidates[0]
