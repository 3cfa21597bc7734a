"""Several processes that serve one run, started by the command."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coterie.run.load import load_ensemble
from helpers import FIXTURES

pytestmark = pytest.mark.slow

RUN = FIXTURES / "runs" / "whole-on-features"
N_REQUESTS = 24


def get(url: str, body: Any = None) -> tuple[int, str]:
    try:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(url: str, found: str, times: int) -> None:
    """Wait until an answer holds a text, so many times in a row: either worker may answer."""
    deadline, seen = time.monotonic() + 120, 0
    while seen < times:
        assert time.monotonic() < deadline
        seen = seen + 1 if found in get(url)[1] else 0
        time.sleep(0.02)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_workers_answer_what_they_accepted_when_the_command_is_ended() -> None:
    # Requests wait a quarter of a minute for others to fill a batch, so that all are in flight when the signal comes.
    options = ["--port", "0", "--workers", "2", "--max-wait", "15000", "--max-batch", "1000"]
    line = [sys.executable, "-m", "coterie", "serve", str(RUN), *options]
    features = [0.0] * load_ensemble(RUN).preprocessing.width
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())
            assert found
            until(f"{found[0]}/healthz", '"ok"', 5)
            assert get(f"{found[0]}/predict", {"features": "x"})[0] == 422
            with ThreadPoolExecutor(N_REQUESTS) as pool:
                answers = [pool.submit(get, f"{found[0]}/predict", {"features": features}) for _ in range(N_REQUESTS)]
                until(f"{found[0]}/metrics", f"coterie_waiting_samples {N_REQUESTS}\n", 3)
                process.send_signal(signal.SIGTERM)
                assert [answer.result()[0] for answer in answers] == [200] * N_REQUESTS
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(found[1])), timeout=10)
            said = process.stderr.read()
            assert process.wait(60) == 0
            assert said == "stopped: all accepted requests are answered\n"
        finally:
            process.kill()
