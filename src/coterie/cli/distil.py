"""``coterie distil``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from coterie.cli.arguments import TRUST, RunFolder, make_console


def distil(
    run: RunFolder,
    out: Annotated[Path, tyro.conf.arg(metavar="NEW", help="folder of the new run; RUN is left as it is")],
    epochs: Annotated[int | None, tyro.conf.arg(help="of the training; default: the base's")] = None,
    learning_rate: Annotated[
        float | None, tyro.conf.arg(help="at its highest; default: the specialists', which start from the base too")
    ] = None,
    weight: Annotated[float, tyro.conf.arg(help="of the ensemble's answers beside the labels, from 0 to 1")] = 0.5,
    controls: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="do not train what the network is compared with: the base, trained on for as long"),
    ] = True,
    unlabelled: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="INPUT", help="samples without labels to learn of too, as predict takes them"),
    ] = (),
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
) -> None:
    """Teach the ensemble back into one network, which takes one pass and the base's place on disk."""
    from coterie.cli.terminal.distil import print_distilled
    from coterie.cli.terminal.progress import make_progress
    from coterie.pipeline.distil import distil as teach
    from coterie.pipeline.distil import distilled_rows

    console = make_console()
    with make_progress(console) as progress:
        teach(
            run,
            out,
            epochs=epochs,
            learning_rate=learning_rate,
            weight=weight,
            controls=controls,
            unlabelled=unlabelled,
            trust=trust,
            progress=progress,
        )
    print_distilled(console, distilled_rows(out))
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)
