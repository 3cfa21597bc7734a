"""The classes that a column of labels names, of each row; and groups of classes, by another column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np

from coterie.data.columns import INTEGERS, STRINGS, cells_of, is_value
from coterie.errors import DataError
from coterie.labels import LabelSpace, join_names, joined_names, spelling
from coterie.system.units import how_many

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")


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
    if not isinstance(feature, datasets.ClassLabel) and not is_value(feature, INTEGERS + STRINGS):
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
