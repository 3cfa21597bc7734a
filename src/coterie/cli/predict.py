"""``coterie predict``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tyro

from coterie.cli.arguments import TRUST, AnyRun
from coterie.cli.writers import Format, format_of, open_writer, refuse_place
from coterie.errors import SettingsError
from coterie.progress import SILENT, Progress
from coterie.system.output import say


def predict(
    run: AnyRun,
    inputs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="INPUT",
            help="what the run was trained on: image files, or tables and .txt files that name them; texts, or files "
            "with a text a line or a column of them; csv, JSON lines or parquet files of rows; .npz or .npy files of "
            "features, or tables of them. Also folders, with all below; patterns ('pics/**/*.jpg'); and - for one "
            "path or text a line of standard input",
        ),
    ],
    format: Annotated[  # noqa: A002 - an option's name
        Format | None,
        tyro.conf.arg(
            help="a table, a JSON object a line, csv, or parquet; default: as --out ends, a table without it"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help="write to this file (.jsonl, .csv, .parquet), not to standard output"),
    ] = None,
    top: Annotated[int, tyro.conf.arg(help="classes listed for base and specialist in tables and JSON lines")] = 3,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
    skip_broken: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="leave out what cannot be read, and empty texts, naming them"),
    ] = False,
) -> None:
    """Classify new samples: class, probability, whether routed and where, and what the base had said."""
    from coterie.data import find_new
    from coterie.data.new import nothing_left, rows_at_once
    from coterie.run.folder import Run
    from coterie.run.hub import local_run
    from coterie.run.load import load_ensemble
    from coterie.training.process import configure_process

    if top < 1:
        raise SettingsError(f"--top {top}: must be at least 1")
    if not inputs:
        raise SettingsError("predict needs what is to be classified: coterie predict RUN INPUT ...")
    chosen = format_of(format, out)
    refuse_place(out, inputs)
    run = local_run(run, say)
    opened = Run.open(run)
    settings, record = opened.settings, opened.manifest.data
    configure_process(settings.hardware)
    ensemble = load_ensemble(run, trust=trust)
    preprocessing = ensemble.preprocessing
    skip = (lambda name: say(f"skipped: {name}")) if skip_broken else None
    code_page = None if record is None else record.encoding
    written = settings.data.separator, settings.data.encoding or code_page
    found = find_new(preprocessing, inputs, columns=ensemble.columns, note=say, skip=skip, written=written)
    # Before the first is classified, so that what is missing is named at once.
    total = found.count()
    n_done = 0
    on_terminal = out is None and sys.stdout.isatty()
    silent = on_terminal or (total is not None and total <= rows_at_once(preprocessing))
    # The writer first: bars stand in for standard output while they are drawn.
    with open_writer(chosen, out, found.kind) as write, _progress(total, silent=silent) as progress:
        for new in found.batches():
            for row in new.samples.shortened():
                say(f"too long, and cut: {new.names[row][:60]}...")
            write(list(zip(new.names, ensemble.explain(new.samples, top), strict=True)))
            progress.advance(len(new.names), n_images=len(new.names))
            n_done += len(new.names)
        if not n_done:
            raise nothing_left(preprocessing)


@contextmanager
def _progress(total: int | None, *, silent: bool) -> Iterator[Progress]:
    """How far it is, on standard error; silent where it is short, or the answers themselves show it."""
    if silent:
        yield SILENT
        return
    from coterie.cli.terminal.console import SafeConsole
    from coterie.cli.terminal.progress import make_progress

    with make_progress(SafeConsole(sys.stderr)) as progress:
        progress.stage("predict", total or 0)
        yield progress
