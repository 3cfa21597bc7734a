"""Requests of many clients, asked of an ensemble in batches by one thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from coterie.ensemble.explanation import Explanation
from coterie.inputs import DescribedSamples, MemorySamples, RaggedSamples, Samples

# From N samples to N answers.
Ask = Callable[[Samples], list[Explanation]]
# Samples that wait at most, before others are turned away.
MOST_WAITING = 2048


class BusyError(Exception):
    """Too many samples wait, or the batcher is closed."""


@dataclass(frozen=True, eq=False)
class _Job:
    samples: Samples
    answer: Future[list[Explanation]] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """Asks about the samples of several requests at once; a request that fails takes no other with it.

    Args:
        ask: called by one thread alone.
        max_batch: samples asked about at once, unless one request has more.
        max_wait: seconds that a request waits for others at most; while the thread is busy they gather anyway.
        max_waiting: samples that may wait, before a request is refused.
    """

    def __init__(self, ask: Ask, max_batch: int, max_wait: float, max_waiting: int = MOST_WAITING) -> None:
        self.ask = ask
        self.max_batch = max_batch
        self.max_wait = max_wait
        self.max_waiting = max_waiting
        self._jobs: deque[_Job] = deque()
        self._n_waiting = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="coterie-batches", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests are taken and answered."""
        return self._thread.is_alive() and not self._closed

    @property
    def n_waiting(self) -> int:
        """Samples that nobody was asked about yet."""
        return self._n_waiting

    def submit(self, samples: Samples) -> Future[list[Explanation]]:
        """The answers to come, of the order of the samples; its exception is what ``ask`` raises of them alone.

        Raises:
            BusyError: too many samples wait, or ``close`` was called.
        """
        job = _Job(samples)
        with self._changed:
            if self._closed or (self._jobs and self._n_waiting + len(samples) > self.max_waiting):
                raise BusyError
            self._jobs.append(job)
            self._n_waiting += len(samples)
            # Not at each: the thread would wake, look, and wait again, and take the interpreter from who submits.
            if len(self._jobs) == 1 or self._n_waiting >= self.max_batch:
                self._changed.notify()
        return job.answer

    def close(self) -> None:
        """Take no more, and return when all that were taken are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._next():
            self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])

    def _next(self) -> list[_Job]:
        """The jobs of the next batch; none where the batcher is closed and all are answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return []
            left = self._jobs[0].arrived + self.max_wait - time.monotonic()
            self._changed.wait_for(lambda: self._n_waiting >= self.max_batch or self._closed, max(0.0, left))
            jobs = [self._jobs.popleft()]
            n_samples = len(jobs[0].samples)
            while self._jobs and n_samples + len(self._jobs[0].samples) <= self.max_batch:
                jobs.append(self._jobs.popleft())
                n_samples += len(jobs[-1].samples)
            self._n_waiting -= n_samples
            return jobs

    def _answer(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        try:
            answers = self.ask(join([job.samples for job in jobs]))
        except Exception as error:  # whatever it is, it belongs to a request, and the thread goes on
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
            else:
                for job in jobs:
                    self._answer([job])
            return
        start = 0
        for job in jobs:
            job.answer.set_result(answers[start : start + len(job.samples)])
            start += len(job.samples)


def join(parts: Sequence[Samples]) -> Samples:
    """Samples of one kind, one after another. What they were described by is left behind."""
    bare = [part.samples if isinstance(part, DescribedSamples) else part for part in parts]
    if len(bare) == 1:
        return bare[0]
    ragged = [part for part in bare if isinstance(part, RaggedSamples)]
    if not ragged:
        return MemorySamples(torch.cat([part.read(torch.arange(len(part))) for part in bare]))
    token_BL = [part.read(torch.arange(len(part))) for part in ragged]
    length_N = torch.cat([part.lengths() for part in ragged])
    rows = [row_L for batch_BL in token_BL for row_L in batch_BL]
    tokens = [row_L[:length] for row_L, length in zip(rows, length_N.tolist(), strict=True)]
    start_K = torch.cat([torch.zeros(1, dtype=torch.int64), length_N.cumsum(0)])
    # One more at the end, so that there is something to read where all sequences are empty.
    return RaggedSamples(torch.cat([*tokens, torch.tensor([-1])]).int(), start_K)
