"""What a task in another process sends to the process that asked for it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import safetensors.torch
from typing_extensions import override

from coterie.engine.task import ResultT, SharedT, Task, TaskContext
from coterie.errors import CoterieError, EngineError
from coterie.progress import Progress
from coterie.training.checkpoint import Checkpoint, State, state_bytes

# A display shows no more, and steps of a small network take a millisecond.
SECONDS_PER_MESSAGE = 0.5


@dataclass(frozen=True)
class Message:
    """A call of a method of the context, to be made where the context is."""

    method: Literal["stage", "advance", "note", "save"]
    values: tuple[Any, ...]

    def deliver(self, context: TaskContext) -> None:
        """Make the call."""
        if self.method == "save":
            context.checkpoint.save(safetensors.torch.load(self.values[0]))
        else:
            getattr(context.progress, self.method)(*self.values)


@dataclass(frozen=True)
class Ready:
    """A worker has what the tasks share."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a task returned."""

    value: Any


def run_remotely(
    task: Task[SharedT, ResultT], shared: SharedT, state: bytes | None, send: Callable[[Message], None]
) -> ResultT:
    """Run a task whose context is elsewhere.

    Args:
        task: what to do.
        shared: what its list shares.
        state: from which it goes on, as ``state_of`` gives it.
        send: takes messages to the context.
    """
    progress = _SendingProgress(send)
    result = task.run(shared, TaskContext(progress, _SendingCheckpoint(send, progress, state)))
    progress.flush()
    return result


def state_of(context: TaskContext) -> bytes | None:
    """The state from which a task can go on, to be sent with it."""
    state = context.checkpoint.load()
    return None if state is None else state_bytes(state)


class _SendingProgress(Progress):
    """Gathers steps, so that fast ones do not flood the connection."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.send = send
        self.steps = self.images = 0
        self.figures: tuple[float | None, float | None] = (None, None)
        self.sent = time.monotonic()

    @override
    def stage(self, title: str, steps: int) -> None:
        self.flush()
        self.send(Message("stage", (title, steps)))

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        self.steps += steps
        self.images += n_images
        self.figures = (loss, accuracy)
        if time.monotonic() - self.sent > SECONDS_PER_MESSAGE:
            self.flush()

    @override
    def note(self, text: str) -> None:
        self.send(Message("note", (text,)))

    def flush(self) -> None:
        if self.steps:
            self.send(Message("advance", (self.steps, self.images, *self.figures)))
        self.steps = self.images = 0
        self.sent = time.monotonic()


class _SendingCheckpoint(Checkpoint):
    """Sends states away, as safetensors."""

    def __init__(self, send: Callable[[Message], None], progress: _SendingProgress, state: bytes | None) -> None:
        self.send = send
        self.progress = progress
        self.state = state

    @override
    def load(self) -> State | None:
        return None if self.state is None else safetensors.torch.load(self.state)

    @override
    def save(self, state: State) -> None:
        # In the order in which they happened: steps that a display shows are never behind the state that is kept.
        self.progress.flush()
        self.send(Message("save", (state_bytes(state),)))


def failure_of(title: str, error: Exception) -> CoterieError:
    """An error that can be sent: coterie's own class as it is; any other as an EngineError with its traceback."""
    if isinstance(error, CoterieError):
        return type(error)(f"{title}: {error}")
    fault = EngineError(f"{title} failed: {type(error).__name__}: {error}")
    fault.add_note("".join(traceback.format_exception(error)))
    return fault
