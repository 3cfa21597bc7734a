"""The engine of one machine: this process, or several workers beside it."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from typing_extensions import override

from coterie.engine.messages import Message, Result, state_of
from coterie.engine.parcel import Parcel
from coterie.engine.task import Demand, Desk, Engine, Outcome, ResultT, SharedT, Task
from coterie.errors import CoterieError, EngineError

# A worker imports torch and warms up before its first step; where all work is done in less, none are started.
SECONDS_WORTH_WORKERS = 15.0
SECONDS_TO_END = 5.0
# What makes a process one of several ranks: a worker is none.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "LT_CLI_USED")


class InProcess(Engine):
    """One task after another, in this process. An error that is not coterie's own ends the list."""

    @override
    def run(
        self,
        tasks: Sequence[Task[SharedT, ResultT]],
        shared: SharedT,
        demand: Demand,
        desk_of: Callable[[int], Desk],
    ) -> Generator[Outcome[ResultT], None, None]:
        for number, task in enumerate(tasks):
            threads = torch.get_num_threads()
            try:
                outcome = Outcome(number, task.run(shared, desk_of(number)))
            except CoterieError as error:
                outcome = Outcome(number, error=error)
            finally:
                torch.set_num_threads(threads)
            yield outcome


@dataclass
class _Worker:
    """A worker process, the line to it, and the number of its task."""

    process: subprocess.Popen[bytes]
    connection: Connection
    ready: bool = False
    number: int | None = None
    desk: Desk | None = None

    def receive(self) -> Any:
        """The next thing that it says; None if it is dead."""
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            return None

    def last_words(self) -> str:
        """How it ended."""
        code = self.process.wait()
        return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


class LocalWorkers(Engine):
    """Several worker processes on this machine; each has a device of its own where there are GPUs.

    What tasks share is mapped into all of them from one file without a name, so it is in memory once, and gone with the
    last of them.
    """

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers

    @override
    def run(
        self,
        tasks: Sequence[Task[SharedT, ResultT]],
        shared: SharedT,
        demand: Demand,
        desk_of: Callable[[int], Desk],
    ) -> Generator[Outcome[ResultT], None, None]:
        waiting = list(range(len(tasks)))[::-1]
        workers: list[_Worker] = []
        with tempfile.TemporaryFile(prefix="coterie-") as file:
            Parcel.pack(shared).write(file)
            try:
                for place in range(min(self.n_workers, len(tasks))):
                    workers.append(_start(file.fileno(), place, demand))
                while workers:
                    for connection in wait([worker.connection for worker in workers]):
                        worker = next(worker for worker in workers if worker.connection is connection)
                        ...
            finally:
                _end(workers)
