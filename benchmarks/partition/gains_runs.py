"""Does what validation says of a partition predict what its trained ensemble gains, on CIFAR-100?

Question: as benchmarks/partition/gains.py, of the finished runs of a study (`coterie reproduce`): three numbers of
clusters, clusters of the confusion matrix, superclasses and random clusters, as far as each of its seeds has them. The
rank correlation is over all runs.

    python benchmarks/partition/gains_runs.py STUDY
"""

import sys
from pathlib import Path

import numpy as np
from partition_gains import Row, averaged, correlations, run_row, table

import record
from coterie.errors import CoterieError
from coterie.run.folder import Run
from coterie.run.values import partition_of


def rows_of(study: Path) -> list[Row]:
    """One for each finished run with several clusters."""
    rows = []
    for manifest in sorted(study.rglob("manifest.json")):
        try:
            run = Run.open_complete(manifest.parent)
            n_clusters = partition_of(run.manifest).n_clusters
        except CoterieError as error:  # a control that is no partition, or one that is unfinished
            print(f"left out: {error}", file=sys.stderr)
            continue
        if n_clusters > 1:
            name = run.path.name if "controls" in run.path.parts else "spectral"
            rows.append({"method": name, "S": n_clusters, **run_row(run.path)})
            print(run.path, rows[-1], flush=True)
    return rows


def main(study: Path) -> None:
    """Judge all runs."""
    rows = rows_of(study)
    lines = [
        "| over | predictor | pairs | hard, all | hard, without chance | compose, all | compose, without chance |",
        "|---|---|---|---|---|---|---|",
        *correlations("runs", rows),
    ]
    about = (
        "Spearman's rank correlation of predictor and gain, with 95 % intervals over pairs drawn with replacement. "
        f"Base {np.mean([row['base'] for row in rows]):.2%} on test. The table: means over the seeds that have a row."
    )
    record.write(__file__, "\n\n".join([__doc__ or "", about, "\n".join(lines), table(averaged(rows))]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/partition/gains_runs.py STUDY")
    main(Path(sys.argv[1]))
