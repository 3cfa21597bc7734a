"""What columns mean beyond their types: numbers of rows, paths of images, vectors that are written out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from coterie.config import DataSettings
from coterie.config.source import TABLES
from coterie.data.columns import (
    FLOATS,
    INTEGERS,
    STRINGS,
    cells_of,
    is_prose,
    is_side_note,
    label_candidates,
    label_column,
    with_column,
)
from coterie.data.formats import IMAGE_SUFFIXES
from coterie.data.image_paths import root_of, with_images, with_places
from coterie.data.labelled import without_unlabelled
from coterie.data.pieces import name_of
from coterie.data.split_column import split_by_column
from coterie.data.splits import Columns
from coterie.data.tables import Source, open_tables
from coterie.data.text_columns import with_texts
from coterie.errors import DataError
from coterie.inputs import Preprocessing, TablePreprocessing

# Columns of these names hold no feature where each value is there once: what rows are called, or their numbers.
ROW_NAME = re.compile(
    r"(?i:Unnamed: \d+(\.\d+)?|__index_level_\d+__|level_\d|#|row|(.*[_ .-])?(ids?|idx|index|uuid|guid))|.*[a-z]I[dD]"
)
_ENDINGS = "|".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
IMAGE_NAME = rf"(?i)(\.({_ENDINGS})[\s'\"\])]*$|^https?://.*\.(jpe?g|png|webp|gif)\?)"
# PNG, JPEG, GIF and WEBP in base64.
ENCODED_IMAGE = r"^(data:image/|iVBORw0KGgo|/9j/[A-Za-z0-9+/]{8}|R0lGODd|R0lGODl|UklGR)"
# Two numbers or more in brackets, as lists, numpy and torch print them; or so many that they are no text without.
_NUMBERS = r"[-+.0-9][-+.0-9eE]*((\s*,\s*|\s+)[-+.0-9][-+.0-9eE]*)"
OPENING, CLOSING = r"^\s*((array|tensor)\()?\[?\s*", r"\s*,?\s*\]?(, dtype=[a-z.0-9]+)?\)?\s*$"
VECTOR = rf"^\s*((array|tensor)\()?\[\s*{_NUMBERS}+{CLOSING}|^\s*{_NUMBERS}{{7,}}\s*$"
# Rows whose vectors are parsed at once: each of their numbers is a text on the way.
ROWS_AT_ONCE = 1000
FEW = 100


def open_labelled(
    kind: str,
    place: str,
    settings: DataSettings,
    preprocessing: Preprocessing | None = None,
    columns: Columns | None = None,
) -> tuple[Source, str]:
    """The tables of a source with the columns that matter, as what they mean; and the name of the label column.

    Args:
        kind: as for ``open_tables``.
        place: as for ``open_tables``.
        settings: what is named there is taken as it is.
        preprocessing: of the run whose networks take the samples; it tells what columns are for.
        columns: of the run's own data; heeded where the settings name none and they are there.

    Raises:
        DataError: as ``open_tables``; a column that is named is not there; the label is none or uncertain; a split
            lacks a column of train; files of images do not exist; or vectors that are none.
    """
    run = (*preprocessing.numeric, *preprocessing.categorical) if isinstance(preprocessing, TablePreprocessing) else ()
    source = open_tables(kind, place, settings)
    if preprocessing is not None and columns is not None:
        settings = columns.over(settings, preprocessing, source.tables["train"].column_names)
    named = {*run, *settings.categorical, *(settings.columns or ()), *(settings.text or ())}
    named |= {name for name in (settings.label, settings.image) if name is not None}
    if kind in TABLES:
        taken = {*named, *(settings.ignore or ())}
        source = split_by_column(source, settings, taken, lenient=preprocessing is not None)
    source = without_unlabelled(source, settings)
    source = _without_ignored(source, settings, named, lenient=preprocessing is not None)
    _refuse_lacking(source, f"{kind}:{place}")
    modality = settings.modality if preprocessing is None else preprocessing.modality
    if modality in (None, "image"):
        _refuse_encoded(source, settings)
    paths = _path_columns(source, settings, named) if modality in (None, "image") else []
    vectors = _vector_columns(source, settings) if modality in (None, "features") else []
    vectors = [name for name in vectors if name not in paths]
    rest = {name: feature for name, feature in source.features.items() if name not in (*paths, *vectors)}
    label = label_column(datasets.Features(rest), settings.label, settings.text, source.tables["train"])
    others = [name for name in label_candidates(datasets.Features(rest), settings.text) if name != label]
    # Truths are features, too, and taken for labels by their names alone.
    others += [name for name, feature in rest.items() if name != label and _is_type(feature, ("bool",))]
    if settings.label is None and others:
        source = source.noted(f"the label is the column {label!r} (--data.label)")
    for name in vectors:
        source = _with_vectors(source, name)
    # A table may name files beside what it says of them; where it says nothing, their names would be learned.
    needed = modality == "image" or not (
        vectors or any(_is_number(feature) for name, feature in rest.items() if name != label)
    )
    for name in paths:
        found = with_images(source, name, settings, needed=needed or name == settings.image)
        if found is not source and vectors:
            raise DataError(
                f"column {name!r} names images and {vectors[0]!r} holds features; choose by --data.modality image or "
                "--data.modality features"
            )
        source = found
    if modality in (None, "text"):
        source = _without_side_notes(source, {*named, label}, beside_texts=modality == "text")
        source = with_texts(source, label, settings, perhaps_others=modality is None)
    if columns is not None and columns.samples and named.issuperset(columns.samples):  # no other is one of samples
        kept = (label, *columns.samples, name_of(columns.samples))
        source = _without(source, [name for name in source.features if name not in kept])
    return with_places(source, settings), label


def _without_side_notes(source: Source, taken: set[str], *, beside_texts: bool) -> Source:
    """Without columns of dates, and of the same text throughout, where those of texts are what is classified:
    ``beside_texts``, or where there is one column more, of texts that hardly repeat.
    """
    train = source.tables["train"]
    free = {name: feature for name, feature in source.features.items() if name not in taken}
    notes = [name for name, feature in free.items() if _is_type(feature, STRINGS) and is_side_note(train, name)]
    left = [name for name in free if name not in notes]
    one_of_texts = len(left) == 1 and _is_type(free[left[0]], STRINGS) and is_prose(train, left[0])
    if not notes or not (one_of_texts or (beside_texts and left)):
        return source
    said = f"ignored, for they hold dates, or one text throughout: {', '.join(notes)} (--data.ignore)"
    return _without(source, notes).noted(said)


def _without_ignored(source: Source, settings: DataSettings, named: set[str], *, lenient: bool) -> Source:
    """Without the columns that the settings ignore; by default, without those that name rows or are empty."""
    there = source.tables["train"].column_names
    if settings.ignore is not None:
        missing = [name for name in settings.ignore if name not in there and not lenient]
        if missing or settings.label in settings.ignore:
            wrong = missing[0] if missing else settings.label
            raise DataError(f"cannot ignore column {wrong!r} (--data.ignore); columns: {', '.join(there)}")
        return _without(source, settings.ignore)
    cells = source.tables["train"].with_format("arrow")[:]
    free = [name for name in there if name not in named]
    empty = [name for name in free if cells[name].null_count == len(cells)]
    rows = [name for name in free if _names_rows(source, name, cells[name])]
    if rows and settings.modality in (None, "image"):
        # Images may be called by what names their rows, where no column of paths says more.
        of_images = _path_columns(source, settings, named)
        rows = [name for name in rows if of_images != [name]]
    notes = [f"left out, for they hold nothing: {', '.join(empty)}"] if empty else []
    notes += [f"ignored, for they number or name rows: {', '.join(rows)} (--data.ignore)"] if rows else []
    return _without(source, [*empty, *rows]).noted(*notes)


def _names_rows(source: Source, name: str, cells: pa.ChunkedArray) -> bool:
    if not (ROW_NAME.fullmatch(name.strip()) and _is_type(source.tables["train"].features[name], STRINGS + INTEGERS)):
        return False
    return all_differ(cells) and source.meanings.get(name) not in ("number", "decimal", "truth")


def all_differ(cells: pa.ChunkedArray) -> bool:
    """Whether no value is there twice, and none is missing."""
    return cells.null_count == 0 and pc.count_distinct(cells).as_py() == len(cells)


def _without(source: Source, names: Iterable[str]) -> Source:
    names = set(names)
    if not names:
        return source
    tables = {
        split: table.select_columns([name for name in table.column_names if name not in names])
        for split, table in source.tables.items()
    }
    return replace(source, tables=tables)


def _refuse_lacking(source: Source, name: str) -> None:
    wanted = source.tables["train"].column_names
    for split, table in source.tables.items():
        missing = [name for name in wanted if name not in table.column_names]
        if missing:
            raise DataError(f"{split} of {name} lacks columns that train has: {', '.join(missing[:10])}")


def _texts(source: Source, settings: DataSettings) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """The columns of texts that could be samples, with train's cells that are not missing."""
    table = source.tables["train"]
    for name, feature in table.features.items():
        if _is_type(feature, STRINGS) and name not in (settings.label, *(settings.text or ())):
            yield name, cells_of(table, name).drop_null()


def _refuse_encoded(source: Source, settings: DataSettings) -> None:
    """Images that are written in letters would be learned as texts."""
    for name, cells in _texts(source, settings):
        if len(cells) and _all_match(cells, ENCODED_IMAGE):
            raise DataError(
                f"column {name!r} holds images in base64, as texts; decode them into files that the column names, or "
                "into a column of bytes in a parquet file"
            )


def _path_columns(source: Source, settings: DataSettings, named: set[str]) -> list[str]:
    """Columns whose cells are called like image files, or name files; of images, where one is named, that one."""
    if settings.image is not None or settings.text is not None or not source.origins:
        return [name for name, _ in _texts(source, settings) if name == settings.image and source.origins]
    if settings.columns is not None:
        return []
    found = ((name, cells) for name, cells in _texts(source, settings) if name not in named)
    return [
        name
        for name, cells in found
        if len(cells) and (_all_match(cells, IMAGE_NAME) or _are_files(source, cells, settings))
    ]


def _are_files(source: Source, cells: pa.ChunkedArray, settings: DataSettings) -> bool:
    """Whether train's first few cells name files, whatever these are called; classes would be there twice."""
    head, folder = cells.slice(0, 5).to_pylist(), source.origins["train"][0][0]
    return all(head) and len(set(head)) == len(head) and all(root_of([cell], folder, settings.root) for cell in head)


def _vector_columns(source: Source, settings: DataSettings) -> list[str]:
    """Columns of which most cells are lists of numbers in brackets."""
    found = ((name, cells.slice(0, FEW)) for name, cells in _texts(source, settings))
    return [
        name for name, head in found if 2 * (pc.sum(pc.match_substring_regex(head, VECTOR)).as_py() or 0) > len(head)
    ]


def _all_match(cells: pa.ChunkedArray, pattern: str) -> bool:
    head = cells.slice(0, FEW)
    return all(pc.all(pc.match_substring_regex(some, pattern)).as_py() for some in (head, cells))


def _with_vectors(source: Source, name: str) -> Source:
    feature = datasets.List(datasets.Value("float64"))
    tables = {
        split: with_column(table, name, _vectors(table, name, split), feature) for split, table in source.tables.items()
    }
    return replace(source, tables=tables).noted(f"the lists of numbers in {name!r} are features (--data.modality)")


def _vectors(table: datasets.Dataset, name: str, split: str) -> pa.ChunkedArray:
    cells = cells_of(table, name)
    type_ = pa.list_(pa.float64())
    parts = []
    for first in range(0, len(cells), ROWS_AT_ONCE):
        inner = pc.replace_substring_regex(cells.slice(first, ROWS_AT_ONCE), f"{OPENING}|{CLOSING}", "")
        try:
            parts.append(pc.split_pattern_regex(inner, r"\s*,\s*|\s+").cast(type_))
        except pa.ArrowInvalid as error:
            raise DataError(
                f"column {name!r} of {split} must hold lists of numbers, as most of its rows do: {error} (row {first} "
                "or later; --data.modality text takes it as texts)"
            ) from None
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], type_)


def _is_type(feature: object, types: tuple[str, ...]) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in types


def _is_number(feature: object) -> bool:
    return _is_type(feature, FLOATS + INTEGERS)
