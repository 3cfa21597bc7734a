"""Logits that a user brings: no model, no images, only what a classifier said of labelled samples."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.errors import InputError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """What one classifier says of N samples of C classes, with the truth: ``logits_NC``, ``label_N``; ``others_NC``
    are further classifiers' logits of the same samples, by name.

    Raises:
        InputError: lengths or widths differ, a value is not finite, a label is no class, there is one class only, or
            the values are probabilities.
    """

    logits_NC: FloatArray
    label_N: IntArray
    others_NC: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.logits_NC, "logits", self.label_N)
        for name, other_NC in self.others_NC.items():
            _check(other_NC, name, self.label_N)
            if other_NC.shape[1] != self.logits_NC.shape[1]:
                raise InputError(f"{name} has {other_NC.shape[1]} classes; the base has {self.logits_NC.shape[1]}")
        n_classes = self.logits_NC.shape[1]
        if self.label_N.min() < 0 or self.label_N.max() >= n_classes:
            wrong = int(self.label_N[(self.label_N < 0) | (self.label_N >= n_classes)][0])
            raise InputError(f"label {wrong} is no class: with {n_classes} logits a label is 0 to {n_classes - 1}")


def read_logits(file: Path) -> tuple[LabelledLogits, LabelledLogits | None]:
    """Validation and test (None where the file has none) of a ``.npz`` file.

    Args:
        file: holds ``logits_validation`` (N, C) and ``labels_validation`` (N,), and may hold the same for test; and for
            each further classifier ``logits_validation_NAME`` and ``logits_test_NAME``.

    Raises:
        InputError: the file cannot be read, an array is missing, or see LabelledLogits.
    """
    try:
        stored = np.load(file, allow_pickle=False)
        arrays = {name: stored[name] for name in stored} if isinstance(stored, np.lib.npyio.NpzFile) else {}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {file} as .npz of plain arrays: {error}") from None
    return _split(arrays, "validation", file), _split(arrays, "test", file) if "logits_test" in arrays else None


def _split(arrays: dict[str, NDArray[Any]], split: str, file: Path) -> LabelledLogits:
    for name in (f"logits_{split}", f"labels_{split}"):
        if name not in arrays:
            raise InputError(f"{file} has no array {name}; it has: {', '.join(sorted(arrays)) or 'none'}")
    label_N = arrays[f"labels_{split}"]
    whole = label_N.astype(np.int64) if label_N.dtype.kind in "iuf" and np.isfinite(label_N).all() else None
    if whole is None or label_N.ndim != 1 or (whole != label_N).any():
        raise InputError(
            f"labels_{split} must be whole numbers of shape (N,); got {label_N.dtype} of shape {label_N.shape}"
        )
    prefix = f"logits_{split}_"
    others = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    return LabelledLogits(arrays[f"logits_{split}"], whole, others)


def _check(logits_NC: FloatArray, name: str, label_N: IntArray) -> None:
    if logits_NC.ndim != 2 or logits_NC.dtype.kind != "f" or logits_NC.shape[1] < 2:
        raise InputError(
            f"{name} must be floating-point numbers of shape (N, C), C at least 2; "
            f"got {logits_NC.dtype} of shape {logits_NC.shape}"
        )
    if len(logits_NC) != len(label_N) or len(label_N) == 0:
        raise InputError(f"{name} has {len(logits_NC)} rows and there are {len(label_N)} labels; as many are needed")
    if not np.isfinite(logits_NC).all():
        row = int(np.flatnonzero(~np.isfinite(logits_NC).all(axis=1))[0])
        raise InputError(f"{name} must be finite; row {row} has a NaN or an infinite value")
    if logits_NC.min() >= 0 and np.abs(logits_NC.sum(axis=1) - 1).max() < SUM_TOLERANCE:
        raise InputError(f"{name} are probabilities (each row sums to 1), not logits; pass their logarithm instead")
