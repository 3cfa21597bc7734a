"""``coterie serve``."""

from __future__ import annotations

import os
from typing import Annotated

import tyro

from coterie.cli.arguments import TRUST, AnyRun
from coterie.errors import SettingsError
from coterie.system.output import say

TOKEN = "COTERIE_TOKEN"


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
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
) -> None:
    """Answer over HTTP: POST /predict, /healthz, /metrics, /openapi.json, and a page at / (needs the extra serve)."""
    if min(max_batch, max_body, max_samples) < 1 or not 0 <= max_wait <= 60_000:
        raise SettingsError(
            "--max-batch, --max-body and --max-samples must be at least 1 and --max-wait 0 to 60000; "
            f"got {max_batch}, {max_body}, {max_samples} and {max_wait:g}"
        )
    token = os.environ.get(TOKEN) if token is None else token
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
        raise SettingsError(f"--token or ${TOKEN}: must be printable ASCII without spaces around it, and not empty")
    try:
        from coterie.serve.app import listen, make_app, make_server
        from coterie.serve.reading import Limits
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("coterie"):
            raise
        raise SettingsError(f"serve needs {error.name}: pip install 'coterie[serve]'") from None
    from coterie.run.folder import Run
    from coterie.run.hub import local_run
    from coterie.run.load import load_ensemble
    from coterie.training.fabric import configure_process

    folder = local_run(run, say)
    configure_process(Run.open(folder).settings.hardware)
    ensemble = load_ensemble(folder, trust=trust)
    limits = Limits(body=max_body, samples=max_samples)
    app = make_app(ensemble, limits=limits, max_batch=max_batch, max_wait=max_wait / 1000, token=token)
    with listen(host, port) as own:
        address = f"[{host}]" if ":" in host else host
        say(f"{run} at http://{address}:{own.getsockname()[1]}/; Ctrl-C ends it when all requests are answered")
        try:
            make_server(app).run(sockets=[own])
        except KeyboardInterrupt:  # by which the server passes on the signal that ended it, after the last answer
            say("stopped: all accepted requests are answered")
