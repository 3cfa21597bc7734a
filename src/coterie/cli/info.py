"""``coterie info``."""

from __future__ import annotations

from coterie.cli.arguments import AnyRun, make_console


def info(run: AnyRun) -> None:
    """Say what a run folder holds, finished or not."""
    from coterie.cli.terminal.info import print_info
    from coterie.run.folder import Run
    from coterie.run.hub import local_run
    from coterie.system.files import bytes_below
    from coterie.system.output import say

    folder = local_run(run, say)
    print_info(make_console(), str(run), Run.open(folder).manifest, bytes_below(folder))
