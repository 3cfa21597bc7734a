"""What each combiner and gate makes of the same specialists.

Question: chosen on validation and judged on test, what does each rule gain over the base, and at what cost?
"""

import sys
from pathlib import Path

import numpy as np
from scipy.special import softmax

import record
from coterie.measures.metrics import score
from coterie.partition import Partition
from coterie.routing.calibration import temperature
from coterie.routing.evaluation import Outputs, Routing
from coterie.routing.gate import Budget
from coterie.routing.tune import COMBINERS, GATES, TOPS, TuningRequest, tune
from coterie.run.folder import Run
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.vocabulary import CombinerName, ScoreName

PartitionRequest = tuple[str, tuple[CombinerName, ...], tuple[ScoreName, ...], tuple[int, ...]]
PAPER: PartitionRequest = ("the paper's rule: hard, entropy", ("hard",), ("entropy",), (1,))
WISHES: list[PartitionRequest] = [
    PAPER,
    *((f"hard, {gate}", ("hard",), (gate,), (1,)) for gate in GATES if gate != "entropy"),
    *((f"{combiner}, entropy", (combiner,), ("entropy",), (1,)) for combiner in COMBINERS if combiner != "hard"),
    *((f"blend, {gate}", ("blend",), (gate,), (1,)) for gate in GATES if gate != "entropy"),
    *((f"blend, top 2, {gate}", ("blend",), (gate,), (2,)) for gate in ("entropy", "margin", "contested")),
    ("chosen among all", COMBINERS, GATES, TOPS),
]
TABLES = {
    "At most 1.5 passes": (Budget(passes=1.5), WISHES),
    "At most 2 passes": (Budget(passes=2), [PAPER, WISHES[-1]]),
    "No limit": (Budget(), [PAPER, WISHES[-1]]),
}


def figures(validation: Outputs, test: Outputs, partition: Partition, request: TuningRequest, seed: int) -> list[float]:
    """Gain in points, passes, NLL and ECE less those of the calibrated base; on test."""
    rule = tune(validation, partition, request, seed).rule
    routing = Routing.of(test, partition, rule)
    ours = score(routing.proba_NC(), test.label_N)
    heat = temperature(validation.base_NC, validation.label_N)
    base = score(softmax(test.base_NC / heat, axis=1), test.label_N)
    return [100 * (ours.top1 - base.top1), routing.mean_passes(), ours.nll - base.nll, ours.ece - base.ece]


def main(*paths: str) -> None:
    """Every rule on every run; means over the runs."""
    runs = [Run.open_complete(Path(path)) for path in paths]
    loaded = [
        (
            read_outputs(run, "validation"),
            read_outputs(run, "test"),
            partition_of(run.manifest),
        )
        for run in runs
    ]
    lines = [f"Means over {len(runs)} runs, on test; in brackets the least and the greatest gain.", ""]
    for title, (budget, wishes) in TABLES.items():
        lines += [
            f"**{title}**",
            "",
            "| rule | gain, points | passes | NLL, against the calibrated base | ECE, against the calibrated base |",
            "|---|---|---|---|---|",
        ]
        for name, combiners, gates, tops in wishes:
            request = TuningRequest(combiners, gates, tops, budget)
            found = np.array([figures(*each, request, seed=0) for each in loaded])
            gain, passes, nll, ece = found.mean(axis=0)
            spread = f"{found[:, 0].min():+.2f} to {found[:, 0].max():+.2f}"
            lines.append(f"| {name} | {gain:+.2f} ({spread}) | {passes:.2f} | {nll:+.4f} | {ece:+.4f} |")
        lines.append("")
    record.write(__file__, "\n".join(lines).rstrip())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python benchmarks/gains/rules.py RUN [RUN ...]")
    main(*sys.argv[1:])
