"""Which gains on validation are chance?

Question: `coterie tune`, and so `fit`, routes no sample where the gain of the chosen rule on validation, cross-fitted,
may be chance. It is told by the gain in accuracy (more than 1.28 standard errors), or by the log loss (lower than the
base's by more than 3). Over finished runs: how clear are both, what is gained on test if samples are routed all the
same, and what is made of it? Validation samples are 800 to 10,000. The 3 was chosen after a look at these runs:
accuracy alone had refused two probes (those of before they learned from names) that gain on test.
"""

from pathlib import Path

import numpy as np

from benchmarks.shared import both_outputs, command, markdown_table, shown, write_result
from coterie.routing import tune as tuning
from coterie.routing.evaluation import evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import ERRORS_TO_ROUTE, LOSS_ERRORS_TO_ROUTE, TuningRequest, tune
from coterie.run.folder import Run
from coterie.run.values import partition_of

HEAD = (
    "run",
    "validation samples",
    "gain there, points",
    "in standard errors",
    "log loss, in standard errors",
    "gain on test",
    "passes",
    "by accuracy alone",
    "by both",
)


def row(path: Path) -> tuple[tuple[str, ...], bool, bool, float]:
    """The cells, whether accuracy alone routes, whether both do, and the gain on test."""
    run = Run.open_complete(path)
    (validation, test), partition = both_outputs(run), partition_of(run.manifest)
    request, seen = TuningRequest(budget=Budget(passes=1.5)), []
    settle = tuning._settle

    def watched(*arguments):
        chosen, note = settle(*arguments)
        best, _, procedure_N, _ = arguments
        seen.append((chosen, procedure_N if chosen is best else chosen.correct_N))
        return chosen, note

    tuning._settle, tuning.ERRORS_TO_ROUTE = watched, -np.inf
    try:
        found = tune(validation, partition, request)
    finally:
        tuning._settle, tuning.ERRORS_TO_ROUTE = settle, ERRORS_TO_ROUTE
    (chosen, correct_N), n = seen[0], len(validation.label_N)
    base_N = validation.base_NC.argmax(axis=1) == validation.label_N
    change_N = correct_N.astype(float) - base_N
    clear, lower = (
        float(each_N.mean() / max(each_N.std() / np.sqrt(n), 1e-12)) for each_N in (change_N, -chosen.added_loss_N)
    )
    report = evaluate(test, partition, found.rule)
    by_accuracy = clear > ERRORS_TO_ROUTE
    by_both = by_accuracy or (lower > LOSS_ERRORS_TO_ROUTE and clear >= -ERRORS_TO_ROUTE)
    cells = (
        str(Path(*path.parts[1:])),
        f"{n:,}",
        f"{100 * change_N.mean():+.2f}",
        f"{clear:+.1f}",
        f"{lower:+.1f}",
        shown(100 * report.gain, 100 * report.gain_low, 100 * report.gain_high),
        f"{report.mean_passes:.2f}",
        "routed" if by_accuracy else "",
        "routed" if by_both else "",
    )
    return cells, by_accuracy, by_both, 100 * report.gain


def main(runs: tuple[Path, ...]) -> None:
    """All of them.

    Args:
        runs: finished runs.
    """
    found = [row(path) for path in runs]
    said = []
    for title, column in (("by accuracy alone", 1), ("by both", 2)):
        routed = [each[3] for each in found if each[column]]
        left = [each[3] for each in found if not each[column]]
        said.append(
            f"Routed {title}: {len(routed)} of {len(found)}, which gain {np.mean(routed):+.2f} points on average and "
            f"{min(routed):+.2f} at least; the others would gain {np.mean(left):+.2f} on average, {max(left):+.2f} at "
            "most."
        )
    write_result(__file__, "\n".join([__doc__ or "", markdown_table(HEAD, [each[0] for each in found]), "", *said]))


if __name__ == "__main__":
    command(main)
