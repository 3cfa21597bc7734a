"""Csv files, JSON lines, parquet and Arrow files as people write them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from benchmarks.robustness.people.cells import CELLS, Drawn, draw, some_options, with_holes

ENCODINGS = (
    *("utf-8",) * 8,
    *("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "cp1250", "cp1251", "mac-roman"),
    *("gb18030", "shift_jis", "euc-kr", "cp437", "iso8859-15"),
)
CSV_NAMES = ("data.csv", "data.csv", "data.tsv", "Data (1).CSV", "daten größe.csv", "data.txt", "data", "a'b$c;d.csv")


@dataclass(frozen=True)
class Written:
    """What was written below a folder.

    Attributes:
        source: as ``data.source`` takes it.
        what: how it was written, in a few words.
        options: settings of the data that go with it.
        labels: of its rows, where nothing is odd in how they are written.
    """

    source: str
    what: str
    options: dict[str, Any] = field(default_factory=dict)
    labels: list[str] | None = None


def csv_file(rng: Random, folder: Path) -> Written:
    """One csv file, of any separator, quoting, encoding, and oddity."""
    drawn = with_holes(rng, draw(rng))
    name = rng.choice(CSV_NAMES)
    content, how, plain = _as_csv(rng, drawn)
    if rng.random() < 0.08:
        name, content = f"{name}.gz", gzip.compress(content)
    content, damage = _damaged(rng, content)
    (folder / name).write_bytes(content)
    options = {**drawn.options, **some_options(rng, drawn.names)}
    known = plain and not damage and options.keys() <= {"label", "validation_share", "standardize"}
    said = f"{name}: {drawn.what}; {how}{damage}"
    # A column without a name has another one then, and one of the same name too.
    known = known and "label" in options and drawn.names.count(drawn.names[drawn.label]) == 1
    return Written(f"csv:data/{name}", said, options, drawn.classes if known else None)


def csv_folder(rng: Random, folder: Path) -> Written:
    """A file for each split, which may differ."""
    drawn = with_holes(rng, draw(rng))
    names = rng.choice((("train", "test"), ("train", "val", "test"), ("training", "dev"), ("a", "b"), ("test",)))
    for name in names:
        own = _other(rng, drawn)
        (folder / f"{name}.csv").write_bytes(_as_csv(rng, own)[0])
    options = {**drawn.options, **some_options(rng, drawn.names)}
    return Written("csv:data", f"{', '.join(names)}: {drawn.what}", options)


def _other(rng: Random, drawn: Drawn) -> Drawn:
    """The same columns with other rows, or other columns."""
    rows = rng.sample(drawn.rows, max(1, len(drawn.rows) // 2)) if drawn.rows else []
    match rng.choice(("same",) * 4 + ("fewer", "unlabelled", "new class", "order")):
        case "fewer" if len(drawn.names) > 1:
            return replace(drawn, names=drawn.names[:-1], rows=[row[:-1] for row in rows])
        case "unlabelled":
            empty = rng.choice(("", "-1", "?"))
            rows = [[empty if k == drawn.label else cell for k, cell in enumerate(row)] for row in rows]
        case "new class" if rows:
            rows[0] = ["never seen" if k == drawn.label else cell for k, cell in enumerate(rows[0])]
        case "order":
            return replace(drawn, names=drawn.names[::-1], rows=[row[::-1] for row in rows])
    return replace(drawn, rows=rows)


def _as_csv(rng: Random, drawn: Drawn) -> tuple[bytes, str, bool]:
    """A file's content, how it is written, and whether any reader would take it as it is meant."""
    separator = rng.choice(",,,,;\t|")
    quoting = rng.choice((csv.QUOTE_MINIMAL,) * 4 + (csv.QUOTE_ALL, csv.QUOTE_NONE))
    quoting = csv.QUOTE_MINIMAL if len(drawn.names) == 1 else quoting  # a single empty cell needs quotes
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    text, header = io.StringIO(newline=""), rng.random() < 0.92
    odd: dict[str, Any] = {"escapechar": "\\"} if quoting == csv.QUOTE_NONE else {}
    if rng.random() < 0.05:
        odd |= {"quotechar": "'"}
    options: dict[str, Any] = {"delimiter": separator, "quoting": quoting, "lineterminator": end}
    writer = csv.writer(text, **options, **odd)
    writer.writerows([drawn.names, *drawn.rows] if header else drawn.rows)
    lines, oddity = _odd_lines(rng, text.getvalue().split(end), separator)
    encoding = rng.choice(ENCODINGS)
    content = end.join(lines).encode(encoding, rng.choice(("replace", "ignore")))
    # Blank lines are rows of a single column, and a single name may be taken for one.
    plain = header and not odd and not oddity and encoding.startswith("utf") and end != "\r" and bool(drawn.rows)
    plain = plain and separator in ",;" and not any("\0" in cell for row in drawn.rows for cell in row)
    return content, f"{separator!r} {end!r} {encoding} {oddity or 'even'}", plain


def _odd_lines(rng: Random, lines: list[str], separator: str) -> tuple[list[str], str]:
    if rng.random() < 0.6 or len(lines) < 2:
        return lines, ""
    at = rng.randrange(1, len(lines))
    oddities: dict[str, Callable[[], list[str]]] = {
        "sep line": lambda: [f"sep={separator}", *lines],
        "comment": lambda: ["# made by hand", *lines],
        "title": lambda: ["Table 1: all of it", "", *lines],
        "blank line": lambda: [*lines[:at], "", *lines[at:]],
        "line of spaces": lambda: [*lines[:at], "   ", *lines[at:]],
        "empty cells": lambda: [*lines[:at], separator * 3, *lines[at:]],
        "total": lambda: [*lines, "Total", str(len(lines))],
        "short row": lambda: [*lines[:at], lines[at].rpartition(separator)[0], *lines[at + 1 :]],
        "long row": lambda: [*lines[:at], lines[at] + separator + "more", *lines[at + 1 :]],
        "separator at the end": lambda: [line + separator for line in lines],
        "space after the separator": lambda: [line.replace(separator, separator + " ") for line in lines],
        "open quote": lambda: [*lines[:at], '"' + lines[at], *lines[at + 1 :]],
        "quote inside": lambda: [*lines[:at], lines[at].replace(separator, f' 5"{separator}', 1), *lines[at + 1 :]],
        "other separator": lambda: [*lines[:at], lines[at].replace(separator, ";"), *lines[at + 1 :]],
        "header again": lambda: [*lines[:at], lines[0], *lines[at:]],
        "twice": lambda: [*lines, *lines[1:]],
        "very wide": lambda: [*lines[:at], separator * 20_000, *lines[at:]],
        "huge cell": lambda: [*lines[:at], "x" * 300_000 + lines[at], *lines[at + 1 :]],
        "no end": lambda: lines[:-1] if lines[-1] == "" else lines,
    }
    name = rng.choice(list(oddities))
    return oddities[name](), name


def _damaged(rng: Random, content: bytes) -> tuple[bytes, str]:
    """Now and then a file that is cut off, or something else altogether."""
    if rng.random() < 0.94 or not content:
        return content, ""
    damages = {
        "cut off": content[: rng.randrange(len(content))],
        "nothing": b"",
        "newlines": b"\n" * 5,
        "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "zeros": bytes(1000),
        "noise": rng.randbytes(2000),
        "null bytes at the end": content + bytes(100),
    }
    name = rng.choice(list(damages))
    return damages[name], f", {name}"


def json_lines(rng: Random, folder: Path) -> Written:
    """Objects a line, or a list of them; nested, uneven, or not quite JSON."""
    drawn = draw(rng)
    # Numbers as numbers in all cells of some columns; in few of a column only now and then.
    share = [rng.choice((0.0, 0.0, 1.0, 1.0, 0.1 if rng.random() < 0.1 else 0.0)) for _ in drawn.names]
    objects: list[dict[str, Any]] = [
        {name: _value(rng, cell, share[k]) for k, (name, cell) in enumerate(zip(drawn.names, row, strict=True))}
        for row in drawn.rows
    ]
    oddity = _odd_objects(rng, objects)
    form = rng.choice(
        ("lines",) * 10 + ("list", "list", "indented list", "indented lines", "one object", "columns", "records")
    )
    text = _as_json(rng, objects, form)
    text, mistake = _mistaken(rng, text)
    name = rng.choice(("data.jsonl", "data.jsonl", "data.ndjson", "data.json", "train.jsonl", "data.jsonl.gz"))
    content = text.encode(rng.choice(("utf-8",) * 9 + ("utf-8-sig", "utf-16", "latin-1")), "replace")
    content, damage = _damaged(rng, content)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    options = {**drawn.options, **some_options(rng, drawn.names)}
    options = {key: value for key, value in options.items() if key not in ("separator", "encoding")}
    place = "data" if rng.random() < 0.2 else f"data/{name}"
    return Written(f"jsonl:{place}", f"{name}: {drawn.what}; {form}, {oddity}, {mistake}{damage}", options)


def _value(rng: Random, cell: str, share: float) -> Any:
    if rng.random() >= share:
        return cell
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _odd_objects(rng: Random, objects: list[dict[str, Any]]) -> str:
    if rng.random() < 0.7 or not objects:
        return "even"
    odd: dict[str, Callable[[int], Any]] = {
        "null": lambda row: None,
        "object": lambda row: {"a": row, "b": {"c": "d"}},
        "list": lambda row: [row, row + 1],
        "ragged list": lambda row: [0.5] * (row % 3),
        "list of texts": lambda row: ["a", "b"],
        "number": lambda row: row / 7,
        "whole": lambda row: row,
        "huge": lambda row: 10**25,
        "truth": lambda row: row % 2 == 0,
        "record": lambda row: {"bytes": None, "path": f"images/{row}.png"},
        "empty object": lambda row: {},
        "empty list": lambda row: [],
        "vector": lambda row: [row * 0.1, 1.0, -2.5],
        "date": lambda row: f"2020-01-{row % 28 + 1:02d}T00:00:00",
        "surrogate": lambda row: "\ud800",
        "controls": lambda row: "\x1b[2J\x00",
    }
    name, key = rng.choice(list(odd)), rng.choice(list(objects[0]))
    share = rng.choice((0.02, 0.5, 1.0))
    for row, item in enumerate(objects):
        if rng.random() < share:
            item[key] = odd[name](row)
        if share < 1 and rng.random() < 0.02:
            item.pop(key, None)
    return f"{share:.0%} {name}"


def _as_json(rng: Random, objects: list[dict[str, Any]], form: str) -> str:
    options: dict[str, Any] = {"ensure_ascii": rng.random() < 0.5}
    match form:
        case "lines" | "records":
            end = "\n" if form == "lines" else rng.choice(("\r\n", "", " ", ",\n", "\n\n"))
            return end.join(json.dumps(item, **options) for item in objects) + rng.choice(("", "\n"))
        case "indented lines":
            return "\n".join(json.dumps(item, indent=2, **options) for item in objects)
        case "one object":
            return json.dumps({"data": objects}, **options)
        case "columns":
            return json.dumps({name: [item.get(name) for item in objects] for name in (objects or [{}])[0]}, **options)
    return json.dumps(objects, indent=2 if form == "indented list" else None, **options)


def _mistaken(rng: Random, text: str) -> tuple[str, str]:
    if rng.random() < 0.85:
        return text, "right"
    mistakes = {
        "single quotes": text.replace('"', "'"),
        "NaN": text.replace(': "', ': NaN, "x": "', 1),
        "comma at the end": text.replace("}", ",}"),
        "comments": "// rows\n" + text,
        "bare names": text.replace('"label"', "label"),
        "key twice": text.replace("{", '{"label": "a", ', 3),
        "deep": text + "\n" + "[" * 5000,
        "numbers": "1\n2\n3\n",
        "brace missing": text.replace("}", "", 1),
        "blank lines": text.replace("\n", "\n\n"),
        "texts": '"a"\n"b"\n',
    }
    name = rng.choice(list(mistakes))
    return mistakes[name], name


def columns_file(rng: Random, folder: Path) -> Written:
    """A parquet, Arrow or feather file with columns of many types."""
    drawn = draw(rng)
    n_rows = len(drawn.rows)
    columns = [[row[k] for row in drawn.rows] for k in range(len(drawn.names))]
    arrays = [pa.array(column, pa.string()) for column in columns]
    done = []
    for k in range(len(arrays)):
        if rng.random() < 0.35:
            kind = rng.choice(list(TYPED))
            try:
                arrays[k] = TYPED[kind](rng, n_rows, columns[k])
                done.append(kind)
            except (pa.ArrowException, ValueError, OverflowError):
                continue
    table = pa.Table.from_arrays(arrays, names=drawn.names)
    # Runs have no form in parquet.
    form = rng.choice(("parquet", "parquet", "arrow", "feather", "stream") if "runs" not in done else ("arrow",))
    name = f"{rng.choice(('data', 'train', 'train-00000-of-00001', 'größe'))}.{'arrow' if form == 'stream' else form}"
    if form == "parquet":
        pa.parquet.write_table(table, folder / name, row_group_size=rng.choice((7, 1000)))
    elif form == "feather":
        pa.feather.write_feather(table, folder / name, compression=rng.choice(("lz4", "zstd", "uncompressed")))
    else:
        make = pa.ipc.new_file if form == "arrow" else pa.ipc.new_stream
        with pa.OSFile(str(folder / name), "wb") as sink, make(sink, table.schema) as writer:
            writer.write_table(table)
    content, damage = _damaged(rng, (folder / name).read_bytes())
    (folder / name).write_bytes(content)
    options = {**drawn.options, **some_options(rng, drawn.names)}
    options = {key: value for key, value in options.items() if key not in ("separator", "encoding")}
    place = f"data/{name}" if rng.random() < 0.7 else "data"
    kind = "parquet" if form == "parquet" else "arrow"
    return Written(f"{kind}:{place}", f"{name}: {drawn.what}; {form}, {', '.join(done)}{damage}", options)


def _lists(rng: Random, n_rows: int, length: Callable[[], int]) -> Iterable[list[float]]:
    return ([rng.gauss(0, 1) for _ in range(length())] for _ in range(n_rows))


# Columns of so many rows, of a type; some from texts.
TYPED: dict[str, Callable[[Random, int, list[str]], pa.Array]] = {
    "int8": lambda rng, n, texts: pa.array([rng.randrange(4) for _ in range(n)], pa.int8()),
    "uint64": lambda rng, n, texts: pa.array([2**63 + rng.randrange(4) for _ in range(n)], pa.uint64()),
    "float16": lambda rng, n, texts: pa.array(np.arange(n) % 3 / 2, pa.float64()).cast(pa.float16()),
    "float32": lambda rng, n, texts: pa.array([rng.gauss(0, 1) for _ in range(n)], pa.float32()),
    "not finite": lambda rng, n, texts: pa.array([rng.choice((1.0, float("nan"), float("inf"))) for _ in range(n)]),
    "bool": lambda rng, n, texts: pa.array([rng.random() < 0.5 for _ in range(n)]),
    "null": lambda rng, n, texts: pa.nulls(n),
    "holes": lambda rng, n, texts: pa.array([text if rng.random() < 0.8 else None for text in texts], pa.string()),
    "categories": lambda rng, n, texts: pa.array(texts, pa.string()).dictionary_encode(),
    "number categories": lambda rng, n, texts: pa.array([rng.randrange(3) for _ in range(n)]).dictionary_encode(),
    "large texts": lambda rng, n, texts: pa.array(texts, pa.large_string()),
    "text views": lambda rng, n, texts: pa.array(texts, pa.string_view()),
    "bytes": lambda rng, n, texts: pa.array([text.encode() for text in texts], pa.binary()),
    "timestamps": lambda rng, n, texts: pa.array([rng.randrange(10**9) for _ in range(n)], pa.timestamp("s", "UTC")),
    "dates": lambda rng, n, texts: pa.array([rng.randrange(10**4) for _ in range(n)], pa.date32()),
    "durations": lambda rng, n, texts: pa.array([rng.randrange(10**4) for _ in range(n)], pa.duration("ms")),
    "times": lambda rng, n, texts: pa.array([rng.randrange(10**4) for _ in range(n)], pa.time32("s")),
    "decimals": lambda rng, n, texts: pa.array([rng.randrange(10**4) for _ in range(n)]).cast(pa.decimal128(20, 2)),
    "vectors": lambda rng, n, texts: pa.array(_lists(rng, n, lambda: 4), pa.list_(pa.float32())),
    "ragged vectors": lambda rng, n, texts: pa.array(_lists(rng, n, lambda: rng.randrange(4)), pa.list_(pa.float64())),
    "large vectors": lambda rng, n, texts: pa.array(_lists(rng, n, lambda: 3), pa.large_list(pa.float64())),
    "fixed vectors": lambda rng, n, texts: pa.array(_lists(rng, n, lambda: 4), pa.list_(pa.float32(), 4)),
    "lists of lists": lambda rng, n, texts: pa.array([[[1, 2], [3, 4]] for _ in range(n)]),
    "lists of texts": lambda rng, n, texts: pa.array([[text] for text in texts], pa.list_(pa.string())),
    "records": lambda rng, n, texts: pa.array([{"a": k, "b": text} for k, text in enumerate(texts)] or None or []),
    "image records": lambda rng, n, texts: pa.array(
        [{"bytes": text.encode(), "path": text} for text in texts],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    ),
    "bare paths": lambda rng, n, texts: pa.array(
        [{"bytes": None, "path": text} for text in texts], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    ),
    "maps": lambda rng, n, texts: pa.array([[("a", 1)] for _ in range(n)], pa.map_(pa.string(), pa.int64())),
    "runs": lambda rng, n, texts: pa.compute.run_end_encode(pa.array(texts, pa.string())),
    "numbers": lambda rng, n, texts: pa.array([float(CELLS["number"](rng, k)) for k in range(n)]),
}
