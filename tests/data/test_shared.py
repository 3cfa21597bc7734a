from dataclasses import replace

import numpy as np
import pytest
import torch

from coterie.data.shared import refuse_shared, shared_rows
from coterie.data.splits import Split, Splits
from coterie.errors import DataError
from coterie.inputs import MemorySamples, RaggedSamples


def ragged(*sequences: list[int]) -> RaggedSamples:
    starts = np.cumsum([0, *map(len, sequences)])
    return RaggedSamples.cut(np.array([n for s in sequences for n in s], np.int64), starts, 9)


def test_rows_that_hold_the_same_are_all_pairs() -> None:
    first, second = (MemorySamples(torch.tensor(rows)) for rows in ([[1.0], [2.0], [1.0]], [[3.0], [1.0], [2.0]]))
    expected = [(i, j) for j in range(3) for i in range(3) if first.values_N[i] == second.values_N[j]]
    assert sorted(shared_rows(first, second)) == sorted(expected)


def test_sequences_are_the_same_however_far_they_are_padded() -> None:
    assert shared_rows(ragged([1, 2], [3]), ragged([4, 5, 6, 7], [3], [1])) == [(1, 1)]


def test_what_test_shares_with_validation_is_refused_or_noted_and_what_with_train_is_noted(splits: Splits) -> None:
    assert refuse_shared(splits, allowed=False) == []
    one = Split(splits.test.samples.take(torch.tensor([4])), splits.test.labels_N[4:5])
    of_validation = replace(splits, validation=one)
    with pytest.raises(DataError, match=r"(?s)validation and test share 1 sample.*0 = test 4.*--allow-shared"):
        refuse_shared(of_validation, allowed=False)
    (note,) = refuse_shared(of_validation, allowed=True)
    assert note == "validation and test share 1 sample (rows validation 0 = test 4)."
    (note,) = refuse_shared(replace(splits, test=splits.train), allowed=False)
    assert note.startswith("train and test share 192 samples (rows train 0 = test 0, ")
    assert note.endswith(" and 182 more).")
