import pickle

import pytest
import torch

from coterie.engine import Task, TaskContext, messages
from coterie.engine.messages import Message, failure_of, run_remotely, state_of
from coterie.errors import EngineError, TrainingError
from coterie.progress import SILENT
from engine_tasks import Recorder, Square


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(messages, "time", clock)
    return clock


class Stepping(Task[float, str]):
    """Takes a step each so many seconds."""

    title = "stepping"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def run(self, shared: float, context: TaskContext) -> str:
        context.progress.stage(self.title, 10)
        for step in range(10):
            self.clock.now += shared
            context.progress.advance(1, 32, loss=float(step), accuracy=0.5)
        context.progress.note("a line")
        return "done"


def test_what_a_task_reports_elsewhere_arrives_in_its_context() -> None:
    sent: list[bytes] = []
    assert run_remotely(Square(3), 1, None, lambda message: sent.append(pickle.dumps(message))) == 10
    context = Recorder()
    for message in sent:
        pickle.loads(message).deliver(TaskContext(context, context))
    assert context.calls == [("square", 2), (2, 10)]
    assert int(context.state["found"]) == 3


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, [1] * 10), (0.2, [3, 3, 3, 1]), (0.0, [10])])
def test_fast_steps_are_sent_together_and_none_is_lost(clock: Clock, seconds: float, expected: list[int]) -> None:
    sent: list[Message] = []
    assert run_remotely(Stepping(clock), seconds, None, sent.append) == "done"
    advances = [message.values for message in sent if message.method == "advance"]
    assert [steps for steps, *_ in advances] == expected
    assert sum(images for _, images, *_ in advances) == 320
    assert advances[-1][2:] == (9.0, 0.5)
    assert sent[0] == Message("stage", ("stepping", 10))


def test_steps_are_sent_before_the_state_that_they_led_to() -> None:
    class Saving(Task[None, None]):
        title = "saving"

        def run(self, shared: None, context: TaskContext) -> None:
            context.progress.advance(4)
            context.checkpoint.save({"weight": torch.ones(1)})

    sent: list[Message] = []
    run_remotely(Saving(), None, None, sent.append)
    assert [message.method for message in sent] == ["advance", "save"]


def test_a_task_goes_on_from_the_state_that_is_sent_with_it() -> None:
    assert state_of(TaskContext(SILENT)) is None
    kept = Recorder({"found": torch.tensor(99)})
    state = state_of(TaskContext(kept, kept))
    assert run_remotely(Square(3), 1, state, lambda message: pytest.fail(f"{message} was sent")) == 99


def test_an_error_of_coteries_keeps_its_class_another_its_traceback() -> None:
    found = failure_of("specialist 2", TrainingError("the loss became nan"))
    assert type(found) is TrainingError
    assert str(found) == "specialist 2: the loss became nan"
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        fault = failure_of("specialist 2", error)
    assert type(fault) is EngineError
    assert str(fault) == "specialist 2 failed: ZeroDivisionError: division by zero"
    assert "test_messages.py" in fault.__notes__[0]
