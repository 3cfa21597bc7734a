"""``coterie partition``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from coterie.cli.arguments import TRUST, make_console
from coterie.vocabulary import PartitionMethod


def partition(
    source: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="RUN|EMBEDDINGS|LOGITS",
            help="a run folder; a .npy, .npz or .safetensors matrix, a row a class; or logits, as headroom takes them",
        ),
    ],
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="folder for partition.json and partition.html")],
    clusters: Annotated[
        int | None, tyro.conf.arg(metavar="S", help="number of clusters; default: chosen, with its curve")
    ] = None,
    method: Annotated[PartitionMethod, tyro.conf.arg(help="as fit's; given: take --groups")] = "spectral",
    max_size: Annotated[int | None, tyro.conf.arg(help="balanced and confusion: classes per cluster at most")] = None,
    names: Annotated[
        str | None, tyro.conf.arg(metavar="FILE", help="class names: a line each, a .json list, or FILE.csv:COLUMN")
    ] = None,
    groups: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="FILE|column:NAME",
            help="a given group of each class, to compare with: as --names, or a label column of a run's data",
        ),
    ] = None,
    array: Annotated[str | None, tyro.conf.arg(help="name of the matrix, where a file holds several")] = None,
    embedding: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="head|head+bias|means|confusion|FILE",
            help="of a run or of logits, as fit's --partition.embedding, or two joined by +; default: the run's own",
        ),
    ] = None,
    route: Annotated[
        Literal["auto", "dense", "sparse"],
        tyro.conf.arg(help="of spectral: all cosines, or the nearest classes; auto: the faster for so many classes"),
    ] = "auto",
    map: Annotated[  # noqa: A002 - an option's name
        Literal["auto", "umap", "tsne", "pca"], tyro.conf.arg(help="how the map is drawn; auto: the best installed")
    ] = "auto",
    stability: Annotated[
        Literal["auto", "yes", "no"],
        tyro.conf.arg(help="over seeds and bootstrap, ten more partitions; auto: up to 5,000 classes"),
    ] = "auto",
    seed: Annotated[int, tyro.conf.arg(help="the same seed gives the same partition")] = 0,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
) -> None:
    """Group classes by their label embeddings, say how good the groups are, and draw them."""
    from coterie.cli.terminal.partition import print_partition
    from coterie.cli.terminal.progress import make_progress
    from coterie.studies.partition.labels import read_labels
    from coterie.studies.partition.study import StudySettings, study_partition, write_study

    console = make_console()
    data = read_labels(source, array=array, embedding=embedding, names=names, groups=groups, trust=trust)
    settings = StudySettings(method, clusters, max_size, seed, map, stability, route)
    with make_progress(console) as progress:
        result = study_partition(data, settings, progress)
        write_study(result, out, progress)
    print_partition(console, result)
    console.print(f"page: {out / 'partition.html'}", highlight=False, soft_wrap=True)
