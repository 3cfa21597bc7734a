import pickle

import pytest

from coterie.engine import Outcome, TaskContext
from coterie.errors import CoterieError, EngineError
from coterie.progress import SILENT
from coterie.training.checkpoint import NO_CHECKPOINT
from engine_tasks import Square


def test_an_outcome_is_a_result_or_raises_its_error() -> None:
    assert Outcome(0, 4).unwrap() == 4
    assert Outcome(0, 0).unwrap() == 0  # a result, though it counts as false
    with pytest.raises(EngineError, match="lost"):
        Outcome(0, error=EngineError("lost")).unwrap()


def test_a_context_keeps_no_state_unless_it_is_told_where() -> None:
    context = TaskContext(SILENT)
    assert context.checkpoint is NO_CHECKPOINT
    context.checkpoint.save({})
    assert context.checkpoint.load() is None


def test_a_task_is_a_value_that_travels() -> None:
    task = pickle.loads(pickle.dumps(Square(3)))
    assert task == Square(3)
    assert task.run(1, TaskContext(SILENT)) == 10


@pytest.mark.parametrize("kind", CoterieError.__subclasses__())
def test_errors_travel_with_their_words(kind: type[CoterieError]) -> None:
    found = pickle.loads(pickle.dumps(kind("what is wrong")))
    assert type(found) is kind
    assert str(found) == "what is wrong"
