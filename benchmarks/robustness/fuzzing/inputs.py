"""Mutations of what a user gives: rows, texts, names, images, settings."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.robustness.fuzzing.hostile import SENTINEL, TEXTS, any_value, broken, edited_json
from benchmarks.robustness.fuzzing.targets import DATA, SETTINGS, WORDS, png
from benchmarks.robustness.fuzzing.watched import apart

CELLS = (
    *("", " ", "NA", "null", "None", "nan", "inf", "-inf", "1e300", "01234", "1,5", "0x10", "true", "2020-01-01"),
    *('"', '"a', '"a\nb"', "a\u2028b", "\x1b[2J", "x" * 100_000, "9" * 400, "1_000", "[/x]", "=1+1", "\ufeff"),
)


def rows(rng: Random, place: Path) -> str:
    """Csv files, as the data of a run and as new samples."""
    file = place / rng.choice([f for f in (f"{DATA}/table.csv", f"{DATA}/texts.csv") if (place / f).exists()])
    lines = file.read_text().split("\n")
    if rng.random() < 0.2:
        content, what = broken(rng, file.read_bytes())
        file.write_bytes(content)
        return what
    done = [_edit_lines(rng, lines) for _ in range(rng.choice((1, 1, 2, 3)))]
    end = rng.choice(("\n", "\n", "\n", "\r\n", "\r", "\x0c", "\u2028"))
    file.write_bytes(end.join(lines).encode("utf-8", "surrogatepass"))
    return "; ".join([*done, f"lines end in {end!r}"])


def _edit_lines(rng: Random, lines: list[str]) -> str:
    line = rng.randrange(len(lines))
    cells = lines[line].split(",")
    cell = rng.randrange(len(cells))
    value = rng.choice(CELLS)
    match what := rng.choice(("cell", "column", "header", "ragged", "drop", "blank", "few", "one class", "labels")):
        case "cell":
            cells[cell] = value
            lines[line] = ",".join(cells)
        case "column":
            lines[1:] = [",".join([*row.split(",")[:cell], value, *row.split(",")[cell + 1 :]]) for row in lines[1:]]
        case "header":
            names = lines[0].split(",")
            names[cell % len(names)] = rng.choice((names[0], *CELLS))
            lines[0] = ",".join(names)
        case "ragged":
            lines[line] += "," + value
        case "drop":
            lines[:] = [",".join(row.split(",")[1:]) for row in lines]
        case "blank":
            lines.insert(line, "" if rng.random() < 0.5 else "," * 10_000)
        case "few":
            lines[:] = lines[: rng.choice((0, 1, 2, 5))] or [""]
        case "one class":
            lines[1:] = [row.rpartition(",")[0] + "," + WORDS[0] for row in lines[1:] if row]
        case "labels":
            lines[1:] = [
                row.rpartition(",")[0] + f",{rng.choice((k, f'0{k}', k / 2, value))}" for k, row in enumerate(lines[1:])
            ]
    return f"{what} {value!r:.20}"


def lines(rng: Random, place: Path) -> str:
    """Files of JSON lines."""
    file = place / DATA / "new.jsonl"
    if rng.random() < 0.2:
        content, what = broken(rng, file.read_bytes())
        file.write_bytes(content)
        return what
    if rng.random() < 0.2:
        value = json.dumps(any_value(rng))
        file.write_text(f"{value}\n" * rng.choice((1, 3)))
        return f"nothing but {value:.40}"
    done, changed = [], []
    for line in file.read_bytes().splitlines():
        if rng.random() < 0.4:
            line, what = edited_json(rng, line)
            done.append(what)
        changed.append(line)
    file.write_bytes(b"\n".join(changed))
    return "; ".join(done)


def columns(rng: Random, place: Path) -> str:
    """Parquet files: columns of any type, and damaged files."""
    return apart(lambda: _columns(rng, place))  # pyarrow starts threads


def _columns(rng: Random, place: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = place / DATA / ("test.parquet" if rng.random() < 0.5 else "train.parquet")
    drawn = rng.random()
    if drawn < 0.1:
        INSTEAD = {"pipe": os.mkfifo, "folder": os.mkdir}
        file.unlink()
        INSTEAD[what := rng.choice(list(INSTEAD))](file)
        return what
    if drawn < 0.4:
        content, what = broken(rng, file.read_bytes())
        file.write_bytes(content)
        return what
    table = pq.read_table(file, use_threads=False)
    number = rng.randrange(table.num_columns)
    name, n = table.column_names[number], len(table)
    made = {
        "null": pa.nulls(n),
        "texts": pa.array([rng.choice(CELLS) for _ in range(n)]),
        "lists": pa.array([[1.0] * (k % 3) for k in range(n)]),
        "binary": pa.array([b"\xff\x00" * k for k in range(n)]),
        "paths": pa.array([{"bytes": None, "path": f"../{SENTINEL}/picture.png"} for _ in range(n)]),
        "absolute paths": pa.array([{"bytes": None, "path": str(place / SENTINEL / "picture.png")} for _ in range(n)]),
        "bytes of text": pa.array([{"bytes": b"%!PS-Adobe-3.0 EPSF-3.0\n", "path": "a.eps"} for _ in range(n)]),
        "decimals": pa.array(range(n), pa.decimal128(38, 3)),
        "dates": pa.array([0] * n, pa.date32()),
        "times": pa.array([2**62] * n, pa.timestamp("ns")),
        "huge": pa.array([1e300] * n),
        "nan": pa.array([float("nan")] * n),
        "dictionary": pa.array(["a", "b"] * (n // 2) + ["a"] * (n % 2)).dictionary_encode(),
        "booleans": pa.array([True] * n),
        "unsigned": pa.array([2**64 - 1] * n, pa.uint64()),
        "durations": pa.array([1] * n, pa.duration("s")),
        "structs": pa.array([{"a": {"b": [1]}}] * n),
    }
    what = rng.choice((*made, "two of a name", "no rows", "dropped", "renamed"))
    if what in made:
        table = table.set_column(number, name, made[what])
    elif what == "two of a name":
        table = table.append_column(name, table[name])
    elif what == "no rows":
        table = table.slice(0, 0)
    elif what == "dropped":
        table = table.drop_columns([name])
    else:
        table = table.rename_columns([rng.choice(("", "\0", "[/x]", "y" * 1000)), *table.column_names[1:]])
    if rng.random() < 0.5:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"huggingface": _metadata(rng)})
    pq.write_table(table, file)
    return f"{file.name} {name}: {what}"


def _metadata(rng: Random) -> bytes:
    """What the datasets library reads of a parquet file: the types of its columns."""
    good = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(WORDS)}}}}
    return edited_json(rng, json.dumps(good).encode())[0]


def names(rng: Random, place: Path) -> str:
    """Class names and groups: lines, JSON, a column."""
    suffix = rng.choice(("txt", "json", "csv"))
    good = {
        "txt": "\n".join(WORDS),
        "json": json.dumps(WORDS),
        "csv": "name,other\n" + "\n".join(f"{word},1" for word in WORDS),
    }[suffix].encode()
    content, what = edited_json(rng, good) if suffix == "json" else broken(rng, good)
    if rng.random() < 0.3:
        content, what = rng.choice(TEXTS).encode("utf-8", "replace").join([good] * 2), "a hostile name"
    # One name for all, by which the commands ask.
    (place / DATA / "names.json").write_bytes(content if suffix == "json" else good)
    (place / DATA / "names.txt").write_bytes(content)
    (place / DATA / "names.csv").write_bytes(content)
    return f"{suffix}: {what}"


def images(rng: Random, place: Path) -> str:
    """Image files: other formats, modes and sizes, damaged ones, and bombs."""
    file = place / DATA / "0.png"
    what = rng.choice(list(IMAGES))
    made = IMAGES[what](rng, file)
    if isinstance(made, bytes):
        content, more = broken(rng, made) if rng.random() < 0.4 else (made, "")
        file.write_bytes(content)
        what += more and f", {more}"
    folder = place / DATA / "images" / WORDS[0]
    folder.mkdir(parents=True)
    (folder / "a.png").symlink_to(file) if what == "pipe" else os.link(
        file, folder / "a.png"
    ) if file.is_file() else None
    for word in WORDS[1:]:
        (folder.parent / word).mkdir()
        os.link(place / DATA / "1.png", folder.parent / word / "b.png")
    return what


def _image(mode: str, size: tuple[int, int], kind: str, **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **options)
    return stream.getvalue()


def _png_that_claims(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    packed = zlib.compress(bytes(10_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _instead(make: Any) -> Any:
    def change(_: Random, file: Path) -> None:
        file.unlink()
        make(file)

    return change


IMAGES: dict[str, Any] = {
    "PNG": lambda _, file: file.read_bytes(),
    "JPEG": lambda _, __: _image("RGB", (12, 12), "jpeg"),
    "GIF": lambda _, __: _image("P", (12, 12), "gif"),
    "TIFF": lambda _, __: _image("F", (12, 12), "tiff"),
    "WebP": lambda _, __: _image("RGBA", (12, 12), "webp"),
    "BMP": lambda _, __: _image("1", (12, 12), "bmp"),
    "CMYK": lambda _, __: _image("CMYK", (12, 12), "jpeg"),
    "16 bits": lambda _, __: _image("I;16", (12, 12), "png"),
    "transparent": lambda _, __: _image("LA", (12, 12), "png"),
    "one pixel": lambda _, __: _image("L", (1, 1), "png"),
    "long": lambda _, __: _image("L", (1, 60_000), "png"),
    "another size": lambda _, __: _image("RGB", (40, 7), "png"),
    "PDF": lambda _, __: _image("L", (12, 12), "pdf"),
    "EPS": lambda _, __: _image("L", (12, 12), "eps"),
    "EPS that writes": lambda _, __: (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 12\n%%EndComments\n"
        b"(/tmp/written_by_the_fuzzer) (w) file closefile\nshowpage\n%%EOF\n"
    ),
    "bomb": lambda rng, __: _png_that_claims(*rng.choice(((60_000, 60_000), (2**31 - 1, 1), (0, 5), (20_000, 9_000)))),
    "large": lambda _, __: png(np.zeros((3000, 3000), np.uint8)),
    "text": lambda rng, __: rng.choice(TEXTS).encode("utf-8", "replace"),
    "pipe": _instead(os.mkfifo),
    "folder": _instead(os.mkdir),
    "device": _instead(lambda file: file.symlink_to("/dev/zero")),
}


def settings(rng: Random, place: Path) -> str:
    """A YAML file of settings."""
    import yaml

    file = place / SETTINGS
    if rng.random() < 0.2:
        content, what = broken(rng, file.read_bytes())
    else:
        text = json.dumps(yaml.safe_load(file.read_text())).encode()
        content, what = edited_json(rng, text)
    file.write_bytes(content)
    return what
