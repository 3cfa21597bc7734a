import threading
import time
from concurrent.futures import Future

import pytest
import torch

from coterie.inputs import DescribedSamples, MemorySamples, RaggedSamples, Samples
from coterie.serve.batching import Batcher, BusyError, join


def samples(*values: float) -> Samples:
    return MemorySamples(torch.tensor(values)[:, None])


class Asked:
    """Answers with the values themselves, refuses what is below 0, and remembers the sizes of batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, given: Samples) -> list[float]:
        self.free.wait(10)
        self.sizes.append(len(given))
        values = given.read(torch.arange(len(given)))[:, 0].tolist()
        if min(values) < 0:
            raise ValueError(min(values))
        return values


def results(answers: list[Future]) -> list[list[float]]:
    return [answer.result(10) for answer in answers]


def test_requests_that_wait_share_a_batch_and_get_their_own_answers() -> None:
    asked = Asked()
    batcher = Batcher(asked, max_batch=6, max_wait=10.0)
    assert results([batcher.submit(samples(k, k + 0.5)) for k in range(3)]) == [[0, 0.5], [1, 1.5], [2, 2.5]]
    assert asked.sizes == [6]
    batcher.close()


def test_a_request_waits_no_longer_than_it_may_and_may_be_larger_than_a_batch() -> None:
    batcher = Batcher(Asked(), max_batch=4, max_wait=0.01)
    started = time.monotonic()
    assert results([batcher.submit(samples(1))]) == [[1]]
    assert time.monotonic() - started < 5
    assert results([batcher.submit(samples(*range(9)))]) == [list(range(9))]
    batcher.close()


def test_a_bad_request_takes_no_other_with_it() -> None:
    batcher = Batcher(Asked(), max_batch=3, max_wait=10.0)
    answers = [batcher.submit(samples(value)) for value in (1, -1, 2)]
    assert results([answers[0], answers[2]]) == [[1], [2]]
    with pytest.raises(ValueError, match="-1"):
        answers[1].result(10)
    batcher.close()


def test_too_many_are_turned_away_and_close_answers_the_rest() -> None:
    asked = Asked()
    asked.free.clear()
    batcher = Batcher(asked, max_batch=1, max_wait=0.0, max_waiting=3)
    first = batcher.submit(samples(0))
    while batcher.n_waiting:
        time.sleep(0.001)
    waiting = [batcher.submit(samples(1, 2)), batcher.submit(samples(3))]
    with pytest.raises(BusyError):
        batcher.submit(samples(4))
    waiting[1].cancel()
    asked.free.set()
    batcher.close()
    assert results([first, waiting[0]]) == [[0], [1, 2]]
    assert asked.sizes == [1, 2]
    assert not batcher.alive
    with pytest.raises(BusyError):
        batcher.submit(samples(5))


def test_sequences_of_any_length_are_joined() -> None:
    tokens = [RaggedSamples.cut(torch.arange(n).numpy(), torch.tensor([0, n]).numpy(), 9) for n in (3, 0, 5)]
    joined = join([DescribedSamples(part, str) for part in tokens])
    assert joined.lengths().tolist() == [3, 0, 5]
    assert joined.read(torch.tensor([2, 0, 1])).tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, -1, -1], [-1] * 5]
    assert join([tokens[1], tokens[1]]).read(torch.arange(2)).tolist() == [[-1], [-1]]
