"""``coterie info``."""

from __future__ import annotations

from coterie.cli.arguments import RunFolder, make_console


def info(run: RunFolder) -> None:
    """Say what a run folder holds, finished or not."""
    from coterie.cli.terminal.info import print_info
    from coterie.run.folder import Run
    from coterie.system.files import bytes_below

    print_info(make_console(), str(run), Run.open(run).manifest, bytes_below(run))
