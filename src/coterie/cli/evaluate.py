"""``coterie evaluate``."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import tyro

from coterie.cli.arguments import TRUST, AnyRun, make_console
from coterie.errors import SettingsError
from coterie.system.output import say, to_json


def evaluate(
    run: AnyRun,
    source: Annotated[
        str | None,
        tyro.conf.arg(help="labelled samples to judge on, as --data.source of fit; default: its own"),
    ] = None,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
    split: Annotated[
        Literal["validation", "test", "all"] | None,
        tyro.conf.arg(
            help="which split; all: every sample of --source, of which some classes may be missing; default: test, or "
            "all where --source is other data without a test split"
        ),
    ] = None,
    as_json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(name="json", help="print JSON")] = False,
) -> None:
    """Judge a run: on its own test data from stored logits, or on other labelled samples."""
    from coterie.cli.terminal.console import SafeConsole
    from coterie.cli.terminal.progress import make_progress
    from coterie.cli.terminal.report import print_report
    from coterie.routing.evaluation import evaluate as judge
    from coterie.run.caution import caution_on
    from coterie.run.folder import Run
    from coterie.run.hub import local_run
    from coterie.run.judge import outputs_on
    from coterie.run.reporting import read_outputs
    from coterie.run.values import labels_of, partition_of, rule_of, train_counts_of
    from coterie.training.process import configure_process

    if split == "all" and source is None:
        raise SettingsError("--split all: needs --source; of the run's own data, validation and test are kept")
    folder = Run.open_complete(local_run(run, say))
    configure_process(folder.settings.hardware)
    own: Literal["validation", "test"] = "validation" if split == "validation" else "test"
    if source is None:
        outputs = read_outputs(folder, own)
    else:
        with make_progress(SafeConsole(sys.stderr)) as progress:
            outputs = outputs_on(folder, source, split, trust, say, progress)
    manifest = folder.manifest
    train_count_C = train_counts_of(manifest)
    result = judge(outputs, partition_of(manifest), rule_of(manifest), train_count_C)
    if as_json:
        print(to_json(result.to_values(), indent=2))  # noqa: T201 - the answer
    else:
        caution = caution_on(manifest.data, own) if source is None else ""
        print_report(make_console(), result, labels_of(manifest).names, caution=caution)
