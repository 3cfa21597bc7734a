"""``coterie tune``."""

from __future__ import annotations

from typing import Annotated

import tyro

from coterie.cli.arguments import RunFolder, make_console
from coterie.config import GateSettings


def tune(
    run: RunFolder,
    gate: Annotated[GateSettings, tyro.conf.arg(name="", help="")] = GateSettings(),  # noqa: B008 - frozen
) -> None:
    """Choose combiner, gate and threshold of a finished run anew, on its stored validation logits, without training."""
    from coterie.cli.terminal.report import print_report
    from coterie.cli.terminal.tune import print_tuning
    from coterie.pipeline.tuning import tuning_request
    from coterie.run.caution import caution_on
    from coterie.run.folder import Run
    from coterie.run.reporting import retune
    from coterie.run.values import labels_of, partition_of

    console = make_console()
    folder = Run.open_complete(run)
    tuning, figures = retune(folder, tuning_request(gate))
    data = folder.manifest.data
    print_tuning(console, tuning, partition_of(folder.manifest))
    print_report(console, figures, labels_of(folder.manifest).names, data.n_unknown, caution_on(data, "test"))
    console.print(f"report: {run / 'report.html'}", highlight=False, soft_wrap=True)
