"""A worker process of the local engine: ``python -m coterie.engine.worker CONNECTION PAYLOAD``, two file descriptors.

It sends Ready, then runs the tasks that it is sent, until the connection closes.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
from multiprocessing.connection import Connection

from coterie.engine.messages import Ready, Result, failure_of, run_remotely
from coterie.engine.payload import SharedPayload
from coterie.system.output import guarded_streams


def main(connection: Connection, payload: int) -> None:
    """Run tasks until the other side closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal's processes; the driver ends us

    def send(value: object) -> None:
        connection.send_bytes(pickle.dumps(value, protocol=5))

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            shared = SharedPayload.map_from(payload).unpack()
        except Exception as error:
            send(failure_of("a worker cannot read what the tasks share", error))
            return
        send(Ready())
        while True:
            task, state = pickle.loads(connection.recv_bytes())
            try:
                answer: object = Result(run_remotely(task, shared, state, send))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                answer = failure_of(task.title, error)
            send(answer)


if __name__ == "__main__":
    with guarded_streams():
        # What a library prints here is no part of the answer of the command that has workers.
        sys.stdout = sys.stderr
        main(Connection(int(sys.argv[1])), int(sys.argv[2]))
