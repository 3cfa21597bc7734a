"""How data are named: kinds of sources, and the kind of a file or folder that is named by its path alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from mimetypes import guess_type
from pathlib import Path

# Kinds of sources, and what follows the colon.
PLACES = {
    "parquet": "DIR",
    "csv": "FILE",
    "jsonl": "FILE",
    "arrow": "FILE",
    "folder": "DIR",
    "hub": "NAME",
    "features": "FILE",
}
# Kinds whose rows may be split by a column, or arrays by their names.
TABLES = ("parquet", "csv", "jsonl", "arrow", "hub", "features")
# What files of rows are called, by kind.
SUFFIXES = {
    "parquet": (".parquet",),
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson", ".json"),
    "arrow": (".arrow", ".feather"),
}
# The words that file names, folders, columns, arrays and hub data sets use for the three splits.
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
ALONE = ("glyphs", "cifar100")
# Of what files of one suffix are; who reads a spreadsheet as csv is told to save it as such.
OTHERS = {".npz": "features", ".xlsx": "csv", ".xls": "csv", ".ods": "csv"}
# A folder that holds files of these is one of theirs; others may lie beside images, and say what these are.
FOLDERS_OF = ("parquet", "arrow")
# Files of a folder that are looked at.
FEW = 1000


def full_source(named: str) -> str:
    """A source as ``KIND:PLACE``; of a path, the kind is found: by a file's name, or by what lies in a folder.

    Raises:
        ValueError: it is neither; the message says what is allowed.
    """
    kind, _, place = named.partition(":")
    if (kind in ALONE and not place) or (kind in PLACES and place):
        return named
    path = Path(named).expanduser()
    if path.is_dir() and named:
        return _of_folder(path)
    if path.is_file() and (found := _kind_of(named)):
        return f"{found}:{named}"
    listed = ", ".join([*ALONE, *(f"{kind}:{place}" for kind, place in PLACES.items())])
    missing = "" if path.exists() else "; and no file or folder has this name"
    raise ValueError(f"must be {listed}, or the path of a file or folder that one of these reads{missing}")


def kind_of_rows(name: str) -> str | None:
    """The kind of a file of rows, by its name; None: it is none."""
    return next((kind for kind, suffixes in SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def split_of(name: str) -> str | None:
    """The split that a name begins with, as a word: train-00000-of-00003, val, Test_2; None for others."""
    word = re.split(r"[-._ 0-9]", name.lower(), maxsplit=1)[0]
    return next((split for split, words in SPLIT_WORDS.items() if word in words), None)


def _kind_of(name: str) -> str | None:
    return kind_of_rows(name) or OTHERS.get(Path(name).suffix.lower())


def _of_folder(folder: Path) -> str:
    """A folder as a source, by its first files: of rows, or of images; tables of one kind beside images that all lie in
    one folder, or in one for each split, which would be the classes.
    """
    files = list(islice(_files_below(folder), FEW))
    homes = {file.parent for file in files if (guess_type(file.name)[0] or "").startswith("image/")}
    there = {_kind_of(file.name) for file in files}
    possible = FOLDERS_OF if homes else (*FOLDERS_OF, *SUFFIXES)
    found = next((kind for kind in possible if kind in there), "folder")
    beside = [file for file in files if file.parent == folder and _kind_of(file.name) and file.stem != "metadata"]
    kinds = {_kind_of(file.name) for file in beside}
    no_classes = len(homes) == 1 or all(home.parent == folder and split_of(home.name) for home in homes)
    if found == "folder" and homes and no_classes and len(kinds) == 1:
        return f"{kinds.pop()}:{beside[0] if len(beside) == 1 else folder}"
    return f"{found}:{folder}"


def _files_below(folder: Path) -> Iterator[Path]:
    for home, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(home, name) for name in sorted(files) if not name.startswith("."))
