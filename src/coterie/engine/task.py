"""What an engine is given, and what it gives back."""

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
    """Whom a task reports to while it runs: how far it is, and the state from which it can go on."""

    progress: Progress
    checkpoint: Checkpoint = NO_CHECKPOINT


class Task(ABC, Generic[SharedT, ResultT]):
    """A piece of work that depends on nothing but itself and what all tasks of its list share.

    It may travel to another process, so it and its result must pickle.
    """

    title: str

    @abstractmethod
    def run(self, shared: SharedT, context: TaskContext) -> ResultT:
        """Do it, from ``context.checkpoint`` where that holds a state.

        Raises:
            CoterieError: it cannot be done; trying again would not help.
        """


@dataclass(frozen=True)
class Resources:
    """What each task of a list needs: CPU threads, GPUs, bytes of memory; and about how many seconds all take."""

    threads: int = 1
    gpus: int = 0
    memory_bytes: int = 0
    seconds: float = float("inf")


@dataclass(frozen=True, eq=False)
class Outcome(Generic[ResultT]):
    """How the task of some number in its list ended: with a result, or with an error."""

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
        """The outcomes, as tasks end. Whoever stops early closes the generator, which ends the tasks under way.

        Args:
            tasks: in the order in which they are begun.
            shared: what all of them need.
            resources: of each of them.
            context_of: called in this process with a task's number, when it is begun.

        Raises:
            EngineError: there is nobody to do the work.
        """
