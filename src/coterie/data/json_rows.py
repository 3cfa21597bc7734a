"""Rows of JSON lines files, and of lists of objects."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from coterie.data.blocks import in_blocks
from coterie.system.gzipped import open_unpacked
from coterie.system.json_text import DEEPEST, is_deep


def read_json_lines(file: Path) -> pa.Table:
    """All rows. Texts stay texts, those that look like dates too. A list of objects is taken for their lines.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is broken, or holds something else.
    """
    if _is_list(file):
        with open_unpacked(file) as stream:
            return _of_rows(json.loads(codecs.decode(stream.read(), "utf-8-sig")))
    table = _parse_json_lines(file, None)
    _refuse_one_object(table)
    dates = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if dates:
        table = _parse_json_lines(file, pa.schema([(name, pa.string()) for name in dates]))
    table.validate(full=True)
    return table


def _refuse_one_object(table: pa.Table) -> None:
    """Rows may be a list inside of an object, and columns lists or objects of one."""
    types = table.schema.types
    lists = [pa.types.is_list(type_) for type_ in types]
    rows = [name for name, type_ in zip(table.column_names, types, strict=True) if _holds_objects(type_)]
    nested = len(types) > 1 and all(is_list or pa.types.is_struct(t) for is_list, t in zip(lists, types, strict=True))
    if len(table) == 1 and (rows or nested):
        inside = f"; save its list {rows[0]!r} as a file of its own" if rows else ""
        raise ValueError(f"it is one object; needed is one for each row, a line each or in a list{inside}")


def _holds_objects(type_: pa.DataType) -> bool:
    return pa.types.is_list(type_) and pa.types.is_struct(type_.value_type)


def _is_list(file: Path) -> bool:
    """Whether a file holds one list.

    Raises:
        ValueError: a line is no object, or very deep; the reader of lines would crash on it.
    """
    number = 0
    with open_unpacked(file) as stream:
        while block := stream.read(2**22) + stream.readline():
            if number == 0:
                block = block.removeprefix(codecs.BOM_UTF8)
                if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise ValueError("it is in UTF-16; save it as UTF-8, which JSON is in")
                if block.lstrip().startswith(b"["):
                    return True
            # Line by line only where something is odd: that takes as long as reading them.
            n_lines = block.count(b"\n")
            n_objects = block.count(b"\n{") + block.startswith(b"{")
            if n_objects < n_lines or block.count(b"[") + block.count(b"{") > n_lines + DEEPEST:
                _refuse_odd(block.split(b"\n"), number)
            number += n_lines
    return False


def _refuse_odd(lines: Sequence[bytes], before: int) -> None:
    for number, line in enumerate(lines, before + 1):
        if line.strip() and not line.lstrip().startswith(b"{"):
            shown = line[:40].decode("utf-8", "replace").strip()
            raise ValueError(f"line {number} must be an object in braces; it is {shown}")
        if line.count(b"[") + line.count(b"{") > DEEPEST and is_deep(json.loads(line)):
            raise ValueError(f"line {number} is nested more than {DEEPEST} deep")


def _parse_json_lines(file: Path, schema: pa.Schema | None) -> pa.Table:
    def read(block_bytes: int) -> pa.Table:
        with open_unpacked(file) as stream:
            return pa.json.read_json(
                stream,
                read_options=pa.json.ReadOptions(block_size=block_bytes),
                parse_options=pa.json.ParseOptions(explicit_schema=schema),
            )

    try:
        return in_blocks(read)
    except pa.ArrowInvalid:
        _refuse_no_json(file)
        raise


def _refuse_no_json(file: Path) -> None:
    """Name the first line that is none; the reader tells neither the line nor what people take for JSON."""
    with open_unpacked(file) as stream:
        for number, line in enumerate(stream, 1):
            text = line.decode("utf-8-sig", "replace").strip()
            try:
                json.loads(text or "{}")
            except ValueError as error:
                hint = "; its texts are in single quotes, as Python prints them" if text.startswith("{'") else ""
                hint = "; it ends in a comma" if text.endswith(",") else hint
                raise ValueError(f"line {number} is no JSON{hint}: {error}: {text[:80]}") from None


def _of_rows(rows: Any) -> pa.Table:
    """A column for every name that occurs, null where a row lacks it."""
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("it holds a list, whose items must be objects in braces")
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None
