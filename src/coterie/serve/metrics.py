"""Counters of a server, as Prometheus reads them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

# Upper ends of the buckets, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests by status, samples, and how long answers took; threads may count at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[int] = Counter()
        self._bucket: Counter[float] = Counter()
        self._samples = self._routed = 0
        self._seconds = 0.0

    def count(self, status: int, seconds: float, samples: int = 0, routed: int = 0) -> None:
        """Count a request that was answered with this status after so many seconds."""
        with self._lock:
            self._requests[status] += 1
            self._samples += samples
            self._routed += routed
            self._seconds += seconds
            self._bucket[next((end for end in BUCKETS if seconds <= end), float("inf"))] += 1

    def text(self, waiting: int) -> str:
        """In Prometheus' text format; ``waiting``: samples that nobody was asked about yet."""
        with self._lock:
            requests = [(f'{{status="{status}"}}', number) for status, number in sorted(self._requests.items())]
            errors = sum(number for status, number in self._requests.items() if status >= 400)
            total = 0
            histogram: list[tuple[str, float]] = []
            for end in (*BUCKETS, float("inf")):
                total += self._bucket[end]
                histogram.append((f'_bucket{{le="{"+Inf" if end == float("inf") else end}"}}', total))
            histogram += [("_sum", round(self._seconds, 6)), ("_count", total)]
            return "".join(
                [
                    _metric("coterie_requests_total", "counter", "Requests to /predict.", requests),
                    _metric("coterie_errors_total", "counter", "Requests that got no prediction.", [("", errors)]),
                    _metric("coterie_samples_total", "counter", "Samples classified.", [("", self._samples)]),
                    _metric("coterie_routed_total", "counter", "Samples routed.", [("", self._routed)]),
                    _metric("coterie_waiting_samples", "gauge", "Samples that wait.", [("", waiting)]),
                    _metric("coterie_latency_seconds", "histogram", "From request to answer.", histogram),
                ]
            )


def _metric(name: str, kind: str, about: str, values: Sequence[tuple[str, float]]) -> str:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *(f"{name}{label} {value}" for label, value in values)]
    return "\n".join(lines) + "\n"
