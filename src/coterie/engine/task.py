"""Tasks, and the engines that do them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from coterie.errors import CoterieError
from coterie.progress import Progress
from coterie.training.checkpoint import NO_CHECKPOINT, Checkpoint

SharedT = TypeVar("SharedT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class TaskContext:
    """What a running task reports to: its progress, and the state from which it can go on."""

    progress: Progress
    checkpoint: Checkpoint = NO_CHECKPOINT


class Task(ABC, Generic[SharedT, ResultT]):
    """A piece of work whose result depends on its own fields and on what all tasks of its list share.

    It may run in another process, so it and its result must pickle.
    """

    title: str

    @abstractmethod
    def run(self, shared: SharedT, context: TaskContext) -> ResultT:
        """Do it, from the state in ``context.checkpoint`` if there is one.

        Raises:
            CoterieError: it cannot be done; trying again would not help.
        """


@dataclass(frozen=True)
class Resources:
    """What each task of a list needs: CPU threads, GPUs, bytes of memory; and an estimate of the seconds for all."""

    threads: int = 1
    gpus: int = 0
    memory_bytes: int = 0
    seconds: float = float("inf")


@dataclass(frozen=True, eq=False)
class Outcome(Generic[ResultT]):
    """How a task ended, by its number in the list: with a result, or with an error."""

    number: int
    result: ResultT | None = None
    error: CoterieError | None = None

    def unwrap(self) -> ResultT:
        """The result.

        Raises:
            CoterieError: there is none.
        """
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


class Engine(ABC):
    """Does tasks."""

    @abstractmethod
    def run(
        self,
        tasks: Sequence[Task[SharedT, ResultT]],
        shared: SharedT,
        resources: Resources,
        context_of: Callable[[int], TaskContext],
    ) -> Generator[Outcome[ResultT], None, None]:
        """Yield the outcomes, as tasks end. Closing the generator early ends the tasks under way.

        Args:
            tasks: in the order in which they are begun.
            shared: given to each of them.
            resources: of each of them.
            context_of: from a task's number to its context; called in this process when the task is begun.

        Raises:
            EngineError: no process can do the tasks.
        """
