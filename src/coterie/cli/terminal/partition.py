"""The figures of a partition."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.pages.format import count
from coterie.studies.partition.study import PartitionStudy
from coterie.studies.partition.tables import quality_rows

CLUSTERS_SHOWN = 12


def print_partition(console: Console, study: PartitionStudy) -> None:
    """Sizes and figures of a partition, and its largest clusters."""
    partition, quality = study.partition, study.quality
    console.print(
        f"{count(partition.n_classes)} classes in {count(partition.n_clusters)} clusters of "
        f"{count(quality.smallest)} to {count(quality.largest)} classes (median {count(quality.median)})",
        highlight=False,
    )
    if study.choice is not None:
        console.print(f"number of clusters chosen by {study.choice.criterion}", highlight=False)
    figures = Table(show_header=False, box=None)
    for title, value, meaning in quality_rows(quality):
        figures.add_row(title, value, meaning)
    console.print(figures)
    table = Table(title="The largest clusters", title_justify="left")
    for heading in ("cluster", "classes"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    table.add_column("names", no_wrap=True, overflow="ellipsis", ratio=1)
    for cluster in sorted(range(partition.n_clusters), key=lambda k: -partition.size_S[k])[:CLUSTERS_SHOWN]:
        classes = partition.classes(cluster)
        names = ", ".join(study.data.names[k] for k in classes[:20].tolist())
        table.add_row(str(cluster), count(len(classes)), Text(names))
    console.print(table)
