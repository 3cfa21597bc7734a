"""``coterie report``."""

from __future__ import annotations

from coterie.cli.arguments import RunFolder
from coterie.system.output import shown


def report(run: RunFolder) -> None:
    """Write a run's report anew, and print where it is."""
    from datetime import UTC, datetime

    from coterie.run.folder import Run
    from coterie.run.reporting import write_report

    folder = Run.open_complete(run)
    with folder.writing():
        write_report(folder, datetime.now(UTC).date().isoformat())
    print(shown(str(run / "report.html")))  # noqa: T201 - the answer
