"""Image folders: a folder per class, or one per split of a folder per class.

One rule for every command: the class of an image is the name of the folder that it lies in, and all these folders lie
equally deep below the root or the split's folder. Links are followed.
"""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import datasets
import pyarrow as pa

from coterie.data.csv_form import CsvForm
from coterie.data.encoded import Broken
from coterie.data.formats import IMAGE_SUFFIXES
from coterie.data.kinds import explained, kind_of_suffix
from coterie.data.reading import as_dataset, read_file
from coterie.errors import DataError
from coterie.system.reading import reason
from coterie.system.units import how_many

IGNORED_FILES = ("thumbs.db", "desktop.ini")  # what file managers leave behind
IGNORED_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")  # and systems, of other files
METADATA = {"metadata.csv": "csv", "metadata.jsonl": "jsonl", "metadata.parquet": "parquet"}
FILE_NAME = "file_name"


@dataclass(frozen=True)
class Found:
    """What lies below a folder: image files by their folder, as a path below it; folders without one; files of other
    kinds; and tables of labels.
    """

    root: Path
    images: Mapping[str, list[str]]
    empty: tuple[str, ...]
    foreign: tuple[Broken, ...]
    metadata: tuple[Path, ...]


def scan(root: Path) -> Found:
    """Look at all files below a folder.

    Raises:
        DataError: a folder cannot be read, or a link leads back to a folder above it.
    """
    images: dict[str, list[str]] = defaultdict(list)
    folders, foreign, metadata = [], [], []
    for place, entries in _walk(root):
        below = place.relative_to(root).as_posix()
        folders.append(below)
        for entry in entries:
            suffix = Path(entry.name).suffix.lower()
            if entry.name in METADATA:
                metadata.append(Path(entry.path))
            elif suffix in IMAGE_SUFFIXES and entry.is_file():
                images[below].append(entry.path)
            elif below != "." and entry.name.lower() not in IGNORED_FILES:
                foreign.append(_foreign(entry, suffix))
    # Full below a folder makes it full.
    full = {parent for below in images for parent in (below, *map(Path.as_posix, Path(below).parents))}
    empty = [below for below in folders if below not in full and Path(below).parent.as_posix() in {*full, "."}]
    return Found(root, images, tuple(sorted(set(empty) - {"."})), () if metadata else tuple(foreign), tuple(metadata))


def files_below(root: Path, suffixes: Collection[str]) -> Iterator[str | Broken]:
    """Files below a folder whose names end so, folder by folder in the order of their names; what else lies there is
    ``Broken``. Hidden files, and what file managers leave, are passed over.

    Raises:
        DataError: as ``scan``.
    """
    endings = tuple(suffixes)
    for _, entries in _walk(root):
        for entry in entries:
            name = entry.name.lower()
            if name.endswith(endings):
                yield entry.path
            elif name not in IGNORED_FILES:
                yield Broken(entry.path, "another kind of file")


def files_matching(pattern: str) -> Iterator[str]:
    """Files and folders that match a pattern of the shell, in the order of their names; ``**/`` stands for any depth.

    Raises:
        DataError: more than one ``**/``, or as ``scan`` below that.
    """
    before, deep, after = pattern.partition("**/")
    if not deep:
        yield from sorted(glob.glob(pattern))  # noqa: PTH207 - Path takes no pattern of an absolute path
        return
    if "**" in after:
        raise DataError(f"cannot read {pattern}: a pattern may hold one **/")
    for root in sorted(glob.glob(before)) if before else [""]:  # noqa: PTH207 - as above
        for _, entries in _walk(Path(root)):
            yield from (entry.path for entry in entries if PurePath(entry.path).match(after))


def class_tables(found: Mapping[str, Found]) -> tuple[dict[str, datasets.Dataset], str]:
    """A table of image paths and classes for each split, rows ordered by path; and a note on what gives the class.

    Raises:
        DataError: classes that would be empty, or layouts in which several levels of folders could be the classes.
    """
    where = found["train"].root
    _refuse_empty(found)
    places = sorted({place for split in found.values() for place in split.images})
    depth = _common_depth(places, where)
    names = {place: place.rsplit("/", 1)[-1] for place in places}
    _refuse_repeated(places, names, depth, where)
    feature = datasets.ClassLabel(names=sorted(names.values()))
    features = datasets.Features(image=datasets.Image(), label=feature)
    tables = {}
    for split, some in found.items():
        # By path as a text, in which runs of earlier versions have cut their splits.
        rows = sorted((path, names[place]) for place, paths in some.images.items() for path in paths)
        tables[split] = as_dataset(_table_of(rows, features))
    note = "" if depth == 1 else f"classes are the folders {depth} levels below {where}, such as {places[0]}"
    return tables, note


def metadata_table(found: Found, forms: Mapping[Path, CsvForm]) -> tuple[datasets.Dataset, bool, list[str]]:
    """The rows of a folder's metadata files with the images that they name; whether cells are texts; and the images
    that none names. ``forms`` says how the csv files are written.

    Raises:
        DataError: a file that cannot be read or names no images, or several of other columns.
    """
    parts = []
    unnamed = {os.path.normpath(path) for paths in found.images.values() for path in paths}
    for file in found.metadata:
        table = read_file(METADATA[file.name], file, forms.get(file))
        if FILE_NAME not in table.column_names:
            raise DataError(f"{file} has no column {FILE_NAME!r}; columns: {', '.join(table.column_names)}")
        names = table[FILE_NAME].to_pylist()
        nameless = [row for row, name in enumerate(names) if not isinstance(name, str)]
        if nameless:
            raise DataError(f"{file} names no file in {how_many(len(nameless), 'row')}, the first is row {nameless[0]}")
        paths = [str(file.parent / name) for name in names]
        unnamed -= set(map(os.path.normpath, paths))
        place = table.column_names.index(FILE_NAME)
        parts.append(table.set_column(place, "image", image_records(paths)))
    try:
        whole = as_dataset(pa.concat_tables(parts)).cast_column("image", datasets.Image())
    except pa.ArrowException as error:
        raise DataError(f"the columns of {', '.join(map(str, found.metadata))} differ: {error}") from None
    return whole, any(METADATA[file.name] == "csv" for file in found.metadata), sorted(unnamed)


def _walk(root: Path) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """All folders from the root down with their files, in the order of their names; links are followed."""
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            key = (status.st_dev, status.st_ino)
            if key in above:
                raise DataError(f"{folder} is a link that leads back to a folder above it")
            with os.scandir(folder) as entries:
                seen = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda e: e.name)
            below = [entry for entry in seen if entry.is_dir()]
        except OSError as error:
            raise DataError(f"cannot read {error.filename or folder}: {reason(error)}") from None
        inner = {entry.name for entry in below}
        yield folder, [entry for entry in seen if entry.name not in inner]
        waiting += [(Path(entry.path), above | {key}) for entry in reversed(below)]


def is_hidden(name: str) -> bool:
    """Whether files and folders of that name are none that a user made."""
    return name.startswith(".") or name in IGNORED_FOLDERS


def _foreign(entry: os.DirEntry[str], suffix: str) -> Broken:
    if not entry.is_file():
        return Broken(entry.path, "a link that leads nowhere" if entry.is_symlink() else "not a regular file")
    kind = kind_of_suffix(suffix)
    reason = f"{explained(kind)}, no image" if kind else f"not an image file ({suffix or 'no suffix'})"
    return Broken(entry.path, reason, kind)


def _refuse_empty(found: Mapping[str, Found]) -> None:
    """A class without an image would leave no trace."""
    for split, some in found.items():
        # Elsewhere a class that train has may lack samples.
        known = () if split == "train" else found["train"].images
        empty = [place for place in some.empty if place not in known]
        if empty:
            shown = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
            what = "training sample" if split == "train" else f"{split} image"
            raise DataError(
                f"no {what} for {how_many(len(empty), 'class')}: {shown} (folders in {some.root} without an image)"
            )


def _common_depth(places: list[str], where: Path) -> int:
    if places == ["."]:
        raise DataError(f"no label column: {where} needs a folder per class, at least two, all at the same depth")
    by_depth = {0 if place == "." else place.count("/") + 1: place for place in reversed(places)}
    if len(by_depth) > 1:
        shown = ", ".join(f"{place} ({depth} deep)" for depth, place in sorted(by_depth.items()))
        raise DataError(
            f"images in {where} lie at {len(by_depth)} depths: {shown}; it needs a folder per class, all at the same "
            "depth"
        )
    return next(iter(by_depth))


def _refuse_repeated(places: list[str], names: Mapping[str, str], depth: int, where: Path) -> None:
    by_name: dict[str, list[str]] = defaultdict(list)
    for place in places:
        by_name[names[place]].append(place)
    repeated = {name: some for name, some in by_name.items() if len(some) > 1}
    if not repeated:
        return
    levels = [sorted({place.split("/")[level] for place in places}) for level in range(depth)]
    shown = "; ".join(f"level {k + 1}: {', '.join(level[:3])}" for k, level in enumerate(levels))
    name, some = next(iter(repeated.items()))
    raise DataError(
        f"what is a class in {where}? Folders lie {depth} deep ({shown}), and of the last level "
        f"{how_many(len(repeated), 'name repeats', 'names repeat')}, such as {name} ({', '.join(some[:3])}); allowed: "
        "one level of folders, one for each class, which may be links"
    )


def _table_of(rows: list[tuple[str, str]], features: datasets.Features) -> pa.Table:
    numbers = {name: k for k, name in enumerate(features["label"].names)}
    labels = pa.array([numbers[name] for _, name in rows], pa.int64())
    table = pa.table({"image": image_records([path for path, _ in rows]), "label": labels})
    return table.cast(features.arrow_schema)


def image_records(files: Sequence[str | None], content: pa.Array | None = None) -> pa.StructArray:
    """Image files, or encoded images of these names, as a column has them."""
    content = pa.nulls(len(files), pa.binary()) if content is None else content
    return pa.StructArray.from_arrays([content, pa.array(files, pa.string())], ["bytes", "path"])
