"""Rows of tables: numeric and categorical columns, either of which may lack values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from coterie.inputs.features import Scale
from coterie.inputs.preprocessing import Preprocessing
from coterie.inputs.samples import DescribedSamples, MemorySamples
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
    """

    numeric: tuple[str, ...]
    scale: Scale
    categorical: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    kind: Literal["table"] = "table"
    modality: ClassVar[Modality] = "table"

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
    def measure(cls, table: pa.Table, numeric: Sequence[str], categorical: Sequence[str]) -> TablePreprocessing:
        """Learn scale and categories from training rows.

        Raises:
            InputError: a numeric column holds something else.
        """
        values_NF = _numbers(table, numeric)
        categories = tuple(_common_values(table[name]) for name in categorical)
        return cls(tuple(numeric), Scale.measure(values_NF), tuple(categorical), categories)

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
        table = _as_table(raw, self.wanted)
        missing = [name for name in (*self.numeric, *self.categorical) if name not in table.column_names]
        if missing:
            raise InputError(
                f"the networks take {self.wanted}; missing: {', '.join(missing[:10])}; "
                f"there: {', '.join(table.column_names[:20])}"
            )
        twice = [name for name in (*self.numeric, *self.categorical) if table.column_names.count(name) > 1]
        if twice:
            raise InputError(f"the networks take {self.wanted}; there twice: {', '.join(twice[:10])}")
        # Standardised in double precision: dates in seconds, or large numbers that differ little, survive it.
        number_NF = self.scale(torch.from_numpy(_numbers(table, self.numeric))).to(torch.float32)
        if number_NF.isinf().any():
            row, column = number_NF.isinf().nonzero()[0].tolist()
            raise InputError(
                f"row {row} of column {self.numeric[column]!r} is {table[self.numeric[column]][row]}, too far from the "
                f"mean of training, {self.scale.mean[column]:g}, for float32"
            )
        codes = [_codes(table[name], names) for name, names in zip(self.categorical, self.categories, strict=True)]
        code_NK = torch.from_numpy(np.stack(codes, axis=1) if codes else np.empty((len(table), 0), np.float32))
        shown = table.select([*self.numeric, *self.categorical])

        def describe(row: int) -> str:
            return ", ".join(f"{name} = {_show(shown[name][row].as_py())}" for name in shown.column_names)

        return DescribedSamples(MemorySamples(torch.cat([number_NF, code_NK], dim=1)), describe)


def _as_table(raw: Any, wanted: str) -> pa.Table:
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


def _numbers(table: pa.Table, names: Sequence[str]) -> NDArray[np.float64]:
    """float64 (N, F); NaN where a value is missing."""
    columns = [_column_of_numbers(table[name], name) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def _column_of_numbers(column: pa.ChunkedArray, name: str) -> NDArray[np.float64]:
    try:
        # Dates become seconds since 1970, whatever their unit.
        seconds = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64()) if _is_date(column.type) else column
        values_N: NDArray[np.float64] = seconds.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
    except pa.ArrowException as error:
        raise InputError(f"column {name!r} must hold numbers; it holds {column.type}: {error}") from None
    infinite = np.flatnonzero(np.isinf(values_N))
    if infinite.size:
        raise InputError(f"column {name!r} holds {len(infinite)} infinite value(s), the first in row {infinite[0]}")
    return values_N


def _is_date(type_: pa.DataType) -> bool:
    return pa.types.is_timestamp(type_) or pa.types.is_date(type_)


def _common_values(column: pa.ChunkedArray) -> tuple[str, ...]:
    """The most frequent values as texts, sorted."""
    counted = pc.value_counts(_as_text(column).drop_null()).to_pylist()
    # Ties by name, so that the same rows give the same categories in any order.
    common = sorted((c for c in counted if c["counts"] >= FEWEST_ROWS), key=lambda c: (-c["counts"], c["values"]))
    return tuple(sorted(c["values"] for c in common[:MOST_CATEGORIES]))


def _codes(column: pa.ChunkedArray, names: tuple[str, ...]) -> NDArray[np.float32]:
    texts = _as_text(column)
    place = pc.index_in(texts, value_set=pa.array(names, pa.string()))
    # Arrow gives null, which becomes NaN, for a value that is not in the set; missing ones are not either, and are told
    # apart by the next line.
    code_N = np.nan_to_num(place.to_numpy().astype(np.float32) + FIRST_CATEGORY, nan=UNSEEN)
    code_N[texts.is_null().to_numpy()] = MISSING
    return code_N


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):  # 3.0 in one file is the 3 of another, where no value was missing
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        whole = pc.all(pc.equal(column, pc.floor(column))).as_py()
        column = column.cast(pa.int64()) if whole else column
    return column.cast(pa.string())


def _show(value: Any) -> str:
    return "missing" if value is None or value != value else f"{value:g}" if isinstance(value, float) else str(value)
