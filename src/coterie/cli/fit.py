"""``coterie fit``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from coterie.cli.arguments import make_console
from coterie.config import FitSettings


def make_fit(defaults: FitSettings) -> Callable[..., None]:
    """The command, with the settings of a file as the options' defaults."""

    def fit(
        out: Annotated[Path, tyro.conf.arg(metavar="RUN", help="folder for the run; an unfinished one goes on")],
        settings: Annotated[FitSettings, tyro.conf.arg(name="", help="")] = defaults,
        config: Annotated[
            Path | None, tyro.conf.arg(metavar="FILE", help="YAML file of settings; options go over it")
        ] = None,
        dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="print the plan and stop")] = False,
    ) -> None:
        """Train base and specialists, judge them on test data, and write a report."""
        del config  # read before the options were: it gives their defaults
        _fit(out, settings, dry_run)

    return fit


def _fit(out: Path, settings: FitSettings, dry_run: bool) -> None:
    from coterie import artifact, pipeline, terminal
    from coterie.data import load
    from coterie.limits import Limits
    from coterie.lock import refuse_if_held
    from coterie.plan import make_plan
    from coterie.run_folder import Run

    console, limits = make_console(), Limits(settings.max_time, settings.max_memory)
    run = Run.create_or_resume(out, settings)
    if run.manifest.complete:
        console.print(f"{out} is finished; nothing to do.", highlight=False)
    else:
        refuse_if_held(out)
        splits = load(settings.data, settings.seed)
        for name in splits.skipped:
            console.print(f"skipped, cannot be decoded: {name}", highlight=False, markup=False)
        terminal.print_plan(console, make_plan(settings, splits), splits.about)
        if dry_run:
            return
        with terminal.make_progress(console) as progress:
            pipeline.fit(settings, out, splits=splits, progress=progress, limits=limits)
        run = Run.open(out)
    terminal.print_report(console, artifact.read_reports(run)["test"], artifact.labels_of(run.manifest).names)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)
