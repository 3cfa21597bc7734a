"""What files hold before it is made into samples: lines, rows and paths, each with a name, some at once."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from coterie.data.csv_form import other_kind
from coterie.errors import DataError, InputError
from coterie.system.reading import read_text, reason, split_lines

# Rows of a piece.
ROWS = 1024
TEXT = "text"  # what the column of texts is called, where nobody says
BREAK = "\n"  # between texts that are joined

# Some samples before they are made: what to call each, and a list, table or array of as many rows.
Piece: TypeAlias = tuple[list[str], Any]


@contextmanager
def named(file: str, start: int) -> Iterator[None]:
    """Name the file of rows that do not fit, and where its part begins by which they are counted."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}{f' from row {start + 1} on' if start else ''}: {error}") from None


def grouped(pieces: Iterable[Piece], rows: int) -> Iterator[Piece]:
    """The same rows, so many at once."""
    names: list[str] = []
    held: list[Any] = []
    for some, raw in pieces:
        start = 0
        while start < len(some):
            stop = start + rows - len(names)
            names += some[start:stop]
            held.append(raw[start:stop])
            start = stop
            if len(names) == rows:
                yield names, joined(held)
                names, held = [], []
    if names:
        yield names, joined(held)


def joined(parts: Sequence[Any]) -> Any:
    """Lists, arrays or tables as one."""
    if isinstance(parts[0], list):
        return list(chain.from_iterable(parts))
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import pyarrow as pa

    return pa.concat_tables(parts)


def row_parts(
    file: str, separator: str | None, encoding: str | None, note: Callable[[str], None]
) -> Iterator[tuple[int, Any]]:
    """The rows of a file in parts, and the number of the first of each; see ``tables.read_row_parts``.

    Raises:
        DataError: the file cannot be read, or holds no row.
    """
    from coterie.data.tables import read_row_parts

    start = 0
    for table in read_row_parts(file, separator, encoding, note):
        if len(table):
            yield start, table
        start += len(table)
    if start == 0:
        raise DataError(f"{file} holds no row")


def in_parts(file: str, first: int, raw: Any) -> Iterator[Piece]:
    """Rows with their names, which of a million rows at once would take more than these."""
    for start in range(0, len(raw), ROWS):
        part = raw[start : start + ROWS]
        yield row_names(file, first + start, len(part)), part


def row_names(file: str, first: int, n_rows: int) -> list[str]:
    """What rows of a file are called, counted from 1."""
    return [f"{file} row {first + row + 1}" for row in range(n_rows)]


def record(path: str) -> dict[str, Any]:
    """An image file as a table names one."""
    return {"bytes": None, "path": path}


def as_record(cell: Any) -> dict[str, Any]:
    """What a cell holds that is no path: encoded bytes, a record of these, or nothing."""
    if isinstance(cell, dict):
        return {"bytes": cell.get("bytes"), "path": cell.get("path")}
    return {"bytes": cell if isinstance(cell, bytes) else None, "path": None}


def vectors(table: Any, file: str) -> Any:
    """The only column of lists, or all columns as numbers (N, F).

    Raises:
        DataError: a column holds something else.
    """
    import pyarrow as pa

    from coterie.data.features import stacked
    from coterie.inputs.cells import parse_numbers

    lists = [name for name in table.column_names if pa.types.is_list(table.schema.field(name).type)]
    if len(lists) == 1:
        return stacked(table[lists[0]], f"column {lists[0]!r} of {file}")
    columns = []
    for name, cells in zip(table.column_names, table.columns, strict=True):
        try:
            numbers = parse_numbers(cells) if pa.types.is_string(cells.type) else cells.cast(pa.float64())
        except (ValueError, pa.ArrowException) as error:
            raise DataError(f"{file}: column {name!r} holds no numbers, as each feature does: {error}") from None
        columns.append(numbers.to_numpy())
    return np.stack(columns, axis=1)


def name_of(columns: Sequence[str]) -> str:
    """What the column of the joined texts of some is called."""
    return " + ".join(columns)


def join_texts(columns: Sequence[Sequence[str | None]]) -> list[str]:
    """The texts of each row of some columns as one, with line breaks between; empty ones left out."""
    return [join_cells(cells) for cells in zip(*columns, strict=True)]


def join_cells(cells: Iterable[str | None]) -> str:
    """As ``join_texts``, of one row."""
    return BREAK.join(cell for cell in cells if cell and not cell.isspace())


def columns_of_texts(file: str, table: Any, wanted: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns that were asked for, or of the one called text, or of the only one of texts.

    Raises:
        DataError: there is none, or there are several.
    """
    from coterie.inputs.cells import meaning

    texts = [name for name in table.column_names if table.schema.field(name).type in ("string", "large_string")]
    # Of a csv file every column is one of texts: numbers are passed over, unless nothing else is there.
    found = [name for name in texts if meaning(table[name]) in ("text", "code")] or texts
    missing = [name for name in wanted if name not in texts]
    if wanted and not missing:
        return tuple(wanted)
    # Where some are there, the file is one of them all.
    alone = found if len(found) == 1 and len(missing) == len(wanted) else []
    chosen = [TEXT] if TEXT in texts else alone
    if not chosen:
        name = missing[0] if missing else TEXT
        raise DataError(f"{file} has no column {name!r} of texts; columns: {', '.join(table.column_names)}")
    return tuple(chosen)


def read_lines(file: str) -> list[str]:
    """The lines of a file of text.

    Raises:
        DataError: it cannot be read, or is not Unicode.
    """
    try:
        return split_lines(read_text(file))
    except UnicodeDecodeError as error:
        what = other_kind(error.object) or f"it is not UTF-8 text: {error}"
        raise DataError(f"cannot read {file}: {what}") from None
    except FileNotFoundError:
        raise DataError(f"cannot read {file}: no such file") from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {reason(error)}") from None


def input_lines() -> Iterator[str]:
    """Lines of standard input, as files are read: UTF-8, whatever the terminal's encoding is, by which other letters
    would be read.
    """
    content = getattr(sys.stdin, "buffer", None)
    try:
        for number, line in enumerate(sys.stdin if content is None else content):
            text = line if isinstance(line, str) else line.decode("utf-8")
            text = text.removesuffix("\n").removesuffix("\r")
            yield text.removeprefix("\ufeff") if number == 0 else text
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read -: it is not UTF-8 text: {error}") from None


def stripped(lines: Iterable[str]) -> Iterator[str]:
    """Names of files, a line each, without empty lines."""
    return (line for line in lines if line.strip())


def is_file(argument: str) -> bool:
    """Whether an argument names a file. A text may be too long for a name, or hold what no name does."""
    try:
        return not stat.S_ISDIR(Path(argument).expanduser().stat().st_mode)
    except (OSError, ValueError, RuntimeError):
        return False


def is_folder(argument: str) -> bool:
    """Whether a folder is meant: a word may be the name of one and a text all the same."""
    return os.sep in argument and os.path.isdir(home_of(argument))  # noqa: PTH112 - a null character is no error


def home_of(argument: str) -> str:
    """The path with the user's home in it; as it is where nobody has this name."""
    return os.path.expanduser(argument)  # noqa: PTH111 - Path raises where nobody has the name
