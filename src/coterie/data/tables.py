"""Tables by Hugging Face `datasets`: local parquet, csv and JSON lines files, image folders, names on the hub.

The library writes what it reads as Arrow files into its own cache and maps them into memory: encoded images take no
memory, however many they are.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from coterie.config import DataSettings
from coterie.data.decode import Broken
from coterie.errors import DataError

# The words that file names, folders and hub data sets use for the three splits.
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
IGNORED_FILES = ("thumbs.db", "desktop.ini")  # what file managers leave behind
# What files of each kind are called, and the library's name for their reader.
FILES = {
    "parquet": ((".parquet",), "parquet"),
    "csv": ((".csv", ".csv.gz"), "csv"),
    "jsonl": ((".jsonl", ".jsonl.gz", ".ndjson"), "json"),
}


@dataclass(frozen=True, eq=False)
class Source:
    """What was found: a table per split, files of no split, and files in class folders that are no images."""

    tables: dict[str, datasets.Dataset]
    unused: tuple[str, ...] = ()
    broken: tuple[Broken, ...] = ()


def open_tables(kind: str, place: str, settings: DataSettings) -> Source:
    """The tables of ``parquet``, ``csv``, ``jsonl``, ``folder`` or ``hub`` data, one per split; train is always there.

    Args:
        kind: of the source.
        place: a file, a folder, or a name on the hub.
        settings: for the configuration of a data set of the hub.

    Raises:
        DataError: nothing is there, it cannot be read, or it has no train split.
    """
    if kind == "folder":
        return _open_folder(place)
    if kind == "hub":
        return _open_hub(place, settings.configuration)
    return _open_files(kind, place)


def read_rows(file: str) -> pa.Table:
    """All rows of one file, whose kind its name tells.

    Raises:
        DataError: the file cannot be read, or is of no known kind.
    """
    kind = next((kind for kind, (suffixes, _) in FILES.items() if file.lower().endswith(suffixes)), None)
    if kind is None:
        known = ", ".join(suffix for suffixes, _ in FILES.values() for suffix in suffixes)
        raise DataError(f"cannot tell what {file} is by its name; known are files that end in {known}")
    _existing(file)
    if kind == "parquet":
        _check_parquet(Path(file))
    tables = _load_dataset(file, FILES[kind][1], data_files={"train": [glob.escape(file)]})
    return tables["train"].with_format("arrow")[:]


def _open_files(kind: str, place: str) -> Source:
    """One file, whatever its name, or a folder's: by split where names say so (train-*.parquet, train/*.parquet), else
    train.
    """
    root = _existing(place)
    suffixes, reader = FILES[kind]
    paths = sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and path.name.lower().endswith(suffixes) and not _is_hidden(path, root)
    )
    paths = [root] if root.is_file() else paths
    if not paths:
        raise DataError(f"no {' or '.join(suffixes)} file in {root}")
    files: dict[str, list[Path]] = {}
    unused = []
    for path in paths:
        # The name of a file goes before those of its folders.
        words = (path.stem, *path.relative_to(root).parts[:-1])
        split = next(filter(None, map(_split_of, words)), None)
        if split is None:
            unused.append(path)
        else:
            files.setdefault(split, []).append(path)
    # One file is all there is, whatever its name: test.csv is cut as well.
    if not files or root.is_file():
        files, unused = {"train": paths}, []
    _require_train(files, f"files in {root}")
    for path in (path for group in files.values() for path in group if kind == "parquet"):
        _check_parquet(path)
    patterns = {split: [glob.escape(str(path)) for path in group] for split, group in files.items()}
    tables = _load_dataset(f"{kind}:{place}", reader, data_files=patterns)
    return Source(tables, unused=tuple(str(path.relative_to(root)) for path in unused))


def _open_folder(place: str) -> Source:
    """A folder per class; or one per split, if the one for train holds folders (or a metadata file)."""
    root = _existing(place)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    subfolders = sorted(child for child in root.iterdir() if child.is_dir() and not _is_hidden(child, root))
    # A class may be called train, or test: only what such a folder holds tells a split from a class.
    named = {split: child for child in subfolders if (split := _split_of(child.name))}
    roots = {split: child for split, child in named.items() if _holds_classes(child)}
    unused = [child.name for child in subfolders if child not in roots.values()]
    if "train" not in roots:
        roots, unused = {"train": root}, []
    broken = [item for folder in roots.values() for item in _foreign_files(folder)]
    patterns = {split: glob.escape(str(folder)) + "/**" for split, folder in roots.items()}
    if not any(_images_in(folder) for folder in roots.values()):
        raise DataError(f"no image file in {root} (.png, .jpg and the like)")
    _refuse_empty_classes(roots["train"])
    tables = _load_dataset(f"folder:{place}", "imagefolder", data_files=patterns)
    if tables["train"].column_names == ["image"]:
        raise DataError(
            f"no label column: {roots['train']} needs a folder per class, at least two, all at the same depth"
        )
    return Source(tables, unused=tuple(unused), broken=tuple(broken))


def _open_hub(name: str, configuration: str | None) -> Source:
    """The splits of a data set on the hub, by any of the usual words for them."""
    chosen = {} if configuration is None else {"name": configuration}
    hint = "is the name right, does it need --data.configuration, and is there a network?"
    published = _load_dataset(f"hub:{name} ({hint})", name, **chosen)
    tables: dict[str, datasets.Dataset] = {}
    for word, table in published.items():
        split = _split_of(word)
        if split is not None:
            tables.setdefault(split, table)
    if not tables and len(published) == 1:
        tables = {"train": next(iter(published.values()))}
    _require_train(tables, f"splits of {name} ({', '.join(published)})")
    used = {id(table) for table in tables.values()}
    return Source(tables, unused=tuple(word for word, table in published.items() if id(table) not in used))


def _load_dataset(source: str, path: str, **options: Any) -> dict[str, datasets.Dataset]:
    """All splits, through the library's own reader; its many kinds of error become one."""
    try:
        with _no_progress_bars():
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


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = not datasets.are_progress_bars_disabled()
    if shown:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _existing(place: str) -> Path:
    path = Path(place).expanduser()
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except OSError as error:
        raise DataError(f"cannot read {place}: {error.strerror or error}") from None
    return path


def _check_parquet(path: Path) -> None:
    """Look for the format's mark at both ends: a cut-off file lacks one, and the library would not name it."""
    try:
        with path.open("rb") as file:
            first = file.read(4)
            file.seek(-min(4, path.stat().st_size), os.SEEK_END)
            last = file.read(4)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if (first, last) != (b"PAR1", b"PAR1"):
        raise DataError(f"{path} is not a parquet file, or is cut off")


def _split_of(name: str) -> str | None:
    """The split that a name begins with, as a word: train-00000-of-00003, val, Test_2; None for others."""
    word = re.split(r"[-._ 0-9]", name.lower(), maxsplit=1)[0]
    return next((split for split, words in SPLIT_WORDS.items() if word in words), None)


def _require_train(found: Mapping[str, object], where: str) -> None:
    if "train" not in found:
        raise DataError(f"no train split among the {where}; found: {', '.join(found) or 'none'}")


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _is_metadata(path: Path) -> bool:
    return path.name in ImageFolder.METADATA_FILENAMES


def _holds_classes(folder: Path) -> bool:
    return any(child.is_dir() or _is_metadata(child) for child in folder.iterdir())


def _images_in(folder: Path) -> bool:
    return any(path.suffix.lower() in {*ImageFolder.EXTENSIONS, ".zip"} for path in folder.rglob("*"))


def _foreign_files(folder: Path) -> list[Broken]:
    """Files in class folders that the library would pass over in silence, for their names."""
    files = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)]
    if any(_is_metadata(path) for path in files):
        return []  # labels come from a table: folders have no meaning
    return [
        Broken(str(path), f"not an image file ({path.suffix or 'no suffix'})")
        for path in sorted(files)
        if path.parent != folder
        and path.suffix.lower() not in ImageFolder.EXTENSIONS
        and path.name.lower() not in IGNORED_FILES
    ]


def _refuse_empty_classes(folder: Path) -> None:
    """An empty class folder leaves no trace in the library's table."""
    empty = sorted(child.name for child in folder.iterdir() if child.is_dir() and not any(child.iterdir()))
    if empty:
        shown = ", ".join(empty[:10])
        raise DataError(f"no training sample for {len(empty)} class(es): {shown} (empty folders in {folder})")
