"""Reading a user's logits of labelled samples from a file."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from coterie.arrays import FloatArray, IntArray
from coterie.errors import InputError
from coterie.system.npz import read_arrays, read_headers
from coterie.system.reading import reason, regular

# Probabilities in float16 sum to 1 to about a thousandth, rounded percentages to 100 to about a hundredth of it.
SUM_TOLERANCE = 1e-2
# The name of an array of logits, and of the further classifier that they are of.
LOGITS = re.compile(r"logits_(?:validation|test)(?:_(.*))?")

Kind: TypeAlias = Literal["logits", "probabilities", "percentages", "logarithms of probabilities"]


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """The logits of a classifier on N samples of C classes, with the true classes ``label_N``.

    ``others_NC``: logits of further classifiers on the same samples, by name. ``notes``: what was made of the values
    that were read.

    Raises:
        InputError: lengths or widths differ, a value is not finite, a label is not a class, there is only one class, or
            the values are probabilities or percentages.
    """

    logits_NC: FloatArray
    label_N: IntArray
    others_NC: dict[str, FloatArray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self.logits_NC, "logits", self.label_N)
        for name, other_NC in self.others_NC.items():
            _check(other_NC, name, self.label_N)
            if other_NC.shape[1] != self.logits_NC.shape[1]:
                raise InputError(f"{name} has {other_NC.shape[1]} classes; the base has {self.logits_NC.shape[1]}")
        n_classes = self.logits_NC.shape[1]
        if self.label_N.min() < 0 or self.label_N.max() >= n_classes:
            wrong = int(self.label_N[(self.label_N < 0) | (self.label_N >= n_classes)][0])
            raise InputError(f"label {wrong} is not a class: with {n_classes} logits a label is 0 to {n_classes - 1}")


def read_logits(file: Path, names: Sequence[str] | None = None) -> tuple[LabelledLogits, LabelledLogits | None]:
    """Validation and test logits of a file; test is None where the file has none. No code in the file is run.

    Of probabilities and percentages the logarithm is taken, as ``take_logarithms`` says.

    Args:
        file: a ``.npz`` or ``.safetensors`` that holds ``logits_validation`` (N, C) and ``labels_validation`` (N,), and
            may hold the same for test; and for each further classifier ``logits_validation_NAME`` and
            ``logits_test_NAME``. Or a ``.parquet`` with columns ``logits`` (lists), ``label`` and, where it holds both,
            ``split`` (validation or test).
        names: class names in the order of the logits, for labels that are texts.

    Raises:
        InputError: the file cannot be read, an array is missing, or its values are refused by LabelledLogits.
    """
    if file.suffix not in READERS:
        raise InputError(f"{file} is not a file of logits; allowed: {', '.join(READERS)}")
    arrays, notes = take_logarithms(READERS[file.suffix](file))
    test = _split(arrays, "test", file, names) if "logits_test" in arrays else None
    return replace(_split(arrays, "validation", file, names), notes=notes), test


def take_logarithms(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The arrays of a file with logarithms in place of probabilities and percentages, and what to say of it.

    What is 0, or has the logarithm -inf (a class for which no tree of a forest votes), gets the logarithm of half the
    classifier's smallest positive probability, shared out over the C classes: less than anything that was counted, and
    so is what all zeros of a sample get together.

    Raises:
        InputError: the splits of a classifier hold different things.
    """
    by_classifier: dict[str, list[str]] = defaultdict(list)
    for name in sorted(arrays):
        if match := LOGITS.fullmatch(name):
            by_classifier[match[1] or ""].append(name)
    made, notes = dict(arrays), []
    for names in by_classifier.values():
        kinds = [_kind(arrays[name]) for name in names]
        if len(set(kinds)) > 1:
            held = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
            raise InputError(f"allowed is one kind of values for all splits; there are in {held}")
        if kinds[0] == "logits":
            continue
        logs, zero = _with_floor([_logarithm(arrays[name], kinds[0]) for name in names])
        made |= zip(names, logs, strict=True)
        stands = f", {zero:.2g} in place of 0" if zero else ""
        notes.append(f"{' and '.join(names)} hold {kinds[0]}: taken are their logarithms{stands}")
    return made, tuple(notes)


def _kind(values: NDArray[Any]) -> Kind:
    plain = values.ndim == 2 and values.dtype.kind == "f" and not np.ma.isMaskedArray(values)
    if not plain or len(values) == 0 or values.shape[1] < 2:
        return "logits"  # what is wrong is said where they are checked
    if values.min() >= 0:
        sum_N = values.sum(axis=1, dtype=np.float64)
        if np.abs(sum_N - 1).max() < SUM_TOLERANCE:
            return "probabilities"
        if np.abs(sum_N - 100).max() < 100 * SUM_TOLERANCE:
            return "percentages"
    # Finite logarithms are logits as they are.
    if np.isneginf(values).any() and values.max() <= SUM_TOLERANCE:
        sum_N = np.exp(values.astype(np.float64)).sum(axis=1)
        if np.abs(sum_N - 1).max() < SUM_TOLERANCE:
            return "logarithms of probabilities"
    return "logits"


def _logarithm(values: NDArray[Any], kind: Kind) -> FloatArray:
    with np.errstate(divide="ignore"):
        wide = values.astype(np.result_type(values, np.float32))
        if kind == "logarithms of probabilities":
            return wide
        logs: FloatArray = np.log(wide / 100 if kind == "percentages" else wide)
        return logs


def _with_floor(logs: Sequence[FloatArray]) -> tuple[list[FloatArray], float]:
    """Logarithms with a finite one in place of -inf, and the probability that it stands for; 0 if there was none."""
    if all(np.isfinite(each).all() for each in logs):
        return list(logs), 0.0
    n_classes = logs[0].shape[1]
    smallest = min(float(each[np.isfinite(each)].min()) for each in logs)
    floor = smallest - math.log(2 * n_classes)
    return [np.where(np.isneginf(each), each.dtype.type(floor), each) for each in logs], math.exp(floor)


def _read_npz(file: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(file)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file} as .npz of plain arrays: {reason(error)}") from None


def _read_safetensors(file: Path) -> dict[str, NDArray[Any]]:
    try:
        return safetensors.numpy.load_file(regular(file))
    except (OSError, SafetensorError, TypeError) as error:
        raise InputError(f"cannot read {file} as safetensors: {error}") from None


def _read_parquet(file: Path) -> dict[str, NDArray[Any]]:
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    try:
        # Not read_table, which makes columns of a path such as split=test/.
        with pyarrow.parquet.ParquetFile(regular(file)) as stored:
            table = stored.read()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"cannot read {file} as parquet: {error}") from None
    if not {"logits", "label"} <= set(table.column_names):
        raise InputError(f"{file} needs columns logits and label; it has: {', '.join(table.column_names)}")
    split_N = table["split"].to_numpy() if "split" in table.column_names else np.full(len(table), "validation")
    arrays = {}
    for name in sorted({str(name) for name in split_N}):
        part = table.filter(pyarrow.array(split_N == name))
        widths = pyarrow.compute.list_value_length(part["logits"]).unique().to_pylist()
        if len(widths) != 1 or not widths[0]:
            raise InputError(f"{file}: rows of logits must have one length; found {', '.join(map(str, widths[:5]))}")
        values = part["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        arrays[f"logits_{name}"] = values.reshape(len(part), widths[0])
        arrays[f"labels_{name}"] = part["label"].to_numpy()
    return arrays


READERS: dict[str, Callable[[Path], dict[str, NDArray[Any]]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
}


def has_logits(file: Path) -> bool:
    """Whether a file holds labelled logits, and not another matrix, by the names of its arrays.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        if file.suffix == ".npz":
            return "logits_validation" in read_headers(file)
        if file.suffix == ".safetensors":
            with safetensors.safe_open(regular(file), "np") as stored:
                return "logits_validation" in stored.keys()  # noqa: SIM118 - it is not a dictionary
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"cannot read {file}: {reason(error)}") from None
    return file.suffix == ".parquet"


def _numbers(label_N: NDArray[Any], names: Sequence[str] | None, what: str) -> NDArray[Any]:
    """Labels as class indices: texts are looked up among the names, numbers are returned as they are."""
    if label_N.dtype.kind not in "USO":
        return label_N
    texts = [str(label) for label in label_N.tolist()]
    if names is None:
        raise InputError(f"{what} are texts ({', '.join(texts[:2])}, ...): names of the classes are needed with them")
    place = {name: k for k, name in enumerate(names)}
    unknown = sorted(set(texts) - set(place))
    if unknown:
        raise InputError(f"{what} that are not class names: {', '.join(unknown[:10])}")
    return np.array([place[text] for text in texts])


def _split(arrays: dict[str, NDArray[Any]], split: str, file: Path, names: Sequence[str] | None) -> LabelledLogits:
    for name in (f"logits_{split}", f"labels_{split}"):
        if name not in arrays:
            raise InputError(f"{file} has no array {name}; it has: {', '.join(sorted(arrays)) or 'none'}")
    label_N = _numbers(arrays[f"labels_{split}"], names, f"labels_{split}")
    whole = label_N.astype(np.int64) if label_N.dtype.kind in "iuf" and np.isfinite(label_N).all() else None
    if whole is None or label_N.ndim != 1 or (whole != label_N).any():
        raise InputError(
            f"labels_{split} must be whole numbers of shape (N,); got {label_N.dtype} of shape {label_N.shape}"
        )
    prefix = f"logits_{split}_"
    others = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    return LabelledLogits(arrays[f"logits_{split}"], whole, others)


def _check(logits_NC: FloatArray, name: str, label_N: IntArray) -> None:
    if np.ma.isMaskedArray(logits_NC):
        raise InputError(f"{name} is a masked array, whose mask nothing would see: fill it first")
    if logits_NC.ndim != 2 or logits_NC.dtype.kind != "f" or logits_NC.shape[1] < 2:
        raise InputError(
            f"{name} must be floating-point numbers of shape (N, C), C at least 2; "
            f"got {logits_NC.dtype} of shape {logits_NC.shape}"
        )
    if len(logits_NC) != len(label_N) or len(label_N) == 0:
        raise InputError(
            f"{name} has {len(logits_NC)} rows and there are {len(label_N)} labels; the numbers must be equal"
        )
    if not np.isfinite(logits_NC).all():
        row = int(np.flatnonzero(~np.isfinite(logits_NC).all(axis=1))[0])
        raise InputError(f"{name} must be finite; row {row} has a NaN or an infinite value")
    _refuse_shares(logits_NC, name)


def _refuse_shares(logits_NC: FloatArray, name: str) -> None:
    """Rows of no negative value that sum to 1, or to 100, are no logits."""
    if logits_NC.min() < 0:
        return
    sum_N = logits_NC.sum(axis=1, dtype=np.float64)
    if np.abs(sum_N - 1).max() < SUM_TOLERANCE:
        raise InputError(f"{name} are probabilities (each row sums to 1), not logits; pass their logarithm instead")
    if np.abs(sum_N - 100).max() < 100 * SUM_TOLERANCE:
        raise InputError(
            f"{name} are percentages (each row sums to 100), not logits; divide them by 100 and pass their logarithm"
        )
