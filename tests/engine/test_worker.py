"""A worker, in a thread of this process: no other needs to start for what it sends."""

import pickle
import signal
import tempfile
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from coterie.engine import worker
from coterie.engine.messages import Message, Ready, Result
from coterie.engine.payload import SharedPayload
from coterie.errors import EngineError, TrainingError
from engine_tasks import Square


@pytest.fixture
def connection(request, monkeypatch):
    """To a worker whose tasks share what the test asks for; it ends when the connection is closed."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # which only the main thread may call
    ours, theirs = Pipe()
    with tempfile.TemporaryFile() as file:
        if request.param is None:
            file.write(b"no payload")
            file.flush()
        else:
            SharedPayload.pack(request.param).write(file)
        thread = threading.Thread(target=worker.main, args=(theirs, file.fileno()))
        thread.start()
        yield ours
        ours.close()
        thread.join(10)
        assert not thread.is_alive()
        theirs.close()


def received(connection: Connection):
    assert connection.poll(10)
    return pickle.loads(connection.recv_bytes())


def send(connection: Connection, task: Square, state: bytes | None = None) -> list:
    """What comes back of a task, up to its result or error."""
    connection.send_bytes(pickle.dumps((task, state)))
    answers = [received(connection)]
    while isinstance(answers[-1], Message):
        answers.append(received(connection))
    return answers


@pytest.mark.parametrize("connection", [1], indirect=True)
def test_it_does_one_task_after_another_errors_or_not(connection: Connection) -> None:
    assert isinstance(received(connection), Ready)
    *messages, result = send(connection, Square(3))
    assert [message.method for message in messages] == ["stage", "save", "advance"]
    assert isinstance(result, Result)
    assert result.value == 10
    error = send(connection, Square(2, "error"))[-1]
    assert type(error) is TrainingError
    assert str(error) == "square: the loss became nan"
    fault = send(connection, Square(4, "fault"))[-1]
    assert type(fault) is EngineError
    assert send(connection, Square(5))[-1].value == 26


@pytest.mark.parametrize("connection", [None], indirect=True)
def test_a_payload_that_it_cannot_read_is_an_error_before_any_task(connection: Connection) -> None:
    error = received(connection)
    assert type(error) is EngineError
    assert "a worker cannot read what the tasks share failed" in str(error)
