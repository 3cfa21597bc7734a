"""Tasks and recorders for tests of engines: workers import them by this module's name."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from coterie.engine import Task, TaskContext
from coterie.errors import LimitError, TrainingError
from coterie.progress import Progress
from coterie.system.limits import Limits
from coterie.training.checkpoint import Checkpoint, State


@dataclass(frozen=True)
class Square(Task[int, int]):
    """Adds what is shared to a square; the number decides what else happens."""

    number: int
    mischief: str = ""
    title: str = "square"

    def run(self, shared: int, context: TaskContext) -> int:
        state = context.checkpoint.load()
        if state is not None:
            return int(state["found"])
        context.progress.stage(self.title, 2)
        context.checkpoint.save({"found": torch.tensor(self.number)})
        context.progress.advance(2, 10)
        if self.mischief == "error":
            raise TrainingError("the loss became nan")
        if self.mischief == "fault":
            raise ZeroDivisionError("what a fault says")
        if self.mischief == "talk":
            sys.stdout.write("a\x1b[2Jb\n")
            sys.stderr.write("c\x1b]0;title\x07d\n")
        if self.mischief == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.number**2 + shared


class Recorder(Progress, Checkpoint):
    def __init__(self, state: State | None = None) -> None:
        self.calls: list[object] = []
        self.state = state

    def stage(self, title: str, steps: int) -> None:
        self.calls.append((title, steps))

    def advance(self, steps, n_images=0, loss=None, accuracy=None) -> None:
        self.calls.append((steps, n_images))

    def save(self, state: State) -> None:
        self.state = state

    def load(self) -> State | None:
        return self.state


class InSpecialists(Limits):
    """Reached as soon as the state of a specialist is kept."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.states = run / "checkpoint" / "specialists"

    def check(self) -> None:
        if any(self.states.rglob("*.safetensors")):
            raise LimitError("--max-time 1h is over")


@dataclass(frozen=True)
class Endless(Task[int, int]):
    title: str = "endless"

    def run(self, shared: int, context: TaskContext) -> int:
        while True:
            context.progress.note(str(os.getpid()))
            time.sleep(0.05)
