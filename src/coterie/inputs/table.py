"""Rows of tables: numeric and categorical columns, either of which may lack values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from coterie.errors import InputError
from coterie.inputs.cells import number_of_before, parse_numbers
from coterie.inputs.features import Scale
from coterie.inputs.preprocessing import Preprocessing
from coterie.inputs.samples import DescribedSamples, MemorySamples
from coterie.system.units import how_many
from coterie.vocabulary import Modality

MISSING, UNSEEN = 0, 1
FIRST_CATEGORY = 2
# A category that one training row has is a name for that row: nothing can be learned of it.
FEWEST_ROWS = 2
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class TablePreprocessing(Preprocessing):
    """Numeric columns, standardised, with an indicator each of a missing value; categorical columns as codes: 0
    missing, 1 not seen in training, 2 and above ``categories``, which are those of two training rows or more.

    Columns of texts, as csv files have, are read as what the run knows: numbers are parsed, categories taken as they
    are spelled. ``verbatim`` is False in older runs, whose csv files were typed by what else they held: there, ``007``
    is the category ``7``, and ``NA`` a missing one. ``commas``: numeric columns whose texts have decimal commas.
    """

    numeric: tuple[str, ...]
    scale: Scale
    categorical: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    verbatim: bool = False
    commas: tuple[str, ...] = ()
    kind: Literal["table"] = "table"
    modality: ClassVar[Modality] = "table"
    precise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        columns = (*self.numeric, *self.categorical)
        lengths = (len(self.scale.mean), len(self.categories))
        if not columns or len(set(columns)) != len(columns) or lengths != (len(self.numeric), len(self.categorical)):
            raise InputError(
                "a table needs columns of different names, a scale of each numeric one, and the categories of each "
                f"other; got {len(self.numeric)} and {len(self.categorical)} columns, {lengths[0]} scales and "
                f"{lengths[1]} lists of categories"
            )

    @classmethod
    def measure(
        cls, table: pa.Table, numeric: Sequence[str], categorical: Sequence[str], commas: Sequence[str] = ()
    ) -> TablePreprocessing:
        """Learn scale and categories from training rows.

        Raises:
            InputError: a numeric column holds something else.
        """
        values_NF = _numbers(table, numeric, commas)
        categories = tuple(_common_values(table[name], name) for name in categorical)
        scale = Scale.measure(values_NF)
        return cls(tuple(numeric), scale, tuple(categorical), categories, verbatim=True, commas=tuple(commas))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each categorical column."""
        return tuple(FIRST_CATEGORY + len(names) for names in self.categories)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return (len(self.numeric) + len(self.categorical),)

    @property
    @override
    def wanted(self) -> str:
        return f"rows of a table with the columns {', '.join((*self.numeric, *self.categorical))}"

    @override
    def __call__(self, batch: Tensor) -> Tensor:
        """float32 (B, 2 F + K): F standardised numbers with 0 for missing ones, F indicators, K codes."""
        number_BF, code_BK = batch[:, : len(self.numeric)], batch[:, len(self.numeric) :]
        return torch.cat([number_BF.nan_to_num(0.0), number_BF.isnan().to(batch.dtype), code_BK], dim=1)

    @override
    def example(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        number_BF = torch.randn((2, len(self.numeric)), generator=generator)
        codes = [torch.randint(number, (2, 1), generator=generator) for number in self.cardinalities]
        return self(torch.cat([number_BF, *codes], dim=1))

    @override
    def samples(self, raw: Any) -> DescribedSamples:
        """A pandas data frame, a mapping of columns, a list of rows as mappings, or an Arrow table."""
        table = self.select(as_table(raw, self.wanted))
        # Standardised in double precision: dates in seconds, or large numbers that differ little, survive it.
        number_NF = self.scale(torch.from_numpy(_numbers(table, self.numeric, self.commas))).to(torch.float32)
        _refuse_large(number_NF, table, self.numeric)
        codes = [
            _codes(table[name], name, names, verbatim=self.verbatim)
            for name, names in zip(self.categorical, self.categories, strict=True)
        ]
        code_NK = torch.from_numpy(np.stack(codes, axis=1) if codes else np.empty((len(table), 0), np.float32))

        def describe(row: int) -> str:
            return ", ".join(f"{name} = {_show(table[name][row].as_py())}" for name in table.column_names)

        return DescribedSamples(MemorySamples(torch.cat([number_NF, code_NK], dim=1)), describe)

    def select(self, table: pa.Table) -> pa.Table:
        """The columns that the networks take.

        Raises:
            InputError: one is missing, or there twice; they are named.
        """
        wanted = [*self.numeric, *self.categorical]
        missing = [name for name in wanted if name not in table.column_names]
        if missing:
            raise InputError(
                f"the networks take {self.wanted}; missing: {', '.join(missing[:10])}; "
                f"there: {', '.join(table.column_names[:20])}"
            )
        twice = [name for name in wanted if table.column_names.count(name) > 1]
        if twice:
            raise InputError(f"the networks take {self.wanted}; there more than once: {', '.join(twice[:10])}")
        return table.select(wanted)

    def as_texts(self, table: pa.Table) -> pa.Table:
        """The columns that the networks take, with cells as texts: rows of several files in one table.

        Raises:
            InputError: as ``select``; or a column holds what is no cell.
        """
        return pa.table({name: self._as_text(column, name) for name, column in _columns(self.select(table))})

    def _as_text(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        """As the cells of other files are spelled."""
        texts = _as_text(column, name)
        return texts if name not in self.commas or _is_text(column.type) else pc.replace_substring(texts, ".", ",")


def _columns(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    return zip(table.column_names, table.columns, strict=True)


def as_table(raw: Any, wanted: str) -> pa.Table:
    """An Arrow table of a data frame, a mapping of columns or a list of rows.

    Raises:
        InputError: it is none of these, or holds no row; ``wanted`` says what is.
    """
    try:
        if isinstance(raw, pa.Table):
            table = raw
        elif isinstance(raw, Mapping):
            table = pa.table(dict(raw))
        elif isinstance(raw, Sequence) and not isinstance(raw, str):
            # Every row's names: Arrow looks at the first row only.
            names = dict.fromkeys(name for row in raw for name in row)
            table = pa.table({name: [row.get(name) for row in raw] for name in names})
        else:
            table = pa.Table.from_pandas(raw, preserve_index=False)
    except (pa.ArrowException, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the networks take {wanted}; got {type(raw).__name__}: {error}") from None
    if len(table) == 0:
        raise InputError(f"the networks take {wanted}; got no row")
    return table


def _numbers(table: pa.Table, names: Sequence[str], commas: Sequence[str]) -> NDArray[np.float64]:
    """float64 (N, F); NaN where a value is missing."""
    columns = [_column_of_numbers(table[name], name, commas=name in commas) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def _column_of_numbers(column: pa.ChunkedArray, name: str, *, commas: bool) -> NDArray[np.float64]:
    try:
        if _is_text(column.type):
            column = parse_numbers(column, commas=commas)
        # Dates become seconds since 1970, whatever their unit.
        seconds = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64()) if _is_date(column.type) else column
        values_N: NDArray[np.float64] = seconds.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
    except pa.ArrowException as error:
        raise InputError(f"column {name!r} must hold numbers; it holds {column.type}: {error}") from None
    except ValueError as error:
        raise InputError(f"column {name!r} must hold numbers: {error}") from None
    infinite = np.flatnonzero(np.isinf(values_N))
    if infinite.size:
        raise InputError(
            f"column {name!r} holds {how_many(len(infinite), 'infinite value')}, the first in row {infinite[0]}"
        )
    return values_N


def _refuse_large(number_NF: Tensor, table: pa.Table, names: Sequence[str]) -> None:
    """Networks compute in float32, where what is too large is infinite."""
    rows, columns = torch.nonzero(number_NF.isinf(), as_tuple=True)
    if len(rows):
        row, name = int(rows[0]), names[int(columns[0])]
        value = _show(table[name][row].as_py())
        raise InputError(f"column {name!r} holds {value} in row {row}, which is too far from the training values")


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def _is_date(type_: pa.DataType) -> bool:
    return pa.types.is_timestamp(type_) or pa.types.is_date(type_)


def _common_values(column: pa.ChunkedArray, name: str) -> tuple[str, ...]:
    """The most frequent values as texts, sorted."""
    counted = pc.value_counts(_as_text(column, name).drop_null()).to_pylist()
    # Ties by name, so that the same rows give the same categories in any order.
    common = sorted((c for c in counted if c["counts"] >= FEWEST_ROWS), key=lambda c: (-c["counts"], c["values"]))
    return tuple(sorted(c["values"] for c in common[:MOST_CATEGORIES]))


def _codes(column: pa.ChunkedArray, name: str, names: tuple[str, ...], *, verbatim: bool) -> NDArray[np.float32]:
    texts = _as_text(column, name)
    known = pa.array(names, pa.string())
    if not verbatim and _is_text(column.type):
        texts = _read_as_before(texts, known)
    place = pc.index_in(texts, value_set=known)
    # Arrow gives null, which becomes NaN, for a value that is not in the set; missing ones are not either, and are told
    # apart by the next line.
    code_N = np.nan_to_num(place.to_numpy().astype(np.float32) + FIRST_CATEGORY, nan=UNSEEN)
    code_N[texts.is_null().to_numpy()] = MISSING
    return code_N


def _read_as_before(texts: pa.ChunkedArray, known: pa.Array) -> pa.ChunkedArray:
    """Texts that are no category, as they were read where all cells of a column looked like theirs."""
    unknown = pc.unique(texts.filter(pc.invert(pc.is_in(texts, known)))).drop_null().to_pylist()
    number_of = {text: number_of_before(text) for text in unknown}
    changed = {text: value for text, value in number_of.items() if value != text}
    return pa.chunked_array([pa.array([changed.get(text, text) for text in texts.to_pylist()], pa.string())])


def _as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):
        # 3.0 in one file is the 3 of another, where no value was missing. Each by itself: what a value is called does
        # not depend on the others.
        there = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        whole = pc.and_(pc.equal(there, pc.floor(there)), pc.less(pc.abs(there), 2.0**53))
        as_integer = pc.if_else(whole, there, pa.scalar(None, column.type)).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(as_integer, there.cast(pa.string()))
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise InputError(f"column {name!r} must hold categories; it holds {column.type}: {error}") from None


def _show(value: Any) -> str:
    return "missing" if value is None or value != value else f"{value:g}" if isinstance(value, float) else str(value)
