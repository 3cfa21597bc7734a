"""Columns as people have them: what a column of one kind holds, cell by cell."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

WORDS = (
    *("apple", "pear", "oak", "elm", "cat", "dog", "red fox", "Größe", "café", "Łódź", "Привет", "東京", "naïve"),
    *("O'Brien", 'say "hi"', "a, b", "x;y", "tab\there", "two\nlines", "100%", "😀", "C:\\data", "#1", "-", "=1+1"),
)
PLAIN = ("apple", "pear", "oak", "elm", "cat", "dog", "fox", "hen", "ant", "bee", "cow", "emu")
MISSING = ("", "", "", " ", "NA", "N/A", "nan", "null", "None", "?", "-", "#N/A", "missing")
LABEL_NAMES = (
    "label",
    "class",
    "target",
    "category",
    "y",
    "Label",
    "Class Name",
    "species",
    " label ",
    "étiquette",
    "",
)
OTHER_NAMES = (
    *("a", "x1", "feature 1", "Größe", "id", "ID", "Unnamed: 0", "name", "text", "image", "path", "date", "split"),
    *("a.b", "a,b", 'a"b', "x" * 300, "1", "0.5", "", " ", "index", "label", "a\nb", "#", "None", "True", "\ufeffa"),
)


def _number(rng: Random, row: int) -> str:
    return f"{rng.gauss(10, 30):.{rng.randrange(5)}f}"


def _date(rng: Random, row: int, form: str) -> str:
    return (datetime.datetime(1999, 1, 1) + datetime.timedelta(hours=rng.randrange(200_000))).strftime(form)


def _sentence(rng: Random, row: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(1, 12)))


def _vector(rng: Random, row: int) -> str:
    numbers = [f"{rng.gauss(0, 1):.3f}" for _ in range(4 if rng.random() < 0.98 else 3)]
    return f"[{', '.join(numbers)}]"


# What a cell of a column holds, by the number of its row.
CELLS: dict[str, Callable[[Random, int], str]] = {
    "whole": lambda rng, row: str(rng.randrange(-5, 1000)),
    "number": _number,
    "comma": lambda rng, row: _number(rng, row).replace(".", ","),
    "thousands": lambda rng, row: f"{rng.randrange(10**7):,}",
    "points": lambda rng, row: f"{rng.randrange(10**7):,}".replace(",", "."),
    "exponent": lambda rng, row: f"{rng.gauss(0, 1):.2e}",
    "huge": lambda rng, row: str(rng.choice((10**30, 2**63, -(2**63), "1e308", "1e999", "inf", "-inf", "0x1F", 7))),
    "percent": lambda rng, row: f"{rng.randrange(100)}%",
    "money": lambda rng, row: rng.choice(("$", "€ ", "")) + f"{rng.random() * 100:.2f}",
    "date": lambda rng, row: _date(rng, row, "%Y-%m-%d"),
    "german date": lambda rng, row: _date(rng, row, "%d.%m.%Y"),
    "american date": lambda rng, row: _date(rng, row, "%m/%d/%Y"),
    "time": lambda rng, row: _date(rng, row, "%Y-%m-%dT%H:%M:%SZ"),
    "truth": lambda rng, row: rng.choice(("True", "False")),
    "yes": lambda rng, row: rng.choice(("yes", "no")),
    "bit": lambda rng, row: rng.choice("01"),
    "category": lambda rng, row: rng.choice(WORDS[:6]),
    "odd category": lambda rng, row: rng.choice(WORDS),
    "sentence": _sentence,
    "long": lambda rng, row: "word " * rng.choice((1, 10, 2000)),
    "code": lambda rng, row: f"{rng.randrange(1000):05d}",
    "row": lambda rng, row: str(row),
    "uuid": lambda rng, row: f"{rng.getrandbits(128):032x}",
    "one": lambda rng, row: "1",
    "empty": lambda rng, row: "",
    "vector": _vector,
    "dense vector": lambda rng, row: " ".join(f"{rng.gauss(0, 1):.2f}" for _ in range(9)),
    "path": lambda rng, row: f"images/{row:03d}.png",
    "windows path": lambda rng, row: f"images\\{row:03d}.jpg",
    "url": lambda rng, row: f"https://example.com/{row}.jpg",
    "spaced": lambda rng, row: f"  {rng.random():.2f} ",
    "json": lambda rng, row: '{"a": [1, 2]}',
    "controls": lambda rng, row: rng.choice(("a\x00b", "\x1b[31mred", "a\u2028b", "\ufffd", "\u200b", "x")),
    "split": lambda rng, row: rng.choice(("train", "train", "train", "val", "test")),
    "mixed": lambda rng, row: rng.choice(("1", "2.5", "three", "", "2020-01-01", "True")),
}

# What the classes of a column of labels are called, so many.
CLASSES: dict[str, Callable[[Random, int], list[str]]] = {
    "words": lambda rng, n: list(PLAIN[:n]),
    "odd words": lambda rng, n: rng.sample(WORDS, n),
    "numbers": lambda rng, n: list(map(str, range(n))),
    "from one": lambda rng, n: list(map(str, range(1, n + 1))),
    "floats": lambda rng, n: [f"{k}.0" for k in range(n)],
    "codes": lambda rng, n: [f"{k:03d}" for k in range(n)],
    "exponents": lambda rng, n: [f"{k + 1}e{k + 1}" for k in range(n)],
    "dates": lambda rng, n: [f"2020-01-{k + 1:02d}" for k in range(n)],
    "truths": lambda rng, n: ["True", "False", "yes", "no", "TRUE", "t", "f", "0", "1", "on", "off", "Y"][:n],
    "missing words": lambda rng, n: ["NA", "None", "null", "nan", "N/A", "a", "b", "c", "d", "e", "f", "g"][:n],
    "alike": lambda rng, n: ["cat", "Cat", "cat ", " cat", "dog", "Dog", "a", "A", "é", "e\u0301", "x", "y"][:n],
    "signed": lambda rng, n: [str(k - 1) for k in range(n)],
    "quantities": lambda rng, n: [f"{k / 2}" for k in range(n)],
    "long": lambda rng, n: [f"{k} " * 300 for k in range(n)],
    "paths": lambda rng, n: [f"a/{k}" for k in range(n)],
    "separators": lambda rng, n: [f"{k}, {k}; {k}" for k in range(n)],
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """Rows of texts below names of columns; ``label``: the column of labels; ``options``: settings of the data."""

    names: list[str]
    rows: list[list[str]]
    label: int
    options: dict[str, Any]
    what: str

    @property
    def classes(self) -> list[str]:
        """The label of each row."""
        return [row[self.label] for row in self.rows]


def draw(rng: Random) -> Drawn:
    """Columns of some kinds, and one of labels."""
    n_rows = rng.choice((0, 1, 5, 12, 30, 30, *(60,) * 10, 200))
    n_classes = min(rng.choice((1, *(2,) * 6, *(3,) * 5, 4, 4, 5, 5, 8, 12)), max(1, n_rows))
    kinds = rng.choices(list(CELLS), k=rng.choice((1, 1, 1, 2, 3, 5, 8)))
    style = "words" if rng.random() < 0.4 else rng.choice(list(CLASSES))
    classes = CLASSES[style](rng, n_classes)
    columns = [[CELLS[kind](rng, row) for row in range(n_rows)] for kind in kinds]
    labels = (rng.choices(classes, k=n_rows - len(classes)) + classes)[:n_rows]
    rng.shuffle(labels)
    label = rng.choice((0, len(kinds), rng.randrange(len(kinds) + 1)))
    columns.insert(label, labels)
    names = [rng.choice(OTHER_NAMES) if rng.random() < 0.3 else kind for kind in kinds]
    names.insert(label, "label" if rng.random() < 0.5 else rng.choice(LABEL_NAMES))
    options: dict[str, Any] = {"label": names[label]} if rng.random() < 0.7 and names[label] else {}
    rows = [list(row) for row in zip(*columns, strict=True)] if n_rows else []
    return Drawn(names, rows, label, options, f"{', '.join(kinds)}; {n_rows} rows of {n_classes} {style}")


def with_holes(rng: Random, drawn: Drawn) -> Drawn:
    """Some cells missing, labels too."""
    if rng.random() < 0.7 or not drawn.rows:
        return drawn
    share, word = rng.choice((0.01, 0.1, 0.5)), rng.choice(MISSING)
    columns = (
        range(len(drawn.names)) if rng.random() < 0.3 else [k for k in range(len(drawn.names)) if k != drawn.label]
    )
    rows = [
        [word if k in columns and rng.random() < share else cell for k, cell in enumerate(row)] for row in drawn.rows
    ]
    return Drawn(drawn.names, rows, drawn.label, drawn.options, f"{drawn.what}, {share:.0%} of cells {word!r}")


def some_options(rng: Random, names: list[str]) -> dict[str, Any]:
    """Settings that people try."""
    column = rng.choice(names) or "label"
    every: dict[str, Any] = {
        "skip_broken": True,
        "skip_unknown": True,
        "merge_names": True,
        "modality": rng.choice(("text", "table", "image", "features")),
        "columns": (column,),
        "categorical": (column,),
        "ignore": rng.choice(((), (column,))),
        "text": column,
        "image": column,
        "separator": rng.choice((",", ";", "tab", "|", " ")),
        "encoding": rng.choice(("utf-8", "latin-1", "cp1252", "cp1251", "utf-16", "ascii", "gb18030")),
        "validation_share": rng.choice((0.01, 0.5, 0.9)),
        "imbalance": 10,
        "standardize": False,
        "root": ".",
    }
    return {name: every[name] for name in rng.sample(list(every), rng.choice((0, 0, 0, 0, 0, 1, 1, 2)))}
