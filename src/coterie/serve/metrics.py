"""Counters of a server, as Prometheus reads them; of several workers, in memory that they share."""

from __future__ import annotations

import threading
from collections.abc import MutableSequence, Sequence

# Upper ends of the buckets, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# What /predict answers with.
STATUSES = (200, 400, 401, 413, 415, 422, 500, 503)
FIELDS = (
    *(f"status {status}" for status in STATUSES),
    *BUCKETS,
    float("inf"),
    "samples",
    "routed",
    "seconds",
    "waiting",
    "ready",
)
_PLACE = {field: place for place, field in enumerate(FIELDS)}
WIDTH = len(FIELDS)


class Metrics:
    """Requests by status, samples, and how long answers took; threads may count at the same time.

    Args:
        cells: WIDTH floats for each worker, all 0 before the first counts; every worker writes to its own and reads
            all. Default: of one worker.
        worker: whose counts these are.
    """

    def __init__(self, cells: MutableSequence[float] | None = None, worker: int = 0) -> None:
        self._cells: MutableSequence[float] = [0.0] * WIDTH if cells is None else cells
        self._first = worker * WIDTH
        self._lock = threading.Lock()

    def count(self, status: int, seconds: float, samples: int = 0, routed: int = 0) -> None:
        """Count a request that was answered with this status after so many seconds."""
        bucket = next((end for end in BUCKETS if seconds <= end), float("inf"))
        with self._lock:
            for field, more in (
                (f"status {status}", 1),
                (bucket, 1),
                ("samples", samples),
                ("routed", routed),
                ("seconds", seconds),
            ):
                self._cells[self._first + _PLACE[field]] += more

    @property
    def ready(self) -> bool:
        """Whether this worker said that it is ready."""
        return bool(self._cells[self._first + _PLACE["ready"]])

    @ready.setter
    def ready(self, value: bool) -> None:
        self._cells[self._first + _PLACE["ready"]] = value

    def text(self, waiting: int) -> str:
        """In Prometheus' text format, of all workers; ``waiting``: samples of this one that nobody was asked about yet.
        The others' are those when they were last asked for theirs.
        """
        self._cells[self._first + _PLACE["waiting"]] = waiting
        of = {field: sum(self._cells[place::WIDTH]) for field, place in _PLACE.items()}
        requests = [(f'{{status="{status}"}}', int(of[f"status {status}"])) for status in STATUSES]
        errors = sum(number for status, (_, number) in zip(STATUSES, requests, strict=True) if status >= 400)
        total = 0
        histogram: list[tuple[str, float]] = []
        for end in (*BUCKETS, float("inf")):
            total += int(of[end])
            histogram.append((f'_bucket{{le="{"+Inf" if end == float("inf") else end}"}}', total))
        histogram += [("_sum", round(of["seconds"], 6)), ("_count", total)]
        return "".join(
            [
                _metric("coterie_requests_total", "counter", "Requests to /predict.", requests),
                _metric("coterie_errors_total", "counter", "Requests that got no prediction.", [("", errors)]),
                _metric("coterie_samples_total", "counter", "Samples classified.", [("", int(of["samples"]))]),
                _metric("coterie_routed_total", "counter", "Samples routed.", [("", int(of["routed"]))]),
                _metric("coterie_waiting_samples", "gauge", "Samples that wait.", [("", int(of["waiting"]))]),
                _metric("coterie_latency_seconds", "histogram", "From request to answer.", histogram),
            ]
        )


def _metric(name: str, kind: str, about: str, values: Sequence[tuple[str, float]]) -> str:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *(f"{name}{label} {value}" for label, value in values)]
    return "\n".join(lines) + "\n"
