"""Texts out of a table with a column of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from coterie.config import DataSettings
from coterie.data.assemble import Rows, assemble
from coterie.data.columns import cells_of
from coterie.data.shared import describe_shared
from coterie.data.splits import Splits
from coterie.errors import DataError
from coterie.inputs import NGramPreprocessing, Preprocessing, SentencePreprocessing, TokenPreprocessing
from coterie.inputs.cells import FEW_AT_SIGHT, looks_numeric
from coterie.labels import LabelSpace
from coterie.system.units import how_many

if TYPE_CHECKING:
    import datasets


def load_texts(
    tables: Mapping[str, datasets.Dataset],
    column: str,
    names: LabelSpace,
    labels: Mapping[str, np.ndarray],
    settings: DataSettings,
    seed: int,
    preprocessing: Preprocessing | None,
    left_out: Sequence[str],
    numbers: Mapping[str, np.ndarray] | None = None,
) -> Splits:
    """Splits of texts, as ``settings.text_as`` has them; ``numbers``: what rows are called by in messages, see
    ``Source.numbers``.

    Raises:
        DataError: a text is empty, unless ``settings.skip_broken``; all are; or as ``assemble``.
    """
    texts, kept, skipped = {}, {}, []
    for split, table in tables.items():
        texts[split], rows, empty = full_texts(table, column, split, (numbers or {}).get(split))
        kept[split] = labels[split][rows]
        skipped += empty
    refuse_empty(skipped, settings.skip_broken)
    for split, some in texts.items():
        if not some:
            raise DataError(f"every text of {split} is empty: column {column!r} of {settings.source}")
    found = Rows(
        raw=texts,
        labels=kept,
        names=names,
        source=settings.source,
        unit=f"texts of at most {preprocessing.longest} tokens"
        if isinstance(preprocessing, TokenPreprocessing)
        else "texts",
        take=lambda every, rows: [every[row] for row in rows],
        learn=lambda train: _learn(settings, train),
        notes=lambda parts: [*_notes(parts), *left_out],
        n_in_validation=_n_in_validation,
        skipped=tuple(skipped),
    )
    return assemble(found, settings, seed, preprocessing)


def full_texts(
    table: datasets.Dataset, column: str, split: str, numbers: np.ndarray | None = None
) -> tuple[list[str], np.ndarray, list[str]]:
    """The texts of a column that are not empty, their rows, and in words which were empty, by their ``numbers``."""
    every = cells_of(table, column).to_pylist()
    empty = [row for row, text in enumerate(every) if not (text or "").strip()]
    every_N = np.arange(len(every))
    rows, number_N = np.delete(every_N, empty), every_N if numbers is None else numbers
    return [every[row] for row in rows], rows, [f"row {number_N[row]} of {split}: an empty text" for row in empty]


def refuse_empty(empty: Sequence[str], skip: bool) -> None:
    """Raise DataError, naming the empty texts, unless they are skipped."""
    if empty and not skip:
        shown = "\n".join(f"  {item}" for item in empty[:10]) + ("\n  ..." if len(empty) > 10 else "")
        raise DataError(
            f"{how_many(len(empty), 'text is', 'texts are')} empty (--data.skip-broken leaves them out):\n{shown}"
        )


def _learn(settings: DataSettings, train: Sequence[str]) -> Preprocessing:
    if settings.text_as == "ngrams":
        return NGramPreprocessing(settings.buckets, settings.longest)
    return SentencePreprocessing.measure(settings.text_as, train, standardize=settings.standardize is not False)


def _n_in_validation(parts: Mapping[str, Sequence[str]]) -> int:
    validation = set(parts["validation"])
    return sum(text in validation for text in parts["test"])


def _notes(parts: Mapping[str, Sequence[str]]) -> list[str]:
    """Numbers are no texts, and the same text in train and elsewhere makes figures look better than they are."""
    train = set(parts["train"])
    column = pa.chunked_array([pa.array(parts["train"][:FEW_AT_SIGHT], pa.string())])
    alike = [f"texts, though they look like numbers or dates: {parts['train'][0]!r:.30}"] * looks_numeric(column)
    known = {split: sum(text in train for text in parts[split]) for split in ("validation", "test")}
    repeated = len(parts["train"]) - len(train)
    return (
        alike
        + describe_shared("texts", known, _n_in_validation(parts))
        + [f"{repeated:,} training texts repeat another" for _ in range(bool(repeated))]
    )
