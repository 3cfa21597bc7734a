"""The engine of one machine: this process, or several workers beside it."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from typing_extensions import override

from coterie.engine.messages import Message, Ready, Result, state_of
from coterie.engine.payload import SharedPayload
from coterie.engine.task import Engine, Outcome, Resources, ResultT, SharedT, Task, TaskContext
from coterie.errors import CoterieError, EngineError

# A worker imports torch and warms up before its first step; where all tasks take less than this, none are started.
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
        resources: Resources,
        context_of: Callable[[int], TaskContext],
    ) -> Generator[Outcome[ResultT], None, None]:
        for number, task in enumerate(tasks):
            threads = torch.get_num_threads()
            try:
                outcome = Outcome(number, task.run(shared, context_of(number)))
            except CoterieError as error:
                outcome = Outcome(number, error=error)
            finally:
                torch.set_num_threads(threads)
            yield outcome


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
        resources: Resources,
        context_of: Callable[[int], TaskContext],
    ) -> Generator[Outcome[ResultT], None, None]:
        try:
            payload = SharedPayload.pack(shared)
        except EngineError as error:  # the answers are the same, and only come later
            warnings.warn(f"{error}. Until then one process trains, not {self.n_workers}", stacklevel=2)
            yield from InProcess().run(tasks, shared, resources, context_of)
            return
        waiting = list(range(len(tasks)))
        with tempfile.TemporaryFile(prefix="coterie-") as file, _Workers(file.fileno(), resources) as workers:
            payload.write(file)
            for _ in range(min(self.n_workers, len(tasks))):
                workers.start()
            while waiting or workers.busy:
                for worker, answer in workers.receive():
                    if isinstance(answer, Message):
                        assert worker.context is not None
                        answer.deliver(worker.context)
                        continue
                    if isinstance(answer, Ready):
                        worker.ready = True
                    elif not worker.ready:  # an error that it sent, or its death before it could send one
                        raise answer or EngineError(f"a worker {worker.exit_reason()} before its first task")
                    elif worker.number is not None:
                        number = worker.release()
                        yield _outcome(number, tasks[number].title, answer, worker)
                    # A task that kills its worker costs no other task its place.
                    if answer is None and waiting:
                        workers.start()
                    elif answer is not None and waiting:
                        number = waiting.pop(0)
                        worker.assign(number, tasks[number], context_of(number))


def _outcome(number: int, title: str, answer: Result | CoterieError | None, worker: _Worker) -> Outcome[Any]:
    if isinstance(answer, Result):
        return Outcome(number, answer.value)
    if answer is None:
        answer = EngineError(
            f"{title}: its worker (process {worker.process.pid}) {worker.exit_reason()}. Its last state is kept: "
            "the same command goes on with it"
        )
    return Outcome(number, error=answer)


@dataclass(eq=False)
class _Worker:
    """A worker process, the connection to it, and the task that it does."""

    process: subprocess.Popen[bytes]
    connection: Connection
    ready: bool = False
    number: int | None = None
    context: TaskContext | None = None

    def assign(self, number: int, task: Task[Any, Any], context: TaskContext) -> None:
        """Begin a task."""
        self.number, self.context = number, context
        with contextlib.suppress(BrokenPipeError):  # it died idle; the end of the connection will tell
            self.connection.send_bytes(pickle.dumps((task, state_of(context)), protocol=5))

    def release(self) -> int:
        """The number of the task, which has ended."""
        assert self.number is not None
        number, self.number, self.context = self.number, None, None
        return number

    def receive(self) -> Any:
        """The next thing that it sends; None if it is dead."""
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            return None

    def exit_reason(self) -> str:
        """How it ended."""
        code = self.process.wait()
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


class _Workers:
    """The worker processes of one list of tasks; none outlives the ``with``.

    Args:
        payload: descriptor of the file that holds what the tasks share.
        resources: of each worker.
    """

    def __init__(self, payload: int, resources: Resources) -> None:
        self.payload = payload
        self.resources = resources
        self.alive: list[_Worker] = []
        self.devices = itertools.cycle(_visible_gpus() if resources.gpus else [""])

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        # All are asked before the first is waited for: they end at the same time.
        for worker in self.alive:
            worker.process.terminate()
        for worker in self.alive:
            try:
                worker.process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.connection.close()

    @property
    def busy(self) -> bool:
        """Whether a task is under way."""
        return any(worker.number is not None for worker in self.alive)

    def start(self) -> None:
        """Start one more worker."""
        ours, theirs = Pipe()
        environment = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
        # Set for the process, before it imports torch: OpenMP reads it once.
        environment["OMP_NUM_THREADS"] = str(self.resources.threads)
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        if self.resources.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = next(self.devices)
        # Not by fork, which neither CUDA nor OpenMP survives; nor by multiprocessing's spawn, which imports __main__.
        process = subprocess.Popen(
            [sys.executable, "-m", "coterie.engine.worker", str(theirs.fileno()), str(self.payload)],
            env=environment,
            pass_fds=(theirs.fileno(), self.payload),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self.alive.append(_Worker(process, ours))

    def receive(self) -> list[tuple[_Worker, Any]]:
        """Wait until workers have sent something, and read one thing from each; from a dead one None, once."""
        sending = wait([worker.connection for worker in self.alive])
        received = [(worker, worker.receive()) for worker in self.alive if worker.connection in sending]
        for worker, answer in received:
            if answer is None:
                worker.process.wait()
                worker.connection.close()
                self.alive.remove(worker)
        return received


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def auto_workers(n_tasks: int, resources: Resources) -> int:
    """The number of tasks to do at once on this machine: one a GPU, or as many as this process has CPU threads for; 1
    where workers would take longer to start than they save.
    """
    if resources.gpus:
        places = torch.cuda.device_count() // resources.gpus
    else:
        # Other ranks have threads of this machine too, which they leave when they end, with the base.
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        places = torch.get_num_threads() * ranks_here // resources.threads
    if os.name == "nt" or resources.seconds < SECONDS_WORTH_WORKERS:
        return 1
    return max(1, min(places, n_tasks))
