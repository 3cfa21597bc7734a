"""New samples for a trained ensemble, as the command line names them, read in batches: however many there are, the
samples of one are in memory.
"""

from __future__ import annotations

import glob
import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from typing_extensions import override

from coterie.config.source import SUFFIXES
from coterie.data.decode import decode_records, refusal
from coterie.data.encoded import Broken
from coterie.data.formats import IMAGE_SUFFIXES
from coterie.data.pieces import (
    ROWS,
    Piece,
    as_record,
    columns_of_texts,
    grouped,
    home_of,
    in_parts,
    input_lines,
    is_file,
    is_folder,
    join_texts,
    named,
    read_lines,
    record,
    row_names,
    row_parts,
    stripped,
    vectors,
)
from coterie.errors import DataError, InputError
from coterie.inputs import FeaturePreprocessing, ImagePreprocessing, Preprocessing, Samples, TablePreprocessing
from coterie.system.units import how_many

# An argument that ends so is meant to be a file, whatever else it could be.
FILE_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".feather", ".npz", ".npy")
# Files of columns; of other files of texts each line is one.
COLUMN_SUFFIXES = tuple(chain.from_iterable(SUFFIXES.values()))
# What a column of image files is called, where the run does not say.
PATH_COLUMNS = ("file_name", "filename", "file", "path", "image")
# Most bytes of the samples of a batch, which are ROWS where these fit.
BYTES = 2**28


@dataclass(frozen=True, eq=False)
class New:
    """Samples with a name each, the kind of these names, and what was skipped and why."""

    samples: Samples
    names: tuple[str, ...]
    kind: Literal["file", "text", "row"]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class NewSamples(ABC):
    """What arguments name, read batch by batch.

    ``columns`` hold the texts or image files of a table; several: texts, which are joined. ``note`` is told what else
    lies in folders, and how csv files are written; ``skip``, what cannot be read, which is an error where it is None.
    ``written``: separator and encoding of the files that the run was trained on.
    """

    preprocessing: Any
    arguments: tuple[Any, ...]
    columns: tuple[str, ...]
    note: Callable[[str], None]
    skip: Callable[[str], None] | None
    written: tuple[str | None, str | None] = (None, None)
    kind: ClassVar[Literal["file", "text", "row"]] = "row"
    hint: ClassVar[str] = ". --skip-broken leaves them out"
    suffixes: ClassVar[tuple[str, ...]] = COLUMN_SUFFIXES
    files: ClassVar[str] = "file of rows (.csv, .jsonl, .parquet)"

    def count(self) -> int | None:
        """The number of samples, of which none is made; None where they come from standard input.

        Raises:
            DataError: as ``batches``, but for what shows only when a sample is made.
        """
        if "-" in self.arguments:
            return None
        silent = replace(self, note=_ignore, skip=self.skip and _ignore)
        return sum(len(names) for names, _ in silent._all_pieces())

    def batches(self, rows: int | None = None) -> Iterator[New]:
        """The samples in order, so many at once; default: as many as suits their size.

        Raises:
            DataError: a file is missing or broken, a folder or a pattern holds none, or a text is empty.
            InputError: columns or features are not those of the run.
        """
        for names, raw in grouped(self._all_pieces(), rows or rows_at_once(self.preprocessing)):
            try:
                new = self._make(names, raw)
            except InputError as error:  # of one row, which it counts from the first of these
                others = f" and the {len(names) - 1} after it" if names[1:] else ""
                raise InputError(f"{names[0]}{others}: {error}") from None
            if new is not None:
                yield new

    @abstractmethod
    def _pieces(self, file: str) -> Iterator[Piece]:
        """What a file holds."""

    @abstractmethod
    def _make(self, names: list[str], raw: Any) -> New | None:
        """Samples of rows; None where none of these is left."""

    def _all_pieces(self) -> Iterator[Piece]:
        for number, argument in enumerate(self.arguments, start=1):
            pieces = self._pieces_of(argument, number)
            try:
                yield from pieces
            except (DataError, InputError) as error:
                self._leave_out(error)

    def _pieces_of(self, argument: str, number: int) -> Iterator[Piece]:
        files = stripped(input_lines()) if argument == "-" else self._files(argument)
        for file in files:
            try:
                yield from self._pieces(file)
            except (DataError, InputError) as error:
                self._leave_out(error)

    def _leave_out(self, fault: DataError | InputError) -> None:
        if self.skip is None:
            raise fault
        self.skip(str(fault))

    def _leave_out_all(self, faults: Iterable[str], message: str) -> None:
        if self.skip is None:
            raise DataError(message + self.hint)
        for fault in faults:
            self.skip(fault)

    def _files(self, argument: str) -> Iterator[str]:
        """The file that an argument names, or those that match its pattern, or lie in its folder."""
        place = home_of(argument)
        if os.path.isdir(place):  # noqa: PTH112 - a null character is no error
            yield from self._below(place)
        elif glob.has_magic(argument) and not os.path.lexists(place):
            from coterie.data.folders import files_matching

            found = files_matching(place)
            first = next(found, None)
            if first is None:
                raise DataError(f"cannot read {argument}: no file matches")
            for match in chain([first], found):
                yield from self._below(match) if Path(match).is_dir() else [match]
        else:
            yield argument

    def _below(self, folder: str) -> Iterator[str]:
        from coterie.data.folders import files_below

        n_files, others = 0, 0
        example = ""
        for found in files_below(Path(folder), self.suffixes):
            if isinstance(found, Broken):
                others, example = others + 1, example or found.name
            else:
                n_files += 1
                yield found
        if not n_files:
            raise DataError(f"no {self.files} in {folder}")
        if others:
            self.note(f"left out of {folder}: {how_many(others, 'file')} of other kinds, such as {example}")


class NewImages(NewSamples):
    """Images: files, and tables and lists that name them."""

    kind = "file"
    suffixes = tuple(sorted(IMAGE_SUFFIXES))
    files = "image file (.png, .jpg and the like)"

    @override
    def _pieces(self, file: str) -> Iterator[Piece]:
        if file.lower().endswith(COLUMN_SUFFIXES):
            yield from self._of_table(file)
        elif file.lower().endswith(".txt"):
            folder = Path(file).expanduser().parent
            paths = [str(folder / line) for line in stripped(read_lines(file))]
            yield paths, [record(path) for path in paths]
        else:
            yield [file], [record(file)]

    def _of_table(self, file: str) -> Iterator[Piece]:
        """Images of a column: paths, which are taken from the table's folder, or encoded."""
        from coterie.data.image_paths import file_of, root_of

        root = Path(file).expanduser().parent
        for start, table in row_parts(file, *self.written, self.note):
            cells = table[self._column_of(file, table)].to_pylist()
            there = root_of([cell for cell in cells if isinstance(cell, str)], root)
            root = root if there in (None, root.absolute()) else there
            records = [record(str(file_of(root, cell))) if isinstance(cell, str) else as_record(cell) for cell in cells]
            names = row_names(file, start, len(records))
            yield [r["path"] or n for r, n in zip(records, names, strict=True)], records

    def _column_of(self, file: str, table: Any) -> str:
        there: list[str] = table.column_names
        wanted = (*self.columns, *PATH_COLUMNS)
        chosen = next((name for name in wanted if name in there), there[0] if len(there) == 1 else None)
        if chosen is None:
            raise DataError(f"{file} has no column {wanted[0]!r} of image files; columns: {', '.join(there[:20])}")
        return chosen

    @override
    def _make(self, names: list[str], raw: Any) -> New | None:
        images, rows, broken = decode_records(raw, names, self.preprocessing)
        if broken:
            self._leave_out_all(map(str, broken), refusal(broken, len(names)))
        return New(images, tuple(names[row] for row in rows), self.kind) if rows else None


class NewTexts(NewSamples):
    """Texts: themselves, lines of files, and columns of tables."""

    kind = "text"
    suffixes = (".txt", *COLUMN_SUFFIXES)
    files = "file of texts (.txt, .csv, .jsonl, .parquet)"

    @override
    def _pieces_of(self, argument: str, number: int) -> Iterator[Piece]:
        """A text, unless it names something that is there, or ends as a file does."""
        if argument == "-":
            lines = enumerate(input_lines(), start=1)
            while some := list(islice(lines, ROWS)):
                yield [f"line {k} of standard input" for k, _ in some], [text for _, text in some]
        elif is_file(argument) or argument.lower().endswith(FILE_SUFFIXES) or is_folder(argument):
            yield from super()._pieces_of(argument, number)
        else:
            yield [f"text {number}"], [argument]

    @override
    def _pieces(self, file: str) -> Iterator[Piece]:
        if not file.lower().endswith(COLUMN_SUFFIXES):
            lines = read_lines(file)
            for start in range(0, len(lines), ROWS):
                some = lines[start : start + ROWS]
                yield [f"line {start + k + 1} of {file}" for k in range(len(some))], some
            return
        columns: tuple[str, ...] = ()
        for start, table in row_parts(file, *self.written, self.note):
            columns = columns or columns_of_texts(file, table, self.columns)
            texts = [table[name].to_pylist() for name in columns]
            yield from in_parts(file, start, join_texts(texts) if texts[1:] else [text or "" for text in texts[0]])

    @override
    def _make(self, names: list[str], raw: Any) -> New | None:
        empty = [f"{name}: empty" for name, text in zip(names, raw, strict=True) if not text.strip()]
        if empty:
            self._leave_out_all(empty, "; ".join(empty[:5]))
        texts = [text for text in raw if text.strip()]
        return New(self.preprocessing.samples(texts), tuple(texts), self.kind) if texts else None


class NewRows(NewSamples):
    """Rows of tables."""

    @override
    def _pieces(self, file: str) -> Iterator[Piece]:
        for start, table in row_parts(file, *self.written, self.note):
            with named(file, start):
                # As texts, so that a row is read the same whatever lies in other files.
                texts = self.preprocessing.as_texts(table)
            yield from in_parts(file, start, texts)

    @override
    def _make(self, names: list[str], raw: Any) -> New | None:
        return New(self.preprocessing.samples(raw), tuple(names), self.kind)


class NewFeatures(NewRows):
    """Features: arrays of files, and tables of them."""

    suffixes = (".npz", ".npy", *COLUMN_SUFFIXES)
    files = "file of features (.npz, .npy, .csv, .jsonl, .parquet)"

    @override
    def _pieces(self, file: str) -> Iterator[Piece]:
        from coterie.data.features import read_npz_features

        parts: Iterable[tuple[int, Any]] = (
            (start, vectors(table, file)) for start, table in row_parts(file, *self.written, self.note)
        )
        if not file.lower().endswith(COLUMN_SUFFIXES):
            parts = [(0, read_npz_features(file))]
        for start, array in parts:
            with named(file, start):
                # Checked before rows are counted: an array may have none.
                checked_NF = self.preprocessing.samples(array).values_N.numpy()
            yield from in_parts(file, start, checked_NF)


def find_new(
    preprocessing: Preprocessing,
    arguments: Iterable[str],
    *,
    columns: tuple[str, ...] = (),
    note: Callable[[str], None] = lambda _: None,
    skip: Callable[[str], None] | None = None,
    written: tuple[str | None, str | None] = (None, None),
) -> NewSamples:
    """What arguments name, for networks of this preprocessing.

    Args:
        preprocessing: the run's.
        arguments: files, folders (with all that lies below), patterns such as ``pics/**/*.jpg``, or ``-`` for one a
            line of standard input. Images: their files, or tables and .txt files that name them. Texts: themselves,
            files with a text a line, a column of a table, or a text a line of standard input; a folder is one where its
            name has a slash. Tables: csv, JSON lines and parquet files. Features: .npz and .npy files, or tables.
        columns: of texts or of image files in a table; several: of texts, which are joined; default: by name, or the
            only one.
        note: told of other files in folders.
        skip: told of what cannot be read, which is left out; default: an error.
        written: separator and encoding of the csv files that the run was trained on; see ``tables.read_row_parts``.
    """
    kinds: dict[type[Preprocessing], type[NewSamples]] = {
        ImagePreprocessing: NewImages,
        TablePreprocessing: NewRows,
        FeaturePreprocessing: NewFeatures,
    }
    kind = kinds.get(type(preprocessing), NewTexts)
    arguments = tuple(arguments)
    if arguments.count("-") > 1:
        raise DataError("- is named more than once: standard input can be read once")
    return kind(preprocessing, arguments, columns, note, skip, written)


def read_new(
    preprocessing: Preprocessing, arguments: Sequence[str], *, skip_broken: bool = False, columns: tuple[str, ...] = ()
) -> New:
    """All that arguments name, at once; see ``find_new``.

    Args:
        preprocessing: the run's.
        arguments: as for ``find_new``.
        skip_broken: skip what cannot be read, and empty texts.
        columns: as for ``find_new``.

    Raises:
        DataError: a file is missing or broken (named), unless ``skip_broken``; or nothing is left.
        InputError: columns or features are not those of the run.
    """
    skipped: list[str] = []
    found = find_new(preprocessing, arguments, columns=columns, skip=skipped.append if skip_broken else None)
    new = next(found.batches(sys.maxsize), None)
    if new is None:
        raise nothing_left(preprocessing, skipped)
    return replace(new, skipped=tuple(skipped))


def nothing_left(preprocessing: Preprocessing, skipped: Sequence[str] = ()) -> DataError:
    """The error where all that arguments name was skipped."""
    what = {"image": "image", "text": "text"}.get(preprocessing.modality, "row")
    return DataError(f"no {what} to classify" + (f"; {'; '.join(skipped[:5])}" if skipped else ""))


def rows_at_once(preprocessing: Preprocessing) -> int:
    """Samples that are read at once: whole batches of the network, where these are not too large."""
    n_values = math.prod(max(1, side) for side in preprocessing.shape)
    rows, at_once = max(1, min(ROWS, BYTES // n_values)), preprocessing.at_once
    return max(rows // at_once * at_once, min(rows, at_once))


def _ignore(_: str) -> None:
    return
