"""A server of an ensemble in a thread, and what it may be asked."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from coterie.serve.app import listen, make_app, make_server


@contextmanager
def serving(ensemble: Any, **options: Any) -> Iterator[str]:
    """Its URL, on 127.0.0.1."""
    server = make_server(make_app(ensemble, **options))
    with listen("127.0.0.1", 0) as own:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{own.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def vector(ensemble: Any, seed: int, n: int = 1) -> list[list[float]]:
    """Features, as JSON takes them."""
    return np.random.default_rng(seed).normal(size=(n, *ensemble.preprocessing.shape)).round(3).tolist()


def picture(ensemble: Any, seed: int) -> bytes:
    """A PNG file."""
    height, width, channels = ensemble.preprocessing.shape
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(stream, "png")
    return stream.getvalue()
