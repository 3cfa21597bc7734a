"""Predictions, batch by batch: a table for readers; JSON lines, csv and parquet for programs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

from coterie.errors import SettingsError
from coterie.system.output import shown, to_json

if TYPE_CHECKING:
    from coterie.ensemble.explanation import Explanation

Format: TypeAlias = Literal["table", "jsonl", "csv", "parquet"]
# Takes the name of each sample, and why it got its class.
Writer: TypeAlias = "Callable[[Sequence[tuple[str, Explanation]]], None]"

FORMATS: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}


def format_of(format: Format | None, out: Path | None) -> Format:  # noqa: A002 - as the option is called
    """The format that was asked for, or that the name of the file says.

    Raises:
        SettingsError: the name says none, the two contradict each other, or the format needs a file or takes none.
    """
    if out is None:
        if format == "parquet":
            raise SettingsError("--format parquet: is no text, and needs a file: --out FILE.parquet")
        return format or "table"
    named = FORMATS.get(out.suffix.lower())
    if format == "table" or (format is None and named is None):
        raise SettingsError(
            f"--out {out}: allowed are names that end in {', '.join(FORMATS)}, or any name with --format"
        )
    if named is not None and format not in (None, named):
        raise SettingsError(f"--out {out}: ends as {named}, and --format is {format}: leave one of them out")
    return format or named or "table"


def refuse_place(out: Path | None, inputs: Sequence[str]) -> None:
    """Refuse to write over an input, or to where no file can be.

    Raises:
        SettingsError: that is so.
    """
    if out is None:
        return
    if out.exists() and not out.is_file():
        raise SettingsError(f"--out {out}: is not a regular file")
    if out.exists() and any(_same(out, name) for name in inputs):
        raise SettingsError(f"--out {out}: is what is to be classified")


@contextmanager
def open_writer(format: Format, out: Path | None, kind: str) -> Iterator[Writer]:  # noqa: A002 - as above
    """Where predictions go: standard output, or a file, which appears whole or not at all.

    Args:
        format: see ``format_of``.
        out: the file; None: standard output.
        kind: what names of samples are called.

    Raises:
        ArtifactError: the file cannot be written.
    """
    if out is None:
        yield _writer_of_text(format, kind)
        return
    from coterie.system.files import whole_file

    with whole_file(out) as stream:
        if format == "parquet":
            with _parquet_writer(stream, kind) as write:
                yield write
            return
        # Half of a surrogate pair, as in a file's name that is no UTF-8, is escaped.
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
        yield _json_writer(text, kind) if format == "jsonl" else _csv_writer(text, kind, str)
        text.flush()
        text.detach()


def _writer_of_text(format: Format, kind: str) -> Writer:  # noqa: A002 - as above
    if format == "jsonl":
        return _json_writer(sys.stdout, kind)
    if format == "csv":
        return _csv_writer(sys.stdout, kind, shown)
    from coterie.cli.arguments import make_console
    from coterie.cli.terminal.predictions import print_predictions

    console = make_console()
    return lambda rows: print_predictions(console, rows)


def _json_writer(stream: Any, kind: str) -> Writer:
    def write(rows: Sequence[tuple[str, Explanation]]) -> None:
        for name, explanation in rows:
            stream.write(to_json({kind: name, **asdict(explanation)}) + "\n")
        stream.flush()

    return write


def _csv_writer(stream: Any, kind: str, clean: Callable[[str], str]) -> Writer:
    started = False

    def write(rows: Sequence[tuple[str, Explanation]]) -> None:
        nonlocal started
        lines = [_flat(kind, name, explanation) for name, explanation in rows]
        table = csv.writer(stream, lineterminator="\n")
        if not started:
            table.writerow(lines[0])
            started = True
        table.writerows([clean(cell) if isinstance(cell, str) else cell for cell in line.values()] for line in lines)
        stream.flush()

    return write


@contextmanager
def _parquet_writer(stream: BinaryIO, kind: str) -> Iterator[Writer]:
    import pyarrow as pa
    import pyarrow.parquet

    schema = pa.schema(
        [
            *((name, pa.string()) for name in (kind, "predicted")),
            *(("probability", pa.float64()), ("routed", pa.bool_()), ("score", pa.float64()), ("cluster", pa.int64())),
            *(("base", pa.string()), ("base_probability", pa.float64())),
            *(("specialist", pa.string()), ("specialist_probability", pa.float64())),
        ]
    )
    with pyarrow.parquet.ParquetWriter(stream, schema) as table:

        def write(rows: Sequence[tuple[str, Explanation]]) -> None:
            lines = [_flat(kind, _as_unicode(name), explanation) for name, explanation in rows]
            table.write_table(pa.Table.from_pylist(lines, schema))

        yield write


def _flat(kind: str, name: str, explanation: Explanation) -> dict[str, Any]:
    """One value a column: of base and specialist, the first class. A specialist that was not asked said nothing."""
    (base, base_probability), asked = explanation.base_top[0], explanation.specialists[:1]
    specialist, probability = asked[0].top[0] if asked else (None, None)
    return {
        kind: name,
        "predicted": explanation.predicted,
        "probability": explanation.probability,
        "routed": explanation.routed,
        "score": explanation.score,
        "cluster": explanation.cluster,
        "base": base,
        "base_probability": base_probability,
        "specialist": specialist,
        "specialist_probability": probability,
    }


def _as_unicode(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _same(out: Path, name: str) -> bool:
    try:
        return out.samefile(Path(name).expanduser())
    except (OSError, ValueError, RuntimeError):  # no file
        return False
