"""Rows of local csv, JSON lines, parquet and Arrow files as Arrow tables.

Files are read anew each time: a cache by name and time would give old rows for new ones. Large parquet files, which may
hold images, are unpacked once into the cache folder, under the digest of their content, and mapped into memory.
"""

from __future__ import annotations

import csv
import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import datasets
import pyarrow as pa
import pyarrow.parquet

from coterie.data.csv_form import CsvForm
from coterie.data.csv_rows import read_csv
from coterie.data.json_rows import read_json_lines
from coterie.errors import DataError
from coterie.system.cache import cache_folder
from coterie.system.reading import reason, regular

# What a file of rows may be called as well as one of settings.
JSON = ".json"
ROWS_AT_ONCE, FEW = 1000, 10
# How the images begin that are written in letters: portable ones.
IMAGE_TEXTS = (b"P1", b"P2", b"P3")
# What the library raises on the types that a file claims for its columns.
UNUSABLE = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RecursionError, pa.ArrowException)
# What broken bytes end in.
UNREADABLE = (OSError, ValueError, EOFError, RecursionError, zlib.error, csv.Error, pa.ArrowException)
# Larger parquet and Arrow files are mapped, not read into memory.
MOST_IN_MEMORY = 2**28
# An unpacked file that no run has used for so long is deleted.
KEPT_SECONDS = 30 * 24 * 3600


def read_file(kind: str, file: Path, form: CsvForm | None = None) -> pa.Table:
    """All rows of a csv, JSON lines, parquet or Arrow file, in memory. The cells of a csv file are texts, or null if
    empty; ``form`` says how it is written (default: found).

    Raises:
        DataError: it is missing, no regular file, or broken; the message names it.
    """
    with _named(kind, file):
        if kind == "csv":
            return read_csv(regular(file), form or CsvForm.find(regular(file)))
        return READERS[kind](regular(file))


def read_parts(kind: str, file: Path, form: CsvForm | None = None) -> Iterator[pa.Table]:
    """The rows of a file as ``read_file`` gives them: those of a parquet file in parts, others all at once.

    Raises:
        DataError: as ``read_file``.
    """
    if kind != "parquet":
        yield read_file(kind, file, form)
        return
    with _named(kind, file):
        check_parquet(file)
        with pa.parquet.ParquetFile(file) as stored:
            for batch in stored.iter_batches(ROWS_AT_ONCE):
                yield plain_columns(pa.Table.from_batches([batch]))


@contextmanager
def _named(kind: str, file: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise DataError(f"cannot load {kind}:{file}: {_first_line(error)}") from None


def read_files(
    kind: str, files: Sequence[Path], forms: Sequence[CsvForm | None] | None = None
) -> tuple[datasets.Dataset, list[int]]:
    """The rows of several files with the same columns, one after the other; and how many each has. ``forms`` as in
    ``read_file``.

    Raises:
        DataError: as ``read_file``; or columns differ, or there is no row.
    """
    large = kind == "parquet" and sum(_size(file) for file in files) > MOST_IN_MEMORY
    parts = [
        _mapped(file) if large else as_dataset(read_file(kind, file, form))
        for file, form in zip(files, forms or [None] * len(files), strict=True)
    ]
    first = parts[0]
    for file, part in zip(files, parts, strict=True):
        if part.column_names != first.column_names:
            own, others = (", ".join(names[:20]) for names in (part.column_names, first.column_names))
            raise DataError(f"cannot load {kind}:{file}: its columns are {own}; those of {files[0]} are {others}")
    try:
        with no_progress_bars():
            whole = datasets.concatenate_datasets([part.cast(first.features) for part in parts]) if parts[1:] else first
    except UNUSABLE as error:
        raise DataError(f"cannot load {kind}:{files[0]} with the files beside it: {_first_line(error)}") from None
    if len(whole) == 0:
        raise DataError(f"{kind}:{files[0]} holds no row")
    return whole, [len(part) for part in parts]


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """What the library does without its bars, which are no part of what a command says."""
    shown = not datasets.are_progress_bars_disabled()
    if shown:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def find_form(
    file: Path, separator: str | None = None, encoding: str | None = None, otherwise: str | None = None
) -> CsvForm:
    """How a csv file is written; see ``CsvForm.find``.

    Raises:
        DataError: it cannot be read, or that is uncertain; the message names it.
    """
    try:
        return CsvForm.find(regular(file), separator, encoding, otherwise)
    except UNREADABLE as error:
        raise DataError(f"cannot load csv:{file}: {_first_line(error)}") from None


def as_dataset(table: pa.Table) -> datasets.Dataset:
    """A table in memory as the library's."""
    try:
        # The library's own fingerprint would read all rows.
        return datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint=uuid4().hex)
    except UNUSABLE as error:
        odd = [f"{field.name!r} ({field.type})" for field in table.schema if not _is_usable(field)]
        what = f": {', '.join(odd[:5])}; leave them out of the file" if odd else f": {_first_line(error)}"
        raise DataError(f"a table of columns that cannot be used{what}") from None


def _is_usable(field: pa.Field) -> bool:
    try:
        datasets.Features.from_arrow_schema(pa.schema([field]))
    except UNUSABLE:
        return False
    return True


def _read_parquet(file: Path) -> pa.Table:
    check_parquet(file)
    with pa.parquet.ParquetFile(file) as stored:
        return plain_columns(stored.read())


def _read_arrow(file: Path) -> pa.Table:
    """A file or a stream of Arrow's, as feather and the library write them."""
    large = file.stat().st_size > MOST_IN_MEMORY
    with pa.memory_map(str(file)) if large else pa.OSFile(str(file)) as stored:
        start = stored.read(6)
        if start[:4] == b"FEA1":
            raise ValueError("it is of feather's first version; write it again by pyarrow, or as parquet")
        stored.seek(0)
        opened = pa.ipc.open_file if start == b"ARROW1" else pa.ipc.open_stream
        with opened(stored) as batches:
            table = batches.read_all()
    # Places within the file are taken from it as they are.
    table.validate(full=True)
    return plain_columns(table)


def plain_columns(table: pa.Table) -> pa.Table:
    """A table whose texts are columns of texts: dictionaries, as pandas writes its categories, views, and bytes, as
    Hive and Impala write texts, are made such.
    """
    for place, field in enumerate(table.schema):
        table = table.set_column(place, field.name, _plain(table[place]))
    return table


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if column.type == pa.string_view():
        return column.cast(pa.string())
    head = column.drop_null().slice(0, FEW)
    if column.type not in (pa.binary(), pa.large_binary()) or len(head) == 0 or head[0].as_py().startswith(IMAGE_TEXTS):
        return column
    try:
        head.cast(pa.string())  # images hardly are texts, which the first of them tell
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return column


def check_parquet(file: Path) -> None:
    """Look for the format's mark at both ends, which a file that was cut off lacks.

    Raises:
        DataError: it is missing.
        OSError: the file cannot be read.
    """
    with regular(file).open("rb") as stream:
        first = stream.read(4)
        stream.seek(-min(4, file.stat().st_size), os.SEEK_END)
        last = stream.read(4)
    if (first, last) != (b"PAR1", b"PAR1"):
        raise DataError(f"{file} is not a parquet file, or is cut off")


def _mapped(file: Path) -> datasets.Dataset:
    """A parquet file, unpacked in the cache folder and mapped into memory: however many images take none."""
    try:
        check_parquet(file)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        copy = cache_folder() / "tables" / f"{digest}.arrow"
        if copy.exists():
            os.utime(copy)
        else:
            _unpack(file, copy)
        return datasets.Dataset.from_file(str(copy))
    except OSError as error:
        raise DataError(f"cannot unpack {file} in {cache_folder()} ($XDG_CACHE_HOME): {reason(error)}") from None
    except UNUSABLE as error:
        raise DataError(f"cannot load parquet:{file}: {_first_line(error)}") from None


def _unpack(file: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    for old in copy.parent.glob("*.arrow*"):
        if old.stat().st_mtime < time.time() - KEPT_SECONDS:
            old.unlink(missing_ok=True)
    # Whole or not at all: several runs may unpack the same file at once.
    temporary = copy.with_name(f"{copy.name}.{uuid4().hex}")
    try:
        with (
            pa.parquet.ParquetFile(file) as stored,
            temporary.open("xb") as stream,
            pa.ipc.new_stream(stream, stored.schema_arrow) as writer,
        ):
            for batch in stored.iter_batches(ROWS_AT_ONCE):
                writer.write_batch(batch)
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)


def _size(file: Path) -> int:
    try:
        return regular(file).stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {file}: {reason(error)}") from None


def _first_line(error: Exception) -> str:
    lines = reason(error).strip().splitlines()
    return lines[0][:400] if lines else type(error).__name__


READERS: dict[str, Callable[[Path], pa.Table]] = {
    "jsonl": read_json_lines,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}
