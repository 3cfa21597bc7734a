import base64
import json
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from coterie.cli import main
from coterie.errors import SettingsError
from coterie.run.load import load_ensemble
from coterie.serve.app import listen, render
from coterie.serve.reading import Limits
from helpers import FIXTURES
from serving import picture, serving, vector

RUNS = FIXTURES / "runs"
JSON = "application/json"


def ask(url: str, body: Any = None, kind: str = JSON, token: str | None = None) -> tuple[int, Any]:
    """Status and JSON, or text, of what a server answers."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = {"Content-Type": kind} | ({"Authorization": token} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as response:
            status, text, answered = response.status, response.read().decode(), response.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            status, text, answered = error.code, error.read().decode(), error.headers["Content-Type"]
    return status, json.loads(text) if answered == JSON else text


@pytest.fixture(scope="module")
def vectors() -> Any:
    return load_ensemble(RUNS / "whole-on-features")


@pytest.fixture(scope="module")
def images() -> Any:
    return load_ensemble(RUNS / "tails-of-two-partitions")


@pytest.fixture(scope="module")
def url(vectors: Any) -> Iterator[str]:
    with serving(vectors, limits=Limits(body=20_000, samples=8)) as found:
        yield found


@pytest.fixture(scope="module")
def image_url(images: Any) -> Iterator[str]:
    with serving(images, limits=Limits(body=2**18, samples=8)) as found:
        yield found


def same(answer: Any, expected: Any) -> None:
    """But for rounding, which differs between batches."""
    for got, wanted in zip(answer, expected, strict=True):
        wanted = json.loads(json.dumps(asdict(wanted)))
        assert got.keys() == wanted.keys()
        for key in ("predicted", "routed", "cluster", "cluster_classes", "score_name", "threshold"):
            assert got[key] == wanted[key]
        assert got["probability"] == pytest.approx(wanted["probability"], abs=1e-5)
        assert [name for name, _ in got["base_top"]] == [name for name, _ in wanted["base_top"]]
        assert [one["cluster"] for one in got["specialists"]] == [one["cluster"] for one in wanted["specialists"]]


def test_features_one_or_many_are_answered_as_in_process(url: str, vectors: Any) -> None:
    many = vector(vectors, 0, 8)
    status, answer = ask(f"{url}/predict", {"features": many})
    assert status == 200
    same(answer["predictions"], vectors.explain(np.array(many)))
    assert answer["latency_ms"] > 0
    status, answer = ask(f"{url}/predict", {"features": many[0]})
    assert status == 200
    same(answer["predictions"], vectors.explain(np.array(many[:1])))


def test_images_as_bytes_base64_and_form(image_url: str, images: Any) -> None:
    files = [picture(images, seed) for seed in range(3)]
    expected = images.explain(files)
    form = b"".join(
        b'--XYZ\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + file + b"\r\n"
        for file in files
    )
    encoded = [base64.b64encode(file).decode() for file in files]
    for body, kind, wanted in (
        (files[0], "image/png", expected[:1]),
        (files[0], "application/octet-stream", expected[:1]),
        ({"images": encoded}, JSON, expected),
        ({"images": f"data:image/png;base64,{encoded[0]}"}, JSON, expected[:1]),
        (form + b"--XYZ--\r\n", 'multipart/form-data; boundary="XYZ"', expected),
    ):
        status, answer = ask(f"{image_url}/predict", body, kind)
        assert status == 200, answer
        same(answer["predictions"], wanted)
    assert ask(f"{image_url}/predict", form, "multipart/form-data; boundary=XYZ")[0] == 400


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        ({"images": "/etc/hostname"}, JSON, 422, "no base64"),
        ({"images": "http://127.0.0.1/a.png"}, JSON, 422, "no address or path is read"),
        ({"images": [3]}, JSON, 422, "images 0 is of the type int"),
        ({"images": "aGVsbG8="}, JSON, 422, "image 0"),
        (b"no image", "image/png", 422, "image 0"),
        (b"", "image/png", 422, "image 0"),
        (b"--X--", "multipart/form-data; boundary=X", 422, "no sample"),
        (b"--X--", "multipart/form-data", 400, "no boundary"),
        (b"--X\r\n\r\n\r\n" * 20 + b"--X--", "multipart/form-data; boundary=X", 413, "at most 8"),
        (b"a,b", "text/csv", 415, "allowed are application/json"),
        (b"x" * (2**18 + 1), "image/png", 413, "at most 262,144 bytes"),
        ({"texts": ["a"]}, JSON, 422, "this run takes {'images': [...]}; got 'texts'"),
    ],
)
def test_bad_images_are_refused_in_a_sentence(image_url: str, body: Any, kind: str, status: int, said: str) -> None:
    got, answer = ask(f"{image_url}/predict", body, kind)
    assert (got, said in answer["detail"]) == (status, True), answer


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "no JSON"),
        (b"\xff", 400, "no JSON"),
        (b"[" * 9_000, 400, "no JSON"),
        ([], 422, "got list"),
        ({}, 422, "got nothing"),
        ({"\ud800": 1}, 422, "got "),
        ({"features": []}, 422, "no sample"),
        ({"features": [[0.0]] * 9}, 413, "9 samples or more; at most 8"),
        ({"features": [[0.0]]}, 422, "shape (1, 1)"),
        ({"features": [[0.0], [0.0, 1.0]]}, 422, "no array of numbers"),
        ({"features": ["x"]}, 422, "features 0 is no list of numbers"),
        ({"features": "runs/vectors.npy"}, 422, "features 0 is no list of numbers"),
        (b'{"features": [NaN, 1]}', 422, "NaN is no number"),
        (b'{"features": [1e999, 1]}', 422, "shape"),
    ],
)
def test_bad_features_are_refused_in_a_sentence(url: str, body: Any, status: int, said: str) -> None:
    got, answer = ask(f"{url}/predict", body)
    assert (got, said in answer["detail"]) == (status, True), answer


def test_a_body_without_length_is_cut_off_at_the_limit(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + b"7530\r\n" + b" " * 0x7530 + b"\r\n")  # 30,000 bytes, and no end
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_texts_of_a_run_of_texts_and_their_length() -> None:
    ensemble = load_ensemble(RUNS / "blend-of-texts")
    texts = ["a film that I liked", "x", "an invoice is wrong, twice " * 9]
    with serving(ensemble, limits=Limits(text=1000)) as url:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda text: ask(f"{url}/predict", {"texts": text}), texts * 8))
        expected = ensemble.explain(texts)
        for k, (status, answer) in enumerate(answers):
            assert status == 200
            same(answer["predictions"], [expected[k % 3]])
        for body, status in (({"texts": ["a" * 1001]}, 413), ({"texts": [" "]}, 422), ({"texts": [1]}, 422)):
            assert ask(f"{url}/predict", body)[0] == status
        assert ask(f"{url}/predict", b"x", "image/png")[0] == 422


def test_many_clients_get_the_answers_of_one_with_broken_requests_among_them(url: str, vectors: Any) -> None:
    samples = vector(vectors, 1, 32)
    expected = vectors.explain(np.array(samples))

    def client(number: int) -> None:
        status, answer = ask(f"{url}/predict", {"features": [[1.0]] if number % 5 == 0 else samples[number % 32]})
        assert status == (422 if number % 5 == 0 else 200)
        if status == 200:
            same(answer["predictions"], [expected[number % 32]])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(200)))


def test_images_of_many_clients_are_decoded_at_the_same_time(image_url: str, images: Any) -> None:
    files = [picture(images, seed) for seed in range(8)]
    expected = images.explain(files)

    def client(number: int) -> None:
        broken = number % 5 == 0
        status, answer = ask(f"{image_url}/predict", files[number % 8][: 60 if broken else None], "image/png")
        assert status == (422 if broken else 200), answer
        if not broken:
            same(answer["predictions"], [expected[number % 8]])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(64)))


def test_a_client_that_leaves_is_counted_and_harms_nobody(vectors: Any, caplog: pytest.LogCaptureFixture) -> None:
    with serving(vectors) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            time.sleep(0.1)
        deadline = time.monotonic() + 10
        while 'status="400"} 1' not in ask(f"{url}/metrics")[1]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ask(f"{url}/predict", {"features": vector(vectors, 0)})[0] == 200
    assert not caplog.records


def test_metrics_health_page_and_openapi(vectors: Any) -> None:
    with serving(vectors) as url:
        ask(f"{url}/predict", {"features": vector(vectors, 0, 3)})
        ask(f"{url}/predict", {"features": []})
        status, text = ask(f"{url}/metrics")
        assert status == 200
        values = dict(re.findall(r"^(coterie_\S+) (\S+)$", text, flags=re.MULTILINE))
        assert values['coterie_requests_total{status="200"}'] == values['coterie_requests_total{status="422"}'] == "1"
        assert values["coterie_errors_total"] == "1"
        assert values["coterie_samples_total"] == "3"
        assert values['coterie_latency_seconds_bucket{le="+Inf"}'] == values["coterie_latency_seconds_count"] == "2"
        assert ask(f"{url}/healthz")[1]["status"] == "ok"
        schema = ask(f"{url}/openapi.json")[1]
        assert set(schema["paths"]) == {"/predict", "/healthz", "/metrics"}
        with urllib.request.urlopen(url) as response:
            assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
            assert b'data-modality="features"' in response.read()


def test_the_page_asks_nobody_else(vectors: Any, images: Any) -> None:
    for ensemble in (vectors, images):
        html = render(ensemble.preprocessing, with_token=False)
        assert not re.search(r"https?://|//\w|innerHTML|<script src|@import", html.replace("data:,", ""))
        assert 'id="token"' not in html
    assert 'id="token"' in render(vectors.preprocessing, with_token=True)


def test_a_token_guards_all_but_page_and_health(vectors: Any) -> None:
    body = {"features": vector(vectors, 0)}
    with serving(vectors, token="secret") as url:
        for wrong in (None, "secret", "Bearer", "Bearer other", "Basic secret", "Bearer secret\xe9"):
            assert ask(f"{url}/predict", body, token=wrong)[0] == 401
        assert ask(f"{url}/metrics")[0] == ask(f"{url}/openapi.json")[0] == 401
        assert ask(f"{url}/predict", body, token="Bearer secret")[0] == 200
        assert ask(f"{url}/metrics", token="bearer secret")[0] == 200
        assert ask(f"{url}/healthz")[0] == ask(url)[0] == 200


def test_a_failure_of_the_server_is_500_and_the_next_request_is_answered(vectors: Any, monkeypatch, caplog) -> None:
    whole = vectors.explain

    def fails_on_two(samples: Any, top: int) -> Any:
        if len(samples) == 2:
            raise RuntimeError("a secret of the machine")
        return whole(samples, top)

    monkeypatch.setattr(vectors, "explain", fails_on_two)
    with serving(vectors) as url:
        status, answer = ask(f"{url}/predict", {"features": vector(vectors, 0, 2)})
        assert status == 500
        assert "secret" not in answer["detail"]
        assert "a secret" in caplog.text
        assert ask(f"{url}/predict", {"features": vector(vectors, 0, 3)})[0] == 200


def test_a_stop_answers_what_was_accepted(vectors: Any) -> None:
    body = {"features": vector(vectors, 0)}
    with ThreadPoolExecutor(8) as pool:
        with serving(vectors, max_wait=0.4) as url:
            answers = [pool.submit(ask, f"{url}/predict", body) for _ in range(8)]
            time.sleep(0.2)
            assert not any(answer.done() for answer in answers)
        assert [answer.result()[0] for answer in answers] == [200] * 8


def test_a_server_is_ready_when_the_networks_have_run_once(vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    warm, go_on = vectors.warm_up, threading.Event()
    monkeypatch.setattr(vectors, "warm_up", lambda: go_on.wait(20) and warm())
    with serving(vectors) as url:
        status, answer = ask(f"{url}/healthz")
        assert (status, answer["status"]) == (503, "starting")
        # What is asked before is answered all the same.
        assert ask(f"{url}/predict", {"features": vector(vectors, 0)})[0] == 200
        go_on.set()
        assert is_ready(url)


def is_ready(url: str) -> bool:
    deadline = time.monotonic() + 30
    while ask(f"{url}/healthz")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    return ask(f"{url}/healthz")[1]["status"] == "ok"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_command_serves_until_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COTERIE_TOKEN", "secret")
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(sys.modules["coterie.cli.serve"], "say", said.put)

    def client() -> list[int]:
        found = re.search(r"http://127\.0\.0\.1:\d+", said.get(timeout=20))
        assert found
        try:
            return [is_ready(found[0]) and 200, ask(f"{found[0]}/predict", {"features": [0]})[0]]
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(client)
        assert main(["serve", str(RUNS / "whole-on-features"), "--port", "0"]) == 0
        assert answered.result() == [200, 401]
    assert said.get_nowait() == "stopped: all accepted requests are answered"


def test_a_port_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as own:
        port = own.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1 port {port}: "):
            listen("127.0.0.1", port)
    with pytest.raises(SettingsError, match="cannot listen on no such host port 80"):
        listen("no such host", 80)
    with pytest.raises(SettingsError, match="--port 70000: must be 0 to 65535"):
        listen("127.0.0.1", 70_000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-batch", "0"], "at least 1"),
        (["--max-wait", "nan"], "0 to 60000"),
        (["--token", ""], "not empty"),
        ([], "nowhere is not a coterie run"),
    ],
)
def test_the_command_refuses_in_a_sentence(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "nowhere", *options]) == 1
    assert said in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "coterie.serve.app")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "nowhere"]) == 1
    assert "serve needs uvicorn: pip install 'coterie[serve]'" in capsys.readouterr().err
