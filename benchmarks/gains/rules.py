"""What each combiner and gate makes of the same specialists.

Question: chosen on validation and judged on test, what does each rule gain over the base, and at what cost?
"""

from pathlib import Path

import numpy as np

from benchmarks.shared import against_calibrated, both_outputs, command, write_result
from coterie.routing.gate import Budget
from coterie.routing.tune import COMBINERS, GATES, TOPS, TuningRequest
from coterie.run.folder import Run
from coterie.run.values import partition_of
from coterie.vocabulary import CombinerName, ScoreName

Wish = tuple[str, tuple[CombinerName, ...], tuple[ScoreName, ...], tuple[int, ...]]
PAPER: Wish = ("the paper's rule: hard, entropy", ("hard",), ("entropy",), (1,))
WISHES: list[Wish] = [
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


def main(runs: tuple[Path, ...]) -> None:
    """Every rule on every run; means over the runs.

    Args:
        runs: finished runs.
    """
    opened = [Run.open_complete(path) for path in runs]
    loaded = [(*both_outputs(run), partition_of(run.manifest)) for run in opened]
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
            found = np.array([against_calibrated(*each, request) for each in loaded])
            gain, passes, nll, ece = found.mean(axis=0)
            spread = f"{found[:, 0].min():+.2f} to {found[:, 0].max():+.2f}"
            lines.append(f"| {name} | {gain:+.2f} ({spread}) | {passes:.2f} | {nll:+.4f} | {ece:+.4f} |")
        lines.append("")
    write_result(__file__, "\n".join(lines).rstrip())


if __name__ == "__main__":
    command(main)
