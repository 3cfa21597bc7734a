"""Features that were computed elsewhere: arrays of a .npz file, or a column of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coterie.config import DataSettings
from coterie.config.data import NO_SPLIT
from coterie.config.source import SPLIT_WORDS
from coterie.data.assemble import Rows, assemble
from coterie.data.classes import index_labels, name_classes
from coterie.data.columns import cells_of
from coterie.data.labelled import choose_rows, named_or_none
from coterie.data.splits import Splits
from coterie.errors import DataError
from coterie.inputs import FeaturePreprocessing, Preprocessing, Scale
from coterie.labels import LabelSpace
from coterie.system.npz import read_arrays
from coterie.system.reading import reason
from coterie.system.units import how_many

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

LABEL_KINDS = "biufU"


def load_npz(place: str, settings: DataSettings, seed: int, preprocessing: Preprocessing | None) -> Splits:
    """``features`` (N, F) and ``labels`` (N,), to be cut; or ``train_features``, ``train_labels``, and likewise for
    validation and test by any of the usual words, of which one that is missing is cut. ``classes`` (C,) names integer
    labels.

    Raises:
        DataError: the file cannot be read, arrays are missing or of another form, or as ``assemble``.
    """
    # An earlier version knew no other words; its runs keep the splits that they had.
    words = {split: (split,) for split in SPLIT_WORDS} if settings.split == NO_SPLIT else SPLIT_WORDS
    arrays, features, labels, unused = _read_labelled(place, words)
    if "train" not in features:
        raise DataError(f"no array 'train_features' in {place}; there: {', '.join(arrays)}")
    every = {split: list(map(named_or_none, some.tolist())) for split, some in labels.items()}
    numbers = {split: np.arange(len(some)) for split, some in labels.items()}
    rows, notes, n_unknown = choose_rows(every, settings, numbers)
    kept = {split: [every[split][row] for row in some] for split, some in rows.items()}
    names, indices = index_labels(kept, "labels", merge=settings.merge_names)
    if "classes" in arrays:
        names = _class_names(arrays["classes"], names, place)
    features = {split: features[split][some] for split, some in rows.items()}
    notes += [f"arrays that are not used: {', '.join(unused[:10])}"] if unused else []
    splits = load_features(features, names, indices, settings, seed, preprocessing, notes, rows)
    return replace(splits, n_unknown=n_unknown)


def read_named_npz(place: str) -> tuple[np.ndarray, list[str]]:
    """All features of a file as ``load_npz`` takes it, of all splits, and the class name of each.

    Raises:
        DataError: as ``load_npz``; or splits of different widths.
    """
    arrays, features, labels, _ = _read_labelled(place, SPLIT_WORDS)
    names = name_classes(np.concatenate(list(labels.values())).tolist(), "labels", place)
    if "classes" in arrays:
        known = {str(number): str(name) for number, name in enumerate(arrays["classes"].tolist())}
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise DataError(f"classes in {place} name no label {', '.join(unknown[:10])}")
        names = [known[name] for name in names]
    try:
        return np.concatenate(list(features.values())), names
    except ValueError as error:
        raise DataError(f"the splits in {place} do not fit together: {error}") from None


def _read_labelled(
    place: str, words: Mapping[str, Sequence[str]]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """All arrays of a file, the features and labels among them by split, and the names of others; ``words``: by which
    a split's arrays begin.
    """
    arrays = _read_npz(place)
    there = {split: [word for word in some if f"{word}_features" in arrays] for split, some in words.items()}
    prefixes = {split: f"{some[0]}_" for split, some in there.items() if some} or {"train": ""}
    used = {f"{prefix}{role}" for prefix in prefixes.values() for role in ("features", "labels")}
    features, labels = {}, {}
    for split, prefix in prefixes.items():
        for name in (f"{prefix}features", f"{prefix}labels"):
            if name not in arrays:
                raise DataError(
                    f"no array {name!r} in {place}; needed: features and labels, or train_features, train_labels and "
                    f"so on; there: {', '.join(arrays) or 'none'}"
                )
        features[split], labels[split] = arrays[f"{prefix}features"], _flat(arrays[f"{prefix}labels"])
        if labels[split].ndim != 1 or features[split].ndim == 0 or len(labels[split]) != len(features[split]):
            raise DataError(
                f"{prefix}labels must be one per row of {prefix}features; got shapes {labels[split].shape} and "
                f"{features[split].shape}" + (" (of rows that are one-hot, take argmax(1))" * (labels[split].ndim == 2))
            )
        if labels[split].dtype.kind not in LABEL_KINDS:
            raise DataError(f"{prefix}labels in {place} must be numbers or texts; got {labels[split].dtype}")
    return arrays, features, labels, [name for name in arrays if name not in {*used, "classes"}]


def _flat(label_N: np.ndarray) -> np.ndarray:
    """Labels of a column, and texts of bytes, as plain labels."""
    label_N = label_N[:, 0] if label_N.ndim == 2 and label_N.shape[1] == 1 else label_N
    return np.char.decode(label_N, "utf-8", "replace") if label_N.dtype.kind == "S" else label_N


def load_features(
    features: Mapping[str, np.ndarray],
    names: LabelSpace,
    labels: Mapping[str, np.ndarray],
    settings: DataSettings,
    seed: int,
    preprocessing: Preprocessing | None,
    left_out: Sequence[str] = (),
    numbers: Mapping[str, np.ndarray] | None = None,
) -> Splits:
    """Splits of features; ``numbers``: what rows are called by in messages, see ``Source.numbers``.

    Raises:
        DataError: features are not finite numbers of shape (N, F), F the same for all splits; or as ``assemble``.
    """
    width = features["train"].shape[1:]
    for split, feature_NF in features.items():
        if feature_NF.ndim != 2 or feature_NF.shape[1:] != width or feature_NF.dtype.kind not in "fiub":
            raise DataError(
                f"features must be numbers of shape (N, F), F the same for all splits; those of {split} are "
                f"{feature_NF.dtype} of shape {feature_NF.shape}"
            )
        _refuse_infinite(feature_NF, split, (numbers or {}).get(split))
    standardize = settings.standardize is not False
    rows = Rows(
        raw=features,
        labels=labels,
        names=names,
        source=settings.source,
        unit=f"vectors of {width[0]} features",
        take=lambda feature_NF, rows: feature_NF[rows],
        learn=lambda feature_NF: FeaturePreprocessing(Scale.of(feature_NF, standardize=standardize)),
        notes=lambda _: list(left_out),
    )
    return assemble(rows, settings, seed, preprocessing)


def _refuse_infinite(feature_NF: np.ndarray, split: str, numbers: np.ndarray | None) -> None:
    bad = np.flatnonzero(~(np.abs(feature_NF) <= np.finfo(np.float32).max).all(axis=1))
    if bad.size:
        raise DataError(
            f"{how_many(len(bad), 'row')} of {split} with NaN, infinity or what is beyond float32, the first is row "
            f"{bad[0] if numbers is None else numbers[bad[0]]}"
        )


def read_vectors(table: datasets.Dataset, column: str, split: str, numbers: np.ndarray | None = None) -> np.ndarray:
    """A column of lists of numbers as float32 (N, F); ``numbers``: as in ``stacked``.

    Raises:
        DataError: a list is missing or of another length than the first.
    """
    return stacked(cells_of(table, column), f"column {column!r} of {split}", numbers)


def stacked(lists: pa.ChunkedArray, what: str, numbers: np.ndarray | None = None) -> np.ndarray:
    """Lists of numbers as float32 (N, F).

    Args:
        lists: N of them.
        what: they are called in messages.
        numbers: what their rows are called by there; default: as they come.

    Raises:
        DataError: a list is missing or of another length than the first.
    """
    vectors = lists.combine_chunks()
    length_N = vectors.value_lengths().to_pylist()
    odd = [row for row, length in enumerate(length_N) if length is None or length != length_N[0]]
    if odd:
        raise DataError(
            f"{what} must hold vectors of one length, {length_N[0]} as the first; row "
            f"{odd[0] if numbers is None else numbers[odd[0]]} has "
            f"{length_N[odd[0]] or 'none'}"
        )
    values = vectors.flatten().to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{what} must hold vectors of numbers; it holds {vectors.type}")
    with np.errstate(over="ignore"):  # what is infinite in float32 is refused as infinite
        return values.astype(np.float32).reshape(len(vectors), -1)


def read_npz_features(place: str) -> np.ndarray:
    """The features of a file for prediction: its array ``features``, or its only one; a .npy file's array.

    Raises:
        DataError: the file cannot be read, or holds several arrays of other names.
    """
    arrays = _read_npz(place)
    if "features" in arrays:
        return arrays["features"]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise DataError(f"no array 'features' in {place}; there: {', '.join(arrays) or 'none'}")


def _read_npz(place: str) -> dict[str, np.ndarray]:
    if Path(place).is_dir():
        raise DataError(
            f"{place} is a folder; allowed: one .npz file for all splits (train_features, train_labels, test_features, "
            "...), or parquet:DIR, of files with a column of vectors"
        )
    try:
        arrays = read_arrays(place)
    except OSError as error:
        raise DataError(f"cannot read {place}: {reason(error)}") from None
    except ValueError as error:
        raise DataError(f"cannot read {place}: it must hold arrays of numbers and texts only: {error}") from None
    return {name or "features": array for name, array in arrays.items()}


def _class_names(given: np.ndarray, names: LabelSpace, place: str) -> LabelSpace:
    """Names for integer labels 0 to C - 1."""
    if given.ndim != 1 or names.names != tuple(str(k) for k in range(len(given))):
        raise DataError(
            f"classes in {place} must name the integer labels 0 to C - 1, each of which train must have; got "
            f"{given.size} names for the labels {', '.join(names.names[:10])}"
        )
    return LabelSpace(tuple(map(str, given.tolist())))
