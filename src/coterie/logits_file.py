"""Logits with labels from a file: what a classifier said, for those who have nothing else of it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from coterie.errors import CoterieError, DataError
from coterie.forecast import BaseAnswers

SUFFIXES = (".npz", ".safetensors", ".parquet")
REQUIRED = ("logits_validation", "labels_validation")
OPTIONAL = ("logits_test", "labels_test")


@dataclass(frozen=True, eq=False)
class LogitsFile:
    """The base's answers on validation and, where the file has them, on test."""

    validation: BaseAnswers
    test: BaseAnswers | None


def read_logits(file: Path, names: Sequence[str] | None = None) -> LogitsFile:
    """Logits (N, C) and labels (N,) of a file.

    Args:
        file: .npz or .safetensors with the arrays ``logits_validation`` and ``labels_validation``, optionally
            ``logits_test`` and ``labels_test``; or .parquet with columns ``logits`` (lists) and ``label``, and
            optionally ``split`` (validation or test).
        names: of the classes in the logits' order, for labels that are texts.

    Raises:
        DataError: no such file or array, or one that does not fit: named. No code is run from it.
    """
    if file.suffix not in SUFFIXES:
        raise DataError(f"{file} is no file of logits; allowed: {', '.join(SUFFIXES)}, or a run folder")
    if not file.is_file():
        raise DataError(f"{file} does not exist, or is no file")
    arrays = _read_parquet(file) if file.suffix == ".parquet" else _read_arrays(file)
    validation = _answers(file, arrays, "validation", names)
    test = _answers(file, arrays, "test", names) if "logits_test" in arrays else None
    if test is not None and test.n_classes != validation.n_classes:
        raise DataError(f"{file}: validation has {validation.n_classes} classes, test {test.n_classes}")
    return LogitsFile(validation, test)


def has_logits(file: Path) -> bool:
    """Whether an .npz or .safetensors file names the arrays that ``read_logits`` wants."""
    if file.suffix not in SUFFIXES or not file.is_file():
        return False
    return file.suffix == ".parquet" or REQUIRED[0] in _read_names(file)


def _answers(file: Path, arrays: Mapping[str, NDArray[Any]], split: str, names: Sequence[str] | None) -> BaseAnswers:
    logits, labels = arrays[f"logits_{split}"], arrays[f"labels_{split}"]
    if logits.dtype.kind in "iu":
        logits = logits.astype(np.float32)
    # Half precision is widened, double is halved: float32 tells any two logits apart that matter.
    if logits.dtype.kind == "f":
        logits = logits.astype(np.float32, copy=False)
    try:
        return BaseAnswers(logits, _whole(labels, names))
    except CoterieError as error:
        raise DataError(f"{file}, {split}: {error}") from None


def _whole(labels: NDArray[Any], names: Sequence[str] | None) -> NDArray[Any]:
    """Labels as class indices: whole floats are taken as such, texts are looked up among the names."""
    if labels.dtype.kind in "SUO":
        texts = [str(label) for label in labels.ravel().tolist()]
        if names is None:
            raise DataError(f"labels are texts ({texts[0]!r}, ...); --names FILE says which logit is whose")
        place = {name: k for k, name in enumerate(names)}
        unknown = sorted(set(texts) - set(place))
        if unknown:
            raise DataError(f"labels that are no class name: {', '.join(unknown[:10])}")
        return np.array([place[text] for text in texts])
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.round(labels)).all()):
            raise DataError("labels must be whole numbers; some have fractions or are not finite")
        return labels.astype(np.int64)
    return labels


def _read_names(file: Path) -> list[str]:
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return list(arrays.files)
        from safetensors import safe_open

        with safe_open(file, "np") as tensors:
            return list(tensors.keys())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        raise DataError(f"cannot read {file}: {error}") from None


def _read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    found = _read_names(file)
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise DataError(f"{file} has no {' and no '.join(missing)}; it has: {', '.join(found[:20]) or 'nothing'}")
    wanted = [name for name in (*REQUIRED, *OPTIONAL) if name in found]
    if len(wanted) == len(REQUIRED) + 1:
        raise DataError(f"{file} has {wanted[-1]} only; allowed: both or neither of {' and '.join(OPTIONAL)}")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in wanted}
        from safetensors import safe_open

        with safe_open(file, "np") as tensors:
            return {name: tensors.get_tensor(name) for name in wanted}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        raise DataError(f"cannot read {file}: {error}") from None


def _read_parquet(file: Path) -> dict[str, NDArray[Any]]:
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {file}: {error}") from None
    if not {"logits", "label"} <= set(table.column_names):
        raise DataError(f"{file} needs columns logits and label; it has: {', '.join(table.column_names)}")
    split = table["split"].to_numpy() if "split" in table.column_names else np.full(len(table), "validation")
    found = sorted({str(name) for name in split})
    if "validation" not in found or set(found) - {"validation", "test"}:
        raise DataError(f"{file}: split must be validation or test, and some validation; found {', '.join(found[:5])}")
    arrays = {}
    for name in found:
        part = table.filter(pyarrow.array(split == name))
        widths = pyarrow.compute.list_value_length(part["logits"]).unique().to_pylist()
        if len(widths) != 1 or not widths[0]:
            raise DataError(f"{file}: rows of logits must have one length; found {', '.join(map(str, widths[:5]))}")
        values = part["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        arrays[f"logits_{name}"] = values.reshape(len(part), widths[0])
        arrays[f"labels_{name}"] = part["label"].to_numpy()
    return arrays
