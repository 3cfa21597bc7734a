"""How a csv file is written: its encoding and its separator, found where they are not named."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from coterie.data.code_pages import code_page
from coterie.system.gzipped import BLOCK, open_unpacked

# A comma goes first where rows are uneven.
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# Longest first: that of UTF-32 begins as one of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What begins so is no csv file.
OTHERS = {
    b"PK\x03\x04": "it is a spreadsheet (.xlsx) or an archive, not a csv file; save the sheet as csv",
    b"\xd0\xcf\x11\xe0": "it is a spreadsheet (.xls), not a csv file; save the sheet as csv",
    **dict.fromkeys(
        (b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!"),
        "it is compressed by what is not gzip; unpack it first",
    ),
    b"PAR1": "it is a parquet file: --data.source parquet:FILE",
    b"ARROW1": "it is an Arrow file: --data.source arrow:FILE",
    b"[{": "it is a JSON file: --data.source jsonl:FILE",
    b'{"': "it is a JSON file: --data.source jsonl:FILE",
}
# Rows that tell the separator.
ROWS = 500
# Spreadsheets write it before the names of the columns.
SEPARATOR_LINE = re.compile(r"sep=([,;|:^~ \t])\r?\n")
# Bytes beyond ASCII, of which Western and Central European words hardly have several in a row.
BEYOND = re.compile(rb"[\x80-\xff]+")
# What cannot be told from another, which is said.
OPTIONS = {"cp1252": "--data.encoding; cp1250 in Central Europe"}


def other_kind(head: bytes) -> str | None:
    """What a file is that begins so, if it is known not to be one of text, and what to do with it."""
    return next((what for mark, what in OTHERS.items() if head.startswith(mark)), None)


@dataclass(frozen=True)
class CsvForm:
    """Separator, and encoding as Python calls it, of a csv file."""

    separator: str = ","
    encoding: str = "utf-8"

    @classmethod
    def find(
        cls, file: Path, separator: str | None = None, encoding: str | None = None, otherwise: str | None = None
    ) -> CsvForm:
        """Look at a file.

        Args:
            file: the csv file.
            separator: taken if the file's first row has it.
            encoding: taken unless the file begins with the mark of another.
            otherwise: the encoding, where none is named, of a file that is not in UTF-8.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no csv file, its encoding is uncertain, or several separators would do.
        """
        with open_unpacked(file) as stream:
            head = stream.read(8)
        other = other_kind(head)
        if other is not None:
            raise ValueError(other)
        encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), encoding)
        encoding = encoding or _unmarked(file, head, otherwise)
        with open_unpacked(file) as stream:
            start = stream.read(BLOCK)
            whole = not stream.read(1)
        # Decoded with whatever is left of its last character; a byte order mark is no part of the first name.
        sample = codecs.getincrementaldecoder(encoding)("replace").decode(start).removeprefix("\ufeff")
        return cls(_separator(sample, whole, separator, tabs=".tsv" in file.suffixes), encoding)

    def text(self, file: Path) -> io.TextIOWrapper:
        """Its text, without a byte order mark."""
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        return io.TextIOWrapper(open_unpacked(file), encoding, newline="")

    def rows(self, file: Path) -> Iterator[list[str]]:
        """Rows by Python's own reader; [] for a blank line."""
        with self.text(file) as text:
            yield from csv.reader(text, delimiter=self.separator)

    def is_separator_line(self, row: Sequence[str]) -> bool:
        """Whether a first row says no more than what the separator is."""
        return list(row) == ["sep=", ""]


def describe_forms(
    forms: Iterable[CsvForm], separator: str | None, encoding: str | None, *, options: bool = True
) -> str:
    """What was found and not named, of forms that are not plain, and the options that overrule it: a note, or
    nothing.
    """
    found = []
    for form in dict.fromkeys(forms):
        if form.separator not in (",", separator):
            named = SEPARATORS.get(form.separator, repr(form.separator))
            found.append(f"{named} between cells{' (--data.separator)' * options}")
        if form.encoding not in ("utf-8", encoding):
            option = f" ({OPTIONS.get(form.encoding, '--data.encoding')})" * options
            found.append(f"encoding {form.encoding}{option}")
    return f"read as csv with {', '.join(dict.fromkeys(found))}" if found else ""


def code_page_of(forms: Iterable[CsvForm]) -> str | None:
    """The encoding of files that are all in one which is no Unicode."""
    found = {form.encoding for form in forms} - {"utf-8", "utf-8-sig"}
    return found.pop() if len(found) == 1 and not min(found).startswith("utf") else None


def _unmarked(file: Path, head: bytes, otherwise: str | None) -> str:
    """The encoding of a file without a byte order mark: UTF-8 if it can be, ``otherwise``, or that of Western
    or Central European Windows.

    Raises:
        ValueError: it is neither for certain.
    """
    if len(head) == 8 and head.count(0) == 4 and 0 in head[:2]:  # four letters of ASCII in UTF-16
        return "utf-16-le" if head[1] == 0 else "utf-16-be"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(file):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
    else:
        return "utf-8"
    found = otherwise or (code_page(_blocks(file)) if _is_of_single_letters(file) else None)
    if found is not None:
        return found
    raise ValueError(
        f"it is not in UTF-8 (byte {wrong:#x}) and in no other encoding for certain; name it by --data.encoding, such "
        "as cp1252, cp1250, cp1251, gb18030 or shift_jis"
    )


def _is_of_single_letters(file: Path) -> bool:
    """Whether most of the bytes beyond ASCII have ASCII letters beside them, and few make characters of UTF-8."""
    beyond = good = long = 0
    for block in _blocks(file):
        runs = BEYOND.findall(block)
        beyond += len(runs)
        good += sum(map(_is_utf8, runs))
        long += sum(len(run) > 2 for run in runs)
    return 10 * good <= beyond and 2 * long <= beyond


def _blocks(file: Path) -> Iterator[bytes]:
    with open_unpacked(file) as stream:
        while block := stream.read(BLOCK):
            yield block


def _is_utf8(run: bytes) -> bool:
    try:
        run.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _separator(sample: str, whole: bool, named: str | None, *, tabs: bool) -> str:
    """What splits the rows evenly; among ``named`` and those that the first row holds.

    Raises:
        ValueError: several do.
    """
    if said := SEPARATOR_LINE.match(sample):
        return said[1]
    counts = {s: _counts(sample, whole, s) for s in dict.fromkeys([*filter(None, [named]), *SEPARATORS])}
    counts = {s: some for s, some in counts.items() if some and some[0] > 1}
    even = [s for s, some in counts.items() if len(some) > 1 and set(some) == {some[0]}]
    for wanted in (named, "\t" if tabs else None):
        if wanted in counts and (wanted == named or wanted in even):
            return str(wanted)
    if len(even) > 1:
        shown = " and ".join(f"{SEPARATORS[s]} (into {counts[s][0]})" for s in even)
        raise ValueError(f"{shown} split its rows evenly; choose by --data.separator")
    return even[0] if even else _most_even(counts)


def _most_even(counts: Mapping[str, Sequence[int]]) -> str:
    """The separator by which most rows have as many cells as the first."""
    return max(counts, key=lambda s: sum(n == counts[s][0] for n in counts[s]) / len(counts[s]), default=",")


def _counts(sample: str, whole: bool, separator: str) -> list[int]:
    """Cells of each of the first rows that are not blank; the last row of a part of a file may be cut off."""
    found = []
    try:
        for row in islice(csv.reader(io.StringIO(sample, newline=""), delimiter=separator), ROWS):
            found += [len(row)] * bool(row)
    except csv.Error:  # a cell of 128 KiB
        return found
    return found if whole or len(found) < 2 else found[:-1]
