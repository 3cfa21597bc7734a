"""Hooks of the training loop: called after each step and each epoch, they keep its state, stop it, or follow it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from typing_extensions import override

from coterie.errors import LimitError
from coterie.system.limits import NO_LIMITS, Limits
from coterie.training.checkpoint import Checkpoint, State
from coterie.training.tracking import NO_TRACKERS, Trackers


class TrainingHook(Protocol):
    """Called by the training loop; gives the state to start from. What it raises ends the training."""

    def load(self) -> State | None:
        """The state that the training starts from; None: from its beginning."""
        return None

    def step(self, capture: Callable[[], State]) -> None:
        """A step is done; ``capture`` makes the state it leaves."""
        return

    def epoch(self, history: Sequence[tuple[float, float]], capture: Callable[[], State]) -> None:
        """An epoch is done; ``history`` holds mean loss and accuracy of each so far."""
        return


class _NoHook(TrainingHook): ...


NO_HOOK: TrainingHook = _NoHook()


class StageHook(TrainingHook):
    """Keeps the state of a training, stops it where a limit is reached, and shows it to the trackers.

    Args:
        file: where the state is kept.
        every: steps between two states; None: one at the end of each epoch.
        title: of the training, for the trackers.
        limits: checked after each step.
        trackers: follow the history.
    """

    def __init__(
        self,
        file: Checkpoint,
        every: int | None,
        title: str = "",
        limits: Limits = NO_LIMITS,
        trackers: Trackers = NO_TRACKERS,
    ) -> None:
        self.title = title
        self.file = file
        self.every = every
        self.limits = limits
        self.trackers = trackers
        self.steps = 0
        self.seconds_before = 0.0
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds that the training took so far, over all starts, without those of steps that were lost."""
        return self.seconds_before + time.perf_counter() - self.started

    @override
    def load(self) -> State | None:
        state = self.file.load()
        if state is not None:
            seconds = state.get("seconds", torch.zeros(0))
            # Of a state that lacks them, or has others, it is the loop that says what is wrong.
            usable = seconds.numel() == 1 and 0 <= float(seconds) < math.inf
            self.seconds_before = float(seconds) if usable else 0.0
        return state

    @override
    def step(self, capture: Callable[[], State]) -> None:
        self.steps += 1
        if self.every is not None and self.steps % self.every == 0:
            self._save(capture)
        try:
            self.limits.check()
        except LimitError:
            # Now, not at the next epoch: the process ends here, and an epoch may be hours.
            self._save(capture)
            raise

    @override
    def epoch(self, history: Sequence[tuple[float, float]], capture: Callable[[], State]) -> None:
        if self.every is None:
            self._save(capture)
        self.trackers.epochs(self.title, history)

    def _save(self, capture: Callable[[], State]) -> None:
        self.file.save({**capture(), "seconds": torch.tensor(self.seconds, dtype=torch.float64)})
