"""What several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from rich.console import Console

TRUST = "the function that builds the run's base: without this, no code is run that a run folder names"

RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="the folder of a run")]
AnyRun = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="the folder of a run, or hub:NAME of one on the hub")
]


def make_console() -> Console:
    """Where tables go. Rich is imported when something is printed."""
    from coterie.cli.terminal.console import SafeConsole

    return SafeConsole()
