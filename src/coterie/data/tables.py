"""The tables of a source: local parquet, csv, JSON lines and Arrow files, image folders, names on the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coterie.config import DataSettings
from coterie.config.source import SUFFIXES, kind_of_rows, split_of
from coterie.data.csv_form import code_page_of, describe_forms
from coterie.data.encoded import Broken
from coterie.data.folders import METADATA, class_tables, is_hidden, metadata_table, scan
from coterie.data.kinds import counted
from coterie.data.reading import JSON, find_form, no_progress_bars, read_files, read_parts
from coterie.errors import DataError
from coterie.inputs.cells import Meaning, meaning
from coterie.system.reading import reason, regular
from coterie.system.units import how_many

Found = TypeVar("Found")

WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
QUANTITY = re.compile(r"[-+]?[0-9]+[.,][0-9]+")
# What the second column of a name is called, and so on.
AGAIN = re.compile(r"(.*)\.[1-9][0-9]*")
# What a column of a csv file holds, by the meaning of its cells.
FEATURES: dict[Meaning, datasets.Value] = {
    "whole": datasets.Value("int64"),
    "number": datasets.Value("float64"),
    "decimal": datasets.Value("float64"),
    "truth": datasets.Value("bool"),
    "code": datasets.Value("string"),
    "text": datasets.Value("string"),
    "nothing": datasets.Value("null"),
}


@dataclass(frozen=True, eq=False)
class Source:
    """What was found: a table per split, files of no split, and files in class folders that are no images.

    ``spelled``: cells are texts whatever they mean, as in a csv file; ``commas``: its numbers may have decimal commas.
    ``origins``: per split, folder and number of rows of each file. ``note``: what else there is to say, or nothing.
    ``n_unknown``: test samples that were left out, of classes that train lacks. ``rows``: per split, the number that
    each row had where it was read; of a split that is not there, they are its own. ``encoding``: of csv files, where it
    is no Unicode. ``texts``: the columns whose texts are the samples, where these were found among others, or are
    several, which stand in one by the name ``text_columns.name_of`` has for it.
    """

    tables: dict[str, datasets.Dataset]
    unused: tuple[str, ...] = ()
    broken: tuple[Broken, ...] = ()
    spelled: bool = False
    note: str = ""
    commas: bool = False
    origins: Mapping[str, Sequence[tuple[Path, int]]] = field(default_factory=dict)
    n_unknown: int = 0
    rows: Mapping[str, np.ndarray] = field(default_factory=dict)
    encoding: str | None = None
    texts: tuple[str, ...] = ()

    def numbers(self, split: str) -> np.ndarray:
        """The number that each row of a split had where it was read."""
        return self.rows.get(split, np.arange(len(self.tables[split])))

    def noted(self, *notes: str) -> Source:
        """With further notes, of which empty ones say nothing."""
        return replace(self, note="; ".join(filter(None, [self.note, *notes])))

    @cached_property
    def features(self) -> datasets.Features:
        """What the columns of train hold; those of a csv file by the meaning of all their cells."""
        stored = self.tables["train"].features
        return datasets.Features({**stored, **{name: FEATURES[meant] for name, meant in self.meanings.items()}})

    @cached_property
    def meanings(self) -> dict[str, Meaning]:
        """What the cells of a csv file's columns mean in train; nothing of other files."""
        train = self.tables["train"]
        if not self.spelled:
            return {}
        cells = train.with_format("arrow")[:]
        texts = [name for name, feature in train.features.items() if feature == datasets.Value("string")]
        return {name: meaning(cells[name], commas=self.commas) for name in texts}


def open_tables(kind: str, place: str, settings: DataSettings) -> Source:
    """The tables of ``parquet``, ``csv``, ``jsonl``, ``arrow``, ``folder`` or ``hub`` data, one per split; train is
    always there.

    Args:
        kind: of the source.
        place: a file, a folder, or a name on the hub.
        settings: for the configuration of a data set of the hub, and how csv files are written.

    Raises:
        DataError: nothing is there, it cannot be read, or it has no train split.
    """
    if kind == "folder":
        return _open_folder(place, settings)
    if kind == "hub":
        return _open_hub(place, settings.configuration)
    return _open_files(kind, place, settings)


def read_row_parts(
    file: str,
    separator: str | None = None,
    encoding: str | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[pa.Table]:
    """All rows of one file, whose kind its name tells; those of a parquet file in parts. ``separator`` and ``encoding``
    are those of the files that a run was trained on: of a csv file that may be written in another way, which ``note``
    is told.

    Raises:
        DataError: the file cannot be read, or is of no known kind.
    """
    kind = kind_of_rows(file)
    if kind is None:
        known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
        raise DataError(f"cannot tell what {file} is by its name; known are files that end in {known}")
    path = Path(file).expanduser()
    form = find_form(path, separator, otherwise=encoding) if kind == "csv" else None
    if form is not None and (said := describe_forms([form], separator, encoding, options=False)):
        note(f"{file}: {said}")
    yield from read_parts(kind, path, form)


def _open_files(kind: str, place: str, settings: DataSettings) -> Source:
    """One file, whatever its name, or a folder's: by split where names say so (train-*.parquet, train/*.parquet), else
    train.
    """
    root = _existing(place)
    suffixes = SUFFIXES[kind]
    paths = sorted(
        path
        for path in root.rglob("*")
        if not path.is_dir() and path.name.lower().endswith(suffixes) and not _is_hidden(path, root)
    )
    paths = [root] if root.is_file() else paths
    # Beside files of lines, others may say what these are.
    odd = [path for path in paths if path.name.lower().endswith(JSON)]
    odd = odd if len(odd) < len(paths) else []
    paths = [path for path in paths if path not in odd]
    if not paths:
        raise DataError(f"no {' or '.join(suffixes)} file in {root}")
    files: dict[str, list[Path]] = {}
    unused = []
    for path in paths:
        # The name of a file goes before those of its folders.
        words = (path.stem, *path.relative_to(root).parts[:-1])
        split = next(filter(None, map(split_of, words)), None)
        if split is None:
            unused.append(path)
        else:
            files.setdefault(split, []).append(path)
    # One file is all there is, whatever its name: test.csv is cut as well.
    if not files or root.is_file():
        files, unused = {"train": paths}, []
    unused += odd
    files, alone = _with_train(files, f"files in {root}")
    named = settings.separator, settings.encoding
    forms = {path: find_form(path, *named) for path in chain(*files.values()) if kind == "csv"}
    read = {split: read_files(kind, group, [forms.get(path) for path in group]) for split, group in files.items()}
    return Source(
        {split: table for split, (table, _) in read.items()},
        unused=tuple(str(path.relative_to(root)) for path in unused),
        spelled=kind == "csv",
        note="; ".join(filter(None, [alone, describe_forms(forms.values(), *named), _doubtful_names(read, kind)])),
        commas=any(forms[path].separator != "," for path in files["train"] if path in forms),
        origins={
            split: [(path.parent, n) for path, n in zip(files[split], counts, strict=True)]
            for split, (_, counts) in read.items()
        },
        encoding=code_page_of(forms.values()),
    )


def _doubtful_names(read: Mapping[str, tuple[datasets.Dataset, list[int]]], kind: str) -> str:
    """A note where names of columns are numbers, or values of their columns: the file may have no names."""
    if kind != "csv":
        return ""
    train = read["train"][0]
    names = train.column_names
    # Of several columns called 5, the second is 5.1.
    own = [again[1] if (again := AGAIN.fullmatch(name)) and again[1] in names else name for name in names]
    whole = [int(name) for name in own if WHOLE.fullmatch(name)]
    counted_up = whole == list(range(whole[0], whole[0] + len(whole))) if whole else True
    cells = train.with_format("arrow")[:]
    doubtful = (
        any(map(QUANTITY.fullmatch, own))
        or (len(whole) == len(own) and not counted_up)
        or any(_is_among(name, cells[name]) for name in names if not WHOLE.fullmatch(name))
    )
    return f"its first row is taken for the names of columns: {', '.join(names[:5])}" if doubtful else ""


def _is_among(name: str, column: pa.ChunkedArray) -> bool:
    """Whether a column that holds texts several times holds its name among them."""
    if not pa.types.is_string(column.type) or not pc.any(pc.equal(column, name)).as_py():
        return False
    # Of texts that are all different one may be the word that the column is called.
    return bool(pc.count_distinct(column).as_py() <= len(column) / 2)


def _open_folder(place: str, settings: DataSettings) -> Source:
    """A folder per class; or one per split, if the one for train holds folders (or a metadata file)."""
    # Images are opened later, by whatever process.
    root = _existing(place).absolute()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    subfolders = sorted(child for child in root.iterdir() if child.is_dir() and not _is_hidden(child, root))
    # A class may be called train, or test: only what such a folder holds tells a split from a class.
    named = {split: child for child in subfolders if (split := split_of(child.name))}
    roots = {split: child for split, child in named.items() if _holds_classes(child)}
    unused = [child.name for child in subfolders if child not in roots.values()]
    only = ""
    if not roots and len(named) == len(subfolders) > 1 and "train" in named:
        raise DataError(
            f"{', '.join(child.name for child in subfolders)} of {root} hold images, and no folder for each class; "
            "where a table says what the images are, it is the source: csv:FILE"
        )
    if roots and not unused:
        roots, only = _with_train(roots, f"folders in {root}")
    elif "train" not in roots:  # beside classes, one may be called test
        roots, unused = {"train": root}, []
    found = {split: scan(folder) for split, folder in roots.items()}
    broken = tuple(item for some in found.values() for item in some.foreign)
    if not any(some.images for some in found.values()):
        others = counted(item.kind for item in broken if item.kind) or next(iter(map(str, broken)), "")
        raise DataError(f"no image file in {root} (.png, .jpg and the like)" + (f", but {others}" if others else ""))
    if any(some.metadata for some in found.values()):
        written = settings.separator, settings.encoding
        files = [file for some in found.values() for file in some.metadata if METADATA[file.name] == "csv"]
        forms = {file: find_form(file, *written) for file in files}
        tables = {split: metadata_table(some, forms) for split, some in found.items() if some.metadata}
        spelled = any(of_texts for _, of_texts, _ in tables.values())
        left = [path for _, _, unnamed in tables.values() for path in unnamed]
        unnamed = f"{how_many(len(left), 'image')} without a line in a metadata file left out"
        said = f"{unnamed}, such as {left[0]}" if left else ""
        split_tables, alone = _with_train(
            {split: table for split, (table, _, _) in tables.items()}, f"folders with metadata in {root}"
        )
        source = Source(split_tables, tuple(unused), broken, spelled, describe_forms(forms.values(), *written))
        return source.noted(only, alone, said)
    by_class, note = class_tables(found)
    return Source(by_class, tuple(unused), broken, note=note).noted(only)


def _open_hub(name: str, configuration: str | None) -> Source:
    """The splits of a data set on the hub, by any of the usual words for them."""
    chosen = {} if configuration is None else {"name": configuration}
    hint = "is the name right, does it need --data.configuration, and is there a network?"
    published = _load_dataset(f"hub:{name} ({hint})", name, **chosen)
    tables: dict[str, datasets.Dataset] = {}
    for word, table in published.items():
        split = split_of(word)
        if split is not None:
            tables.setdefault(split, table)
    if not tables and len(published) == 1:
        tables = {"train": next(iter(published.values()))}
    tables, alone = _with_train(tables, f"splits of {name} ({', '.join(published)})")
    used = {id(table) for table in tables.values()}
    return Source(tables, unused=tuple(word for word, table in published.items() if id(table) not in used), note=alone)


def _load_dataset(source: str, path: str, **options: Any) -> dict[str, datasets.Dataset]:
    """All splits, through the library's own reader; its many kinds of error become one."""
    try:
        with no_progress_bars():
            return dict(datasets.load_dataset(path, **options))
    except Exception as error:
        # The library raises some twenty kinds, and hides the telling one behind "an error occurred".
        raise DataError(f"cannot load {source}: {root_cause(error)}") from error


def root_cause(error: BaseException) -> str:
    """Kind and first line of the error that caused others."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or ["no further message"]
    return f"{type(error).__name__}: {lines[0][:400]}"


def _existing(place: str) -> Path:
    path = Path(place).expanduser()
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            regular(path).open("rb").close()
    except FileNotFoundError as error:
        raise DataError(f"cannot read {place}: {reason(error)}; it is not a folder, nor a file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {place}: {reason(error)}") from None
    return path


def _with_train(found: dict[str, Found], where: str) -> tuple[dict[str, Found], str]:
    """The splits that were found, and a note where the only one, such as test, is all there is.

    Raises:
        DataError: there are several, and none for training.
    """
    if "train" in found:
        return found, ""
    if len(found) != 1:
        raise DataError(f"no train split among the {where}; found: {', '.join(found) or 'none'}")
    ((split, alone),) = found.items()
    return {"train": alone}, f"{split} is the only split, and taken for all samples"


def _is_hidden(path: Path, root: Path) -> bool:
    return any(map(is_hidden, path.relative_to(root).parts))


def _holds_classes(folder: Path) -> bool:
    return any(child.is_dir() or child.name in METADATA for child in folder.iterdir())
