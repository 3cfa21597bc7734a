"""``coterie serve``."""

from __future__ import annotations

import os
from typing import Annotated

import tyro

from coterie.cli.arguments import TRUST, AnyRun
from coterie.errors import SettingsError
from coterie.system.output import say

TOKEN = "COTERIE_TOKEN"
MOST_WORKERS = 256


def serve(
    run: AnyRun,
    host: Annotated[str, tyro.conf.arg(help="the address to listen on; 0.0.0.0: all of this machine")] = "127.0.0.1",
    port: Annotated[int, tyro.conf.arg(help="the port to listen on; 0: any that is free")] = 8000,
    token: Annotated[
        str | None,
        tyro.conf.arg(help=f"what clients must send as Authorization: Bearer TOKEN; default: ${TOKEN}, else nothing"),
    ] = None,
    max_batch: Annotated[int, tyro.conf.arg(help="samples of several requests asked about at once")] = 64,
    max_wait: Annotated[float, tyro.conf.arg(help="milliseconds that a request waits for others at most")] = 5.0,
    max_body: Annotated[int, tyro.conf.arg(help="bytes of a request at most")] = 2**24,
    max_samples: Annotated[int, tyro.conf.arg(help="samples of a request at most")] = 256,
    workers: Annotated[int, tyro.conf.arg(help="processes that answer, each with the run in its memory")] = 1,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
) -> None:
    """Answer over HTTP: POST /predict, /healthz, /metrics, /openapi.json, and a page at / (needs the extra serve)."""
    if min(max_batch, max_body, max_samples) < 1 or not 0 <= max_wait <= 60_000 or not 1 <= workers <= MOST_WORKERS:
        raise SettingsError(
            "--max-batch, --max-body and --max-samples must be at least 1, --max-wait 0 to 60000 and --workers 1 to "
            f"{MOST_WORKERS}; got {max_batch}, {max_body}, {max_samples}, {max_wait:g} and {workers}"
        )
    token = os.environ.get(TOKEN) if token is None else token
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
        raise SettingsError(f"--token or ${TOKEN}: must be printable ASCII without spaces around it, and not empty")
    try:
        from coterie.serve.app import listen
        from coterie.serve.reading import Limits
        from coterie.serve.workers import Service, serve_by_workers
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("coterie"):
            raise
        raise SettingsError(f"serve needs {error.name}: pip install 'coterie[serve]'") from None
    from coterie.run.folder import Run
    from coterie.run.hub import local_run

    folder = local_run(run, say)
    Run.open_complete(folder)  # before others know of an address
    limits = Limits(body=max_body, samples=max_samples)
    service = Service(folder, limits, max_batch, max_wait / 1000, token, trust)
    with listen(host, port) as own:
        address = f"[{host}]" if ":" in host else host
        port = own.getsockname()[1]

        def said() -> None:
            say(f"{run} at http://{address}:{port}/; Ctrl-C ends it when all requests are answered")

        try:
            if workers == 1:
                service.serve(own, said)
            else:
                serve_by_workers(service, own, workers, said)
        except KeyboardInterrupt:  # by which the server passes on the signal that ended it, after the last answer
            say("stopped: all accepted requests are answered")
