"""``coterie refit`` and ``coterie add-class``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from coterie.cli.arguments import TRUST, RunFolder, make_console

if TYPE_CHECKING:
    from rich.console import Console

Out = Annotated[Path, tyro.conf.arg(metavar="NEW", help="folder of the new run; RUN is left as it is")]


def refit(
    run: RunFolder,
    cluster: Annotated[
        int, tyro.conf.arg(metavar="K", help="whose specialist; coterie info and the report number them")
    ],
    source: Annotated[
        str,
        tyro.conf.arg(
            help="more samples of its classes, as --data.source of fit; of images: folder:DIR, a folder a class"
        ),
    ],
    out: Out,
    further: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="go on from the specialist's weights, not the base's")
    ] = False,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
) -> None:
    """Train one specialist again, with more samples of its classes; the others are copied."""
    from coterie.cli.terminal.progress import make_progress
    from coterie.pipeline.revise import refit as revise

    console = make_console()
    with make_progress(console) as progress:
        revise(run, cluster, source, out, further=further, trust=trust, progress=progress)
    _print_result(console, out)


def add_class(
    run: RunFolder,
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help="of the new class")],
    source: Annotated[
        str,
        tyro.conf.arg(
            help="its samples, labelled NAME, as --data.source of fit; of images: folder:DIR with a folder NAME"
        ),
    ],
    out: Out,
) -> None:
    """Give a run one class more: a row of the base's head, and one specialist trained again; the rest is copied."""
    from coterie.cli.terminal.progress import make_progress
    from coterie.pipeline.revise import add_class as revise

    console = make_console()
    with make_progress(console) as progress:
        revise(run, name, source, out, progress=progress)
    _print_result(console, out)


def _print_result(console: Console, out: Path) -> None:
    from coterie.cli.terminal.report import print_report
    from coterie.run.caution import caution_on
    from coterie.run.folder import Run
    from coterie.run.reporting import read_reports

    run = Run.open_complete(out)
    data = run.manifest.data
    print_report(console, read_reports(run)["test"], data.classes, data.n_unknown, caution_on(data, "test"))
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)
