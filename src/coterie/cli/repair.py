"""``coterie repair``."""

from __future__ import annotations

from coterie.cli.arguments import RunFolder


def repair(run: RunFolder) -> None:
    """Mend a finished run whose files are missing or damaged: make again what follows from the rest, name the rest."""
    from coterie.pipeline.repair import repair as mend

    for line in mend(run) or (f"{run} is whole",):
        print(line)  # noqa: T201 - the answer
