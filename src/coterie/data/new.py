"""New samples for a trained ensemble, as the command line names them."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coterie.data.decode import read_images
from coterie.errors import DataError
from coterie.inputs import FeaturePreprocessing, ImagePreprocessing, Preprocessing, Samples, TablePreprocessing
from coterie.system.reading import read_text, reason, split_lines

# An argument that ends so is meant to be a file, whatever else it could be.
FILE_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".feather", ".npz", ".npy")
# Files of columns, of which one holds texts; in any other file each line is a text.
COLUMN_SUFFIXES = (
    *(".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson"),
    *(".parquet", ".arrow", ".feather"),
)


@dataclass(frozen=True, eq=False)
class New:
    """Samples with a name each, the kind of these names, and what was skipped and why."""

    samples: Samples
    names: tuple[str, ...]
    kind: Literal["file", "text", "row"]
    skipped: tuple[str, ...] = ()


def read_new(
    preprocessing: Preprocessing, arguments: Sequence[str], *, skip_broken: bool = False, text: str | None = None
) -> New:
    """Read what the networks of a run take.

    Args:
        preprocessing: the run's.
        arguments: names of image files; texts, or files with a text a line (``-``: standard input) or a column of
            texts; csv, JSON lines or parquet files with the columns of a table; .npz or .npy files of features.
        skip_broken: skip images that cannot be decoded, and empty texts.
        text: the column of texts; default: ``text``, or the only one.

    Raises:
        DataError: a file is missing or broken (named), unless ``skip_broken``; or nothing is left.
        InputError: columns or features are not those of the run.
    """
    if isinstance(preprocessing, ImagePreprocessing):
        images, kept, skipped = read_images([Path(name) for name in arguments], preprocessing, skip_broken=skip_broken)
        return New(images, tuple(map(str, kept)), "file", skipped)
    if isinstance(preprocessing, TablePreprocessing):
        return _read_rows(preprocessing, arguments)
    if isinstance(preprocessing, FeaturePreprocessing):
        return _read_features(preprocessing, arguments)
    return _read_texts(preprocessing, arguments, skip_broken, text)


def _read_texts(preprocessing: Preprocessing, arguments: Sequence[str], skip_broken: bool, column: str | None) -> New:
    """The name of a text is the text."""
    texts = [text for argument in arguments for text in _texts_of(argument, column)]
    empty = [f"text {k + 1} of {len(texts)}: empty" for k, text in enumerate(texts) if not text.strip()]
    if empty and not skip_broken:
        raise DataError(f"{'; '.join(empty[:5])}. --skip-broken leaves them out")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError("no text to classify")
    return New(preprocessing.samples(texts), tuple(texts), "text", tuple(empty))


def _texts_of(argument: str, column: str | None) -> list[str]:
    try:
        if argument == "-":
            return split_lines(_standard_input())
        if not _is_there(argument):
            return [argument]
        if argument.lower().endswith(COLUMN_SUFFIXES):
            return _texts_of_column(argument, column)
        return split_lines(read_text(argument))
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {argument}: it is not UTF-8 text: {error}") from None
    except OSError as error:
        raise DataError(f"cannot read {argument}: {reason(error)}") from None


def _standard_input() -> str:
    """As files are read: UTF-8, whatever the terminal's encoding is, by which other letters would be read."""
    content = getattr(sys.stdin, "buffer", None)
    return sys.stdin.read().removeprefix("\ufeff") if content is None else content.read().decode("utf-8-sig")


def _is_there(argument: str) -> bool:
    """Whether an argument names a file. A text may be too long for a name, or hold what no name does.

    Raises:
        DataError: nothing is there, but by its ending a file was meant.
    """
    try:
        there = not stat.S_ISDIR(Path(argument).expanduser().stat().st_mode)
    except (OSError, ValueError, RuntimeError):
        there = False
    if not there and argument.lower().endswith(FILE_SUFFIXES):
        raise DataError(f"cannot read {argument}: no such file")
    return there


def _texts_of_column(file: str, wanted: str | None) -> list[str]:
    from coterie.data.tables import read_rows
    from coterie.inputs.cells import meaning

    table = read_rows(file)
    texts = [name for name in table.column_names if table.schema.field(name).type in ("string", "large_string")]
    # Of a csv file every column is one of texts: numbers are passed over, unless nothing else is there.
    found = [name for name in texts if meaning(table[name]) in ("text", "code")] or texts
    chosen = [name for name in (wanted, "text") if name in texts] or (found if len(found) == 1 else [])
    if not chosen:
        name = "text" if wanted is None else wanted
        raise DataError(f"{file} has no column {name!r} of texts; columns: {', '.join(table.column_names)}")
    return [text or "" for text in table[chosen[0]].to_pylist()]


def _read_rows(preprocessing: TablePreprocessing, arguments: Sequence[str]) -> New:
    import pyarrow as pa

    from coterie.data.tables import read_rows

    # As texts, so that a row is read the same whatever lies in other files.
    tables = [preprocessing.as_texts(read_rows(name)) for name in arguments]
    names = [
        f"{name} row {row + 1}" for name, table in zip(arguments, tables, strict=True) for row in range(len(table))
    ]
    return New(preprocessing.samples(pa.concat_tables(tables)), tuple(names), "row")


def _read_features(preprocessing: FeaturePreprocessing, arguments: Sequence[str]) -> New:
    import numpy as np

    from coterie.data.features import read_npz_features

    arrays = [read_npz_features(name) for name in arguments]
    # Checked before their rows are counted: an array may have none.
    checked = [preprocessing.samples(array).values_N.numpy() for array in arrays]
    names = [
        f"{name} row {row + 1}" for name, array in zip(arguments, checked, strict=True) for row in range(len(array))
    ]
    return New(preprocessing.samples(np.concatenate(checked)), tuple(names), "row")
