import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from coterie.inputs import (
    DescribedSamples,
    MemorySamples,
    RaggedSamples,
)


@given(
    st.lists(st.lists(st.integers(0, 1000), max_size=9), min_size=1, max_size=8),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_ragged_samples_are_padded_to_the_longest_of_the_batch(sequences, longest, random) -> None:
    starts = np.cumsum([0, *map(len, sequences)])
    samples = RaggedSamples.cut(np.array([n for s in sequences for n in s], np.int64), starts, longest)
    rows = [random.randrange(len(sequences)) for _ in range(5)]
    wanted = [sequences[row][:longest] for row in rows]
    width = max(1, *map(len, wanted))
    read = samples.read(torch.tensor(rows))
    assert read.dtype == torch.int64
    assert read.tolist() == [sequence + [-1] * (width - len(sequence)) for sequence in wanted]
    assert samples.take(torch.tensor(rows)).read(torch.arange(5)).tolist() == read.tolist()
    assert samples.take(torch.tensor(rows)).lengths().tolist() == [len(each) for each in wanted]


def test_described_samples_keep_their_descriptions_when_taken() -> None:
    samples = DescribedSamples(MemorySamples(torch.arange(4.0)[:, None]), "abcd".__getitem__)
    taken = samples.take(torch.tensor([3, 1])).take(torch.tensor([1]))
    assert taken.show(0) == "b"
    assert taken.read(torch.tensor([0])).item() == 1
    assert taken.to(torch.device("cpu")).show(0) == "b"
    assert taken.lengths().tolist() == [1]
