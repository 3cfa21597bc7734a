"""Counters of a server and of several workers."""

from coterie.serve.metrics import WIDTH, Metrics


def test_workers_count_together() -> None:
    cells = [0.0] * (2 * WIDTH)
    one, other = Metrics(cells, 0), Metrics(cells, 1)
    one.count(200, 0.003, samples=4, routed=1)
    other.count(200, 0.2, samples=2)
    other.count(422, 99.0)
    text = one.text(waiting=0)
    for line in (
        'coterie_requests_total{status="200"} 2',
        'coterie_requests_total{status="422"} 1',
        'coterie_requests_total{status="503"} 0',
        "coterie_errors_total 1",
        "coterie_samples_total 6",
        "coterie_routed_total 1",
        'coterie_latency_seconds_bucket{le="0.005"} 1',
        'coterie_latency_seconds_bucket{le="0.25"} 2',
        'coterie_latency_seconds_bucket{le="+Inf"} 3',
        "coterie_latency_seconds_sum 99.203",
    ):
        assert line in text.splitlines()
    assert other.text(waiting=7).count("coterie_waiting_samples 7\n") == 1
    assert "coterie_waiting_samples 7\n" in one.text(waiting=0)


def test_each_worker_says_itself_that_it_is_ready() -> None:
    cells = [0.0] * (2 * WIDTH)
    one, other = Metrics(cells, 0), Metrics(cells, 1)
    one.ready = True
    assert (one.ready, other.ready) == (True, False)
