"""The application: an ensemble behind HTTP. Needs the extra serve."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib import resources
from typing import Any

import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.routing import Route

import coterie
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.ensemble.explanation import Explanation
from coterie.errors import InputError, SettingsError
from coterie.inputs import FeaturePreprocessing, Preprocessing, TablePreprocessing
from coterie.serve.batching import Batcher, BusyError
from coterie.serve.metrics import Metrics
from coterie.serve.reading import KEYS, Limits, RefusedError, read_samples

# Classes listed of the base and of each specialist.
TOP = 5
# Bodies that are decoded at the same time: images unpack to many times their size.
DECODING = 4
# Bytes of a JSON body that takes less time to read than to hand to another thread.
SMALL = 2**14
# Connections, beyond which uvicorn answers 503; each may hold a body.
CONNECTIONS = 512
# Characters of a message: some repeat what was sent.
MESSAGE = 2000
# Seconds that a client has, after a signal to stop, to send the rest of its request.
PATIENCE = 30
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data: blob:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
LOG = logging.getLogger(__name__)


class Answer(BaseModel):
    """What ``coterie predict --format jsonl`` writes of each sample, in order, and the milliseconds that it took."""

    predictions: list[Explanation]
    latency_ms: float


class Refusal(BaseModel):
    """Why there is no answer."""

    detail: str


class _Answers:
    """What the application answers, of an ensemble that one thread asks, from startup to shutdown.

    Args:
        ensemble: asked.
        limits: of a request.
        metrics: where requests are counted.
        token: as for ``make_app``.
    """

    def __init__(self, ensemble: SpecialistEnsemble, limits: Limits, metrics: Metrics, token: str | None) -> None:
        self.ensemble, self.limits, self.metrics, self.token = ensemble, limits, metrics, token
        self.decoding = CapacityLimiter(DECODING)

    @asynccontextmanager
    async def running(self, max_batch: int, max_wait: float) -> AsyncIterator[None]:
        """The time between startup and shutdown, which answers what was accepted."""
        self.batcher = Batcher(partial(self.ensemble.explain, top=TOP), max_batch, max_wait)
        warming = asyncio.create_task(self._warm_up())
        yield
        await to_thread.run_sync(self.batcher.close)
        await warming

    async def _warm_up(self) -> None:
        try:
            await to_thread.run_sync(self.ensemble.warm_up)
            self.metrics.ready = True
        except Exception:  # whatever a network raises: the server is then never ready
            LOG.exception("the networks failed on made-up inputs")

    async def predict(self, request: Request) -> Response:
        """The answer to samples, or why there is none."""
        started = time.perf_counter()
        try:
            found = await self._explained(request)
        except Exception as error:  # each becomes an answer: a client must learn of it, and the next be served
            refusal = _refusal(error)
            self.metrics.count(refusal.status_code, time.perf_counter() - started)
            return refusal
        seconds = time.perf_counter() - started
        self.metrics.count(200, seconds, len(found), sum(explanation.routed for explanation in found))
        return _json(200, {"predictions": list(map(_values, found)), "latency_ms": round(1000 * seconds, 3)})

    async def _explained(self, request: Request) -> list[Explanation]:
        _check_token(request, self.token)
        body = await _body(request, self.limits.body)
        kind = request.headers.get("content-type", "")
        read = partial(read_samples, kind, body, self.ensemble.preprocessing, self.limits, self.ensemble.columns)
        at_once = len(body) <= SMALL and self.ensemble.preprocessing.modality != "image"
        samples = read() if at_once else await to_thread.run_sync(read, limiter=self.decoding)
        try:
            return await asyncio.wrap_future(self.batcher.submit(samples))
        except BusyError:
            raise RefusedError(503, "too many samples wait; try again") from None
        except InputError as error:
            raise RefusedError(422, str(error)) from error

    def health(self) -> Response:
        """Whether requests are answered."""
        status = "stopped" if not self.batcher.alive else "ok" if self.metrics.ready else "starting"
        return _json(200 if status == "ok" else 503, {"status": status, "version": coterie.__version__})

    def counters(self) -> Response:
        """For Prometheus."""
        return Response(self.metrics.text(self.batcher.n_waiting), media_type="text/plain; version=0.0.4")

    def page(self) -> Response:
        """For people."""
        html = render(self.ensemble.preprocessing, with_token=self.token is not None)
        return Response(html, media_type="text/html", headers=PAGE_HEADERS)


def make_app(
    ensemble: SpecialistEnsemble,
    *,
    limits: Limits | None = None,
    max_batch: int = 64,
    max_wait: float = 0.005,
    token: str | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """The application of an ensemble; its thread runs from startup to shutdown, which answers what was accepted.

    Args:
        ensemble: asked by one thread.
        limits: of a request.
        max_batch: samples asked about at once.
        max_wait: seconds that a request waits for others at most.
        token: what ``Authorization: Bearer`` must bring for all but the page and ``/healthz``; None: nothing.
        metrics: where requests are counted; default: new ones.
    """
    answers = _Answers(ensemble, limits or Limits(), metrics or Metrics(), token)
    # The pages of documentation that FastAPI brings fetch scripts from elsewhere.
    app = FastAPI(
        title="coterie",
        version=coterie.__version__,
        lifespan=lambda _: answers.running(max_batch, max_wait),
        openapi_url=None,
    )

    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal} for status in (400, 401, 413, 415, 422, 500, 503)
    }

    @app.post("/predict", response_model=Answer, responses=refused, openapi_extra={"requestBody": _request_body()})
    async def predict(request: Request) -> Response:
        """Classify samples: class, probability, whether routed and where, what the base and the specialists said."""
        return await answers.predict(request)

    # The same, by Starlette's route, which is found first: FastAPI's describes it, but for a call without parameters it
    # takes longer around the call than the call itself.
    app.router.routes.insert(0, Route("/predict", answers.predict, methods=["POST"]))

    @app.get("/healthz")
    async def healthz() -> Response:
        """200 while requests are answered; 503 until the networks have run once, and while the server stops."""
        return answers.health()

    @app.get("/metrics", responses={401: {"model": Refusal}})
    async def read_metrics(request: Request) -> Response:
        """Counters for Prometheus."""
        return _guarded(request, token, answers.counters)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        return _guarded(request, token, lambda: _json(200, app.openapi()))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return answers.page()

    return app


def render(preprocessing: Preprocessing, *, with_token: bool) -> str:
    """The page, as HTML; where there is a token, it says nothing of the run but what kind of samples it takes."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_template()).render(
        modality=preprocessing.modality,
        key=KEYS[preprocessing.modality],
        with_token=with_token,
        example="" if with_token else _example(preprocessing),
    )


@cache
def _template() -> str:
    return resources.files("coterie.serve").joinpath("page.html.j2").read_text(encoding="utf-8")


def _example(preprocessing: Preprocessing) -> str:
    match preprocessing:
        case TablePreprocessing():
            return json.dumps(dict.fromkeys([*preprocessing.numeric, *preprocessing.categorical]), indent=1)
        case FeaturePreprocessing():
            return json.dumps([0] * preprocessing.width)
        case _:
            return ""


def listen(host: str, port: int) -> socket.socket:
    """A socket at this address.

    Raises:
        SettingsError: there is none, or somebody else listens there.
    """
    if not 0 <= port < 2**16:
        raise SettingsError(f"--port {port}: must be 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        own = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # so that a restart need not wait for the old connections' end
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind(address)
            own.listen()
        except OSError:
            own.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"cannot listen on {host} port {port}: {reason}; --host and --port say where") from None
    return own


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server whose ``run(sockets=[...])`` returns after SIGINT or SIGTERM, when all that was accepted is answered."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=PATIENCE,
        )
    )


def _guarded(request: Request, token: str | None, respond: Callable[[], Response]) -> Response:
    try:
        _check_token(request, token)
    except RefusedError as error:
        return _refusal(error)
    return respond()


def _check_token(request: Request, token: str | None) -> None:
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    if scheme.lower() != "bearer" or not right:
        raise RefusedError(401, "this server wants its token: Authorization: Bearer TOKEN")


async def _body(request: Request, most: int) -> bytes:
    """The body, of which no more is read than is allowed."""
    announced = request.headers.get("content-length", "")
    body = bytearray()
    too_long = RefusedError(413, f"the body is too long; at most {most:,} bytes are taken")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise too_long
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise too_long
    except ClientDisconnect:
        raise RefusedError(400, "the client left before its body was sent") from None
    return bytes(body)


def _refusal(error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        LOG.error("a request failed", exc_info=error)
        return _json(500, {"detail": "the server failed on this request; its log says why"})
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}, 413: {"Connection": "close"}}
    return _json(error.status, {"detail": str(error)[:MESSAGE]}, headers.get(error.status))


def _values(one: Explanation) -> dict[str, Any]:
    """As ``dataclasses.asdict`` has it, without copying each value."""
    return {**vars(one), "specialists": list(map(vars, one.specialists))}


def _json(status: int, value: Any, headers: dict[str, str] | None = None) -> Response:
    """All but ASCII is escaped: a client's half of a surrogate pair comes back as it came."""
    return Response(json.dumps(value), status, headers, media_type="application/json")


def _request_body() -> dict[str, Any]:
    """What /predict takes, in the words of OpenAPI."""
    shapes: dict[str, Any] = {
        "images": {"type": "string", "contentEncoding": "base64"},
        "texts": {"type": ["string", "object"], "additionalProperties": {"type": ["string", "null"]}},
        "rows": {"type": "object"},
        "features": {"type": "array", "items": {"type": "number"}},
    }
    bodies = [
        {"type": "object", "required": [key], "properties": {key: {"anyOf": [one, {"type": "array", "items": one}]}}}
        for key, one in shapes.items()
    ]
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"files": {"type": "array", "items": file}}}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": bodies}},
            "multipart/form-data": {"schema": form},
            "image/*": {"schema": file},
        },
    }
