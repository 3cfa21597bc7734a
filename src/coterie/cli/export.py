"""``coterie export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from coterie.cli.arguments import TRUST, AnyRun
from coterie.system.output import say
from coterie.system.units import how_many


def export(
    run: AnyRun,
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR", help="the folder to make")],
    to: Annotated[
        Literal["onnx", "openvino", "torch", "transformers"],
        tyro.conf.arg(
            help="ONNX graphs (needs the extra export), models of OpenVINO (the extra openvino), programs for "
            "torch.export.load, or, of a run that answers by one network of transformers, a folder for its pipelines"
        ),
    ] = "onnx",
    weights: Annotated[
        Literal["fp32", "fp16", "int8"],
        tyro.conf.arg(help="how they are kept: fp16 halves files and computes so; int8 (onnx, openvino) quarters them"),
    ] = "fp32",
    raw_inputs: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="have the preprocessing in the graph, which then takes pixels, features or codes as read"),
    ] = False,
    source: Annotated[
        str | None,
        tyro.conf.arg(help="samples to compare the graphs with the run on, as --data.source of fit; default: its own"),
    ] = None,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
) -> None:
    """Write a run as files that other programs run, and compare them with it on test samples."""
    from coterie.export.exporting import export_run
    from coterie.run.folder import Run
    from coterie.run.hub import local_run
    from coterie.training.process import configure_process

    run = local_run(run, say)
    configure_process(Run.open(run).settings.hardware)
    parity = export_run(run, to, folder, weights=weights, raw=raw_inputs, source=source, trust=trust)
    print(  # noqa: T201 - the answer
        f"{folder}: on {parity.samples} test samples, probabilities differ from the run's by at most "
        f"{parity.largest_difference:.1e}, and {how_many(parity.changed_answers, 'answer')} changed"
    )
