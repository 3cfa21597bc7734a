"""``coterie headroom``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from coterie.cli.arguments import TRUST, make_console
from coterie.errors import SettingsError
from coterie.vocabulary import PartitionMethod


def headroom(
    source: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="RUN|LOGITS",
            help="a run whose base is trained, or a .npz, .safetensors or .parquet file with logits_validation and "
            "labels_validation (and logits_test, labels_test)",
        ),
    ],
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="folder for headroom.json and headroom.html")],
    clusters: Annotated[
        tuple[int, ...] | None, tyro.conf.arg(metavar="S", help="numbers of clusters to try; default: ten")
    ] = None,
    methods: Annotated[tuple[PartitionMethod, ...], tyro.conf.arg(help="to try, as fit's --partition.method")] = (
        "spectral",
        "average",
    ),
    gain: Annotated[float, tyro.conf.arg(metavar="POINTS", help="the gain in points that would be worth it")] = 0.5,
    combiner: Annotated[
        Literal["hard", "compose", "blend"] | None,
        tyro.conf.arg(help="how a specialist's answer is used, see fit's --gate.combiner; default: the run's"),
    ] = None,
    names: Annotated[
        str | None, tyro.conf.arg(metavar="FILE", help="class names: a line each, a .json list, or FILE.csv:COLUMN")
    ] = None,
    groups: Annotated[
        str | None, tyro.conf.arg(metavar="FILE", help="with --methods given: a group of each class; as --names")
    ] = None,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
) -> None:
    """Say what specialists could bring to a base, and what they would cost, before one is trained."""
    from coterie.cli.terminal.headroom import print_headroom
    from coterie.cli.terminal.progress import make_progress
    from coterie.studies.headroom.study import HeadroomRequest, read_source, study_headroom, write_study

    if not 0 < gain < 100:
        raise SettingsError(f"--gain {gain}: must be above 0 and below 100 points")
    console = make_console()
    request = HeadroomRequest(methods, clusters, gain, combiner)
    data = read_source(source, names=names, groups=groups, trust=trust)
    with make_progress(console) as progress:
        result = study_headroom(data, request, progress)
    write_study(result, out)
    print_headroom(console, result)
    console.print(f"page: {out / 'headroom.html'}", highlight=False, soft_wrap=True)
