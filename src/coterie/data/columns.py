"""Which columns of a table hold what: images, texts, vectors, labels; and what the labels' classes are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from coterie.config import DataSettings
from coterie.errors import DataError
from coterie.labels import LabelSpace, join_names, joined_names, spelling
from coterie.system.units import how_many
from coterie.vocabulary import Modality

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
STRINGS = ("string", "large_string")
FLOATS = ("float16", "float32", "float64")
# What people call the column of labels, first those that can hardly be anything else.
LABEL_NAMES = ("label", "labels", "class", "target", "category", "y")
TEXT = "text"  # and the column of texts
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")


def find_modality(features: datasets.Features, label: str, settings: DataSettings) -> Modality:
    """What the columns besides the label's hold, by their types: images, vectors, one column of texts, or a table.

    What the settings name goes first: the modality, or the column of a modality.
    """
    others = {name: feature for name, feature in features.items() if name != label}
    if settings.modality is not None:
        return settings.modality
    if settings.text is not None:
        return "text"
    if settings.image is not None or any(_holds_image(feature) for feature in others.values()):
        return "image"
    if any(_holds_vector(feature) for feature in others.values()) and settings.columns is None:
        return "features"
    if (len(others) == 1 or any(_is_text(name, None) for name in others)) and all(
        _is_value(feature, STRINGS) for feature in others.values()
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
        [name for name, feature in some.items() if name != label and _is_value(feature, STRINGS)]
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


def label_column(features: datasets.Features, wanted: str | None, text: str | None = None) -> str:
    """The name of the label column: ``wanted``, or else the only one of classes, or of text or integers that is not
    the column of texts: ``text``, or one of that name; of several, the one with a usual name.

    Raises:
        DataError: none or several, or ``wanted`` is missing or of another type; the candidates are named.
    """
    if wanted is not None:
        # A column that was named may hold floats, as whole numbers are read where some are missing; unnamed, floats are
        # no label.
        types = (*INTEGERS, *STRINGS, *FLOATS, "bool")
        possible = [
            name for name, some in features.items() if isinstance(some, datasets.ClassLabel) or _is_value(some, types)
        ]
        return _choose("label", "class names, text or whole numbers", features, possible, wanted)
    candidates = label_candidates(features, text)
    named = [name for name, some in features.items() if _is_value(some, (*FLOATS, "bool"))]
    if not any(isinstance(some, datasets.ClassLabel) for some in features.values()):
        # Not y, which is a coordinate as well.
        candidates += _usual(named, LABEL_NAMES[:-1]) or ([] if candidates else _usual(named, LABEL_NAMES))
    return _choose(
        "label", "class names, text or integers", features, _usual(candidates, LABEL_NAMES) or candidates, None
    )


def label_candidates(features: datasets.Features, text: str | None = None) -> list[str]:
    """Columns of classes; without any, those of text or integers that are not the column of texts."""
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name, feature in features.items() if _is_value(feature, INTEGERS + STRINGS)]
    return declared or [name for name in plain if not _is_text(name, text)] or plain


def _is_text(name: str, text: str | None) -> bool:
    """Whether a column is the one of texts by its name."""
    return name.strip().lower() == TEXT if text is None else name == text


def _usual(candidates: Sequence[str], names: Sequence[str]) -> list[str]:
    """The candidate that bears the first of the names that any bears; none where two do."""
    by_name = [[name for name in candidates if name.strip().lower() == usual] for usual in names]
    first = next(filter(None, by_name), [])
    return first if len(first) == 1 else []


def cells_of(table: datasets.Dataset, name: str) -> pa.ChunkedArray:
    """The cells of a column, as they are stored; no other column is read."""
    return table.select_columns([name]).with_format("arrow")[:][name]


def read_labels(
    tables: Mapping[str, datasets.Dataset],
    column: str,
    *,
    spelled: bool = False,
    merge: bool = False,
    trained: bool = False,
    numbers: Mapping[str, np.ndarray] | None = None,
) -> tuple[LabelSpace, dict[str, np.ndarray]]:
    """Class names, and per split one class index (int64) per row.

    Names are those the column declares; else train's texts, sorted, or its integers, in numerical order. Where integers
    are ``spelled`` as texts, they keep their spelling: 007 and 7 are two classes. ``merge``: names that are spelled
    alike are one class, see ``labels.join_names``; ``trained``: declared names that no row has are no classes;
    ``numbers``: what rows are called by in messages, see ``Source.numbers``.

    Raises:
        DataError: a row without a label, a class without a training row, or a class that train does not know.
    """
    called = numbers or {}
    values = {split: _values(table, column, split, called.get(split)) for split, table in tables.items()}
    feature = tables["train"].features[column]
    if not isinstance(feature, datasets.ClassLabel):
        return index_labels(values, column, spelled=spelled, merge=merge)
    labels = {split: np.asarray(indices, np.int64) for split, indices in values.items()}
    _refuse_unlabelled(labels, column, called)
    space = LabelSpace(tuple(feature.names))
    if merge:
        space, labels = _merged(space, labels)
    if trained:
        space, labels = _present(space, labels)
    _refuse_untrained(space, labels)
    return space, labels


def index_labels(
    values: Mapping[str, Sequence[Any]], column: str, *, spelled: bool = False, merge: bool = False
) -> tuple[LabelSpace, dict[str, np.ndarray]]:
    """Class names and indices, as ``read_labels``, of plain values by split: texts, integers, or whole floats.

    Raises:
        DataError: as ``read_labels``; or values that are no classes, which are named.
    """
    whole = {split: [_as_class(value, column) for value in rows] for split, rows in values.items()}
    for split, rows in whole.items():
        _refuse_missing(rows, column, split)
    # Texts and numbers have no common order, and '1' and 1 would have one name.
    kinds = sorted({type(value).__name__ for rows in whole.values() for value in rows})
    if len(kinds) > 1:
        raise DataError(f"the labels in {column!r} are of several types: {', '.join(kinds)}; allowed: one")
    chosen = join_names(_counts(whole)) if merge and kinds == ["str"] else {}
    whole = {split: [chosen.get(value, value) for value in rows] for split, rows in whole.items()}
    classes = _in_order(set(whole["train"]), column) if spelled else sorted(set(whole["train"]))
    index = {value: k for k, value in enumerate(classes)}
    space = LabelSpace(tuple(str(value) for value in classes), joined_names(chosen))
    for split, rows in whole.items():
        _refuse_unknown(split, {str(value) for value in rows if value not in index}, space.names)
    return space, {split: np.array([index[value] for value in rows], np.int64) for split, rows in whole.items()}


def _counts(values: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How often train has each name, in alphabetical order; 0 for names that others have alone."""
    count = Counter(values["train"])
    return {name: count[name] for name in sorted({name for rows in values.values() for name in rows})}


def _merged(space: LabelSpace, labels: Mapping[str, np.ndarray]) -> tuple[LabelSpace, dict[str, np.ndarray]]:
    """Classes of which those that are spelled alike are joined."""
    count_C = np.bincount(labels["train"], minlength=len(space)).tolist()
    chosen = join_names(dict(zip(space.names, count_C, strict=True)))
    names = tuple(dict.fromkeys(chosen[name] for name in space.names))
    place_C = np.array([names.index(chosen[name]) for name in space.names])
    return LabelSpace(names, joined_names(chosen)), {split: place_C[label_N] for split, label_N in labels.items()}


def _present(space: LabelSpace, labels: Mapping[str, np.ndarray]) -> tuple[LabelSpace, dict[str, np.ndarray]]:
    """Without classes that no row has."""
    present = np.unique(np.concatenate(list(labels.values())))
    place_C = np.searchsorted(present, np.arange(len(space)))
    names = space.of(present.tolist())
    return replace(space, names=names), {split: place_C[label_N] for split, label_N in labels.items()}


def _in_order(classes: set[str], column: str) -> list[str]:
    """By number if all are whole numbers, else by spelling."""
    if not all(NUMBER.fullmatch(name) for name in classes):
        return sorted(classes)
    quantity = next((name for name in sorted(classes) if not float(name).is_integer()), None)
    if quantity is not None:
        raise DataError(f"the labels in {column!r} must be classes; {quantity} is a quantity, which needs a regression")
    return sorted(classes, key=lambda name: (float(name), name))


def read_class_names(table: datasets.Dataset, column: str, place: str) -> list[str]:
    """The class of each row by its name, as ``read_labels`` names classes.

    Raises:
        DataError: a row without a label, or one that is a quantity.
    """
    values, feature = _values(table, column, place), table.features[column]
    if isinstance(feature, datasets.ClassLabel):
        _refuse_unlabelled({place: np.asarray(values)}, column, {})
        return [feature.names[value] for value in values]
    return name_classes(values, column, place)


def name_classes(values: Sequence[Any], column: str, place: str) -> list[str]:
    """The class of each row by its name, as ``index_labels`` names classes.

    Raises:
        DataError: as ``read_class_names``.
    """
    classes = [_as_class(value, column) for value in values]
    _refuse_missing(classes, column, place)
    return [str(value) for value in classes]


def _holds_image(feature: Any) -> bool:
    return isinstance(feature, datasets.Image) or _holds_bytes(feature)


def _holds_vector(feature: Any) -> bool:
    return isinstance(feature, datasets.List | datasets.LargeList) and _is_value(feature.feature, FLOATS + INTEGERS)


def read_groups(
    tables: Mapping[str, datasets.Dataset],
    label: str,
    column: str,
    *,
    spelled: bool = False,
    merge: bool = False,
    trained: bool = False,
) -> tuple[LabelSpace, tuple[str, ...]]:
    """The classes of one column, and the group of each class by another: a data set's own superclasses.

    Raises:
        DataError: no such column, or not of labels; a row without a group; a class whose rows lie in several groups.
    """
    features = tables["train"].features
    if column not in features:
        raise DataError(f"no column {column!r} for groups; columns: {', '.join(features)}")
    feature = features[column]
    if not isinstance(feature, datasets.ClassLabel) and not _is_value(feature, INTEGERS + STRINGS):
        raise DataError(
            f"column {column!r} cannot hold groups: allowed are class names, text or integers, not {feature}"
        )
    space, labels = read_labels(tables, label, spelled=spelled, merge=merge, trained=trained)
    groups_C: list[set[Any]] = [set() for _ in space.names]
    for split, table in tables.items():
        values = _values(table, column, split)
        if isinstance(feature, datasets.ClassLabel):
            _refuse_unlabelled({split: np.asarray(values)}, column, {})
        for k, value in set(zip(labels[split].tolist(), values, strict=True)):
            groups_C[k].add(feature.int2str(value) if isinstance(feature, datasets.ClassLabel) else str(value))
    torn = [k for k, groups in enumerate(groups_C) if len(groups) > 1]
    if torn:
        shown = ", ".join(f"{space.names[k]} ({', '.join(sorted(groups_C[k])[:5])})" for k in torn[:5])
        raise DataError(
            f"{how_many(len(torn), 'class lies', 'classes lie')} in several groups of column {column!r}: {shown}; "
            "allowed: one for each class"
        )
    return space, tuple(groups.pop() for groups in groups_C)


def _holds_bytes(feature: Any) -> bool:
    return _is_value(feature, ("binary", "large_binary")) or (
        isinstance(feature, dict) and _is_value(feature.get("bytes"), ("binary", "large_binary"))
    )


def _is_value(feature: Any, types: tuple[str, ...]) -> bool:
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


def _values(table: datasets.Dataset, column: str, split: str, numbers: np.ndarray | None = None) -> list[Any]:
    values: list[Any] = cells_of(table, column).to_pylist()
    _refuse_missing(values, column, split, numbers)
    return values


def _as_class(value: Any, column: str) -> Any:
    """A float is an integer that was read from a file where others were missing; what is none is a quantity. An empty
    text is no class, as it is in a csv file.
    """
    if not isinstance(value, float):
        return None if value == "" else value
    if value != value:
        return None
    if not value.is_integer():
        raise DataError(f"the labels in {column!r} must be classes; {value} is a quantity, which needs a regression")
    return int(value)


def _refuse_missing(values: Sequence[Any], column: str, split: str, numbers: np.ndarray | None = None) -> None:
    number_N = range(len(values)) if numbers is None else numbers
    empty = [row for row, value in zip(number_N, values, strict=True) if value is None]
    if empty:
        shown = ", ".join(map(str, empty[:10]))
        raise DataError(
            f"{how_many(len(empty), 'row')} of {split} without {column}: rows {shown}; --data.skip-broken leaves rows "
            "without a label out"
        )


def _refuse_unlabelled(labels: Mapping[str, np.ndarray], column: str, numbers: Mapping[str, np.ndarray]) -> None:
    """Published test sets whose labels are withheld carry -1."""
    for split, labels_N in labels.items():
        rows = np.flatnonzero(labels_N < 0)
        if len(rows):
            raise DataError(
                f"{how_many(len(rows), 'unlabelled row')} of {split} ({column} = -1), the first is row "
                f"{numbers[split][rows[0]] if split in numbers else rows[0]}; "
                "--data.skip-broken leaves them out"
            )


def _refuse_unknown(split: str, unknown: set[str], known: Sequence[str]) -> None:
    if unknown:
        alike = {spelling(name) for name in unknown} & {spelling(name) for name in known}
        hint = "--data.merge-names joins those that are spelled alike, " if alike else ""
        shown = ", ".join(sorted(unknown)[:10]) + (", ..." if len(unknown) > 10 else "")
        raise DataError(
            f"{split} has {how_many(len(unknown), 'class that is', 'classes that are')} not among the {len(known)} of "
            f"train: {shown}; {hint}--data.skip-unknown leaves them out"
        )


def _refuse_untrained(space: LabelSpace, labels: Mapping[str, np.ndarray]) -> None:
    """Before any image is decoded; a class can still lose its samples later, where broken ones are skipped."""
    missing = set(range(len(space))) - set(labels["train"].tolist())
    for split in ("validation", "test"):
        if split in labels:
            unknown = missing & set(labels[split].tolist())
            known = space.of(sorted(set(range(len(space))) - missing))
            _refuse_unknown(split, {space.names[k] for k in unknown}, known)
    if missing:
        shown = ", ".join(space.of(sorted(missing)[:10])) + (", ..." if len(missing) > 10 else "")
        raise DataError(f"no training sample for {how_many(len(missing), 'class')}: {shown}")
