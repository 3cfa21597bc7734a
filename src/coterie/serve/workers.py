"""Servers of one run in several processes, which take connections from one socket in turn and count together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from coterie.errors import CoterieError, EngineError
from coterie.run.folder import Run
from coterie.run.load import load_ensemble
from coterie.serve.app import make_app, make_server
from coterie.serve.metrics import WIDTH, Metrics
from coterie.serve.reading import Limits
from coterie.system.load import n_cores
from coterie.system.output import say
from coterie.training.process import configure_process


@dataclass(frozen=True)
class Service:
    """What is served, and how: a run folder, and the arguments of ``make_app``."""

    run: Path
    limits: Limits
    max_batch: int
    max_wait: float
    token: str | None
    trust: str | None

    def serve(
        self, own: socket.socket, said: Callable[[], None], workers: int = 1, metrics: Metrics | None = None
    ) -> None:
        """Load the run and answer until SIGINT or SIGTERM.

        Args:
            own: to take connections from.
            said: called before the first is taken.
            workers: processes that share the machine's cores.
            metrics: as for ``make_app``.

        Raises:
            CoterieError: as ``load_ensemble``.
        """
        hardware = Run.open(self.run).settings.hardware
        if workers > 1 and hardware.threads is None:
            hardware = hardware.model_copy(update={"threads": max(1, n_cores() // workers)})
        configure_process(hardware)
        ensemble = load_ensemble(self.run, trust=self.trust)
        app = make_app(
            ensemble,
            limits=self.limits,
            max_batch=self.max_batch,
            max_wait=self.max_wait,
            token=self.token,
            metrics=metrics,
        )
        said()
        make_server(app).run(sockets=[own])


def serve_by_workers(service: Service, own: socket.socket, workers: int, said: Callable[[], None]) -> None:
    """Serve by so many processes until this one is interrupted; each then answers what it accepted. One that dies is
    replaced.

    Raises:
        EngineError: a worker ended before it was ready; it has said why.
    """
    context = multiprocessing.get_context("spawn")
    cells = context.RawArray("d", workers * WIDTH)

    def start(number: int) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=_work, args=(service, own, workers, cells, number), daemon=True)
        process.start()
        return process

    processes = [start(number) for number in range(workers)]
    said()
    try:
        while True:
            wait([process.sentinel for process in processes])
            for number, process in enumerate(processes):
                if process.exitcode is None:
                    continue
                mine = Metrics(cells, number)
                if not mine.ready:
                    raise EngineError(f"worker {number} of {workers} ended before it was ready")
                say(f"worker {number} ended with exit code {process.exitcode}; another takes its place")
                mine.ready = False
                processes[number] = start(number)
    finally:
        own.close()  # from now on, no connection waits for a worker
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _work(service: Service, own: socket.socket, workers: int, cells: MutableSequence[float], number: int) -> None:
    # Ctrl-C goes to all of a terminal's processes; the first ends us. uvicorn has handlers of its own, and passes on
    # what ended it after the last answer. At once: an exception on the way there would leave warnings behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        service.serve(own, lambda: None, workers, Metrics(cells, number))
    except CoterieError as error:
        say(f"error: {error}")
        sys.exit(1)
