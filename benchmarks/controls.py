"""Do nine specialists beat the same budget spent otherwise? A study's seeds that have their first run, and the controls
that are there so far; `benchmarks/reproduce.py` writes the whole study.

The study itself takes hours: `coterie reproduce --out runs/reproduce-cpu --seeds 3 --source parquet:DIR`.
"""

import sys
from pathlib import Path

import record
from coterie.answers import answers_of
from coterie.comparison import SeedsRow, compare, compare_seeds
from coterie.data import load
from coterie.reproduce import NUMBERS_OF_CLUSTERS, recipe
from coterie.reproduction_page import show_gain, show_share
from coterie.run_folder import Run


def table(rows: tuple[SeedsRow, ...]) -> list[str]:
    """One row per classifier."""
    lines = [
        (
            "| classifier | top-1 | gain | lead over the best control | top-3 | nll | ece | brier | aurc | training "
            "| passes | size |"
        ),
        "|---" * 12 + "|",
    ]
    for row in rows:
        lead = "" if row.lead is None else show_gain(row.lead)
        scores = (row.scores.nll, row.scores.ece, row.scores.brier, row.scores.aurc)
        costs = (row.cost.training, row.cost.inference, row.cost.storage)
        cells = [row.name + (" + flips" if row.flips else ""), show_share(row.top1), show_gain(row.gain), lead]
        cells += [f"{100 * row.scores.top3:.2f}", *(f"{v:.3f}" for v in scores), *(f"{v:.2f}" for v in costs)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(study: Path, source: str) -> None:
    """Gather what is finished, and write the table."""
    settings = recipe("cpu")
    splits = load(settings.data.with_source(source), 0)
    places = sorted(study.glob(f"seed-*/{NUMBERS_OF_CLUSTERS[0]}-clusters"))
    runs = [run for place in places if (run := Run.open(place)).manifest.complete]
    comparisons = []
    for number, run in enumerate(runs):
        found = answers_of(run, splits, [runs[(number + step) % len(runs)] for step in range(1, len(runs))])
        comparisons.append(compare(found.answers, found.validation_N, found.test_N, found.notes))
    names = ", ".join(run.path.parent.name for run in runs)
    words = [f"- {run.path.parent.name}: {s}" for run, c in zip(runs, comparisons, strict=True) for s in c.verdict]
    notes = sorted({note for comparison in comparisons for note in comparison.notes})
    record.write(
        __file__,
        f"CIFAR-100, convnet-32, S = {NUMBERS_OF_CLUSTERS[0]}; {names}. In % of the test images, means over seeds, ± "
        "half of Student's 95 % interval; best control: chosen on validation among those of the specialists' training; "
        "training, passes and size are multiples of the base's.\n\n"
        + "\n".join(table(compare_seeds(comparisons)))
        + "\n\nDeep ensembles are made of the seeds' own bases, so their rows share members from seed to seed, and of "
        "two seeds both are the same pair: their intervals are too narrow.\n\nSeed by seed:\n\n"
        + "\n".join(words)
        + "\n\nLeft out:\n\n"
        + "\n".join(f"- {note}" for note in notes),
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python benchmarks/controls.py STUDY SOURCE")
    main(Path(sys.argv[1]), sys.argv[2])
