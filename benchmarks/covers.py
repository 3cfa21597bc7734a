"""Clusters that overlap: what guests bring, and what they cost.

Question: classes join a further cluster, one that the base takes their samples for. Does that raise the likeliest
cluster's share of true classes, and the gain? Each run in TAILS (of benchmarks/moonshot.py, whose first partition is
the one without guests) gets one more run in OUT, from the same base and with the same training of each specialist;
only the clusters differ. Rules are chosen on validation.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import coterie
import record
from bits import first_of
from coterie import artifact
from coterie.config import FitSettings
from coterie.data import load
from coterie.evaluation import Outputs, evaluate
from coterie.gate import Budget
from coterie.partition import Partition
from coterie.run_folder import Run
from coterie.significance import over_seeds
from coterie.tune import Request, tune

LIMITS = (1.25, 1.5, None)
WAYS = ("no guests", "with guests")


def first_outputs(run: Run) -> tuple[Partition, dict[str, Outputs]]:
    """The first partition of a run, and what base and its specialists say."""
    partition = first_of(artifact.partition_of(run.manifest))
    outputs = {split: artifact.read_outputs(run, split) for split in ("validation", "test")}
    columns = slice(len(partition.packed_class_M))
    return partition, {name: replace(one, packed_NM=one.packed_NM[:, columns]) for name, one in outputs.items()}


def row_of(run: Run) -> list[float]:
    """Memberships a class, router accuracy, the specialist of a true cluster; then gain and passes at each limit."""
    partition, outputs = first_outputs(run)
    row = [len(partition.packed_class_M) / partition.n_classes]
    for limit in LIMITS:
        rule = tune(outputs["validation"], partition, Request(budget=Budget(passes=limit))).rule
        report = evaluate(outputs["test"], partition, rule)
        row += [100 * report.router_accuracy, 100 * report.oracle_specialist] if limit == LIMITS[0] else []
        row += [100 * report.gain, report.mean_passes]
    return row


def main(tails: str, out: str, overlap: float, seeds: list[int]) -> None:
    """Both ways, for each seed."""
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for seed in seeds:
        plain = Run.open_complete(Path(tails) / f"seed-{seed}")
        before = plain.manifest.settings
        clusters = before["partition"]["clusters"][0]
        settings = FitSettings.from_values({**before, "partition": {"clusters": [clusters], "overlap": overlap}})
        place = Path(out) / f"seed-{seed}"
        coterie.fit(settings, place, splits=load(settings.data, settings.seed), base_run=plain.path)
        for way, run in zip(WAYS, (plain, Run.open_complete(place)), strict=True):
            found[way].append(row_of(run))
            print(seed, way, found[way][-1], flush=True)
    limits = " | ".join("no limit" if limit is None else f"at most {limit:g} passes" for limit in LIMITS)
    about = (
        f"An overlap of {overlap:g}; tails of the last stage, {len(seeds)} seeds; means on test, gains in points over "
        "the base, in brackets each seed's and the passes used."
    )
    lines = [
        about,
        "",
        f"| | memberships a class | router | specialist of a true cluster | {limits} |",
        "|---" * (4 + len(LIMITS)) + "|",
    ]
    for way, rows in found.items():
        memberships, router, oracle, *gains = np.mean(rows, axis=0)
        cells = [way, f"{memberships:.2f}", f"{router:.2f} %", f"{oracle:.2f} %"]
        for place in range(len(LIMITS)):
            each = ", ".join(f"{row[3 + 2 * place]:+.2f}" for row in rows)
            cells.append(f"{gains[2 * place]:+.2f} ({each}; {gains[2 * place + 1]:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    if len(seeds) > 1:
        for place, limit in enumerate(LIMITS):
            ours, theirs = (np.array([row[3 + 2 * place] for row in found[way]]) for way in reversed(WAYS))
            lead = over_seeds(ours - theirs)
            within = "without a limit" if limit is None else f"within {limit:g} passes"
            lines.append(f"- Guests, {within}: {lead.mean:+.2f} ({lead.low:+.2f} to {lead.high:+.2f}) points.")
    record.write(__file__, "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit("usage: python benchmarks/covers.py TAILS OUT OVERLAP SEED [SEED ...]")
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), [int(seed) for seed in sys.argv[4:]])
