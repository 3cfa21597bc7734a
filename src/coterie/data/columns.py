"""Which columns of a table hold the images and the labels, and what the labels' classes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np

from coterie.errors import DataError
from coterie.labels import LabelSpace

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
STRINGS = ("string", "large_string")


def image_column(features: datasets.Features, wanted: str | None) -> str:
    """The name of the column of encoded images: ``wanted``, or else the only one of that type.

    Raises:
        DataError: none or several, or ``wanted`` is missing or of another type; the candidates are named.
    """
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    # Files written without the library's metadata hold plain bytes, or a record of bytes and path.
    candidates = declared or [name for name, feature in features.items() if _holds_bytes(feature)]
    return _choose("image", "encoded images", features, candidates, wanted)


def label_column(features: datasets.Features, wanted: str | None) -> str:
    """The name of the label column: ``wanted``, or else the only one of classes, or of text or integers.

    Raises:
        DataError: none or several, or ``wanted`` is missing or of another type; the candidates are named.
    """
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name, feature in features.items() if _is_value(feature, INTEGERS + STRINGS)]
    candidates = declared + plain if wanted is not None else declared or plain
    return _choose("label", "class names, text or integers", features, candidates, wanted)


def read_labels(tables: Mapping[str, datasets.Dataset], column: str) -> tuple[LabelSpace, dict[str, np.ndarray]]:
    """Class names, and per split one class index (int64) per row.

    Names are those the column declares; else train's texts, sorted, or its integers, in numerical order.

    Raises:
        DataError: a row without a label, a class without a training row, or a class that train does not know.
    """
    values = {split: _values(table, column, split) for split, table in tables.items()}
    feature = tables["train"].features[column]
    if isinstance(feature, datasets.ClassLabel):
        names = list(feature.names)
        labels = {split: np.asarray(indices, np.int64) for split, indices in values.items()}
        _refuse_unlabelled(labels, column)
    else:
        classes = sorted(set(values["train"]))
        index = {value: k for k, value in enumerate(classes)}
        names = [str(value) for value in classes]
        for split, rows in values.items():
            _refuse_unknown(split, {str(value) for value in rows if value not in index}, len(names))
        labels = {split: np.array([index[value] for value in rows], np.int64) for split, rows in values.items()}
    space = LabelSpace(tuple(names))
    _refuse_untrained(space, labels)
    return space, labels


def read_groups(tables: Mapping[str, datasets.Dataset], label: str, column: str) -> tuple[LabelSpace, tuple[str, ...]]:
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
    space, labels = read_labels(tables, label)
    groups_C: list[set[Any]] = [set() for _ in space.names]
    for split, table in tables.items():
        values = _values(table, column, split)
        if isinstance(feature, datasets.ClassLabel):
            _refuse_unlabelled({split: np.asarray(values)}, column)
        for k, value in set(zip(labels[split].tolist(), values, strict=True)):
            groups_C[k].add(feature.int2str(value) if isinstance(feature, datasets.ClassLabel) else str(value))
    torn = [k for k, groups in enumerate(groups_C) if len(groups) > 1]
    if torn:
        shown = ", ".join(f"{space.names[k]} ({', '.join(sorted(groups_C[k])[:5])})" for k in torn[:5])
        raise DataError(
            f"{len(torn)} class(es) lie in several groups of column {column!r}: {shown}; allowed: one for each class"
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


def _values(table: datasets.Dataset, column: str, split: str) -> list[Any]:
    values: list[Any] = table.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    empty = [row for row, value in enumerate(values) if value is None]
    if empty:
        shown = ", ".join(map(str, empty[:10]))
        raise DataError(f"{len(empty)} row(s) of {split} have no {column}: rows {shown}")
    return values


def _refuse_unlabelled(labels: Mapping[str, np.ndarray], column: str) -> None:
    """Published test sets whose labels are withheld carry -1."""
    for split, labels_N in labels.items():
        rows = np.flatnonzero(labels_N < 0)
        if len(rows):
            raise DataError(f"{len(rows)} row(s) of {split} are unlabelled ({column} = -1); the first is row {rows[0]}")


def _refuse_unknown(split: str, unknown: set[str], n_classes: int) -> None:
    if unknown:
        shown = ", ".join(sorted(unknown)[:10]) + (", ..." if len(unknown) > 10 else "")
        raise DataError(f"{split} has {len(unknown)} class(es) that are not among the {n_classes} of train: {shown}")


def _refuse_untrained(space: LabelSpace, labels: Mapping[str, np.ndarray]) -> None:
    """Before any image is decoded; a class can still lose its images later, where broken ones are skipped."""
    missing = set(range(len(space))) - set(labels["train"].tolist())
    for split in ("validation", "test"):
        if split in labels:
            unknown = missing & set(labels[split].tolist())
            _refuse_unknown(split, {space.names[k] for k in unknown}, len(space) - len(missing))
    if missing:
        shown = ", ".join(space.of(sorted(missing)[:10])) + (", ..." if len(missing) > 10 else "")
        raise DataError(f"no training image for {len(missing)} class(es): {shown}")
