"""Images as files that the cells of a table name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import datasets
import pyarrow as pa

from coterie.config import DataSettings
from coterie.data.columns import cells_of, with_column
from coterie.data.folders import image_records, is_hidden
from coterie.data.formats import IMAGE_SUFFIXES
from coterie.data.tables import Source
from coterie.errors import DataError

ADDRESS = re.compile(r"(?i)(https?|s3|gs|ftp)://")
# Cells that an error names, or by which the folder of the files is found.
FEW = 100
# Of the images that a table names by their numbers, or names, alone.
ENDINGS = (".jpg", ".png", ".jpeg", ".JPG", ".webp")


def with_images(source: Source, name: str, settings: DataSettings, *, needed: bool) -> Source:
    """With the images that a column of paths names, if there are any."""
    found = {
        split: _files_named(cells_of(table, name).to_pylist(), source.origins[split], settings)
        for split, table in source.tables.items()
    }
    roots = list(dict.fromkeys(str(root) for _, some in found.values() for root in some))
    if not roots and not needed:
        return source
    if not roots or not settings.skip_broken:
        files = [file for files, _ in found.values() for file in files if file]
        _refuse_missing(
            files, name, cells_of(source.tables["train"], name).slice(0, FEW).to_pylist(), any_there=bool(roots)
        )
    tables = {
        split: with_column(table, name, image_records(found[split][0]), datasets.Image())
        for split, table in source.tables.items()
    }
    return replace(source, tables=tables).noted(
        f"images are the files that {name!r} names in {', '.join(roots[:3])} (--data.root)"
    )


def _files_named(
    cells: Sequence[str | None], origins: Sequence[tuple[Path, int]], settings: DataSettings
) -> tuple[list[str | None], list[Path]]:
    """The file that each cell names, None where it names none; and the folders in which their paths begin."""
    files: list[str | None] = []
    roots = []
    for folder, n_rows in origins:
        part = cells[len(files) : len(files) + n_rows]
        root = root_of(part, folder, settings.root)
        roots += [] if root is None else [root]
        start = root or _named_root(settings.root, folder)
        files += [str(file_of(start, cell)) if cell else None for cell in part]
    return files, roots


def _refuse_missing(files: Sequence[str], name: str, cells: Sequence[str | None], *, any_there: bool) -> None:
    missing = [file for file in files if not _is_file(file)]
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    if not any_there and all(ADDRESS.match(cell) for cell in cells if cell):
        raise DataError(
            f"column {name!r} holds addresses, and nothing is downloaded: save the images and name their files, or "
            "take the addresses as texts by --data.modality text"
        )
    if not any_there:
        raise DataError(
            f"no image file that column {name!r} names exists: {shown or 'it is empty'}; name the folder in which they "
            "begin by --data.root (as --data.modality text they would be texts)"
        )
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} image files that column {name!r} names do not exist (--data.skip-broken "
            f"leaves them out; --data.root names the folder in which they begin): {shown}"
        )


def root_of(cells: Sequence[str | None], folder: Path, named: str | None = None) -> Path | None:
    """The folder in which paths begin: the one that is named, that of the table, the current one, or, where these have
    none of the files and no folder is named, the only one beside the table that has one of the first; None: no such.
    """
    home = folder.absolute()
    usual = dict.fromkeys((_named_root(named, folder), home, Path.cwd()))
    found = next((root for root in usual if any(_is_file(file_of(root, cell)) for cell in cells if cell)), None)
    if found is not None or named is not None:
        return found
    some = [cell for cell in cells if cell][:FEW]
    beside = [child for child in _folders_in(home) if any(_is_file(file_of(child, cell)) for cell in some)]
    return beside[0] if len(beside) == 1 else None


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir() and not is_hidden(entry.name)]
    except OSError:  # its files may be read, and not listed
        return []


def _named_root(named: str | None, folder: Path) -> Path:
    # That of pathlib raises where there is no such home.
    return Path(os.path.expanduser(named or str(folder))).absolute()  # noqa: PTH111


def file_of(root: Path, cell: str) -> Path:
    """A path as a cell has it; without spaces around it, and with slashes for those of Windows, if that names none; and
    of a name without an ending, the image that is called so.
    """
    plain = cell.strip().replace("\\", "/")
    file = root / (plain if plain != cell and not _is_file(root / cell) else cell)
    if file.suffix.lower() in IMAGE_SUFFIXES or _is_file(file):
        return file
    return next((whole for suffix in ENDINGS if _is_file(whole := Path(f"{file}{suffix}"))), file)


def _is_file(path: str | Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - that of pathlib raises where a text is too long for a name


def with_places(source: Source, settings: DataSettings) -> Source:
    """With records that have a path and no bytes as files below the folder of their table."""
    for name, feature in source.tables["train"].features.items():
        if isinstance(feature, datasets.Image) or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature)):
            tables = {split: _placed(source, split, name, settings) for split in source.tables}
            source = replace(source, tables=tables)
    return source


def _placed(source: Source, split: str, name: str, settings: DataSettings) -> datasets.Dataset:
    table = source.tables[split]
    if split not in source.origins or name not in table.column_names:
        return table
    cells = cells_of(table, name)
    if not pa.types.is_struct(cells.type):  # only train's is known to be of records; others are refused further on
        return table
    children = [_children(chunk) for chunk in cells.chunks]
    if not any("bytes" in some and some["bytes"].null_count for some in children):
        return table
    paths = [path for some in children for path in some["path"].to_pylist()]
    bare = [item for some in children for item in some["bytes"].is_null().to_pylist()]
    wanted = [path if alone else None for path, alone in zip(paths, bare, strict=True)]
    files, _ = _files_named(wanted, source.origins[split], settings)
    places = (file or path for file, path in zip(files, paths, strict=True))
    # Part by part: together, the bytes may be too many for one array.
    records = [
        image_records(list(islice(places, len(some["bytes"]))), some["bytes"].cast(pa.binary())) for some in children
    ]
    return with_column(table, name, pa.chunked_array(records), datasets.Image())


def _children(chunk: pa.StructArray) -> Mapping[str, pa.Array]:
    return dict(zip([child.name for child in chunk.type], chunk.flatten(), strict=True))
