"""Clusters that overlap: what guests bring, and what they cost.

Question: classes join a further cluster, one that the base takes their samples for. Does that raise the likeliest
cluster's share of true classes, and the gain? Each run in TAILS (of benchmarks.gains.moonshot, whose first partition is
the one without guests) gets one more run in OUT, from the same base and with the same training of each specialist;
only the clusters differ. Rules are chosen on validation.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

import coterie
from benchmarks.shared import command, first_of, plain, splits_of, write_result
from coterie.partition import Partition
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import FinishedRun, Run
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of

LIMITS = (1.25, 1.5, None)


def first_outputs(run: FinishedRun) -> tuple[Partition, dict[str, Outputs]]:
    """The first partition of a run, and what base and its specialists say."""
    partition = first_of(partition_of(run.manifest))
    outputs = {split: read_outputs(run, split) for split in ("validation", "test")}
    columns = slice(len(partition.packed_class_M))
    return partition, {name: replace(one, packed_NM=one.packed_NM[:, columns]) for name, one in outputs.items()}


def row_of(run: FinishedRun) -> list[float]:
    """Memberships a class, router accuracy, the specialist of a true cluster; then gain and passes at each limit."""
    partition, outputs = first_outputs(run)
    row = [len(partition.packed_class_M) / partition.n_classes]
    for limit in LIMITS:
        rule = tune(outputs["validation"], partition, TuningRequest(budget=Budget(passes=limit))).rule
        report = evaluate(outputs["test"], partition, rule)
        row += [100 * report.router_accuracy, 100 * report.oracle_specialist] if limit == LIMITS[0] else []
        row += [100 * report.gain, report.mean_passes]
    return row


def with_guests(apart: FinishedRun, out: Path, overlap: float) -> FinishedRun:
    """The run from the same base whose clusters overlap: trained, or read."""
    before = apart.settings.to_values()
    clusters = before["partition"]["clusters"][0]
    settings = plain({**before, "partition": {"clusters": [clusters], "overlap": overlap}})
    place = out / f"overlap-{overlap:g}" / apart.path.name
    coterie.fit(settings, place, splits=splits_of(apart), base_run=apart.path)
    return Run.open_complete(place)


def main(tails: Path, out: Path, overlaps: tuple[float, ...] = (1, 0.25), seeds: tuple[int, ...] = (0,)) -> None:
    """Each overlap beside none, for the same seeds.

    Args:
        tails: what benchmarks.gains.moonshot trained.
        out: folder of the runs with overlap.
        overlaps: memberships that guests add, a class.
        seeds: of the runs in TAILS.
    """
    limits = " | ".join("no limit" if limit is None else f"at most {limit:g} passes" for limit in LIMITS)
    lines = [
        "Tails of the last stage; means over seeds on test. Gains in points; in brackets each seed's, and the passes.",
        "",
        f"| overlap | seeds | memberships a class | router | specialist of a true cluster | {limits} |",
        "|---" * (5 + len(LIMITS)) + "|",
    ]
    plain = [Run.open_complete(tails / f"seed-{seed}") for seed in seeds]
    for overlap in (0, *overlaps):
        rows = [row_of(with_guests(run, out, overlap) if overlap else run) for run in plain]
        print(overlap, rows, flush=True)
        memberships, router, oracle, *gains = np.mean(rows, axis=0)
        names = [f"{overlap:g}", ", ".join(map(str, seeds))]
        cells = [*names, f"{memberships:.2f}", f"{router:.2f} %", f"{oracle:.2f} %"]
        for place in range(len(LIMITS)):
            each = ", ".join(f"{row[3 + 2 * place]:+.2f}" for row in rows)
            cells.append(f"{gains[2 * place]:+.2f} ({each}; {gains[2 * place + 1]:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    write_result(__file__, "\n".join(lines))


if __name__ == "__main__":
    command(main)
