"""Do the paper's claims hold on CIFAR-100, and do its specialists beat the same budget spent otherwise?

The study itself takes hours: `coterie reproduce --out runs/reproduce-cpu --seeds 3 --source parquet:DIR`. This script
writes the tables of what is finished.
"""

from pathlib import Path

from benchmarks.shared import command, write_result
from coterie.data import load
from coterie.pages.format import gain, mean_share, points
from coterie.studies.comparison.tables import SeedsRow
from coterie.studies.reproduction.study import ReproductionStudy, gather, recipe
from coterie.studies.reproduction.tables import Reproduction


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
        lead = "" if row.lead is None else gain(row.lead)
        scores = (row.scores.nll, row.scores.ece, row.scores.brier, row.scores.aurc)
        costs = (row.cost.training, row.cost.inference, row.cost.storage)
        cells = [row.name + (" + flips" if row.flips else ""), mean_share(row.top1), gain(row.gain), lead]
        cells += [f"{100 * row.scores.top3:.2f}", *(f"{v:.3f}" for v in scores), *(f"{v:.2f}" for v in costs)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def markdown(result: Reproduction) -> str:
    """The tables as text."""
    paper = result.paper
    paper_gain = points(paper.ensemble - paper.base)
    heading = [f"S = {column.n_clusters}" for column in result.columns]
    rows = [
        ("base", [mean_share(c.base_within) for c in result.columns], f"{100 * paper.base:.2f}"),
        ("ensemble, the paper's rule", [mean_share(c.ensemble) for c in result.columns], f"{100 * paper.ensemble:.2f}"),
        ("gain, points", [gain(c.gain) for c in result.columns], paper_gain),
        ("router: the chosen cluster holds the class", [mean_share(c.router) for c in result.columns], ""),
        ("base restricted to the true cluster", [mean_share(c.restricted) for c in result.columns], ""),
        ("specialist of the true cluster", [mean_share(c.specialist) for c in result.columns], ""),
        ("forward passes", [f"{c.passes.mean:.2f}" for c in result.columns], ""),
    ]
    lines = [
        f"Seeds {', '.join(map(str, result.seeds))}; means in % of the test images, ± half of Student's 95 % interval.",
        "",
        "| | " + " | ".join(heading) + " | paper, S = 9 |",
        "|---" * (len(heading) + 2) + "|",
        *(f"| {title} | " + " | ".join(values) + f" | {last} |" for title, values, last in rows),
        "",
        *table(result.table),
    ]
    lines += ["", "Which claims hold:", ""]
    lines += [f"- *{claim}.* {found}" for claim, found in result.claims]
    lines += ["", "Notes:", ""]
    lines += [f"- {note}" for note in result.notes]
    return "\n".join(lines)


def main(study: Path, source: str, seeds: int = 3, base_epochs: int | None = None, name: str = "reproduce") -> None:
    """Write the tables of what is finished.

    Args:
        study: folder of the study.
        source: where CIFAR-100 is, as `coterie fit` takes it.
        seeds: how many.
        base_epochs: as the study's.
        name: of the file to write, beside this one.
    """
    settings = recipe("cpu", base_epochs)
    settings = settings.model_copy(update={"data": settings.data.with_source(source)})
    asked = ReproductionStudy(settings, study, tuple(range(seeds)), "column:coarse_label")
    write_result(__file__, markdown(gather(asked, load(settings.data, 0))), name)


if __name__ == "__main__":
    command(main)
