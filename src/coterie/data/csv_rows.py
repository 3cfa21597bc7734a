"""Rows of csv files, whose cells are texts."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from coterie.data.blocks import in_blocks
from coterie.data.csv_form import CsvForm
from coterie.system.gzipped import open_unpacked
from coterie.system.units import how_many

# What pyarrow says of a row with more or fewer cells than there are columns.
UNEVEN = re.compile(r"Expected (\d+) columns, got (\d+): ([^\0]*)")


def read_csv(file: Path, form: CsvForm) -> pa.Table:
    """All rows; cells are texts, or null if empty.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is broken, or in another encoding.
    """
    before, names, is_all = _csv_names(file, form)
    # Every column by name: what is left to the reader is typed by what else it holds.
    types = dict.fromkeys(names, pa.string())
    if is_all:
        return pa.schema(types).empty_table()
    convert = pa.csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=True
    )
    parse = pa.csv.ParseOptions(delimiter=form.separator, newlines_in_values=True)

    def read(block_bytes: int) -> pa.Table:
        options = pa.csv.ReadOptions(
            column_names=names,
            skip_rows=before,
            skip_rows_after_names=1,
            block_size=block_bytes,
            encoding=form.encoding,
        )
        with open_unpacked(file) as stream:
            return pa.csv.read_csv(stream, read_options=options, parse_options=parse, convert_options=convert)

    try:
        table = in_blocks(read)
    except pa.ArrowInvalid as error:
        if uneven := UNEVEN.search(str(error)):
            _refuse_open_quote(file, form)
            named, found, row = uneven.groups()
            columns, cells = how_many(int(named), "column"), how_many(int(found), "cell")
            raise ValueError(f"its first row names {columns}; a row holds {cells}: {row}") from None
        raise
    _refuse_unclosed(file, form, table)
    _refuse_repeated_names(table)
    return table


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


def _refuse_repeated_names(table: pa.Table) -> None:
    """Rows that are the names of the columns once more: as a class, or a text, they would be read without a word."""
    is_names_R = None
    for name, column in zip(table.column_names, table.columns, strict=True):
        is_name_R = pc.fill_null(pc.equal(column, name), False)
        is_names_R = is_name_R if is_names_R is None else pc.and_(is_names_R, is_name_R)
        if not pc.any(is_names_R).as_py():
            return
    if table.num_columns > 1:  # a single word may be one
        again = pc.indices_nonzero(is_names_R)
        raise ValueError(
            f"{len(again)} of its rows repeat the names of the columns, as where files were joined with theirs; the "
            f"first is row {again[0].as_py()}; take these out"
        )


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


def _refuse_open_quote(file: Path, form: CsvForm) -> None:
    """A quote that is never closed, by the line in which it begins."""
    with form.text(file) as text:
        rows, before = csv.reader(text, delimiter=form.separator, strict=True), 0
        try:
            for _ in rows:
                before = rows.line_num
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise ValueError(f"a quote that begins in line {before + 1} is never closed") from None


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
