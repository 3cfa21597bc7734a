"""Rows of local csv, JSON lines, parquet and Arrow files as Arrow tables.

Files are read anew each time: a cache by name and time would give old rows for new ones. Large parquet files, which may
hold images, are unpacked once into the cache folder, under the digest of their content, and mapped into memory.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any
from uuid import uuid4

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from coterie.data.csv_form import CsvForm
from coterie.errors import DataError
from coterie.system.cache import cache_folder
from coterie.system.gzipped import open_unpacked
from coterie.system.json_text import DEEPEST, is_deep
from coterie.system.reading import reason, regular

# What a file of rows may be called as well as one of settings.
JSON = ".json"
# What files of each kind are called.
SUFFIXES = {
    "parquet": (".parquet",),
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson", JSON),
    "arrow": (".arrow", ".feather"),
}
# Cells may be longer than what the csv reader takes at once, and are then tried with more.
BLOCK_BYTES = (2**22, 2**30)
ROWS_AT_ONCE = 1000
# What the library raises on the types that a file claims for its columns.
UNUSABLE = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RecursionError, pa.ArrowException)
# What broken bytes end in.
UNREADABLE = (OSError, ValueError, EOFError, RecursionError, zlib.error, csv.Error, pa.ArrowException)
# What pyarrow says of a row with more or fewer cells than there are columns.
UNEVEN = re.compile(r"Expected (\d+) columns, got (\d+): ([^\0]*)")
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
            return _read_csv(regular(file), form or CsvForm.find(regular(file)))
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
                yield without_dictionaries(pa.Table.from_batches([batch]))


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


def _read_csv(file: Path, form: CsvForm) -> pa.Table:
    before, names, is_all = _csv_names(file, form)
    # Every column by name: what is left to the reader is typed by what else it holds.
    types = dict.fromkeys(names, pa.string())
    if is_all:
        return pa.schema(types).empty_table()
    convert = pa.csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=True
    )
    parse = pa.csv.ParseOptions(delimiter=form.separator, newlines_in_values=True)
    for size in BLOCK_BYTES:
        read = pa.csv.ReadOptions(
            column_names=names, skip_rows=before, skip_rows_after_names=1, block_size=size, encoding=form.encoding
        )
        try:
            with open_unpacked(file) as stream:
                table = pa.csv.read_csv(stream, read_options=read, parse_options=parse, convert_options=convert)
        except pa.ArrowInvalid as error:
            if uneven := UNEVEN.search(str(error)):
                named, found, row = uneven.groups()
                raise ValueError(f"its first row names {named} column(s); a row holds {found} cell(s): {row}") from None
            if not _too_long(error, size):
                raise
        else:
            _refuse_unclosed(file, form, table)
            return table
    raise AssertionError


def _too_long(error: pa.ArrowInvalid, size: int) -> bool:
    """Whether a row did not fit into a block, and a longer one is left to try."""
    return "straddling" in str(error) and size < BLOCK_BYTES[-1]


def _csv_names(file: Path, form: CsvForm) -> tuple[int, list[str], bool]:
    """Lines before the names of the columns; the names, each once and none empty; whether nothing follows."""
    rows = form.rows(file)
    for before, row in enumerate(rows):
        if row and not (before == 0 and form.is_separator_line(row)):
            names: list[str] = []
            for place, name in enumerate(row):
                # As pandas calls them, and so do older runs: a, a.1, and Unnamed: 2.
                own = name or f"Unnamed: {place}"
                names.append(next(n for n in chain([own], (f"{own}.{k}" for k in count(1))) if n not in names))
            return before, names, _is_last(rows)
    raise ValueError("it is empty")


def _is_last(rows: Iterator[list[str]]) -> bool:
    try:
        return not any(rows)
    except (csv.Error, UnicodeError):  # there is something, of which the other reader will tell more
        return False


def _refuse_unclosed(file: Path, form: CsvForm, table: pa.Table) -> None:
    """A quote that is never closed makes one cell of the rest of the file, or of all rows up to the next quote."""
    _refuse_swallowed(file, form, table)
    if len(table) and "\n" in (table.column(table.num_columns - 1)[-1].as_py() or ""):
        tail = ""
        with form.text(file) as text:
            while block := text.read(2**20):
                tail = (tail + block)[-64:]
        if not tail.rstrip("\r\n").endswith('"'):
            raise ValueError(f"a quote that begins in row {len(table)} is never closed")


def _refuse_swallowed(file: Path, form: CsvForm, table: pa.Table) -> None:
    """Cells of several lines must end where their quotes do."""
    if not any(pc.any(pc.match_substring(column, "\n")).as_py() for column in table.columns):
        return
    with form.text(file) as text:
        rows = csv.reader(text, delimiter=form.separator, strict=True)
        before = 0
        try:
            for _ in rows:
                before = rows.line_num
        except csv.Error as error:
            if "expected after" in str(error):  # cells of 128 KiB are errors, too
                raise ValueError(
                    f"a quote in line {before + 1} is closed by one in line {rows.line_num} that ends no cell; quotes "
                    "inside a cell must be doubled"
                ) from None


def _read_json_lines(file: Path) -> pa.Table:
    """Texts stay texts, those that look like dates too. A list of objects is taken for their lines."""
    if _is_list(file):
        with open_unpacked(file) as stream:
            return _of_rows(json.loads(codecs.decode(stream.read(), "utf-8-sig")))
    table = _parse_json_lines(file, None)
    _refuse_one_object(table)
    dates = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if dates:
        table = _parse_json_lines(file, pa.schema([(name, pa.string()) for name in dates]))
    table.validate(full=True)
    return table


def _refuse_one_object(table: pa.Table) -> None:
    """Rows may be a list inside of an object, and columns lists or objects of one."""
    types = table.schema.types
    lists = [pa.types.is_list(type_) for type_ in types]
    rows = [name for name, type_ in zip(table.column_names, types, strict=True) if _holds_objects(type_)]
    nested = len(types) > 1 and all(is_list or pa.types.is_struct(t) for is_list, t in zip(lists, types, strict=True))
    if len(table) == 1 and (rows or nested):
        inside = f"; save its list {rows[0]!r} as a file of its own" if rows else ""
        raise ValueError(f"it is one object; needed is one for each row, a line each or in a list{inside}")


def _holds_objects(type_: pa.DataType) -> bool:
    return pa.types.is_list(type_) and pa.types.is_struct(type_.value_type)


def _is_list(file: Path) -> bool:
    """Whether a file holds one list.

    Raises:
        ValueError: a line is no object, or very deep; the reader of lines would crash on it.
    """
    number = 0
    with open_unpacked(file) as stream:
        while block := stream.read(2**22) + stream.readline():
            if number == 0:
                block = block.removeprefix(codecs.BOM_UTF8)
                if block.lstrip().startswith(b"["):
                    return True
            # Line by line only where something is odd: that takes as long as reading them.
            n_lines = block.count(b"\n")
            n_objects = block.count(b"\n{") + block.startswith(b"{")
            if n_objects < n_lines or block.count(b"[") + block.count(b"{") > n_lines + DEEPEST:
                _refuse_odd(block.split(b"\n"), number)
            number += n_lines
    return False


def _refuse_odd(lines: Sequence[bytes], before: int) -> None:
    for number, line in enumerate(lines, before + 1):
        if line.strip() and not line.lstrip().startswith(b"{"):
            shown = line[:40].decode("utf-8", "replace").strip()
            raise ValueError(f"line {number} must be an object in braces; it is {shown}")
        if line.count(b"[") + line.count(b"{") > DEEPEST and is_deep(json.loads(line)):
            raise ValueError(f"line {number} is nested more than {DEEPEST} deep")


def _parse_json_lines(file: Path, schema: pa.Schema | None) -> pa.Table:
    for size in BLOCK_BYTES:
        try:
            with open_unpacked(file) as stream:
                return pa.json.read_json(
                    stream,
                    read_options=pa.json.ReadOptions(block_size=size),
                    parse_options=pa.json.ParseOptions(explicit_schema=schema),
                )
        except pa.ArrowInvalid as error:
            if not _too_long(error, size):
                raise
    raise AssertionError


def _of_rows(rows: Any) -> pa.Table:
    """A column for every name that occurs, null where a row lacks it."""
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("it holds a list, whose items must be objects in braces")
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _read_parquet(file: Path) -> pa.Table:
    check_parquet(file)
    with pa.parquet.ParquetFile(file) as stored:
        return without_dictionaries(stored.read())


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
    return without_dictionaries(table)


def without_dictionaries(table: pa.Table) -> pa.Table:
    """The library knows none: pandas writes its categories so."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table[place].cast(field.type.value_type))
    return table


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
    "jsonl": _read_json_lines,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}
