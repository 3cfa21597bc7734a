"""Rows of files of all kinds: compressed, of several files, large, of odd types."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from coterie.data import reading
from coterie.data.reading import as_dataset, read_file, read_files
from coterie.errors import DataError
from coterie.system import gzipped
from coterie.system.cache import cache_folder
from data_files import KINDS, TEXTS, encode, load, picture, pixels, png, write, write_parquet


def test_compressed_files_are_those_that_they_unpack_to(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n007,x\n"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": "007", "b": "x"}\n'))
    for kind in ("csv", "jsonl"):
        assert read_file(kind, tmp_path / f"a.{kind}.gz").to_pylist() == [{"a": "007", "b": "x"}]
    # Whatever it is called.
    (tmp_path / "a.csv").write_bytes((tmp_path / "a.csv.gz").read_bytes())
    assert read_file("csv", tmp_path / "a.csv").to_pylist() == [{"a": "007", "b": "x"}]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n007,x\n")[:-9])
    with pytest.raises(DataError, match="cannot load csv:"):
        read_file("csv", tmp_path / "a.csv.gz")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_what_is_no_regular_file_is_named(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / f"train.{kind}")
    for place in (tmp_path, tmp_path / f"train.{kind}", "/dev/zero"):
        with pytest.raises(DataError, match="not a regular file"):
            load(f"{kind}:{place}")
    with pytest.raises(DataError, match=r"cannot read .*: File name too long"):
        load(f"{kind}:{tmp_path}/{'n' * 300}.{kind}")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_new_content_of_the_same_age_and_size_is_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"all.{kind}"
    source = write(file, {"text": TEXTS, "kind": KINDS})
    assert load(source, label="kind").labels.names == ("fruit", "tree")
    status = file.stat()
    write(file, {"text": TEXTS, "kind": [{"fruit": "bread", "tree": "rock"}[kind] for kind in KINDS]})
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load(source, label="kind").labels.names == ("bread", "rock")
    assert not [path for path in cache_folder().parent.rglob("*") if path.is_file()]


def test_large_parquet_files_are_unpacked_once_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [png(k) for k in range(10)]
    write_parquet(tmp_path / "a.parquet", ["a", "b"] * 5, images)
    in_memory = load(f"parquet:{tmp_path}")
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0)
    mapped = load(f"parquet:{tmp_path}")
    np.testing.assert_array_equal(pixels(mapped.train), pixels(in_memory.train))
    copies = cache_folder() / "tables"
    [copy] = copies.iterdir()
    age = (tmp_path / "a.parquet").stat()
    write_parquet(tmp_path / "a.parquet", ["c", "d"] * 5, images)
    os.utime(tmp_path / "a.parquet", ns=(age.st_atime_ns, age.st_mtime_ns))
    assert load(f"parquet:{tmp_path}").labels.names == ("c", "d")
    assert len(list(copies.iterdir())) == 2
    # One that no run has used for long goes when another is made.
    os.utime(copy, (0, 0))
    write_parquet(tmp_path / "a.parquet", ["e", "f"] * 5, images)
    load(f"parquet:{tmp_path}")
    assert copy not in copies.iterdir()
    assert len(list(copies.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "a.parquet", ["a", "b"] * 5)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot unpack .*a\.parquet in .*XDG_CACHE_HOME.*Not a directory"):
        load(f"parquet:{tmp_path}")


def test_files_of_one_split_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    (tmp_path / "b.csv").write_text("a,b\nz,y\n")
    table, counts = read_files("csv", [tmp_path / "a.csv", tmp_path / "b.csv"])
    assert (table.to_dict(), counts) == ({"a": ["1", "z"], "b": ["x", "y"]}, [1, 1])
    (tmp_path / "b.csv").write_text("a,c\nz,y\n")
    with pytest.raises(DataError, match=r"cannot load csv:.*b\.csv: its columns are a, c; those of .*a\.csv are a, b"):
        read_files("csv", [tmp_path / "a.csv", tmp_path / "b.csv"])
    (tmp_path / "b.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="holds no row"):
        read_files("csv", [tmp_path / "b.csv"])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_that_unpacks_to_far_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(gzipped, "MOST_BYTES", 10**6)
    rows = {"csv": b"a,b\n" + b"x,y\n" * 10**6, "jsonl": b'{"a": 1}\n' * 10**6}
    (tmp_path / "a").write_bytes(gzip.compress(rows[kind]))
    with pytest.raises(DataError, match=rf"cannot load {kind}:.*a: [\d,]+ bytes unpack to more than 1,[\d,]+"):
        read_file(kind, tmp_path / "a")


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": ["x", "y"], "b": pa.array(["u", "v"]).dictionary_encode()})
    for name, writer in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with writer(tmp_path / name, table.schema) as stream:
            stream.write_table(table)
        assert read_file("arrow", tmp_path / name).to_pydict() == {"a": ["x", "y"], "b": ["u", "v"]}
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=f"cannot load arrow:.*{name}: "):
            read_file("arrow", tmp_path / name)
    for content, message in ((b"FEA1 and more", "first version"), (b"", "cannot load arrow"), (b"text", "cannot load")):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_file("arrow", tmp_path / "other")


def test_categories_of_pandas_in_parquet_are_texts(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_files("parquet", [tmp_path / "a.parquet"])[0].features == datasets.Features(a=datasets.Value("string"))


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.string_view()])
def test_texts_of_other_types_are_texts(tmp_path: Path, type_: pa.DataType) -> None:
    pa.parquet.write_table(pa.table({"a": pa.array(["x", None, "\u00e9"], type_)}), tmp_path / "a.parquet")
    assert read_file("parquet", tmp_path / "a.parquet")["a"].type == pa.string()
    assert read_file("parquet", tmp_path / "a.parquet")["a"].to_pylist() == ["x", None, "\u00e9"]


@pytest.mark.parametrize("image", [png(0), encode(picture(0), "PPM"), b"P3\n1 1\n255\n1 2 3\n"])
def test_bytes_of_images_stay_bytes(tmp_path: Path, image: bytes) -> None:
    pa.parquet.write_table(pa.table({"a": [None, image, image]}), tmp_path / "a.parquet")
    assert read_file("parquet", tmp_path / "a.parquet")["a"].to_pylist() == [None, image, image]


@pytest.mark.parametrize("most_in_memory", [2**28, 0])
def test_nested_types_of_columns_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_in_memory: int
) -> None:
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", most_in_memory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = pa.table({"a": ["x"]}).replace_schema_metadata({"huggingface": "[" * 100_000})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="maximum recursion depth"):
        read_files("parquet", [tmp_path / "a.parquet"])


def test_columns_of_types_that_cannot_be_used_are_named() -> None:
    table = pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "label": ["a"]})
    with pytest.raises(DataError, match=r"columns that cannot be used: 'm' \(map<.*\); leave them out of the file"):
        as_dataset(table)
