"""What the cells of a csv file mean. They are texts: whether a column holds numbers is decided over all of its rows."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Meaning: TypeAlias = Literal["whole", "number", "decimal", "truth", "code", "text", "nothing"]

# What programs write for a number that is missing. In a column of texts or categories, these are words.
MISSING_WORDS = (
    *("NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NULL", "null", "None", "NaN", "nan", "-NaN", "-nan"),
    *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
TRUE_WORDS = ("True", "TRUE", "true")
FALSE_WORDS = ("False", "FALSE", "false")
FEW, FEW_AT_SIGHT = 1000, 100
# A number with a decimal comma, or without, which may have points between thousands.
THOUSANDS = r"[1-9][0-9]{0,2}(\.[0-9]{3})+"
# Digits with what people write between and around them: 1,234 and 12% and $3.50 and 31.12.2020 and 4 kg and >5.
QUANTITY = (
    r"^\s*[<>~\x{2264}\x{2265}]?\s*\(?[-+\x{2212}]?(\p{Sc}\s*)?[0-9]+([-.,:/'\x{2019} \x{a0}\x{202f}TZ]+[0-9]+)*"
    r"\s*(%|\p{Sc}|[A-Za-z\x{b5}]{1,2}[23\x{b2}\x{b3}]?|Z)?\)?[*\x{2020}]?\s*$"
)
WITH_COMMA = rf"^[+-]?([0-9]+|{THOUSANDS})?(,[0-9]+)?([eE][+-]?[0-9]+)?$"


def meaning(column: pa.ChunkedArray, *, commas: bool = False) -> Meaning:
    """What a column of texts holds, by all of its cells that are not missing.

    ``whole`` and other ``number``s; ``decimal``: numbers with decimal commas, looked for where ``commas``; ``truth``:
    True and False; ``code``: whole numbers of which some begin with a zero, as they do where the spelling counts;
    ``nothing``: every cell is empty.
    """
    there = column.drop_null()
    if len(there) == 0:
        return "nothing"
    # A few cells tell most columns of texts.
    head = there.slice(0, FEW)
    if _all_truths(head):
        return "truth" if column.null_count == 0 and _all_truths(there) else "text"
    numbers = None if _numbers(head) is None else _numbers(there)
    if numbers is None and commas and _may_have_commas(head) and _may_have_commas(there):
        return "decimal"
    if numbers is None or len(numbers) == 0:
        return "text"
    if not _parses(numbers, pa.int64()):
        return "number"
    return "code" if pc.any(pc.match_substring_regex(numbers, "^0[0-9]")).as_py() else "whole"


def looks_numeric(column: pa.ChunkedArray) -> bool:
    """Whether the first cells of a column of texts are digits with signs or units, or dates."""
    head = column.drop_null().slice(0, FEW_AT_SIGHT)
    return len(head) > 0 and bool(pc.all(pc.match_substring_regex(head, QUANTITY)).as_py())


def may_have_thousands(column: pa.ChunkedArray) -> bool:
    """Whether each point in a column of numbers may stand between thousands, as in ``1.234``."""
    there = column.drop_null()
    pointed = there.filter(pc.match_substring(there, "."))
    return len(pointed) > 0 and bool(pc.all(pc.match_substring_regex(pointed, rf"^\s*[+-]?{THOUSANDS}\s*$")).as_py())


def _all_truths(there: pa.ChunkedArray) -> bool:
    found: bool = pc.all(pc.or_(_is_one_of(there, TRUE_WORDS), _is_one_of(there, FALSE_WORDS))).as_py()
    return found


def _numbers(there: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The cells that are not missing, if all of these are numbers."""
    try:
        if not pc.any(pc.is_nan(there.cast(pa.float64()))).as_py():
            return there
    except pa.ArrowInvalid:
        pass
    stripped = pc.utf8_trim_whitespace(there)
    stripped = stripped.filter(pc.invert(_is_one_of(stripped, MISSING_WORDS)))
    return stripped if _parses(stripped, pa.float64()) else None


def _may_have_commas(there: pa.ChunkedArray) -> bool:
    """Whether all cells that are not missing are numbers as ``WITH_COMMA``; without a comma, they would be others."""
    found: bool = pc.all(pc.match_substring_regex(_known(there).drop_null(), WITH_COMMA)).as_py()
    return found


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without spaces around cells; null where one is a word for a missing number."""
    stripped = pc.utf8_trim_whitespace(column)
    return pc.if_else(_is_one_of(stripped, MISSING_WORDS), pa.scalar(None, pa.string()), stripped)


def _with_points(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers that have decimal commas, with points: ``1.234,5`` as ``1234.5``.

    Raises:
        ValueError: a cell has a point and no comma, which may stand between thousands; it is named.
    """
    comma = pc.match_substring(column, ",")
    unclear = column.filter(pc.match_substring_regex(column, rf"^[+-]?{THOUSANDS}$"))
    if len(unclear):
        raise ValueError(f"{unclear[0].as_py()!r} is uncertain where others have decimal commas")
    pointed = pc.replace_substring(pc.replace_substring(column, ".", ""), ",", ".")
    return pc.if_else(pc.and_(comma, pc.match_substring_regex(column, WITH_COMMA)), pointed, column)


def parse_numbers(column: pa.ChunkedArray, *, commas: bool = False) -> pa.ChunkedArray:
    """A column of texts as float64: numbers, True and False as 1 and 0, dates as seconds since 1970; null where one is
    missing. ``commas``: numbers may have decimal commas.

    Raises:
        ValueError: a cell is nothing of these; it is named.
    """
    known = _known(column)
    known = _with_points(known) if commas else known
    known = pc.if_else(_is_one_of(known, TRUE_WORDS), "1", pc.if_else(_is_one_of(known, FALSE_WORDS), "0", known))
    try:
        return known.cast(pa.float64())
    except pa.ArrowInvalid:
        pass
    try:
        return known.cast(pa.timestamp("us")).cast(pa.timestamp("s"), safe=False).cast(pa.int64()).cast(pa.float64())
    except pa.ArrowInvalid:
        row, cell = next((row, cell) for row, cell in enumerate(known.to_pylist()) if not _is_number(cell))
        raise ValueError(f"{cell!r} in row {row} is no number") from None


def _is_number(cell: str | None) -> bool:
    return cell is None or _parses(pa.chunked_array([pa.array([cell])]), pa.float64())


def _is_one_of(column: pa.ChunkedArray, words: tuple[str, ...]) -> pa.ChunkedArray:
    # An array is made here and not once for all: Arrow imports pandas for it, which takes as long as all of this.
    return pc.is_in(column, pa.array(words))


def _parses(column: pa.ChunkedArray, type_: pa.DataType) -> bool:
    try:
        column.cast(type_)
    except pa.ArrowInvalid:
        return False
    return True


def number_of_before(cell: str) -> str | None:
    """What a cell was read as where its column was typed by all of its cells: ``007`` as 7, ``True`` as true, ``NA`` as
    none.
    """
    column = pa.chunked_array([pa.array([cell])])
    if cell in MISSING_WORDS:
        return None
    if _all_truths(column):
        return cell.lower()
    numbers = _numbers(column)
    if numbers is None:
        return cell
    value = numbers.cast(pa.float64())[0].as_py()
    return str(int(value)) if value.is_integer() else str(numbers.cast(pa.float64()).cast(pa.string())[0])
