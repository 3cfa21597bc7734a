"""Files of a run, read as what they should hold: a right checksum says who wrote a file, not that it makes sense."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any, Literal, TypeVar

import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from coterie.errors import ArtifactError
from coterie.measures.epochs import EpochRecord
from coterie.measures.report import Report
from coterie.run.folder import Run
from coterie.system.json_text import first_fault, from_json

ValuesT = TypeVar("ValuesT")
Kind = Literal["numbers", "labels", "rows", "pixels"]
History = dict[str, tuple[EpochRecord, ...]]

HISTORY_FILE = "history.json"
METRICS_FILE = "metrics.json"

_REPORTS: TypeAdapter[dict[str, Report]] = TypeAdapter(dict[str, Report])
_TEXTS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
_HISTORY: TypeAdapter[History] = TypeAdapter(History)
_FLOATS = (torch.float16, torch.float32, torch.float64)
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
_TYPES: dict[Kind, tuple[torch.dtype, ...]] = {
    "numbers": _FLOATS,
    "labels": _WHOLE,
    "rows": _WHOLE,
    "pixels": (torch.uint8,),
}
# The letter of the size that values of a kind stay below.
_LIMITS: dict[Kind, str] = {"labels": "C", "rows": "R"}


def read_history(run: Run) -> History:
    """The epochs of each training, by its title.

    Raises:
        ArtifactError: as ``read_values``; or there are more epochs than any training of the run had.
    """
    history, settings = read_values(run, HISTORY_FILE, _HISTORY), run.settings
    most = max(settings.base.epochs, settings.specialist_of(1).epochs)
    for title, epochs in history.items():
        if len(epochs) > most:
            raise _wrong(run, HISTORY_FILE, f"{len(epochs)} epochs of {title!r}; the settings have at most {most}")
    return history


def write_history(run: Run, history: Mapping[str, tuple[EpochRecord, ...]]) -> None:
    """The inverse of ``read_history``."""
    run.write_json(HISTORY_FILE, {title: [epoch.to_values() for epoch in epochs] for title, epochs in history.items()})


def read_figures(run: Run, n_classes: int, n_clusters: int) -> dict[str, Report]:
    """The figures of validation and test.

    Raises:
        ArtifactError: as ``read_values``; or they are of other clusters or classes.
    """
    reports = read_values(run, METRICS_FILE, _REPORTS)
    for split in ("validation", "test"):
        if split not in reports:
            raise _wrong(run, METRICS_FILE, f"no figures of {split}")
    for report in reports.values():
        if len({len(points) for points in vars(report.curve).values()}) != 1:
            raise _wrong(run, METRICS_FILE, "a curve whose columns differ in length")
        for row in report.clusters:
            if not (0 <= row.cluster < n_clusters and all(0 <= label < n_classes for label in row.classes)):
                raise _wrong(run, METRICS_FILE, f"a cluster {row.cluster} of classes {list(row.classes)[:10]}")
    return reports


def read_texts(run: Run, name: str, n_texts: int) -> tuple[str, ...]:
    """So many texts.

    Raises:
        ArtifactError: as ``read_values``; or there are more or fewer.
    """
    texts = read_values(run, name, _TEXTS)
    if len(texts) != n_texts:
        raise _wrong(run, name, f"{len(texts)} texts; needed: {n_texts}")
    return texts


def read_values(run: Run, name: str, adapter: TypeAdapter[ValuesT]) -> ValuesT:
    """The values of a JSON file.

    Raises:
        ArtifactError: it is missing or damaged, or holds something else; names the first value that is wrong.
    """
    content = run.read(name)
    try:
        return adapter.validate_python(from_json(content))
    except ValidationError as error:
        raise _wrong(run, name, f"at {first_fault(error)}") from None
    except ValueError as error:
        raise _wrong(run, name, str(error)) from None


def read_arrays(
    run: Run,
    name: str,
    kinds: Mapping[str, tuple[Kind, str]],
    sizes: Mapping[str, int],
    optional: Container[str] = (),
) -> dict[str, NDArray[Any]]:
    """Some arrays of a file.

    Args:
        run: the run.
        name: of the file.
        kinds: by the name of each array, what it holds and its axes, a letter each. Numbers are finite; labels are
            classes from 0 to C - 1, rows samples from 0 to R - 1.
        sizes: by letter; an axis whose letter is not among them has any length, the same in all arrays; N is not 0.
        optional: arrays that the file may lack; so does the result then.

    Raises:
        ArtifactError: the file is missing or damaged, or holds something else; names the array.
    """
    found, known = run.read_tensors(name), dict(sizes)
    for key, (kind, axes) in kinds.items():
        if key not in found:
            if key in optional:
                continue
            raise _wrong(run, name, f"no array {key!r}")
        fault = _other_shape(found[key], axes, known) or _other_values(found[key], kind, known)
        if fault:
            raise _wrong(run, name, f"{key}: {fault}")
        known.update(zip(axes, found[key].shape, strict=True))
    return {key: found[key].numpy() for key in kinds if key in found}


def _other_shape(array: Tensor, axes: str, sizes: Mapping[str, int]) -> str | None:
    wanted = [sizes.get(letter) for letter in axes]
    if array.ndim == len(axes) and all(
        length == size or (size is None and (length or letter != "N"))
        for letter, length, size in zip(axes, array.shape, wanted, strict=True)
    ):
        return None
    shape = ", ".join(letter if size is None else str(size) for letter, size in zip(axes, wanted, strict=True))
    return f"shape {tuple(array.shape)}; needed: ({shape})"


def _other_values(array: Tensor, kind: Kind, sizes: Mapping[str, int]) -> str | None:
    if array.dtype not in _TYPES[kind]:
        return f"type {array.dtype}; allowed: {', '.join(map(str, _TYPES[kind]))}"
    if not array.numel():
        return None
    low, high = (end.item() for end in array.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        return "NaN or infinite values"
    limit = sizes.get(_LIMITS.get(kind, ""))
    return f"values from {low} to {high}; allowed: 0 to {limit - 1}" if limit and not 0 <= low <= high < limit else None


def _wrong(run: Run, name: str, what: str) -> ArtifactError:
    return ArtifactError(f"{run.path / name} does not hold what it should: {what}")
