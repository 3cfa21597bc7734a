from pathlib import Path

import pytest
import torch

from coterie.errors import LimitError
from coterie.system.limits import Limits
from coterie.training import hooks
from coterie.training.checkpoint import NO_CHECKPOINT, Checkpoint, CheckpointFile
from coterie.training.hooks import NO_HOOK, StageHook, TrainingHook
from coterie.training.tracking import Tracker, Trackers

HISTORY = [(1.5, 0.25), (1.0, 0.5)]


class Keeping(Checkpoint):
    """Counts the states that it is given."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []

    def save(self, state) -> None:
        self.kept.append(state)


class ReachedAt(Limits):
    def __init__(self, step: int) -> None:
        self.left = step

    def check(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise LimitError("enough")


class Following(Tracker):
    name = "test"

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def epochs(self, title, history) -> None:
        self.told.append((title, list(history)))

    def finish(self, figures, files) -> None: ...

    def close(self) -> None: ...


def state() -> dict[str, torch.Tensor]:
    return {"weight": torch.ones(2)}


@pytest.mark.parametrize("hook", [NO_HOOK, type("Partial", (TrainingHook,), {})()], ids=["none", "a user's"])
def test_a_hook_that_overrides_nothing_starts_at_the_beginning_and_keeps_nothing(hook: TrainingHook) -> None:
    assert hook.load() is None
    hook.step(lambda: pytest.fail("a state was made for nobody"))
    hook.epoch(HISTORY, lambda: pytest.fail("a state was made for nobody"))


@pytest.mark.parametrize(("every", "expected"), [(None, [3, 6]), (2, [2, 4, 6]), (4, [4])])
def test_a_state_is_kept_at_each_epoch_or_every_so_many_steps(every: int | None, expected: list[int]) -> None:
    file, saved_at = Keeping(), []
    hook = StageHook(file, every)
    for step in range(1, 7):
        hook.step(state)
        if step % 3 == 0:
            hook.epoch(HISTORY, state)
        saved_at += [step] * (len(file.kept) - len(saved_at))
    assert saved_at == expected


def test_a_limit_ends_the_training_with_its_state_kept() -> None:
    file = Keeping()
    hook = StageHook(file, None, limits=ReachedAt(3))
    hook.step(state)
    hook.step(state)
    assert file.kept == []
    with pytest.raises(LimitError, match="enough"):
        hook.step(state)
    assert torch.equal(file.kept[0]["weight"], torch.ones(2))


def test_trackers_follow_the_history_under_the_stages_title() -> None:
    tracker = Following()
    StageHook(NO_CHECKPOINT, None, "base", trackers=Trackers([tracker])).epoch(HISTORY, state)
    assert tracker.told == [("base", HISTORY)]


def test_seconds_are_those_of_all_starts(tmp_path: Path, monkeypatch) -> None:
    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(hooks, "time", clock)
    file = CheckpointFile(tmp_path / "state")
    first = StageHook(file, 1)
    assert first.load() is None
    clock.now = 10.0
    first.step(state)
    clock.now = 1000.0  # lost: nothing was kept after the step
    second = StageHook(file, 1)
    assert second.load().keys() == {"weight", "seconds"}
    clock.now = 1005.0
    assert second.seconds == 15.0
