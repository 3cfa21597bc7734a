"""New samples for a trained ensemble, as the command line names them, read in batches: however many there are, the
samples of one are in memory.
"""

from __future__ import annotations

import glob
import math
import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from PIL import Image
from typing_extensions import override

from coterie.data.decode import IMAGE_SUFFIXES, Broken, decode_records, refusal
from coterie.errors import DataError, InputError
from coterie.inputs import FeaturePreprocessing, ImagePreprocessing, Preprocessing, Samples, TablePreprocessing
from coterie.system.reading import read_text, reason, split_lines

# An argument that ends so is meant to be a file, whatever else it could be.
FILE_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".npz", ".npy")
# Files of columns; of other files of texts each line is one.
COLUMN_SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".parquet")
# What a column of image files is called, where the run does not say.
PATH_COLUMNS = ("file_name", "filename", "file", "path", "image")
# Samples of a batch; fewer where they are large.
ROWS, BYTES = 1024, 2**28

# Some samples before they are made: what to call each, and a list, table or array of as many rows.
Piece: TypeAlias = tuple[list[str], Any]


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

    ``column`` holds the texts or image files of a table. ``note`` is told what else lies in folders; ``skip``, what
    cannot be read, which is an error where it is None.
    """

    preprocessing: Any
    arguments: tuple[Any, ...]
    column: str | None
    note: Callable[[str], None]
    skip: Callable[[str], None] | None
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
        for names, raw in _grouped(self._all_pieces(), rows or rows_at_once(self.preprocessing)):
            new = self._make(names, raw)
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
        files = _stripped(_input_lines()) if argument == "-" else self._files(argument)
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
        place = os.path.expanduser(argument)  # noqa: PTH111 - a name without a home is none of Path's
        if os.path.isdir(place):  # noqa: PTH112 - a null character in a name is no error
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
            self.note(f"left out of {folder}: {others:,} file(s) of other kinds, such as {example}")


class _NewImages(NewSamples):
    kind = "file"
    suffixes = tuple(sorted(IMAGE_SUFFIXES))
    files = "image file (.png, .jpg and the like)"

    @override
    def _pieces(self, file: str) -> Iterator[Piece]:
        if file.lower().endswith(COLUMN_SUFFIXES):
            yield from self._of_table(file)
        elif file.lower().endswith(".txt"):
            folder = Path(file).expanduser().parent
            paths = [str(folder / line) for line in _stripped(_read_lines(file))]
            yield paths, [_record(path) for path in paths]
        else:
            yield [file], [_record(file)]

    def _of_table(self, file: str) -> Iterator[Piece]:
        """Images of a column: paths, which are taken from the table's folder, or encoded."""
        folder = Path(file).expanduser().parent
        for start, table in _row_parts(file):
            cells = table[self._column_of(file, table)].to_pylist()
            records = [_record(str(folder / cell)) if isinstance(cell, str) else _as_record(cell) for cell in cells]
            names = _row_names(file, start, len(records))
            yield [r["path"] or n for r, n in zip(records, names, strict=True)], records

    def _column_of(self, file: str, table: Any) -> str:
        there: list[str] = table.column_names
        wanted = (*filter(None, [self.column]), *PATH_COLUMNS)
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


class _GivenImages(_NewImages):
    """Images that Python passes: of PIL, encoded as bytes, and by paths, as the command line takes them."""

    hint = ""

    @override
    def _all_pieces(self) -> Iterator[Piece]:
        for number, item in enumerate(self.arguments):
            match item:
                case Image.Image():
                    yield [f"image {number}"], [item]
                case bytes():
                    yield [f"image {number}"], [{"bytes": item, "path": None}]
                case str() | os.PathLike():
                    yield from self._pieces_of(_path(item), number)
                case _:
                    raise InputError(
                        f"image {number} of {len(self.arguments)} is of the type {type(item).__name__}, where others "
                        "are PIL images, bytes or paths; arrays are passed as one array, or as a list of arrays alone"
                    )


class _NewTexts(NewSamples):
    kind = "text"
    suffixes = (".txt", *COLUMN_SUFFIXES)
    files = "file of texts (.txt, .csv, .jsonl, .parquet)"

    @override
    def _pieces_of(self, argument: str, number: int) -> Iterator[Piece]:
        """A text, unless it names something that is there, or ends as a file does."""
        if argument == "-":
            lines = enumerate(_input_lines(), start=1)
            while some := list(islice(lines, ROWS)):
                yield [f"line {k} of standard input" for k, _ in some], [text for _, text in some]
        elif _is_file(argument) or argument.lower().endswith(FILE_SUFFIXES) or _is_folder(argument):
            yield from super()._pieces_of(argument, number)
        else:
            yield [f"text {number}"], [argument]

    @override
    def _pieces(self, file: str) -> Iterator[Piece]:
        if not file.lower().endswith(COLUMN_SUFFIXES):
            lines = _read_lines(file)
            for start in range(0, len(lines), ROWS):
                some = lines[start : start + ROWS]
                yield [f"line {start + k + 1} of {file}" for k in range(len(some))], some
            return
        column = None
        for start, table in _row_parts(file):
            column = column or _text_column(file, table, self.column)
            yield from _in_parts(file, start, [text or "" for text in table[column].to_pylist()])

    @override
    def _make(self, names: list[str], raw: Any) -> New | None:
        empty = [f"{name}: empty" for name, text in zip(names, raw, strict=True) if not text.strip()]
        if empty:
            self._leave_out_all(empty, "; ".join(empty[:5]))
        texts = [text for text in raw if text.strip()]
        return New(self.preprocessing.samples(texts), tuple(texts), self.kind) if texts else None


class _GivenTexts(_NewTexts):
    """Texts of files that Python passes by their paths; nothing is a text itself."""

    hint = ""

    @override
    def _pieces_of(self, argument: str, number: int) -> Iterator[Piece]:
        return NewSamples._pieces_of(self, argument, number)


class _NewRows(NewSamples):
    @override
    def _pieces(self, file: str) -> Iterator[Piece]:
        for start, table in _row_parts(file):
            with _named(file, start):
                # As texts, so that a row is read the same whatever lies in other files.
                texts = self.preprocessing.as_texts(table)
            yield from _in_parts(file, start, texts)

    @override
    def _make(self, names: list[str], raw: Any) -> New | None:
        try:
            return New(self.preprocessing.samples(raw), tuple(names), self.kind)
        except InputError as error:
            self._leave_out(InputError(f"{names[0]} and the {len(names) - 1} after it: {error}"))
            return None


class _NewFeatures(_NewRows):
    suffixes = (".npz", ".npy", *COLUMN_SUFFIXES)
    files = "file of features (.npz, .npy, .csv, .jsonl, .parquet)"

    @override
    def _pieces(self, file: str) -> Iterator[Piece]:
        from coterie.data.features import read_npz_features

        parts: Iterable[tuple[int, Any]] = ((start, _vectors(table, file)) for start, table in _row_parts(file))
        if not file.lower().endswith(COLUMN_SUFFIXES):
            parts = [(0, read_npz_features(file))]
        for start, array in parts:
            with _named(file, start):
                # Checked before rows are counted: an array may have none.
                checked_NF = self.preprocessing.samples(array).values_N.numpy()
            yield from _in_parts(file, start, checked_NF)


def find_new(
    preprocessing: Preprocessing,
    arguments: Iterable[str],
    *,
    column: str | None = None,
    note: Callable[[str], None] = lambda _: None,
    skip: Callable[[str], None] | None = None,
) -> NewSamples:
    """What arguments name, for networks of this preprocessing.

    Args:
        preprocessing: the run's.
        arguments: files, folders (with all that lies below), patterns such as ``pics/**/*.jpg``, or ``-`` for one a
            line of standard input. Images: their files, or tables and .txt files that name them. Texts: themselves,
            files with a text a line, a column of a table, or a text a line of standard input; a folder is one where its
            name has a slash. Tables: csv, JSON lines and parquet files. Features: .npz and .npy files, or tables.
        column: of texts or of image files in a table; default: by name, or the only one.
        note: told of other files in folders.
        skip: told of what cannot be read, which is left out; default: an error.
    """
    kinds: dict[type[Preprocessing], type[NewSamples]] = {
        ImagePreprocessing: _NewImages,
        TablePreprocessing: _NewRows,
        FeaturePreprocessing: _NewFeatures,
    }
    kind = kinds.get(type(preprocessing), _NewTexts)
    arguments = tuple(arguments)
    if arguments.count("-") > 1:
        raise DataError("- is named more than once: standard input can be read once")
    return kind(preprocessing, arguments, column, note, skip)


def read_new(
    preprocessing: Preprocessing, arguments: Sequence[str], *, skip_broken: bool = False, text: str | None = None
) -> New:
    """All that arguments name, at once; see ``find_new``.

    Args:
        preprocessing: the run's.
        arguments: as for ``find_new``.
        skip_broken: skip what cannot be read, and empty texts.
        text: the column of texts; default: ``text``, or the only one.

    Raises:
        DataError: a file is missing or broken (named), unless ``skip_broken``; or nothing is left.
        InputError: columns or features are not those of the run.
    """
    skipped: list[str] = []
    found = find_new(preprocessing, arguments, column=text, skip=skipped.append if skip_broken else None)
    new = next(found.batches(sys.maxsize), None)
    if new is None:
        raise nothing_left(preprocessing, skipped)
    return replace(new, skipped=tuple(skipped))


def nothing_left(preprocessing: Preprocessing, skipped: Sequence[str] = ()) -> DataError:
    """The error where all that arguments name was skipped."""
    what = {"image": "image", "text": "text"}.get(preprocessing.modality, "row")
    return DataError(f"no {what} to classify" + (f"; {'; '.join(skipped[:5])}" if skipped else ""))


def given_samples(preprocessing: Preprocessing, raw: Any) -> Iterator[Samples]:
    """Samples of what Python passes: ``Samples``, what the preprocessing takes, or what has to be read, in batches.

    Args:
        preprocessing: the run's.
        raw: images also as PIL images (cropped and scaled as files are), bytes that hold encoded ones, paths of files,
            folders (in the order of names) and patterns, or a list of these; rows and features also as paths of files,
            or a list of them; texts also as ``pathlib.Path`` of files with a text a line, or a list of them.

    Raises:
        DataError: a file is missing or broken, which is named.
        InputError: it is something else.
    """
    items = tuple(raw) if isinstance(raw, list | tuple) else (raw,)
    modality = preprocessing.modality
    if modality == "image" and any(isinstance(item, Image.Image | bytes | str | os.PathLike) for item in items):
        found: NewSamples = _GivenImages(preprocessing, items, None, _ignore, None)
    elif items and modality == "text" and all(isinstance(item, os.PathLike) for item in items):
        found = _GivenTexts(preprocessing, tuple(map(_path, items)), None, _ignore, None)
    elif items and modality != "text" and all(isinstance(item, str | os.PathLike) for item in items):
        found = find_new(preprocessing, map(_path, items))
    else:
        yield preprocessing.check(raw)
        return
    for new in found.batches():
        yield preprocessing.check(new.samples)


def rows_at_once(preprocessing: Preprocessing) -> int:
    """Samples that are read at once: whole batches of the network, where these are not too large."""
    n_values = math.prod(max(1, side) for side in preprocessing.shape)
    rows, at_once = max(1, min(ROWS, BYTES // n_values)), preprocessing.at_once
    return max(rows // at_once * at_once, min(rows, at_once))


def _ignore(_: str) -> None:
    return


def _path(item: str | os.PathLike[str]) -> str:
    """A path that does not stand for standard input."""
    path = os.fspath(item)
    return "./-" if path == "-" else path


@contextmanager
def _named(file: str, start: int) -> Iterator[None]:
    """Name the file of rows that do not fit, and where its part begins by which they are counted."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}{f' from row {start + 1} on' if start else ''}: {error}") from None


def _grouped(pieces: Iterable[Piece], rows: int) -> Iterator[Piece]:
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
                yield names, _joined(held)
                names, held = [], []
    if names:
        yield names, _joined(held)


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], list):
        return list(chain.from_iterable(parts))
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import pyarrow as pa

    return pa.concat_tables(parts)


def _row_parts(file: str) -> Iterator[tuple[int, Any]]:
    """The rows of a file in parts, and the number of the first of each."""
    from coterie.data.tables import read_row_parts

    start = 0
    for table in read_row_parts(file):
        if len(table):
            yield start, table
        start += len(table)
    if start == 0:
        raise DataError(f"{file} holds no row")


def _in_parts(file: str, first: int, raw: Any) -> Iterator[Piece]:
    """Rows with their names, which of a million rows at once would take more than these."""
    for start in range(0, len(raw), ROWS):
        part = raw[start : start + ROWS]
        yield _row_names(file, first + start, len(part)), part


def _row_names(file: str, first: int, n_rows: int) -> list[str]:
    return [f"{file} row {first + row + 1}" for row in range(n_rows)]


def _record(path: str) -> dict[str, Any]:
    return {"bytes": None, "path": path}


def _as_record(cell: Any) -> dict[str, Any]:
    """What a cell holds that is no path: encoded bytes, a record of these, or nothing."""
    if isinstance(cell, dict):
        return {"bytes": cell.get("bytes"), "path": cell.get("path")}
    return {"bytes": cell if isinstance(cell, bytes) else None, "path": None}


def _vectors(table: Any, file: str) -> Any:
    """The only column of lists, or all columns as numbers (N, F)."""
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


def _text_column(file: str, table: Any, wanted: str | None) -> str:
    from coterie.inputs.cells import meaning

    texts = [name for name in table.column_names if table.schema.field(name).type in ("string", "large_string")]
    # Of a csv file every column is one of texts: numbers are passed over, unless nothing else is there.
    found = [name for name in texts if meaning(table[name]) in ("text", "code")] or texts
    chosen = [name for name in (wanted, "text") if name in texts] or (found if len(found) == 1 else [])
    if not chosen:
        name = "text" if wanted is None else wanted
        raise DataError(f"{file} has no column {name!r} of texts; columns: {', '.join(table.column_names)}")
    return str(chosen[0])


def _read_lines(file: str) -> list[str]:
    try:
        return split_lines(read_text(file))
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {file}: it is not UTF-8 text: {error}") from None
    except FileNotFoundError:
        raise DataError(f"cannot read {file}: no such file") from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {reason(error)}") from None


def _input_lines() -> Iterator[str]:
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


def _stripped(lines: Iterable[str]) -> Iterator[str]:
    """Names of files, a line each, without empty lines."""
    return (line for line in lines if line.strip())


def _is_file(argument: str) -> bool:
    """Whether an argument names a file. A text may be too long for a name, or hold what no name does."""
    try:
        return not stat.S_ISDIR(Path(argument).expanduser().stat().st_mode)
    except (OSError, ValueError, RuntimeError):
        return False


def _is_folder(argument: str) -> bool:
    """Whether a folder is meant: a word may be the name of one and a text all the same."""
    return os.sep in argument and os.path.isdir(os.path.expanduser(argument))  # noqa: PTH111, PTH112 - as _files
