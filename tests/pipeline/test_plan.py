from dataclasses import replace
from types import SimpleNamespace

import pytest

from coterie.pipeline import plan as module
from coterie.pipeline.plan import CorrectedPlan, Plan, PlannedStage
from coterie.progress import Progress

PLAN = Plan(
    (PlannedStage("base", 640, 10, 100, 1200.0), PlannedStage("3 specialists", 640, 5, 50, 1200.0)), 1, "", "", 0
)


class Notes(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0

    def note(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, steps, n_images=0, loss=None, accuracy=None) -> None:
        self.steps += steps


class Run:
    """A base that is trained at so many seconds a step, and what is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.notes = 0.0, Notes()
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.progress = CorrectedPlan(self.notes)

    def train(self, seconds: float, steps: int, resumed: int = 0) -> list[str]:
        if resumed:
            self.progress.advance(resumed)
        for _ in range(steps // 5):
            self.now += 5 * seconds
            self.progress.advance(5, 64, 1.0, 0.5)
        return self.notes.lines


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    run = Run(monkeypatch)
    run.progress.plan = PLAN  # 12 seconds a step
    run.progress.stage("base", 100)
    return run


def test_a_plan_that_is_far_off_is_corrected_once_after_the_first_epoch(run: Run) -> None:
    assert run.train(3.0, steps=5) == []
    assert run.train(3.0, steps=5) == ["by the first epoch, the whole run takes about 10 min in place of 40 min"]
    assert len(run.train(30.0, steps=90)) == 1
    run.progress.stage("specialist 0", 50)
    assert len(run.train(100.0, steps=50)) == 1
    assert run.notes.steps == 150


@pytest.mark.parametrize("seconds", [9.5, 12.0, 15.5])
def test_a_plan_that_holds_is_left_alone(run: Run, seconds: float) -> None:
    assert run.train(seconds, steps=100) == []


def test_steps_of_an_earlier_start_are_not_timed(run: Run) -> None:
    run.now += 500.0
    assert run.train(12.0, steps=50, resumed=50) == []


def test_without_a_plan_or_a_base_there_is_nothing_to_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.progress.stage("base", 100)
    assert run.train(1.0, steps=50) == []
    run.progress.plan = PLAN
    run.progress.stage("distil", 100)
    assert run.train(1.0, steps=50) == []
    assert run.progress.lane() is run.notes


def test_a_base_too_short_to_be_timed_says_nothing_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    base, *rest = PLAN.stages
    run.progress.plan = replace(PLAN, stages=(replace(base, seconds=0.0), *rest))
    run.progress.stage("base", 100)
    assert run.train(3.0, steps=100) == []
