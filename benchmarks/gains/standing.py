"""What stands where validation cannot tell which rule is the best?

Question: `coterie tune`, and so `fit`, takes the best of some hundred rules where validation shows, cross-fitted, that
the choice is better than a rule that is known to be good elsewhere. Which rule should that be: the paper's, a plain
blend of base and specialist with the gate `margin`, or none, so that the best is always taken? Over pairs of a base and
data, with specialists of several clusters: what each gains on test, within 1.5 passes.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gains.pairs import merged, pairs
from benchmarks.shared import both_outputs, command, markdown_table, write_result
from coterie.config import FitSettings
from coterie.pipeline import pilot
from coterie.pipeline.fit import fit, fit_base
from coterie.routing import tune as tuning
from coterie.routing.evaluation import evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import PAPERS, STANDING, TuningRequest, tune
from coterie.run.folder import FinishedRun, Run
from coterie.run.values import partition_of

NONE: Mapping[Any, str] = {}
WAYS = {"the paper's rule": {PAPERS: STANDING[PAPERS]}, "the plain blend": STANDING, "none: the best": NONE}


def main(shared: Path, runs: Path = Path("runs/recipes"), only: tuple[str, ...] = ()) -> None:
    """Train what is missing, and write the table.

    Args:
        shared: folder of cifar100, clinc150 and hwu64, each with its parquet files.
        runs: folder of the bases.
        only: pairs whose names hold one of these; default: all.
    """
    pilot.SOON_SECONDS = float("inf")  # nothing is forecast
    rows, gains = [], []
    for pair in pairs(shared, runs / "data"):
        if only and not any(word in pair.name for word in only):
            continue
        settings = FitSettings.from_values(merged(pair.values, {"hardware": {"threads": 1}}))
        base = runs / "".join(c if c.isalnum() else "-" for c in pair.name)
        fit_base(settings, base)
        for name, values in _specialists(settings):
            with tempfile.TemporaryDirectory(dir=runs) as folder:
                fit(
                    FitSettings.from_values(merged(pair.values, values)), Path(folder) / "run", base_run=base, gain=-100
                )
                found = _gains(Run.open_complete(Path(folder) / "run"))
            gains.append(found)
            rows.append((pair.name, name, *(f"{gain:+.2f}" for gain in found)))
            print(rows[-1], flush=True)
    mean = np.mean(gains, axis=0)
    rows.append(("mean", "", *(f"{gain:+.2f}" for gain in mean)))
    lowest = ", ".join(f"{gain:+.2f}" for gain in np.min(gains, axis=0))
    table = markdown_table(("pair", "specialists", *WAYS), rows)
    write_result(__file__, f"{__doc__}\n{table}\n\nThe lowest gains: {lowest}.")


def _specialists(settings: FitSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    one = {"hardware": {"threads": 1}}
    if settings.backbone.startswith("convnet"):
        yield "tails of 9", {**one, "recipe": "tails", "partition": {"clusters": [9]}}
        return
    for n_clusters, share in ((9, 1.0), (9, 0.25), (3, 0.25)):
        rate = settings.base.learning_rate * share
        values = {"recipe": "whole", "partition": {"clusters": [n_clusters]}, "specialist": {"learning_rate": rate}}
        yield f"whole, of {n_clusters}, rate {rate:g}", {**one, **values}


def _gains(run: FinishedRun) -> list[float]:
    (validation, test), partition = both_outputs(run), partition_of(run.manifest)
    found = []
    try:
        for standing in WAYS.values():
            tuning.STANDING = standing
            # Without the paper's rule among the candidates, the best is taken.
            tuning.PAPERS = PAPERS if standing else (PAPERS[0], "none")
            rule = tune(validation, partition, TuningRequest(budget=Budget(passes=1.5))).rule
            found.append(100 * evaluate(test, partition, rule).gain)
    finally:
        tuning.STANDING, tuning.PAPERS = STANDING, PAPERS
    return found


if __name__ == "__main__":
    command(main)
