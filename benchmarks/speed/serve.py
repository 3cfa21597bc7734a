"""Requests per second, latency and memory of `coterie serve`, beside the same samples in batches in process.

Question: what does HTTP cost? Asked: at least 0.7 times the samples per second that the same batches give in process,
answers that are those of the run, and memory that stays flat over 10,000 requests. 64 clients, in a process of their
own, each send one request after another on a connection that stays open; every fiftieth request is broken. Where the
machine has fewer cores than server, clients and others want, requests per second say little: the server's processor
time a sample, beside that of `explain` on as many samples as a batch holds, does not depend on them.

HTTP costs the same whatever the network: features of an MLP and small images show that cost, and a MiniLM that was
fine-tuned (needs the packages that `coterie[minilm]` brings) what is left of it behind a network that people own.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.shared import alone, command, markdown_table, plain, write_result

CLIENTS, BATCH = 64, 64
N_CLASSES, WIDTH, SIDE = 24, 64, 32
N_BODIES = 256
# Of the requests, one in so many is broken.
BROKEN = 50

Body = tuple[str, bytes, int]


def make_texts(folder: Path) -> list[str]:
    """A run of a MiniLM that is tuned for a minute, and N_BODIES texts of eight to twenty words."""
    import csv

    import coterie
    from coterie.backbones.packages import MINILM

    rng = np.random.default_rng(0)
    words = [
        f"{first}{last}" for first in ("bo", "ca", "du", "fe", "gi") for last in ("ra", "len", "mit", "sol", "ton")
    ]
    label_N = np.repeat(np.arange(N_CLASSES), 24)
    texts = [" ".join([f"topic {label}", *rng.choice(words, rng.integers(6, 18))]) for label in label_N]
    file = folder.with_suffix(".csv")
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *zip(texts, (f"class {k}" for k in label_N), strict=True)])
    values = {
        "data": {"source": f"csv:{file}"},
        "backbone": MINILM,
        "init": "pretrained",
        "base": {"epochs": 1},
        "specialist": {"trainable": "last-1", "epochs": 1},
        "partition": {"clusters": [4]},
        "hardware": {"accelerator": "cpu", "precision": "fp32", "threads": 1},
    }
    coterie.fit(plain(values), folder)
    return [texts[row] for row in rng.permutation(len(texts))[:N_BODIES]]


def make_run(folder: Path, modality: str) -> Any:
    """A run of minutes at most, and N_BODIES samples: what it answers does not change what it costs."""
    if modality == "texts":
        return make_texts(folder)
    import torch

    import coterie
    from coterie.data.splits import Split, Splits
    from coterie.inputs import FeaturePreprocessing, ImagePreprocessing, MemorySamples, Scale
    from coterie.labels import LabelSpace

    rng = np.random.default_rng(0)
    label_N = np.repeat(np.arange(N_CLASSES), 24)
    if modality == "features":
        raw: Any = (rng.normal(size=(N_CLASSES, WIDTH))[label_N] + rng.normal(0, 2, (len(label_N), WIDTH))).astype("f4")
        form: Any = FeaturePreprocessing(Scale((0.0,) * WIDTH, (1.0,) * WIDTH))
    else:
        pattern = rng.integers(0, 256, (N_CLASSES, SIDE, SIDE, 3))
        raw = (pattern[label_N] + rng.normal(0, 60, (len(label_N), SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
        form = ImagePreprocessing(SIDE, SIDE, 3, (127.0,) * 3, (64.0,) * 3)
    split = Split(MemorySamples(torch.from_numpy(raw)), torch.from_numpy(label_N))
    names = LabelSpace(tuple(f"class {k}" for k in range(N_CLASSES)))
    splits = Splits(split, split, split, names, form, "Made for the benchmark.", flip=False)
    training = {"epochs": 1, "batch_size": 64}
    settings = plain(
        {
            "backbone": "mlp-256" if modality == "features" else "convnet-32",
            "base": training,
            "specialist": training,
            "partition": {"clusters": [4]},
            "hardware": {"accelerator": "cpu", "precision": "fp32", "threads": 1},
        }
    )
    coterie.fit(settings, folder, splits=splits)
    return raw[rng.permutation(len(raw))[:N_BODIES]]


def bodies(samples: Any, rows: int) -> list[Body]:
    """Requests of so many samples: kind, body and how many."""
    if _are_images(samples):
        return [("image/png", _png(pixels), 1) for pixels in samples]
    key, values = ("texts", samples) if isinstance(samples, list) else ("features", samples.tolist())
    parts = [values[start : start + rows] for start in range(0, len(values), rows)]
    return [("application/json", json.dumps({key: part}).encode(), len(part)) for part in parts]


def _are_images(samples: Any) -> bool:
    return isinstance(samples, np.ndarray) and samples.dtype == np.uint8


def _png(pixels: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


@contextmanager
def server(run: Path, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    """A server of its own process: its port, and the process."""
    line = [sys.executable, "-m", "coterie", "serve", str(run), "--port", "0", "--max-batch", str(BATCH), *options]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        found = re.search(r":(\d+)/", said)
        if found is None:
            raise SystemExit(said + process.stderr.read())
        yield int(found[1]), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def ask(port: int, sent: list[Body], n_requests: int) -> tuple[float, list[float], list[tuple[int, int, bytes]]]:
    """Send requests by CLIENTS clients: seconds in all and of each, and of each its body, status and answer."""
    requests = [
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
        for kind, body, _ in sent
    ]
    broken = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{'broken'"
    )
    numbers = itertools.count()
    latencies: list[float] = []
    answers: list[tuple[int, int, bytes]] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (number := next(numbers)) < n_requests:
            which = -1 if number % BROKEN == BROKEN - 1 else number % len(requests)
            started = time.perf_counter()
            writer.write(broken if which < 0 else requests[which])
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert length is not None
            body = await reader.readexactly(int(length[1]))
            latencies.append(time.perf_counter() - started)
            answers.append((which, int(head[9:12]), body))
        writer.close()

    async def all_clients() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return time.perf_counter() - started

    return asyncio.run(all_clients()), latencies, answers


def in_process(run: Path, samples: Any, seconds: float) -> tuple[float, float, list[str]]:
    """Samples per second, processor time of one in ms, and the classes that are answered."""
    import torch

    import coterie

    torch.set_num_threads(1)
    ensemble = coterie.load(run)
    given = [_png(pixels) for pixels in samples] if _are_images(samples) else samples
    names = [one.predicted for one in ensemble.explain(given)]
    n_done, started, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        for start in range(0, len(given), BATCH):
            n_done += len(ensemble.explain(given[start : start + BATCH]))
    return n_done / (time.perf_counter() - started), 1000 * (time.process_time() - cpu) / n_done, names


def wrong_answers(answers: list[tuple[int, int, bytes]], sent: list[Body], names: list[str]) -> int:
    """Answers that are not the run's, or of another status than they should have."""
    first = list(itertools.accumulate((number for _, _, number in sent), initial=0))
    wrong = 0
    for which, status, body in answers:
        if which < 0:
            wrong += status != 400
            continue
        found = [one["predicted"] for one in json.loads(body)["predictions"]] if status == 200 else []
        wrong += found != names[first[which] : first[which + 1]]
    return wrong


def main(requests: int = 10_000, seconds: float = 5.0) -> None:
    """Ask servers of features and of images.

    Args:
        requests: of each server; a tenth where a request has many samples, or the network takes long.
        seconds: of each measurement in process.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for modality in ("features", "image", "texts"):
            run = Path(folder, modality)
            samples = make_run(run, modality)
            rate, cpu_ms, names = alone(in_process, run, samples, seconds)
            for n_rows in (1, 32) if modality == "features" else (1,):
                sent = bodies(samples, n_rows)
                n_requests = requests if n_rows == 1 and modality != "texts" else requests // 10
                with server(run) as (port, process):
                    alone(ask, port, sent, n_requests // 10)
                    before, memory = sum(process.cpu_times()[:2]), process.memory_info().rss
                    taken, latencies, answers = alone(ask, port, sent, n_requests)
                    served_cpu, grown = sum(process.cpu_times()[:2]) - before, process.memory_info().rss - memory
                n_samples = sum(sent[which][2] for which, _, _ in answers if which >= 0)
                served_ms = 1000 * served_cpu / n_samples
                p50, p99 = np.percentile(latencies, [50, 99]) * 1000
                speeds = f"{n_requests / taken:,.0f}", f"{n_samples / taken:,.0f}", f"{rate:,.0f}"
                ratios = f"{n_samples / taken / rate:.2f}", f"{served_ms:.3f}", f"{cpu_ms:.3f}"
                ends = f"{cpu_ms / served_ms:.2f}", f"{p50:.1f}", f"{p99:.1f}"
                grew = f"{memory / 2**20:.0f} {grown / 2**20:+.1f}"
                rows.append([modality, n_rows, *speeds, *ratios, *ends, grew, wrong_answers(answers, sent, names)])
                print(rows[-1], flush=True)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    titles = ["samples", "a request", "requests/s", "samples/s", "in process", "ratio", "server's ms a sample"]
    titles += ["in process", "ratio", "p50, ms", "p99, ms", "MiB after a tenth, and since", "wrong answers"]
    write_result(
        __file__,
        f"{CLIENTS} clients in a process of their own, batches of up to {BATCH}, one thread computes; mlp-256 on "
        f"{WIDTH} features, convnet-32 on PNG images of {SIDE} x {SIDE}, MiniLM on texts; each {BROKEN}th "
        "request is broken. Milliseconds are of processor time, but for p50 and p99. Load averages of the machine at "
        f"the end: {load}.\n\n" + markdown_table(titles, rows),
    )


if __name__ == "__main__":
    command(main)
