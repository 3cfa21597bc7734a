"""What several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

TRUST = "the function that builds the run's base: without this, no code is run that a run folder names"

RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="the folder of a run")]


def make_console() -> Any:
    """Where tables go. Rich is imported when something is printed."""
    from rich.console import Console

    return Console()
